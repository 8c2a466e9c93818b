"""prefork: a process pool that does not break."""

from importlib.metadata import version as _version

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

__version__ = _version("prefork")

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
