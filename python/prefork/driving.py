"""Who drives a pool: whoever waits, a delivery thread for who does not, or a loop it is guest of.

A caller that waits for a task drives the core with the GIL released and applies what it finds. For
callbacks, and for waiters that are not ours, there is one delivery thread, started when it is first
needed. A guest of a loop has no thread at all: everything happens inside `poll()`.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
import weakref
from collections.abc import Callable
from typing import Any

from ._core import CorePool
from .delivery import Delivery, serve
from .errors import PoolClosed
from .options import check_timeout
from .recovery import Recovery
from .task import remaining
from .threads import is_main_thread

#: Seconds that the main thread waits at a time. A signal that comes when it is about to wait, and
#: does not look any more, interrupts nothing: its handler would run when a task ends.
ATTENTION = 1.0


class Driving:
    """The part of a TaskPool that polls its core and passes on what comes."""

    def __init__(self) -> None:
        self._core: CorePool = None  # type: ignore[assignment]
        self._delivery = Delivery(self)
        self._recovery = Recovery()
        self._started = self._finished = False
        self._guest = False
        self._hosts: list[Any] = []  # loops that watch our descriptor
        self._pid = 0  # of the process that started the pool
        self._thread: threading.Thread | None = None
        self._serving: dict[str, tuple[threading.Thread, threading.Event]] = {}
        self._beginning = threading.RLock()  # held while a delivery thread is started
        self._calling_back: set[int] = set()  # threads that run callbacks now
        self._raised: list[BaseException] = []  # what callbacks raised and poll or join will raise

    def _check_started(self) -> None:
        if not self._started:
            raise RuntimeError(f"{self!r} was not started: call start(), or use it by `with`")

    def _is_copy(self) -> bool:
        return self._pid != os.getpid()

    def _check_own(self) -> None:
        if self._started and self._pid == os.getpid():
            return
        self._check_started()
        if self._is_copy():
            raise PoolClosed(
                "this process is a fork of the one that started the pool; the pool is not its own"
            )

    def fileno(self) -> int:
        """A descriptor that is readable whenever `poll` has something to do. From now on the pool
        is the guest of a loop: no thread of its own, everything happens inside `poll()`. So a wait
        in the loop's own thread that is not the pool's (`concurrent.futures.wait`) never ends."""
        self._check_own()
        if self._finished:
            raise PoolClosed(f"{self!r} has no descriptor any more")
        if not self._guest:
            self._guest = True
            self._stop_thread(None)
        return self._core.fd()

    def register_with_event_loop(self, loop: Any) -> None:
        """Become the guest of a loop that has `add_reader(fd, callback)`: kombu's Hub, asyncio,
        uvloop. When the pool ends it takes its leave by `remove_reader(fd)`. Again for the same
        loop where that has forgotten its readers, as kombu's does when it is reset."""
        loop.add_reader(self.fileno(), self.poll)
        if loop not in self._hosts:
            self._hosts.append(loop)

    def _leave_loops(self) -> None:
        """Before the descriptor is closed: its number will be somebody else's."""
        while self._hosts:
            with contextlib.suppress(Exception):  # the loop may have been closed
                self._hosts.pop().remove_reader(self._core.fd())

    def poll(self, timeout: float | None = 0) -> int:
        """Do what is due, waiting up to `timeout` seconds for something; run callbacks if the pool
        is a guest. The number of events handled (int). Raises what a callback raised that is in
        `callbacks_propagate`."""
        if timeout != 0:
            check_timeout(timeout)
        self._check_own()
        if self._finished:
            return 0
        try:
            count = self._take(timeout, self._core.rouses())
            if self._guest and self._delivery.callbacks:
                self._run_callbacks()
            if self._raised:
                self._raise_propagated()
        except BaseException:
            self._core.remind()  # of what has not had its turn: the loop shall come again
            raise
        return count

    def _take(self, timeout: float | None, rouses: int) -> int:
        """Poll the core, apply what it found, and pass it on; how many events that was."""
        if self._recovery.is_due:  # still: a signal handler has broken it off
            self._recovery.attempt(self)
        delivery = self._delivery
        events = delivery.events
        # Some are left if a signal handler raised while they were applied: then do not wait.
        in_hand = bool(delivery.hand) and delivery.is_in_hand()
        found = True  # for all that a handler lets us know
        try:
            count = self._core.poll(0 if events or in_hand else timeout, rouses, delivery)
            found = bool(count or events or in_hand)
            if events or in_hand:
                delivery.apply()
            if count and delivery.slots is not None:
                delivery.slots.settle()
        except BaseException:
            self._core.remind()  # what is left is for whoever comes first, a loop, or
            self._core.rouse_gatherer()  # the delivery thread
            raise
        finally:
            if found:
                self._core.rouse()  # others may have waited for what was in this batch
        if not found:
            return count
        if self._recovery.is_due:
            self._recovery.attempt(self)
        if self._delivery.callbacks and not self._guest:
            self._serve_others()
            self._core.rouse_gatherer()
        return count

    def _answer(self) -> None:
        """Do what is due by now, and call back, in this thread."""
        while self._core.poll(0, self._core.rouses(), self._delivery):
            self._delivery.apply()
            self._run_callbacks()

    def _look(self) -> None:
        if not self._finished and self._started and not self._is_copy():
            self._take(0, self._core.rouses())
            if self._guest and self._delivery.callbacks:
                self._core.remind()  # they are called by poll()

    def _wait(self, condition: Callable[[], bool], timeout: float | None) -> bool:
        """Drive the pool until `condition()` holds; False after `timeout` seconds."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            rouses = 0 if self._finished else self._core.rouses()
            if condition():
                return True
            left = remaining(deadline)
            if self._finished or left == 0:
                return condition()
            self._check_own()
            if is_main_thread():
                left = ATTENTION if left is None else min(left, ATTENTION)
            self._take(left, rouses)
            if self._guest:
                self._run_callbacks()

    def _serve_others(self) -> None:
        """Callbacks, and waiters that are not ours, need the delivery thread; a guest has none."""
        if self._finished:
            return
        self._check_own()
        if self._guest or self._thread is not None:
            return
        self._core.drive_in_background()
        stopping = threading.Event()
        thread = threading.Thread(
            target=self._serve,
            args=(weakref.ref(self), self._core, stopping),
            name="prefork-delivery",
            daemon=True,
        )
        # Two threads may come here at once: the lock decides which of them starts it. Who ends the
        # pool meanwhile waits for that, but for a signal handler in this very thread.
        with self._beginning:
            if self._finished or self._thread is not None:
                return
            self._serving["delivery"] = (thread, stopping)
            self._thread = thread
            try:
                thread.start()
            except BaseException as error:
                stopping.set()  # should it live
                self._thread = None
                self._serving.pop("delivery", None)
                if type(error) is not RuntimeError:  # "can't start new thread"; else a handler's,
                    self._serve_others()  # and it may have died at birth
                raise

    @staticmethod
    def _serve(pool: weakref.ref[Driving], core: CorePool, stopping: threading.Event) -> None:
        alive = pool()
        if alive is None:
            return
        calling_back, me = alive._calling_back, threading.get_ident()
        del alive
        calling_back.add(me)
        try:
            serve(pool, core, stopping)
        finally:  # another thread may have that number next
            calling_back.discard(me)

    def _stop_thread(self, timeout: float | None) -> bool:
        """End the delivery thread after the callbacks that are due; False if that takes longer than
        `timeout` seconds. A callback may ask for it, too."""
        thread, stopping = self._serving.get("delivery", (None, None))
        self._thread = None
        if thread is None or stopping is None:
            return True
        stopping.set()
        self._core.rouse_gatherer()
        with self._beginning:
            has_begun = thread.is_alive()
        if has_begun and thread is not threading.current_thread():
            thread.join(timeout)
            if thread.is_alive():
                return False
        self._serving.pop("delivery", None)
        return True

    def _run_callbacks(self) -> None:
        me = threading.get_ident()
        nested = me in self._calling_back
        self._calling_back.add(me)
        try:
            self._delivery.run_callbacks()
        finally:
            if not nested:
                self._calling_back.discard(me)

    def in_callback(self) -> bool:
        """Whether this thread is calling the pool's callbacks just now. To wait for another
        callback would be in vain there."""
        return threading.get_ident() in self._calling_back

    def _propagate(self, error: BaseException) -> None:
        self._raised.append(error)

    def _raise_propagated(self) -> None:
        if self._raised:
            raise self._raised.pop(0)
