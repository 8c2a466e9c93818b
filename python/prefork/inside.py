"""What code in a worker can ask and do: which worker and task it is, more time, its end."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from types import FrameType
from typing import TYPE_CHECKING, NamedTuple, NoReturn

from . import codec

if TYPE_CHECKING:
    from ._core import CoreWorker
    from .worker import WorkerSetup


class CurrentTask(NamedTuple):
    """The task that this worker runs now."""

    id: str | int  #: its `correlation_id`, or the pool's own number
    name: str  #: of its function
    started: float  #: when its call began (time.monotonic())
    losses: int  #: how often a worker was lost in it before


class CurrentWorker(NamedTuple):
    """The worker that this process is."""

    slot: int  #: its place in the pool, from 0; somebody else's once it has ended
    generation: int  #: the how-manieth process of its pool it is, from 1


class Present:
    """The worker that this process is, and the call that it makes."""

    def __init__(
        self,
        core: CoreWorker,
        setup: WorkerSetup,
        finish: Callable[[WorkerSetup, int], object],
    ) -> None:
        self.core = core
        self.setup = setup
        self.is_ending = False  #: its orderly exit has begun
        self.ends_by = 0  #: the signal by which it ends then; 0: with an exit code
        self._finish = finish
        self.pid = os.getpid()

    def end(self, exitcode: int) -> None:
        """What belongs to an orderly exit."""
        self.is_ending = True
        self._finish(self.setup, exitcode)

    def leave(self, exitcode: int) -> NoReturn:
        """Out, after the orderly exit."""
        try:
            if self.ends_by:
                signal.signal(self.ends_by, signal.SIG_DFL)
                signal.pthread_sigmask(signal.SIG_UNBLOCK, {self.ends_by})
                os.kill(self.pid, self.ends_by)
        finally:
            os._exit(exitcode & 0xFF)

    def task(self) -> CurrentTask | None:
        """The call that is made now."""
        call = self.core.current
        if call is None:
            return None
        target, correlation_id, number, started, losses = call
        given = number if correlation_id is None else correlation_id
        return CurrentTask(given, codec.name_of(target), started, losses)

    def on_soft_limit(self, number: int, frame: FrameType | None) -> None:
        """The handler of the soft signal, which may come late: only its own call is told."""
        limit = self.core.take_soft_limit()
        if limit == 0:
            return
        why = "was interrupted" if limit is None else f"ran longer than {limit:g} s"
        error = self.setup.soft_timeout_error(f"the task {why}", limit)
        if error is not None:
            raise error


_present: Present | None = None


def become(
    core: CoreWorker, setup: WorkerSetup, finish: Callable[[WorkerSetup, int], object]
) -> Present:
    """From now on this process is that worker. `finish` does what belongs to an orderly exit."""
    global _present
    _present = Present(core, setup, finish)
    return _present


def current_worker() -> CurrentWorker | None:
    """The worker that this process is, None in any other (also in one that a task has forked). Its
    initializer may ask, too."""
    if _present is None or _present.pid != os.getpid():
        return None
    return CurrentWorker(_present.core.slot, _present.core.generation)


def is_ending() -> bool:
    """Whether this process is a worker whose orderly exit has begun."""
    return _present is not None and _present.is_ending and _present.pid == os.getpid()


def end_by(number: int) -> None:
    """When this worker has ended in good order, it does so by that signal, which is why it ends:
    who looks at its end shall see that. For a signal that dumps no core."""
    if _present is not None:
        _present.ends_by = number


def exit_code_of(error: SystemExit) -> int:
    """As the interpreter has it: a text is printed, and means 1."""
    if error.code is None or isinstance(error.code, int):
        return error.code or 0
    print(error.code, file=sys.stderr)
    return 1


def exit_worker(exitcode: int = 0) -> NoReturn:
    """End this worker in good order: `on_process_exit`, multiprocessing's exit functions, what is
    in the buffers of stdout and stderr, and out. A task that does so is lost with WorkerExited.
    Raises RuntimeError outside of a worker."""
    if _present is None or current_worker() is None:
        raise RuntimeError("this process is no worker of a pool")
    try:
        _present.end(exitcode)
    finally:
        _present.leave(exitcode)


def current_task() -> CurrentTask | None:
    """The task that runs in this process, None outside of one (also in a process that a task has
    forked)."""
    if _present is None or _present.pid != os.getpid():
        return None
    return _present.task()


def extend_deadline(seconds: float) -> None:
    """Give the task that runs in this process so many seconds more, for both of its limits; also
    where it is a thread that asks, which may be an earlier task's. Raises RuntimeError outside of a
    task, ValueError for what is not positive."""
    if not seconds > 0:
        raise ValueError(f"a deadline cannot be extended by {seconds}")
    if _present is None or current_task() is None:
        raise RuntimeError("there is no task in this process whose deadline could be extended")
    _present.core.extend(seconds)
