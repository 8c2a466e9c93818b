"""One job of Celery's: a task of the pool, with its callbacks in Celery's order, and with what
Celery can do to it.

Celery keeps a weak reference to it; the pool holds it until it has ended.
"""

from __future__ import annotations

import functools
import os
import signal as signals
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from billiard.exceptions import Terminated
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

#: Seconds that Celery has to note that it has ended a job.
NOTED = 5.0

Callback = Callable[..., object]


class Job(prefork.Task[Any]):
    """What `Pool.apply_async` returns. To the pool its result is the outcome of a Call, which is
    (True, value) or (False, ExceptionInfo), and its callbacks are methods of its own."""

    _propagate = (BaseException,)  # what its methods let out is meant for the hub
    _ended_by = 0  # the signal by which it was ended by name
    is_over = False  #: whether it has given back its slot of Celery's semaphore
    #: Celery has ended it, and is about to note why and to call `terminate`, in another thread than
    #: the one that calls back. Of the end it hears after that: a request that does not know yet why
    #: it has ended takes itself for revoked, and acknowledges a message that is to be delivered
    #: again.
    is_being_noted = False

    def __init__(
        self,
        pool: Pool,
        name: str,
        number: int,
        correlation_id: str | None,
        soft_timeout: float | None,
        timeout: float | None,
        on_result: Callback | None,
        on_error: Callback | None,
        on_accept: Callback | None,
        on_timeout: Callback | None,
        passes: tuple[type[BaseException], ...],
    ) -> None:
        super().__init__(pool.workers, name, correlation_id, timeout)
        self.number = number  #: counts the jobs of a pool
        if soft_timeout is not None:
            self._soft_limit = soft_timeout
        self._owner = pool
        self._on_result = on_result
        self._on_error = on_error
        self._on_accept = on_accept
        self._on_timeout = on_timeout
        self._passes = passes  # what its callbacks may raise into the hub
        self._untold: list[BaseException] = []  # one at most

    # ---- what Celery, tests and users do with it -------------------------------------------------

    @property
    def pid(self) -> int | None:
        """Of its worker, once it has been accepted."""
        return self._accepted_by or None

    def terminate(self, signum: int | None = None) -> bool:
        """End it, and it alone, by `signum` (SIGTERM): one that has not begun never runs. It fails
        with Terminated. Whether it had not ended yet.

        A request that is to be terminated calls this beside the pool's `terminate_job`, before or
        after it. A process that ends does so once; but SIGUSR1, which a task survives, would find
        it tidying up the second time, so here it ends only what has not begun."""
        signum = signals.SIGTERM if signum is None else signum
        self.noted()
        if self.is_over:
            return False
        if self.cancel():
            self._fail(einfo.terminated(signum))
            return True
        return self.running() if signum == signals.SIGUSR1 else self.signal(signum)

    def noted(self) -> None:
        """Celery knows why it has ended, or has had the time for it: now it hears of that."""
        self.is_being_noted = False
        try:
            error = self._untold.pop()
        except IndexError:
            return
        self._fail(error)

    def signal(self, signum: int) -> bool:
        """Send a signal to its worker, if that still runs it: whether it does. One that ends
        workers ends the job with Terminated; SIGUSR1 raises SoftTimeLimitExceeded in the task, and
        in no other."""
        if signum in ENDING:
            before, self._ended_by = self._ended_by, signum
            if super().terminate(ENDING[signals.Signals(signum)]):
                return True
            if not self.done():
                self._ended_by = before
            return False
        if signum == signals.SIGUSR1:
            return self.interrupt()
        pid = self._runner()
        if pid is None:
            return False
        os.kill(pid, signum)
        return True

    def drop(self) -> bool:
        """Forget it, without a word, if it has not begun. Whether that was so."""
        if self.is_over or not self.cancel():
            return False
        self._owner.job_ended(self)
        return True

    def cut_off(self) -> None:
        """End it, and its worker, in nobody's name."""
        super().terminate()

    def successful(self) -> bool:
        """Whether its target returned. Raises ValueError if it has not ended."""
        return super().successful() and bool(self._result[0])

    def get(self, timeout: float | None = None) -> Any:
        """What its target returned. Raises what that raised, billiard's errors, CancelledError,
        and prefork.TimeoutError after `timeout` seconds."""
        error = self.exception(timeout)
        if error is not None:
            found = self._translated(error)
            raise found from (error.__cause__ if found is error else error)
        good, value = self._result
        if good:
            return value
        raise getattr(value.exception, "exc", value.exception)

    result = get

    def discard(self) -> None:
        """Call back no more."""
        self._on_result = self._on_error = self._on_accept = self._on_timeout = None

    @property
    def was_ended_by_name(self) -> bool:
        """Whether somebody meant just this job."""
        return self._ended_by != 0

    # ---- what the pool says of it ----------------------------------------------------------------

    def _accept_callback(self, pid: int, at: float) -> None:
        """A worker has begun it, at `at` (time.monotonic())."""
        self._owner.job_began(self, pid)
        if self._on_accept is None:
            return
        try:
            self._on_accept(pid, at)
        except self._passes:
            raise
        except Exception:
            get_logger().error("the accept callback of job %d raised", self.number, exc_info=True)

    def _have_called(self) -> None:
        if self.cancelled():  # nobody is told of that, and who did it may have been broken off
            self._owner.job_ended(self)

    def _timeout_callback(self, soft: bool, seconds: float) -> None:
        """One of its limits was up. Of the hard one Celery hears after the error."""
        if soft:
            self._inform_of_limit(True, seconds)

    def _callback(self, outcome: tuple[bool, Any]) -> None:
        """It has an outcome, which may be an error that its target let out."""
        good, value = outcome
        try:
            self._owner.job_ended(self)
        finally:
            self._inform(self._on_result if good else self._on_error, value)

    def _error_callback(self, error: BaseException) -> None:
        """It has no outcome but this."""
        if self._owner.hides(self, error):
            self._owner.job_ended(self)
            return
        translated = self._translated(error)
        if self.is_being_noted and isinstance(translated, Terminated):
            self._tell_when_noted(translated)
            return
        self._fail(translated)
        if isinstance(error, prefork.TimeLimitExceeded) and not self._pool._is_copy():
            self._inform_of_limit(False, error.limit)

    def _tell_when_noted(self, error: BaseException) -> None:
        self._untold.append(error)
        if self.is_being_noted:  # still
            timer = threading.Timer(NOTED, self.noted)
            timer.daemon = True
            timer.start()
        else:
            self.noted()

    def _translated(self, error: BaseException) -> BaseException:
        if self._ended_by and isinstance(error, prefork.WorkerLostError):
            return einfo.terminated(self._ended_by)
        return einfo.translated(error, self.number)

    def _fail(self, error: BaseException) -> None:
        try:
            self._owner.job_ended(self)
        finally:
            self._inform(self._on_error, einfo.info_of(error))

    def _inform_of_limit(self, soft: bool, seconds: float | None) -> None:
        if self._on_timeout is not None:
            self._inform(functools.partial(self._on_timeout, soft=soft, timeout=seconds))

    def _inform(self, callback: Callback | None, *args: Any) -> None:
        if callback is None:
            return
        try:
            callback(*args)
        except self._passes:
            raise
        except Exception as error:
            get_logger().error("Pool callback raised exception: %r", error, exc_info=True)
