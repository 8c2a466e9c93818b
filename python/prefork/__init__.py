"""prefork: a process pool that does not break."""

from importlib.metadata import version as _version

from .errors import (
    InitializerError,
    OutOfMemory,
    PoolClosed,
    RemoteError,
    TimeLimitExceeded,
    TimeoutError,
    WorkerExited,
    WorkerKilled,
    WorkerLostError,
)
from .facts import Worker
from .maps import MapIterator
from .pool import TaskPool
from .semaphore import Semaphore
from .task import Task

__version__ = _version("prefork")

__all__ = [
    "InitializerError",
    "MapIterator",
    "OutOfMemory",
    "PoolClosed",
    "RemoteError",
    "Semaphore",
    "Task",
    "TaskPool",
    "TimeLimitExceeded",
    "TimeoutError",
    "Worker",
    "WorkerExited",
    "WorkerKilled",
    "WorkerLostError",
    "__version__",
]
