"""The error of a task that has no outcome of its own: its worker was lost, or the pool ended it."""

from __future__ import annotations

import signal as signals
import time
from typing import TYPE_CHECKING, Any

from . import _core
from .errors import (
    WorkerEnd,
    last_lines,
    lost_error,
    queue_timeout,
    readable_stack,
    time_limit,
)
from .history import history_of, last_life

if TYPE_CHECKING:
    from ._binding import Event
    from .machine import OomKills
    from .task import Task


def error_of(
    task: Task[Any], event: Event, oom_kills: OomKills, memory_limit: int
) -> BaseException:
    """WorkerLostError, TimeLimitExceeded or QueueTimeout, with all that the event knows.
    `memory_limit`: KiB, the pool's; 0 for none."""
    _, outcome, number, _, pid, status, zygote_lost, at, data = event[:9]
    peak_rss, memory, written, notes = event[9:13]
    if outcome == _core.EXPIRED:
        return queue_timeout(task.id, task.name, task._queue_limit)
    runtime = time.monotonic() - at if at else None
    stack = readable_stack((data or b"").decode(errors="replace"))
    output = last_lines(written or b"")
    history = last_life(history_of(notes, {number: task.id}))
    if outcome == _core.TIMED_OUT:
        ran = (task._limit, pid, runtime)
        return time_limit(task.id, task.name, *ran, stack, output, history)
    killed = outcome == _core.LOST and status & 0x7F == signals.SIGKILL
    end = WorkerEnd(
        pid=pid,
        status=status,
        runtime=runtime,
        zygote_lost=bool(zygote_lost),
        terminated=outcome == _core.TERMINATED,
        out_of_memory=killed and not zygote_lost and not memory and oom_kills.claim(),
        peak_rss=peak_rss,
        memory=memory,
        memory_limit=memory_limit,
        stack=stack,
        output=output,
        history=history,
    )
    lost = lost_error(task.name, end, task._retries if outcome == _core.LOST else 0)
    lost.task_id, lost.task_name = task.id, task.name
    return lost
