"""One job of Celery's: its callbacks in Celery's order, and what Celery can do to it.

Celery keeps a weak reference to it; the pool holds it until it has ended.
"""

from __future__ import annotations

import os
import pickle
import signal as signals
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from billiard.util import get_logger

import prefork

from . import einfo

if TYPE_CHECKING:
    from .pool import Pool

#: Signals that end a worker, and which of the pool's they are. By SIGHUP a worker ends as by
#: SIGTERM: its task may tidy up.
ENDING = {
    signals.SIGTERM: signals.SIGTERM,
    signals.SIGHUP: signals.SIGTERM,
    signals.SIGQUIT: signals.SIGQUIT,
    signals.SIGABRT: signals.SIGABRT,
    signals.SIGKILL: signals.SIGKILL,
}

Callback = Callable[..., object]


class Job:
    """What `Pool.apply_async` returns."""

    _task: prefork.Task[bytes]

    def __init__(
        self,
        pool: Pool,
        number: int,
        callback: Callback | None,
        error_callback: Callback | None,
        accept_callback: Callback | None,
        timeout_callback: Callback | None,
        propagate: tuple[type[BaseException], ...],
    ) -> None:
        self.number = number  #: counts the jobs of a pool
        self.pid: int | None = None  #: of its worker, once it has been accepted
        self._pool = pool
        self._callback = callback
        self._error_callback = error_callback
        self._accept_callback = accept_callback
        self._timeout_callback = timeout_callback
        self._propagate: tuple[type[BaseException], ...] = (MemoryError, *propagate)
        self._ended_by = 0  # the signal by which it was ended by name
        self._outcome: tuple[bool, Any] | None = None

    def bind(self, task: prefork.Task[bytes]) -> None:
        """What it is in the pool, before anything can become of it there."""
        self._task = task

    # ---- what Celery, tests and users do with it -------------------------------------------------

    def terminate(self, signum: int) -> None:
        """End it, and it alone: one that has not begun never runs. It fails with Terminated."""
        if not self._pool.has(self):
            return
        if self._task.cancel():
            self._fail(einfo.terminated(signum))
        else:
            self.signal(signum)

    def signal(self, signum: int) -> bool:
        """Send a signal to its worker, if that still runs it: whether it does. One that ends
        workers ends the job with Terminated; SIGUSR1 raises SoftTimeLimitExceeded in the task, and
        in no other."""
        if signum in ENDING:
            before, self._ended_by = self._ended_by, signum
            if self._task.terminate(ENDING[signals.Signals(signum)]):
                return True
            if not self._task.done():
                self._ended_by = before
            return False
        if signum == signals.SIGUSR1:
            return self._task.interrupt()
        pid = self._task.pid
        if pid is None:
            return False
        os.kill(pid, signum)
        return True

    def drop(self) -> bool:
        """Forget it, without a word, if it has not begun. Whether that was so."""
        if not self._pool.has(self) or not self._task.cancel():
            return False
        self._end()
        return True

    def cut_off(self) -> None:
        """End it, and its worker, in nobody's name."""
        self._task.terminate()

    def ready(self) -> bool:
        """Whether it has ended."""
        return self._task.ready()

    def accepted(self) -> bool:
        """Whether a worker has begun it."""
        return self._task.accepted()

    def successful(self) -> bool:
        """Whether its target returned. Raises ValueError if it has not ended."""
        return self._task.successful() and self._result()[0]

    def wait(self, timeout: float | None = None) -> bool:
        """Wait up to `timeout` seconds for its end. Whether that has come."""
        return self._task.wait(timeout)

    def get(self, timeout: float | None = None) -> Any:
        """What its target returned. Raises what that raised, billiard's errors, CancelledError,
        and prefork.TimeoutError after `timeout` seconds."""
        error = self._task.exception(timeout)
        if error is not None:
            raise self._translated(error) from error
        good, value = self._result()
        if good:
            return value
        raise getattr(value.exception, "exc", value.exception)

    def discard(self) -> None:
        """Call back no more."""
        self._callback = self._error_callback = None
        self._accept_callback = self._timeout_callback = None

    def worker_pids(self) -> list[int]:
        """The pid of the worker that runs it, as a list of one, or none."""
        return self._task.worker_pids()

    # ---- what the pool says of it ----------------------------------------------------------------

    def began(self, pid: int, at: float) -> None:
        """A worker has begun it, at `at` (time.monotonic())."""
        self.pid = pid
        self._pool.job_began(self, pid)
        if self._accept_callback is None:
            return
        try:
            self._accept_callback(pid, at)
        except self._propagate:
            raise
        except Exception:
            get_logger().error("the accept callback of job %d raised", self.number, exc_info=True)

    def timed_out(self, soft: bool, seconds: float) -> None:
        """One of its limits was up. Of the hard one Celery hears after the error."""
        if soft:
            self._call_back(self._timeout_callback, soft=True, timeout=seconds)

    def succeeded(self, data: bytes) -> None:
        """It has an outcome, which may be an error that its target let out."""
        try:
            good, value = self._result(data)
        except Exception as error:
            self._fail(error)
            return
        try:
            self._end()
        finally:
            self._call_back(self._callback if good else self._error_callback, value)

    def failed(self, error: BaseException) -> None:
        """It has no outcome but this."""
        if self._pool.hides(self, error):
            self._end()
            return
        self._fail(self._translated(error))
        if isinstance(error, prefork.TimeLimitExceeded):
            self._call_back(self._timeout_callback, soft=False, timeout=error.limit)

    def _translated(self, error: BaseException) -> BaseException:
        if self._ended_by and isinstance(error, prefork.WorkerLostError):
            return einfo.terminated(self._ended_by)
        return einfo.translated(error, self.number)

    @property
    def was_ended_by_name(self) -> bool:
        """Whether somebody meant just this job."""
        return self._ended_by != 0

    def _result(self, data: bytes | None = None) -> tuple[bool, Any]:
        if self._outcome is None:
            self._outcome = pickle.loads(self._task.result() if data is None else data)
        return self._outcome

    def _fail(self, error: BaseException) -> None:
        try:
            self._end()
        finally:
            self._call_back(self._error_callback, einfo.info_of(error))

    def _end(self) -> None:
        """It counts no more: the next request may come in, here and now, before it calls back."""
        self._pool.job_ended(self)

    def _call_back(self, callback: Callback | None, *args: Any, **kwargs: Any) -> None:
        if callback is None:
            return
        try:
            callback(*args, **kwargs)
        except self._propagate:
            raise
        except Exception as error:
            get_logger().error("Pool callback raised exception: %r", error, exc_info=True)
