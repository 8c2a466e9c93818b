"""Rows: how a worker ends while it runs a task."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

from . import tasks
from .row import Expect, deed, exited, killed, raised, row

CLAUSE = "worker ends: "

deed("sigkill", CLAUSE + "SIGKILL", "ends", killed(signal.SIGKILL),
     tasks.end_by_signal, signal.SIGKILL)  # fmt: skip
deed("sigsegv", CLAUSE + "SIGSEGV", "ends", killed(signal.SIGSEGV, "in read_nothing"),
     tasks.read_nothing)  # fmt: skip
deed("sigabrt", CLAUSE + "SIGABRT", "ends", killed(signal.SIGABRT, "in abort"), tasks.abort)
deed("sigterm-to-itself", CLAUSE + "SIGTERM to itself", "ends", killed(signal.SIGTERM),
     tasks.end_by_signal, signal.SIGTERM)  # fmt: skip
deed("exit-0", CLAUSE + "os._exit(0)", "ends", exited(0), tasks.exit_at_once, 0)
deed("exit-3", CLAUSE + "os._exit(3)", "ends", exited(3), tasks.exit_at_once, 3)
for kind, clause in (("SystemExit", "sys.exit"), ("KeyboardInterrupt",) * 2,
                     ("GeneratorExit",) * 2):  # fmt: skip
    deed(f"raises-{kind.lower()}", CLAUSE + clause, "ends",
         Expect("RemoteError", {"type_name": kind}, "of a task"), tasks.leave, kind)  # fmt: skip
deed("raises-memoryerror", CLAUSE + "MemoryError", "ends", raised("MemoryError"),
     tasks.leave, "MemoryError")  # fmt: skip
deed("stack-overflow", CLAUSE + "stack overflow in C", "ends", killed(signal.SIGSEGV),
     tasks.overflow_the_stack)  # fmt: skip
deed("rlimit-as", CLAUSE + "out of memory, RLIMIT_AS", "ends", raised("MemoryError"),
     tasks.allocate_beyond_the_limit)  # fmt: skip
deed("rlimit-cpu", CLAUSE + "a resource limit's signal", "ends",
     killed(signal.SIGXCPU, rlimit="RLIMIT_CPU"), tasks.burn_until_the_limit)  # fmt: skip
