"""A submitted task: a `concurrent.futures.Future` that also knows the pool's words.

A task costs no Condition: one comes into being when somebody waits who is not us
(`concurrent.futures.wait`, `as_completed`). Our own waiting drives the pool instead.
"""

from __future__ import annotations

import concurrent.futures
import threading
import time
from collections.abc import Callable
from concurrent.futures._base import CANCELLED_AND_NOTIFIED, FINISHED, CancelledError
from typing import Any, NoReturn, TypeVar

from . import codec
from ._core import TaskState, call_first, call_once
from .errors import TimeoutError
from .options import check_timeout
from .threads import is_main_thread

T = TypeVar("T")

_SETTLED = "settled"  # in the place of a Condition: nobody waited before the end


class Task(TaskState, concurrent.futures.Future[T]):
    """What `apply_async` returns. Made by the pool only."""

    # What most tasks have none of costs them nothing: it is an attribute only of those that do.
    _end_state: str  # what _state is about to be
    _waiters: Any = ()
    _done_callbacks: list[Callable[[Any], object]] | None = None
    _callback: Callable[[Any], object] | None = None
    _error_callback: Callable[[BaseException], object] | None = None
    _accept_callback: Callable[[int, float], object] | None = None
    _timeout_callback: Callable[[bool, float], object] | None = None
    _propagate: tuple[type[BaseException], ...] = ()
    _soft_limit: float | None = None
    _queue_limit: float | None = None
    _retries: int = 0
    _holds_foreign: bool = False  # a slot of a semaphore that was passed in
    _cancelled_by: Exception | None = None  # why the pool itself cancelled it
    _completed: Any = None  # where an iterator of the map family wants to find us

    # ---- facts -------------------------------------------------------------------------------

    @property
    def id(self) -> str | int:
        """The `correlation_id` given, or the pool's own number for the task."""
        return self._number if self._correlation_id is None else self._correlation_id

    @property
    def name(self) -> str:
        """The name of the function."""
        return self._name

    @property
    def pid(self) -> int | None:
        """The worker that runs the task now; None before and after."""
        return self._runner()

    def _runner(self) -> int | None:
        if self._state in (FINISHED, CANCELLED_AND_NOTIFIED):
            return None
        return self._pool._find(self._number) or None

    def worker_pids(self) -> list[int]:
        """The pid of the worker that runs the task, as a list of one, or none."""
        pid = self._runner()
        return [] if pid is None else [pid]

    def accepted(self) -> bool:
        """Whether a worker has begun the task."""
        return bool(self._accepted_by) or self._runner() is not None

    def done(self) -> bool:
        """Whether the task has ended, in whatever way. Takes what the core has to tell, but does
        not wait."""
        if self._state not in (FINISHED, CANCELLED_AND_NOTIFIED):
            self._pool._look()
        return self._state in (FINISHED, CANCELLED_AND_NOTIFIED)

    ready = done

    def running(self) -> bool:
        """Whether a worker runs the task now."""
        return self._runner() is not None

    def cancelled(self) -> bool:
        """Whether the task was cancelled: before its call began, or, with `on_lost="retry"`, while
        it waited for its next one."""
        return self._state == CANCELLED_AND_NOTIFIED

    def successful(self) -> bool:
        """Whether the task returned. Raises ValueError if it has not ended."""
        if not self.done():
            raise ValueError(f"{self!r} has not ended")
        return self._state == FINISHED and self.exception() is None

    # ---- waiting -----------------------------------------------------------------------------

    def wait(self, timeout: float | None = None) -> bool:
        """Wait up to `timeout` seconds for the end, driving the pool. True if it has come. Raises
        PoolClosed in a fork of the application, TypeError or ValueError for a timeout that is
        none."""
        if timeout is not None:
            check_timeout(timeout)
        if self._state in (FINISHED, CANCELLED_AND_NOTIFIED):
            return True
        return self._pool._wait(self._has_ended, timeout)

    def _has_ended(self) -> bool:
        return self._state in (FINISHED, CANCELLED_AND_NOTIFIED)

    def result(self, timeout: float | None = None) -> T:
        """The return value. Raises what the task raised (with a RemoteError as its cause);
        WorkerLostError (with QuarantinedTask and OutOfMemory), TimeLimitExceeded, QueueTimeout,
        CancelledError; InitializerError if no worker can start, RuntimeError if the pool was
        degraded before it began; TypeError if the result cannot be pickled or unpickled,
        MemoryError if there is no room for it. prefork.TimeoutError if it has not ended within
        `timeout` seconds; PoolClosed in a fork of the application; TypeError or ValueError for a
        timeout that is none."""
        error = None if self.has_value() else self.exception(timeout)
        if error is not None:
            try:
                raise error
            finally:
                del error, self
        value: T = self._result
        return value

    get = result

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """What `result` would raise, or None. Raises CancelledError, and what `result` does if the
        task has not ended or cannot."""
        if not self.wait(timeout):
            raise TimeoutError(f"{self!r} did not end within {timeout} s")
        if self._state == CANCELLED_AND_NOTIFIED:
            raise CancelledError(f"{self!r}")
        if self._data is not None:
            self._unpack()
        return self._exception

    def _unpack(self, first: BaseException | None = None) -> None:
        """Unpickle the result, for whoever asks first: if two do at a time, one of them is it.
        `first`: what a first try has raised."""
        data = self._data
        if data is None:
            return
        result, failure, interrupt = codec.decode(codec.decode_result, data, first)
        error = None if failure is None else codec.no_result(self._name, failure)
        found = self.__dict__.setdefault("_unpacked", (result, error))
        self._result, self._exception = found
        self._data = None
        if interrupt is not None:
            raise interrupt

    # ---- ending ------------------------------------------------------------------------------

    def cancel(self) -> bool:
        """Cancel the task if its call has not begun, or, with `on_lost="retry"`, if it has lost its
        worker and its next call has not begun. Whether that was so."""
        if self._state == CANCELLED_AND_NOTIFIED:
            return True
        if self._state == FINISHED:
            return False
        return self._pool._cancel(self)

    def terminate(self, signal: int | None = None) -> bool:
        """End the running task and its worker by `signal` (default SIGTERM, followed by SIGKILL).
        Whether it was running: another task is never hit."""
        return self._pool._kill(self._number, signal)

    def interrupt(self) -> bool:
        """Raise SoftTimeLimitExceeded in the task, as if its soft limit were up, if it runs; its
        worker lives on. Whether it was running: another task is never hit."""
        return self._pool._interrupt(self._number)

    # ---- what Future does with a Condition ---------------------------------------------------

    @property
    def _condition(self) -> threading.Condition:  # type: ignore[override]
        """Made when it is first asked for. `setdefault` decides who was first, the one who waits
        or the one who settles, so that neither misses the other."""
        self._is_plain = False
        self.__dict__.setdefault("_waiters", [])
        found = self.__dict__.setdefault("_waited_on", threading.Condition())
        if found is _SETTLED:
            self._state = self._end_state
            found = self.__dict__["_waited_on"] = threading.Condition()
        elif self._state not in (FINISHED, CANCELLED_AND_NOTIFIED):
            self._pool._serve_others()
        condition: threading.Condition = found
        return condition

    def add_done_callback(self, fn: Callable[[Any], object]) -> None:
        """Call `fn(task)` once when the task has ended, out of the delivery thread (or out of
        `poll`, if the pool is a guest); at once, here, if it has ended already."""
        self._is_plain = False
        callbacks = self.__dict__.setdefault("_done_callbacks", [])
        callbacks.append(fn)
        if self._has_ended():
            try:
                callbacks.remove(fn)
            except ValueError:
                return  # whoever settled it has taken it
            self._call_back(fn, self)
        else:
            self._pool._serve_others()

    def set_running_or_notify_cancel(self) -> bool:
        """False if the task was cancelled. For executors, and changes nothing: whether it runs its
        worker says. Raises InvalidStateError if it has another end."""
        if self._state == FINISHED:
            raise concurrent.futures.InvalidStateError(f"{self!r} has ended")
        return self._state != CANCELLED_AND_NOTIFIED

    def set_result(self, result: T) -> None:
        """Not for callers: the worker does that. Raises InvalidStateError."""
        raise concurrent.futures.InvalidStateError(f"the result of {self!r} is its worker's")

    def set_exception(self, exception: BaseException | None) -> None:
        """Not for callers: the worker does that. Raises InvalidStateError."""
        raise concurrent.futures.InvalidStateError(f"the outcome of {self!r} is its worker's")

    # ---- settling, by the pool ---------------------------------------------------------------

    def _settle(self, result: Any, exception: BaseException | None, cancelled: bool) -> None:
        """Give the task its outcome and wake who waits. Calls no callback."""
        if self._state in (FINISHED, CANCELLED_AND_NOTIFIED):
            if self.__dict__.pop("_is_half_told", False):
                self._tell_the_others()
        else:
            self._result = result
            self._exception = exception
            self._end_state = end = CANCELLED_AND_NOTIFIED if cancelled else FINISHED
            condition = self.__dict__.setdefault("_waited_on", _SETTLED)
            if condition is _SETTLED:
                self._state = end
            else:
                self._tell_all(condition, end)
        completed = self._completed
        if completed is not None:  # first: told twice is told, and never told is waited for
            completed.append(self)
            self._completed = None

    def _tell_all(self, condition: threading.Condition, end: str) -> None:
        try:
            with condition:
                self._state = end
                for waiter in self._waiters:
                    self._tell(waiter)
                condition.notify_all()
        except BaseException:  # of a signal handler: see _settle
            self.__dict__["_is_half_told"] = True
            raise

    def _tell(self, waiter: Any) -> None:
        if self._state == CANCELLED_AND_NOTIFIED:
            waiter.add_cancelled(self)
        elif self._exception is not None:
            waiter.add_exception(self)
        else:
            waiter.add_result(self)

    def _tell_the_others(self) -> None:
        """A signal handler has broken off the telling. Who was just being told may wake early, and
        sees who has ended; a wait that never ends would be worse."""
        condition = self._condition
        with condition:
            for waiter in self._waiters:
                if self in waiter.finished_futures:
                    waiter.event.set()
                else:
                    self._tell(waiter)
            condition.notify_all()

    def _wants_callbacks(self) -> bool:
        return bool(self._callback or self._error_callback or self._done_callbacks)

    # ---- calling back, by the pool -----------------------------------------------------------
    #
    # Each of these may be due twice, and be begun again where a signal handler has broken it off:
    # of each callback it is noted that it was called, as it is called. In a child that a callback
    # has forked, and returned in, nothing more is called.

    def _call_accepted(self, pid: int, at: float) -> None:
        if self._accept_callback is not None:
            self._call_once("_accepted_told", self._accept_callback, pid, at)
            self.__dict__.pop("_accept_callback", None)  # it may hold us

    def _was_told_accepted(self) -> bool:
        return "_accepted_told" in self.__dict__

    def _call_softened(self, times: int) -> None:
        """The soft limit was up, so many times by now: once for each attempt that was told."""
        for turn in range(times):
            if self._timeout_callback is not None and not self._pool._is_copy():
                name = f"_softened_told_{turn}"
                self._call_once(name, self._timeout_callback, True, self._soft_limit)

    def _call_timed_out(self, hook: Callable[[Any], object]) -> None:
        self._call_once("_hook_told", hook, self)

    def _call_ended(self, timed_out: bool, begun: tuple[int, float] | None = None) -> None:
        """The callbacks, in their order: accept where it was not known that the task had `begun`,
        timeout, then result or error, then done."""
        if begun is not None:
            self._call_accepted(*begun)
            if self._pool._is_copy():
                return
        if timed_out and self._timeout_callback is not None:
            self._call_once("_timeout_told", self._timeout_callback, False, self._limit)
            if self._pool._is_copy():
                return
        if self._exception is not None:
            if self._error_callback is not None:
                self._call_once("_end_told", self._error_callback, self._exception)
        elif self._callback is not None and self._state == FINISHED:
            self._call_once("_end_told", self._callback, self._result)
        if self._done_callbacks:
            self._call_done_callbacks()
        self._have_called()

    def _have_called(self) -> None:
        """All callbacks have been called: they may hold us."""
        mine = self.__dict__
        for name in ("_callback", "_error_callback", "_timeout_callback"):
            if name in mine:
                del mine[name]

    def _call_done_callbacks(self) -> None:
        while self._done_callbacks and not self._pool._is_copy():
            self._call_back(call_first, self._done_callbacks, self)

    def _call_once(self, name: str, fn: Callable[..., object], *args: object) -> None:
        try:
            call_once(self.__dict__, name, fn, *args)
        except BaseException as error:
            if name not in self.__dict__:  # a handler's, and not the callback's: that is still due
                raise
            self._callback_raised(error)

    def _call_back(self, fn: Callable[..., object], *args: object) -> None:
        try:
            fn(*args)
        except BaseException as error:
            self._callback_raised(error)

    def _callback_raised(self, error: BaseException) -> None:
        if isinstance(error, self._propagate):
            self._pool._propagate(error)
        # In the main thread that may be Ctrl-C, which is meant for the program.
        elif isinstance(error, KeyboardInterrupt) and is_main_thread():
            raise error
        else:
            self._pool.logger.exception("a callback of %r raised; it is dropped", self)

    def __reduce__(self) -> NoReturn:
        raise TypeError(f"{self!r} cannot be pickled or copied: a task belongs to its pool")

    def __repr__(self) -> str:
        state = "done"
        if self._state == CANCELLED_AND_NOTIFIED:
            state = "cancelled"
        elif self._state != FINISHED:
            state = "unfinished"
        elif self._exception is not None:
            state = f"failed: {type(self._exception).__name__}"
        return f"<Task {self.id} {self._name} {state}>"


def remaining(deadline: float | None) -> float | None:
    """Seconds until a deadline (as of time.monotonic), not below 0; None for none."""
    return None if deadline is None else max(0.0, deadline - time.monotonic())
