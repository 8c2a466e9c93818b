"""What can go wrong, as exceptions that carry the facts as attributes, and that pickle and copy."""

from __future__ import annotations

import builtins
import concurrent.futures
import multiprocessing
import re
import signal as signals
import sys
from typing import Any, NamedTuple

from .history import HistoryEvent, signal_name, told

if sys.version_info >= (3, 11):

    class TimeoutError(builtins.TimeoutError, multiprocessing.TimeoutError):
        """A wait took longer than it was allowed to; the task goes on."""

else:  # concurrent.futures' was not the builtin yet

    class TimeoutError(
        builtins.TimeoutError, concurrent.futures.TimeoutError, multiprocessing.TimeoutError
    ):
        """A wait took longer than it was allowed to; the task goes on."""


MOST_OUTPUT = 1 << 13  # bytes that are read of it: PF_OUTPUT_SHOWN


class PoolClosed(RuntimeError, ValueError):
    """The pool takes no more tasks: `close`, `stop` or `terminate` was called, or it has forked."""


class RemoteError(Exception):
    """What a task raised, as text: the `__cause__` of the exception that is raised here.

    Raised itself where the original cannot be had here: it did not pickle, or is no Exception
    and might end this process (SystemExit and its kin; asyncio.CancelledError is one).

    Where tblib is installed on both sides, what is raised has the frames of the worker behind those
    of the caller in its `__traceback__`. What it came from there is its `__context__`, with frames
    of its own; it is not shown, for the text has it.
    """

    def __init__(self, text: str = "", type_name: str = "", reason: str = "") -> None:
        super().__init__(text, type_name, reason)
        self.text = text
        self.type_name = type_name  #: of the original exception
        self.reason = reason  #: why this is raised in its place, or ""

    def __str__(self) -> str:
        return f"{self.reason}\n{self.text}" if self.reason else self.text


class _TaskEnded(Exception):
    """A task that did not end by itself."""

    def __init__(self, message: str = "") -> None:
        super().__init__(message)
        self.task_id: Any = None
        self.task_name: str | None = None
        self.pid: int | None = None  #: of the worker
        self.runtime: float | None = None  #: seconds from the beginning of the call, if it began
        self.history: tuple[HistoryEvent, ...] = ()  #: what the worker did last, oldest first


class WorkerLostError(_TaskEnded):
    """The worker ended while the task ran: this task is lost, and only this one."""

    def __init__(self, message: str = "") -> None:
        super().__init__(message)
        self.signal: int | None = None  #: that ended the worker
        self.signal_name: str | None = None
        self.exitcode: int | None = None  #: the worker's, negative for a signal, None if unknown
        self.core_dumped: bool = False
        self.peak_rss: int | None = None  #: KiB, the most memory the worker ever had resident
        self.rlimit: str | None = None  #: the resource limit that the signal stands for
        self.stack: str | None = None  #: Python's, of all threads, as the fault handler wrote it
        self.output: str | None = None  #: the last that the task wrote, if `capture_output`
        self.zygote_lost: bool = False  #: the worker went down with its zygote


class WorkerKilled(WorkerLostError):
    """The worker was ended by a signal."""


class OutOfMemory(WorkerKilled):
    """The worker was killed because memory ran out, as far as the kernel tells: its counter of such
    kills, for our cgroup, went up since a worker last came or went, which may have been for another
    process there. Or the pool has killed it, for it had more than the pool's `memory_limit`."""

    def __init__(self, message: str = "") -> None:
        super().__init__(message)
        self.memory: int | None = None  #: KiB that it had of its own, if the pool has killed it
        self.memory_limit: int | None = None  #: KiB, the limit for which it did


class WorkerExited(WorkerLostError):
    """The worker ended by itself (`os._exit`, a crash handler) in the middle of a task."""


class QuarantinedTask(WorkerLostError):
    """The task was lost as often as `retries` allows, and once more: it is not called again. What
    became of its last worker is in the attributes."""

    def __init__(self, message: str = "") -> None:
        super().__init__(message)
        self.attempts: int = 0  #: how often it was called, each time losing a worker


