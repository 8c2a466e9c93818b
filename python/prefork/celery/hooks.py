"""What tools have hooked into billiard's worker, at the moment at which they expect it.

Sentry's client, for one, replaces `billiard.pool.Worker.workloop` by a function that calls it, and
then sends what this process has captured. New Relic's does so with `_do_exit`.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from typing import NoReturn

from billiard.pool import Worker


class _Enough(BaseException):
    """Out of billiard's `_do_exit` before it ends the process, which has more to do."""


class _Done(Worker):
    """A worker of billiard's that may do no task: its loop ends at once, and it has ended when its
    exit is about to be told."""

    outq = inqW_fd = synqW_fd = wait_for_job = wait_for_syn = on_ready_counter = None
    maxtasks = 0
    max_memory_per_child = None

    def __init__(self) -> None:
        self.outq = self  # of which the loop only wants a `put`

    def put(self, _message: object) -> None:
        """Nobody is told anything."""

    def on_exit(self, _pid: int, _exitcode: int) -> NoReturn:
        """What is around `_do_exit` has had its turn."""
        raise _Enough


class End:
    """The end of a process: what is around billiard's loop and exit has its turn, then
    `on_process_exit`.

    It goes to workers as a whole, by pickle too."""

    def __init__(self, on_process_exit: Callable[[int, int], object] | None) -> None:
        self.on_process_exit = on_process_exit

    def __call__(self, pid: int, exitcode: int) -> None:
        worker = _Done()
        with contextlib.ExitStack() as last:  # each has its turn, whatever the others raise
            if self.on_process_exit is not None:
                last.callback(self.on_process_exit, pid, exitcode)
            last.callback(_do_exit, worker, pid, exitcode)
            worker.workloop(pid=os.getpid())


def _do_exit(worker: _Done, pid: int, exitcode: int) -> None:
    with contextlib.suppress(_Enough):
        worker._do_exit(pid, exitcode)
