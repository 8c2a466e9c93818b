"""A pool that has lost its zygote and its standby has a new one by itself, where that is safe.

    ZYGOTE_LOST, no successor   is noted, no more                        (delivery.py)
    Driving._take               all of the batch is applied, then        (driving.py)
    Recovery.attempt            may there be a new one?
        yes                     as `start()` has it; queued tasks go on  (lifecycle.py, boot.py)
        no                      degraded, which every call says, until `restart()`

It happens in the thread that polls, whichever that is: a zygote watches the application's process
and none of its threads. By fork, though, only where there is no other thread: whatever that did
just then, a lock that it held would stay locked in every worker. A pool's driver is no such thread:
it is in C, and does nothing but wait unless its pool is locked, as every pool is for a fork. A
delivery thread is: it calls back into the application.

There is no pause before another attempt, for in somebody's loop that would want a timer; there are
few of them instead.
"""

from __future__ import annotations

import contextlib
import signal as signals
import threading
import time
from collections.abc import Iterator
from typing import Any

from .machine import thread_count

MOST, WITHIN = 3, 60.0  # new zygotes, in so many seconds; one more would not live either
DRIVER = "prefork-driver"  # a pool's C thread, as the kernel knows it


class Recovery:
    """What a pool knows of losses that no standby has made good; one per pool."""

    def __init__(self) -> None:
        self.is_due = False  #: there is no zygote, and nothing has been decided yet
        #: Held by whoever gives the pool a zygote. A signal handler may come to that, too.
        self.lock = threading.RLock()
        self._had: list[float] = []  # when there were new ones (time.monotonic())

    def start_afresh(self) -> None:
        """Somebody has seen to it that there is a new zygote: what was before counts no more."""
        self._had = []

    def attempt(self, pool: Any) -> None:
        """Have a new zygote, or be degraded. Nothing is done where another thread is at it, or
        where none is wanted. Raises only what a signal handler raises; then it may be due still."""
        with _signals_held():
            if not self.lock.acquire(blocking=False):
                return
            try:
                if self.is_due and self._is_wanted(pool):
                    self._decide(pool)
            finally:
                self.lock.release()

    def _is_wanted(self, pool: Any) -> bool:
        if pool._terminated or pool._finished:
            return False
        self.is_due = False  # first, for another thread may hear of the next loss while we look
        counts = pool._core.describe()
        # There is one by restart(); or this is about a standby, forked a moment before its zygote
        # ended, and all has been decided.
        if counts["zygote"] or pool._delivery.health.zygote_missing:
            return False
        self.is_due = True
        return bool(counts["unfinished"]) or not pool._closed

    def _decide(self, pool: Any) -> None:
        try:
            why = self._obstacle(pool._start_method) or self._start(pool)
            if why and not pool._finished:
                self._give_up(pool, why)
        finally:
            pool._core.rouse()  # others wait for what has come of it
            pool._core.remind()

    def _start(self, pool: Any) -> str:
        """Have a new zygote. Why there is none, or ""."""
        self._had.append(time.monotonic())
        try:
            pool._have_zygote()
        except Exception as error:
            return f"none could be started ({error!r})"
        pool.logger.warning(
            "%r has a new zygote, %d, started by itself (at most %d in %d seconds)",
            pool, pool._core.describe()["zygote"], MOST, WITHIN,
        )  # fmt: skip
        return ""

    def _give_up(self, pool: Any, why: str) -> None:
        """The pool is degraded from now on: what waits fails, and so does every call."""
        self.is_due = False
        pool._delivery.health.zygote_lost(why)
        pool._fail_waiting()
        pool.logger.error("no new zygote is started: %s; restart() is the way out", why)

    def _obstacle(self, method: str) -> str:
        """Why there shall be no new zygote but by `restart()`, or ""."""
        self._had = [at for at in self._had if time.monotonic() - at < WITHIN]
        if len(self._had) >= MOST:
            return f"{MOST} new ones were lost within {WITHIN:.0f} seconds"
        if method != "fork":
            return ""
        count = thread_count(but=DRIVER)
        if count is None:
            return "by fork that may not be, for nobody knows how many threads there are"
        if count > 1:
            return f"by fork that may not be, for the application has {count} threads"
        return ""


@contextlib.contextmanager
def _signals_held() -> Iterator[None]:
    """Handlers that are due run before, or after: what they wait for may be what we do here, and
    what they raise is not its failure."""
    before = signals.pthread_sigmask(signals.SIG_BLOCK, ())
    try:
        signals.pthread_sigmask(signals.SIG_BLOCK, signals.valid_signals())
        yield
    finally:
        signals.pthread_sigmask(signals.SIG_SETMASK, before)
