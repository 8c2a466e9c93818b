"""The binding to the core: which one is used is decided here, once, at import."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

NAME = os.environ.get("PREFORK_CORE") or "cython"  #: of the binding

if TYPE_CHECKING:
    from ._binding import (
        SOFT_SIGNAL,
        STACKS_SIGNAL,
        CorePool,
        CoreWorker,
        TaskState,
        call_each,
        call_first,
        call_once,
        read_history,
        run_zygote,
    )
elif NAME == "cython":
    from ._cython import (
        SOFT_SIGNAL,
        STACKS_SIGNAL,
        CorePool,
        CoreWorker,
        TaskState,
        call_each,
        call_first,
        call_once,
        read_history,
        run_zygote,
    )
elif NAME == "cffi":
    from ._cffi import (
        SOFT_SIGNAL,
        STACKS_SIGNAL,
        CorePool,
        CoreWorker,
        TaskState,
        call_each,
        call_first,
        call_once,
        read_history,
        run_zygote,
    )
else:
    raise ImportError(f"PREFORK_CORE is {NAME!r}; there are 'cffi' and 'cython'")

__all__ = [
    "NAME",
    "SOFT_SIGNAL",
    "STACKS_SIGNAL",
    "CorePool",
    "CoreWorker",
    "TaskState",
    "call_each",
    "call_first",
    "call_once",
    "read_history",
    "run_zygote",
]

# Event types and outcomes, as in prefork.h.
(
    ACCEPTED,
    SOFT_LIMIT,
    DONE,
    WORKER_UP,
    WORKER_EXITED,
    WORKER_FAILED,
    SPAWN_FAILED,
    ZYGOTE_LOST,
    OUTSIDER,
    SPAWN_WANTED,
) = range(10)
OK, ERROR, LOST, TIMED_OUT, TERMINATED, CANCELLED, EXPIRED = range(7)
EXIT_UNASKED, EXIT_RETIRED, EXIT_KILLED, EXIT_OVERDUE = range(4)
WORKER_STATES = ("spawning", "starting", "idle", "running", "retiring", "spare", "ending")
