"""prefork: a process pool that does not break."""

from .errors import (
    InitializerError,
    OutOfMemory,
    PoolClosed,
    QuarantinedTask,
    QueueTimeout,
    RemoteError,
    SoftTimeLimitExceeded,
    TimeLimitExceeded,
    TimeoutError,
    WorkerExited,
    WorkerKilled,
    WorkerLostError,
)
from .facts import Worker
from .history import HistoryEvent
from .inside import (
    CurrentTask,
    CurrentWorker,
    current_task,
    current_worker,
    exit_worker,
    extend_deadline,
)
from .maps import MapIterator
from .pool import TaskPool
from .semaphore import Semaphore
from .task import Task

__version__: str

__all__ = [
    "CurrentTask",
    "CurrentWorker",
    "HistoryEvent",
    "InitializerError",
    "MapIterator",
    "OutOfMemory",
    "PoolClosed",
    "QuarantinedTask",
    "QueueTimeout",
    "RemoteError",
    "Semaphore",
    "SoftTimeLimitExceeded",
    "Task",
    "TaskPool",
    "TimeLimitExceeded",
    "TimeoutError",
    "Worker",
    "WorkerExited",
    "WorkerKilled",
    "WorkerLostError",
    "__version__",
    "current_task",
    "current_worker",
    "exit_worker",
    "extend_deadline",
]


def __getattr__(name: str) -> str:
    """`__version__`, looked up when it is asked for: what that imports is as much as all the rest,
    and each fork of a worker would have to copy the tables of its pages."""
    if name != "__version__":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib.metadata import version

    return version("prefork")