class TimeLimitExceeded(_TaskEnded):
    """The task ran longer than its `timeout`, and its worker was killed. Not a TimeoutError."""

    def __init__(self, message: str = "") -> None:
        super().__init__(message)
        self.limit: float | None = None  #: seconds
        self.stack: str | None = None  #: Python's, of all threads, when the time was up
        self.output: str | None = None  #: the last that the task wrote, if `capture_output`


class QueueTimeout(_TaskEnded):
    """No worker began the task within its `queue_timeout`. Not a TimeoutError."""

    def __init__(self, message: str = "") -> None:
        super().__init__(message)
        self.limit: float | None = None  #: seconds


class SoftTimeLimitExceeded(Exception):
    """Raised inside a task, in its main thread, that runs longer than its `soft_timeout`, and by
    `Task.interrupt()`: it may catch it, tidy up and return. Not a TimeoutError."""

    def __init__(self, message: str = "", limit: float | None = None) -> None:
        super().__init__(message, limit)
        self.limit = limit  #: seconds; None if it was Task.interrupt()

    def __str__(self) -> str:
        return str(self.args[0])


class InitializerError(RuntimeError):
    """No worker can start: the initializer raises, or ends the process, in every new one, or the
    zygote could not be made ready for them. What was raised there is the `__cause__`."""


class WorkerEnd(NamedTuple):
    """How a worker ended in the middle of a task, as far as it is known."""

    pid: int  #: 0: the task had none
    status: int  #: as of waitpid; -1: unknown
    runtime: float | None = None  #: seconds from the beginning of the call
    zygote_lost: bool = False
    terminated: bool = False  #: the pool did it
    out_of_memory: bool = False
    peak_rss: int = 0  #: KiB; 0: unknown
    memory: int = 0  #: KiB for which it was killed; 0: it was not
    memory_limit: int = 0  #: KiB
    stack: str = ""
    output: str = ""
    history: tuple[HistoryEvent, ...] = ()

    @property
    def signal(self) -> int | None:
        """Of the worker; that of a zygote's loss is the kernel's SIGKILL."""
        if self.status > 0 and self.status & 0x7F:
            return self.status & 0x7F
        return int(signals.SIGKILL) if self.zygote_lost and self.status != 0 else None

    @property
    def exitcode(self) -> int | None:
        """As multiprocessing has it: negative for a signal."""
        if self.signal is not None:
            return -self.signal
        return self.status >> 8 if self.status >= 0 else None


def time_limit(
    task_id: Any,
    name: str,
    limit: float | None,
    pid: int,
    runtime: float | None,
    stack: str,
    output: str = "",
    history: tuple[HistoryEvent, ...] = (),
) -> TimeLimitExceeded:
    """The error of a task that was killed for running too long."""
    message = f"{name} ran longer than its limit of {limit} s; its worker {pid} was killed"
    error = TimeLimitExceeded(_with_details(message, stack, output, history))
    error.history = history
    error.task_id, error.task_name = task_id, name
    error.limit, error.pid, error.runtime = limit, pid, runtime
    error.stack = stack or None
    error.output = output or None
    return error


def queue_timeout(task_id: Any, name: str, limit: float | None) -> QueueTimeout:
    """The error of a task that waited too long."""
    error = QueueTimeout(f"no worker began {name} within {limit} s")
    error.task_id, error.task_name, error.limit = task_id, name, limit
    return error


def lost_error(name: str, end: WorkerEnd, retries: int = 0) -> WorkerLostError:
    """The error of a task whose worker ended, `retries` times before."""
    kind, message = _explained(name, end)
    message = _with_details(message, end.stack, end.output, end.history)
    error = kind(message)
    if retries > 0:
        error = QuarantinedTask(
            f"{name} was called {retries + 1} times, and each time its worker was lost; "
            f"the last time: {message}"
        )
        error.attempts = retries + 1
    error.pid = end.pid or None
    error.runtime = end.runtime
    error.zygote_lost = end.zygote_lost
    error.peak_rss = end.peak_rss or None
    error.stack = end.stack or None
    error.output = end.output or None
    error.history = end.history
    if isinstance(error, OutOfMemory) and end.memory:
        error.memory, error.memory_limit = end.memory, end.memory_limit
    if not end.terminated:
        error.exitcode = end.exitcode
        error.signal = end.signal
        error.core_dumped = end.status > 0 and bool(end.status & 0x80)
    if error.signal is not None:
        error.signal_name = signal_name(error.signal)
        error.rlimit = _rlimit_of(error.signal)
    return error


