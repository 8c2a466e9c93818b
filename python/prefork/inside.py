"""What a task can ask and do while it runs: which it is, and more time."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from types import FrameType
from typing import TYPE_CHECKING, Any

from . import codec
from .errors import SoftTimeLimitExceeded

if TYPE_CHECKING:
    from ._core import CoreWorker


@dataclass(frozen=True)
class CurrentTask:
    """The task that this worker runs now."""

    id: str | int  #: its `correlation_id`, or the pool's own number
    name: str  #: of its function
    started: float  #: when its call began (time.monotonic())
    losses: int  #: how often a worker was lost in it before


class Present:
    """The worker that this process is, and the call that it makes."""

    def __init__(self, core: CoreWorker) -> None:
        self.core = core
        self.pid = os.getpid()
        self.call: tuple[Callable[..., Any], Any, float] | None = None

    def announce(self, target: Callable[..., Any], correlation_id: Any) -> None:
        """The next call is of that function."""
        self.call = (target, correlation_id, time.monotonic())

    def task(self) -> CurrentTask | None:
        """The call that is made now."""
        if self.call is None:
            return None
        target, correlation_id, started = self.call
        given = self.core.task if correlation_id is None else correlation_id
        return CurrentTask(given, codec.name_of(target), started, self.core.lost)

    def on_soft_limit(self, number: int, frame: FrameType | None) -> None:
        """The handler of the soft signal, which may come late: only its own call is told."""
        limit = self.core.soft_limit()
        if limit:
            raise SoftTimeLimitExceeded(f"the task ran longer than {limit:g} s", limit)


_present: Present | None = None


def become(core: CoreWorker) -> Present:
    """From now on this process is that worker."""
    global _present
    _present = Present(core)
    return _present


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
