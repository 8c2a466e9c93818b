"""What tools have hooked into billiard's worker, at the moment at which they expect it.

Sentry's client, for one, replaces `billiard.pool.Worker.workloop` by a function that calls it, and
then sends what this process has captured.
"""

from __future__ import annotations

import os
from collections.abc import Callable

from billiard.pool import Worker


class _Done(Worker):
    """A worker of billiard's that may do no task: its loop ends at once."""

    outq = inqW_fd = synqW_fd = wait_for_job = wait_for_syn = on_ready_counter = None
    maxtasks = 0
    max_memory_per_child = None

    def __init__(self) -> None:
        self.outq = self  # of which the loop only wants a `put`

    def put(self, _message: object) -> None:
        """Nobody is told anything."""


class End:
    """The end of a process: what is around billiard's loop has its turn, then `on_process_exit`.

    It goes to workers as a whole, by pickle too."""

    def __init__(self, on_process_exit: Callable[[int, int], object] | None) -> None:
        self.on_process_exit = on_process_exit

    def __call__(self, pid: int, exitcode: int) -> None:
        try:
            _Done().workloop(pid=os.getpid())
        finally:
            if self.on_process_exit is not None:
                self.on_process_exit(pid, exitcode)
