"""Rows: how a worker ends while it runs a task."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from helpers import memory_group

from . import tasks
from .row import Expect, deed, exited, killed, raised, row
from .stage import Stage, check

CLAUSE = "worker ends: "

deed(
    "sigkill",
    CLAUSE + "SIGKILL",
    "ends",
    killed(signal.SIGKILL),
    tasks.end_by_signal,
    signal.SIGKILL,
)
deed(
    "sigsegv",
    CLAUSE + "SIGSEGV",
    "ends",
    killed(signal.SIGSEGV, "in read_nothing"),
    tasks.read_nothing,
)
deed("sigabrt", CLAUSE + "SIGABRT", "ends", killed(signal.SIGABRT, "in abort"), tasks.abort)
deed(
    "sigterm-to-itself",
    CLAUSE + "SIGTERM to itself",
    "ends",
    killed(signal.SIGTERM),
    tasks.end_by_signal,
    signal.SIGTERM,
)
deed("exit-0", CLAUSE + "os._exit(0)", "ends", exited(0), tasks.exit_at_once, 0)
deed("exit-3", CLAUSE + "os._exit(3)", "ends", exited(3), tasks.exit_at_once, 3)
for kind, clause in (
    ("SystemExit", "sys.exit"),
    ("KeyboardInterrupt",) * 2,
    ("GeneratorExit",) * 2,
):
    deed(
        f"raises-{kind.lower()}",
        CLAUSE + clause,
        "ends",
        Expect("RemoteError", {"type_name": kind}, "of a task"),
        tasks.leave,
        kind,
        spares=True,
    )
deed(
    "raises-memoryerror",
    CLAUSE + "MemoryError",
    "ends",
    raised("MemoryError"),
    tasks.leave,
    "MemoryError",
    spares=True,
)
deed(
    "stack-overflow",
    CLAUSE + "stack overflow in C",
    "ends",
    killed(signal.SIGSEGV),
    tasks.overflow_the_stack,
)
deed(
    "rlimit-as",
    CLAUSE + "out of memory, RLIMIT_AS",
    "ends",
    raised("MemoryError"),
    tasks.allocate_beyond_the_limit,
    spares=True,
)
deed(
    "rlimit-cpu",
    CLAUSE + "a resource limit's signal",
    "ends",
    killed(signal.SIGXCPU, rlimit="RLIMIT_CPU"),
    tasks.burn_until_the_limit,
)


@row(
    CLAUSE + "out of memory, the kernel's hand",
    Expect("OutOfMemory", {"signal": 9}, "out of memory"),
    after="none",
)
def kernel_kills_for_memory(stage: Stage) -> None:
    """In a cgroup of its own; where none can be made, the counter of such kills is a file of ours,
    which the task, about to die by SIGKILL, adds one to."""
    with memory_group(96) as group:
        if group is None:
            by_a_counter_of_ours(stage)
            return
        process = stage.launch("in_a_small_memory", group)
        said = process.stdout.read()
        process.wait()
        stage.end_others()
        check(said == "passed\n", said.strip() or f"it ended with {process.returncode}")


def by_a_counter_of_ours(stage: Stage) -> None:
    stage.start()
    counter = stage.path("sys/fs/cgroup/memory.events")
    for path, text in ((counter, "oom_kill 0\n"), (stage.path("proc/self/cgroup"), "0::/\n")):
        os.makedirs(os.path.dirname(path))
        Path(path).write_text(text)
    if stage.strict:
        from prefork.machine import OomKills

        stage.native._delivery._oom_kills = OomKills(stage.directory)
    stage.others()
    stage.victim(tasks.count_and_die, counter)
    stage.others()
    stage.afterwards()
