"""What can go wrong, as exceptions that carry the facts as attributes, and that pickle and copy."""

from __future__ import annotations

import builtins
import concurrent.futures
import multiprocessing
import signal as signals
import sys
from typing import Any

if sys.version_info >= (3, 11):

    class TimeoutError(builtins.TimeoutError, multiprocessing.TimeoutError):
        """A wait took longer than it was allowed to; the task goes on."""

else:  # concurrent.futures' was not the builtin yet

    class TimeoutError(
        builtins.TimeoutError, concurrent.futures.TimeoutError, multiprocessing.TimeoutError
    ):
        """A wait took longer than it was allowed to; the task goes on."""


class PoolClosed(RuntimeError, ValueError):
    """The pool takes no more tasks: `close`, `stop` or `terminate` was called, or it has forked."""


class RemoteError(Exception):
    """What a task raised, as text: the `__cause__` of the exception that is raised here.

    Raised itself where the original cannot be had here: it did not pickle, or is one that would
    end this process (SystemExit and its kin).
    """

    def __init__(self, text: str = "", type_name: str = "") -> None:
        super().__init__(text, type_name)
        self.text = text
        self.type_name = type_name  #: of the original exception

    def __str__(self) -> str:
        return self.text


class _TaskEnded(Exception):
    """A task that did not end by itself."""

    def __init__(self, message: str = "") -> None:
        super().__init__(message)
        self.task_id: Any = None
        self.task_name: str | None = None
        self.pid: int | None = None  #: of the worker
        self.runtime: float | None = None  #: seconds from the beginning of the call, if it began


class WorkerLostError(_TaskEnded):
    """The worker ended while the task ran: this task is lost, and only this one."""

    def __init__(self, message: str = "") -> None:
        super().__init__(message)
        self.signal: int | None = None  #: that ended the worker
        self.exitcode: int | None = None  #: the worker's, negative for a signal, None if unknown
        self.zygote_lost: bool = False  #: the worker went down with its zygote


class WorkerKilled(WorkerLostError):
    """The worker was ended by a signal."""


class WorkerExited(WorkerLostError):
    """The worker ended by itself (`os._exit`, a crash handler) in the middle of a task."""


class TimeLimitExceeded(_TaskEnded):
    """The task ran longer than its `timeout`, and its worker was killed. Not a TimeoutError."""

    def __init__(self, message: str = "") -> None:
        super().__init__(message)
        self.limit: float | None = None  #: seconds


class InitializerError(RuntimeError):
    """No worker can start: the initializer raises, or ends the process, in every new one, or the
    zygote could not be made ready for them. What was raised there is the `__cause__`."""


def signal_name(number: int) -> str:
    """The name of a signal, or its number where it has none."""
    try:
        return signals.Signals(number).name
    except ValueError:
        return f"signal {number}"


def lost_error(
    name: str, pid: int, status: int, runtime: float | None, zygote_lost: bool, terminated: bool
) -> WorkerLostError:
    """The error of a task whose worker ended with `status` (as of waitpid; -1: unknown)."""
    after = "" if runtime is None else f" after {runtime:.3f} s"
    error: WorkerLostError
    if terminated and not pid:
        error = WorkerKilled(f"{name} had not begun when the pool was terminated")
    elif terminated:
        error = WorkerKilled(f"{name} was terminated by the pool{after} (worker {pid})")
    elif status >= 0 and status & 0x7F == 0:
        code = status >> 8
        error = WorkerExited(f"worker {pid} exited with code {code} while it ran {name}{after}")
        error.exitcode = code
    elif status > 0 and not zygote_lost:
        number = status & 0x7F
        error = WorkerKilled(
            f"worker {pid} was killed by {signal_name(number)} while it ran {name}{after}"
        )
        error.signal = number
        error.exitcode = -number
    elif zygote_lost:
        error = WorkerKilled(
            f"worker {pid} went down with its zygote, which was killed, while it ran {name}{after}"
        )
        error.signal = signals.SIGKILL
        error.exitcode = -signals.SIGKILL
    else:
        error = WorkerLostError(f"worker {pid} ended while it ran {name}{after}; how is unknown")
    error.pid = pid or None
    error.zygote_lost = zygote_lost
    error.runtime = runtime
    return error