def _explained(name: str, end: WorkerEnd) -> tuple[type[WorkerLostError], str]:
    """What has happened, in a sentence or two."""
    after = "" if end.runtime is None else f" after {end.runtime:.3f} s"
    while_it_ran = f"while it ran {name}{after}"
    if end.terminated:
        if not end.pid:
            return WorkerKilled, f"{name} had not begun when the pool was terminated"
        return WorkerKilled, f"{name} was terminated by the pool{after} (worker {end.pid})"
    if end.signal is None:
        if end.exitcode is None:
            return WorkerLostError, f"worker {end.pid} ended {while_it_ran}; how is unknown"
        return WorkerExited, f"worker {end.pid} exited with code {end.exitcode} {while_it_ran}"
    if end.zygote_lost:
        return WorkerKilled, (
            f"worker {end.pid} went down with its zygote, which was killed, {while_it_ran}"
        )
    if end.memory:
        message = (
            f"worker {end.pid} had {end.memory} KiB of memory of its own, its limit is "
            f"{end.memory_limit} KiB: it was killed {while_it_ran}"
        )
        return OutOfMemory, message
    how = signal_name(end.signal)
    peak = f" Its memory was {end.peak_rss} KiB at its highest." if end.peak_rss else ""
    if end.out_of_memory:
        message = (
            f"worker {end.pid} was killed by {how} {while_it_ran}, likely by the kernel, out of "
            "memory: its count of such kills went up."
        )
        return OutOfMemory, message + peak
    if (limit := _rlimit_of(end.signal)) is not None:
        how += f" ({limit})"
    message = f"worker {end.pid} was killed by {how} {while_it_ran}"
    return WorkerKilled, message


def _with_details(message: str, stack: str, output: str, history: tuple[HistoryEvent, ...]) -> str:
    happened = f"What happened to the worker last:\n{told(history)}" if history else ""
    return with_output("\n".join(part for part in (message, stack, happened) if part), output)


def with_output(message: str, output: str) -> str:
    """A message, and below it what was written last."""
    return f"{message}\nThe last that it wrote:\n{output}" if output else message


def last_lines(written: bytes) -> str:
    """The end of what a task wrote, as text. Where there was more before, it begins with a line."""
    if len(written) >= MOST_OUTPUT:
        written = written.partition(b"\n")[2].strip() or written
    # Memory that the pool has given back reads as zeros.
    return written.lstrip(b"\0").decode(errors="replace").rstrip()


#: The frame next to a task's own, in one binding and in the other.
_CALL = re.compile(
    r'/prefork/(_cffi_worker\.py", line \d+ in _call|worker\.py", line \d+ in _serve)$'
)


def readable_stack(text: str) -> str:
    """A fault handler's text without the frames that called the task, which are ours."""
    kept: list[str] = []
    ours = False
    for line in text.strip().splitlines():
        if not line.startswith("  File "):
            ours = False
        elif _CALL.search(line):
            ours = True
        if not ours and not line.startswith("Extension modules: "):
            kept.append(line)
    return "\n".join(kept).strip()


def _rlimit_of(number: int) -> str | None:
    return {int(signals.SIGXCPU): "RLIMIT_CPU", int(signals.SIGXFSZ): "RLIMIT_FSIZE"}.get(number)


def shown(error: BaseException) -> str:
    """Its repr, if it has one: an exception of the application's may raise there."""
    try:
        return repr(error)
    except (Exception, SystemExit):
        return f"{type(error).__qualname__} (its repr cannot be shown)"
