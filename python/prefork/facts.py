"""What a pool tells about itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from . import _core
from .history import HistoryEvent, history_of
from .machine import resident_kib

if TYPE_CHECKING:
    from ._binding import Notes
    from .pool import TaskPool


class _Seen(NamedTuple):
    """What is seen of a worker at a glance."""

    slot: int  #: its place in the pool, from 0
    pid: int | None  #: None while it is being forked
    generation: int  #: the how-manieth process of this pool it is
    state: str  #: spawning, starting, idle, running, retiring, spare (a successor) or ending
    task: str | int | None  #: the id of the task it runs
    since: float  #: when that task began, or the worker was spawned (time.monotonic())
    tasks_done: int
    rss: int  #: resident memory in KiB


class Worker(_Seen):
    """One worker process, as `TaskPool.workers` shows it: `slot`, `pid`, `generation`, `state`,
    `task`, `since`, `tasks_done`, `rss` and `history`."""

    _notes: Notes | None = None

    @property
    def history(self) -> tuple[HistoryEvent, ...]:
        """What happened last in this slot (HistoryEvents, at most 128, oldest first), also to the
        processes before this one."""
        return history_of(self._notes)


def workers_of(pool: TaskPool) -> list[Worker]:
    """The workers of a running pool, in the order of their slots."""
    found = []
    for slot, state, pid, generation, number, since, tasks_done in pool._core.workers():
        task = pool._delivery.tasks.get(number)
        worker = Worker(
            slot=slot,
            pid=pid or None,
            generation=generation,
            state=_core.WORKER_STATES[state],
            task=None if task is None else task.id,
            since=since,
            tasks_done=tasks_done,
            rss=resident_kib(pid) if pid else 0,
        )
        worker._notes = pool._core.history(slot)
        found.append(worker)
    return found


def info_of(pool: TaskPool) -> dict[str, Any]:
    """As Celery's pools answer to `inspect stats`."""
    return {
        "implementation": f"{type(pool).__module__}:{type(pool).__qualname__}",
        "max-concurrency": pool.limit,
        "processes": [pid for _, _, pid, *_ in pool._core.workers() if pid]
        if pool._started
        else [],
        "max-tasks-per-child": pool._recycling.tasks or "N/A",
        "put-guarded-by-semaphore": pool.putlocks,
        "timeouts": (pool._soft_timeout or 0, pool._timeout or 0),
        "start-method": pool._start_method,
    }


def stats_of(counts: dict[str, int]) -> dict[str, int]:
    """Counters since `start()`, by their public names."""
    names = {
        "tasks_submitted": "submitted",
        "tasks_succeeded": "succeeded",
        "tasks_failed": "failed",
        "tasks_lost": "lost",
        "tasks_timed_out": "timed_out",
        "tasks_cancelled": "cancelled",
        "tasks_unfinished": "unfinished",
        "tasks_queued": "queued",
        "workers_alive": "alive",
        "workers_busy": "busy",
        "workers_spawned": "spawned",
        "workers_exited": "exited",
        "workers_replaced": "replaced",
        "spawn_failures": "spawn_failures",
        "zygotes_lost": "zygotes_lost",
        "application_forks": "application_forks",
        "zygote": "zygote",
        "standby": "standby",
    }
    return {public: counts[name] for public, name in names.items()}
