"""From the core's events to resolved tasks and called callbacks.

A batch of events is applied completely, every task in it resolved and every waiter woken, before
its first callback runs; callbacks wait in a deque of the pool and are popped one by one, so a
callback may itself wait for a task of the same batch, submit, cancel, or stop the pool.
"""

from __future__ import annotations

import contextlib
import os
import threading
import weakref
from collections import deque
from collections.abc import Callable
from itertools import islice
from typing import TYPE_CHECKING, Any

from . import _core, codec, verdicts
from .errors import InitializerError, last_lines, shown, with_output
from .health import Health
from .history import how_it_ended
from .machine import OomKills
from .threads import is_main_thread

if TYPE_CHECKING:
    from ._binding import Event
    from ._core import CorePool
    from .semaphore import Slots
    from .task import Task


#: So many signal handlers, one in another, go on with what the first of them has interrupted.
DEEPEST = 8


class Delivery:
    """What a pool does with events; one per pool, in the pool's own state, without a thread."""

    def __init__(self, pool: Any) -> None:
        self._pool: Any = weakref.proxy(pool)
        self.tasks: dict[int, Task[Any]] = {}
        self.early: dict[int, Event] = {}  # ends of tasks that are not in the table yet
        self.ended: set[int] = set()  # gone from the table a moment ago
        self.slots: Slots | None = None  # the pool's own
        self.events: deque[Event] = deque()
        self.hand: list[Event] = []  # the main thread's: what it applies now
        self._depth = 0  # of signal handlers that go on with what they have interrupted there
        self._next_event = iter(self.events.popleft, None)
        self._interrupt: BaseException | None = None  # raised by a handler while we unpickled
        self.callbacks: deque[tuple[Callable[..., None], tuple[Any, ...]]] = deque()
        self._next_callback = iter(self.callbacks.popleft, None)
        self._oom_kills = OomKills()
        self.health = Health()
        self._handlers: dict[int, Callable[[Event], None]] = {
            _core.ACCEPTED: self._task_accepted,
            _core.SOFT_LIMIT: self._task_softened,
            _core.WORKER_UP: self._worker_up,
            _core.WORKER_EXITED: self._worker_exited,
            _core.WORKER_FAILED: self._worker_failed,
            _core.SPAWN_FAILED: self._spawn_failed,
            _core.ZYGOTE_LOST: self._zygote_lost,
            _core.OUTSIDER: self._outsider,
            _core.SPAWN_WANTED: self._spawn_wanted,
        }
        # Those that do no harm when they come twice. Others that a handler breaks off are left.
        self._repeatable = {_core.ACCEPTED, _core.SOFT_LIMIT, _core.SPAWN_WANTED}

    def relink(self, pool: Any) -> None:
        """Hold the pool itself, for its last act."""
        self._pool = pool

    def apply(self) -> None:
        """Resolve what the events are about. No user code runs here, but for unpickling.

        They wait in a deque of the pool's, and one at a time is in the hand of who applies it; the
        main thread's hand is the pool's, too. A signal handler that interrupts this and waits for
        a task finds its end in one or the other, and goes on with it. If the handler raises, as for
        Ctrl-C, what is in hand goes back. So an end may be applied again, and again from the start;
        but not for ever, as a result would be that sends a signal when it is unpickled.
        """
        depth = self._depth
        if self.hand and self.is_in_hand():
            try:
                self._depth = depth + 1
                self._apply(self.hand, depth + 1 == DEEPEST)
            finally:
                self._depth = depth
        elif is_main_thread():
            is_deep = depth == DEEPEST
            self._apply([] if is_deep else self.hand, is_deep)
        else:
            self._apply([], False)
        if self._interrupt is not None and is_main_thread():  # the program's, and nobody else's
            interrupt, self._interrupt = self._interrupt, None
            if interrupt is not None:
                raise interrupt

    def is_in_hand(self) -> bool:
        """Whether we are in a signal handler that may go on with what it has interrupted."""
        return bool(self.hand) and self._depth < DEEPEST and is_main_thread()

    def _apply(self, hand: list[Event], is_deep: bool) -> None:
        event: Event | None = None
        try:
            while hand or self.events:
                try:
                    if not hand:
                        # Within one call into C: no handler comes between deque and hand.
                        hand.extend(islice(self._next_event, 1))
                    event = hand[0]
                except IndexError:  # another thread has it, or a handler that has come just now
                    continue
                if event[0] == _core.DONE:
                    self._end_task(event, hand, is_deep)
                    continue
                if event[0] not in self._repeatable:
                    hand.clear()
                self._handlers[event[0]](event)
                hand.clear()
        except BaseException:
            if event is not None and event[0] == _core.ZYGOTE_LOST:
                self._pool._recovery.is_due = True
            self._give_back(hand)
            raise

    def _give_back(self, hand: list[Event]) -> None:
        """What a handler has broken off is for whoever comes first."""
        with contextlib.suppress(IndexError):
            self.events.extendleft(islice(iter(hand.pop, None), 1))
        for number in list(self.early):
            self._match(number)

    def run_callbacks(self) -> int:
        """Call what is due; how many that was. Several threads may do so at a time. What a signal
        handler breaks off is put back, for the task itself knows which of its callbacks have begun.
        Where one has forked and returned in the child, the rest is not the child's."""
        count, pid = 0, os.getpid()
        hand: list[tuple[Callable[..., None], tuple[Any, ...]]] = []
        try:
            while self.callbacks:
                if count and os.getpid() != pid:
                    self.callbacks.clear()
                    break
                try:
                    hand.extend(islice(self._next_callback, 1))
                    function, args = hand[0]
                except IndexError:
                    break
                count += 1
                function(*args)
                hand.clear()
        except BaseException:
            if os.getpid() != pid:
                self.callbacks.clear()
            elif is_main_thread():
                with contextlib.suppress(IndexError):
                    self.callbacks.extendleft(islice(iter(hand.pop, None), 1))
            raise
        return count

    # ---- tasks -------------------------------------------------------------------------------

    def _task_accepted(self, event: Event) -> None:
        task = self.tasks.get(event[2])
        if task is None:
            return
        task._accepted_by = event[4]
        if task._accept_callback is not None:
            self.callbacks.append((task._call_accepted, (event[4], event[7])))

    def _task_softened(self, event: Event) -> None:
        task = self.tasks.get(event[2])
        if task is not None and task._timeout_callback is not None:
            self.callbacks.append((task._call_softened, (event[13],)))

    def _end_task(self, event: Event, hand: list[Event], is_deep: bool) -> None:
        """The event is in one place at a time, whoever breaks this off: in the hand, or set aside;
        or its task is not in the table any more, and then its number is among the `ended` for as
        long as the event may still be met. A handler that ends the pool, and has interrupted one,
        cannot wait for it: where no handler goes on with it any more, `is_deep`, its task is out of
        the table meanwhile."""
        number = event[2]
        task = self.tasks.get(number)
        if task is not None:
            try:
                if is_deep:
                    self.tasks.pop(number, None)
                self._settle(task, event)
            except BaseException:
                if is_deep:
                    self.tasks[number] = task
                raise
            if number not in self.tasks and not is_deep:
                return  # a handler has gone on with it; if it put the event back, that is known
            self.ended.add(number)
            self.tasks.pop(number, None)
            if not hand:  # it will be met again
                return
        elif number not in self.ended:  # another thread has submitted it, and is about to keep it
            with contextlib.suppress(IndexError):  # or a handler has just applied it
                self.early.update(zip((number,), iter(hand.pop, None), strict=False))
            self._match(number)
            return
        hand.clear()
        self.ended.discard(number)

    def _match(self, number: int) -> None:
        """Once the table has a task, its end is not early any more."""
        if number in self.tasks:
            with contextlib.suppress(KeyError):
                self.events.extend(map(self.early.pop, (number,)))

    def _settle(self, task: Task[Any], event: Event) -> None:
        """Resolve a task, give back its slot, and put its callbacks in the queue: they may be due
        twice, for this is done again from the start where a handler has broken it off, or does it
        itself."""
        outcome = event[1]
        result = error = None
        if outcome == _core.OK and task._is_plain:
            task._data = event[8] or b""  # whoever asks for it first unpickles it
        elif outcome == _core.OK:
            data = event[8] or b""
            failure = None
            try:
                result = codec.decode_result(data)
            except BaseException as raised:
                failure = raised
            if failure is not None:  # outside, that none has another for its context
                result, error = self._decode_again(task, data, failure)
                del failure
        else:
            error = self._error_of(task, event)
        if event[7] or outcome in (_core.OK, _core.ERROR):
            task._accepted_by = event[4]
        if task._slot:
            self._pool._semaphore.give_back(task._slot)
        elif task._holds_foreign:
            # First: a handler may come in the midst of it, and never is it released twice.
            task._holds_foreign = False
            try:
                self._pool._semaphore.release()
            except Exception:  # the task has its outcome all the same
                self._pool.logger.exception("the pool's semaphore could not be released")
        task._settle(result, error, outcome == _core.CANCELLED and error is None)
        # That it has begun may have come with its end only; or is still in somebody's hand, who
        # finds no task any more, or has not called yet.
        begun = None
        if event[7] and task._accept_callback is not None and not task._was_told_accepted():
            begun = event[4], event[7]
        timed_out = outcome == _core.TIMED_OUT
        if timed_out or event[13]:
            if begun is not None:
                self.callbacks.append((task._call_accepted, begun))
                begun = None
            if event[13] and task._timeout_callback is not None:
                self.callbacks.append((task._call_softened, (event[13],)))
            if timed_out:
                self.callbacks.append((task._call_timed_out, (self._pool.on_hard_timeout,)))
        if timed_out or task._wants_callbacks():
            self.callbacks.append((task._call_ended, (timed_out, begun)))
        elif begun is not None:
            self.callbacks.append((task._call_accepted, begun))

    def _decode(
        self,
        decode: Callable[[Any], Any],
        data: bytes,
        failure: BaseException | None = None,
    ) -> tuple[Any, BaseException | None]:
        """A value, or why there is none. `failure`: what a first try has raised."""
        found, failure, interrupt = codec.decode(decode, data, failure)
        if interrupt is not None:
            self._interrupt = interrupt
        return found, failure

    def _decode_again(
        self, task: Task[Any], data: bytes, first: BaseException
    ) -> tuple[Any, BaseException | None]:
        result, failure = self._decode(codec.decode_result, data, first)
        if failure is None:
            return result, None
        return None, codec.no_result(task.name, failure)

    def _error_of(self, task: Task[Any], event: Event) -> BaseException | None:
        """None: it was cancelled, for no other reason than that somebody wished it."""
        outcome, data = event[1], event[8]
        if outcome == _core.ERROR:
            if data is None:
                return MemoryError(f"there is no room for what {task.name} has returned")
            error: BaseException
            error, failure = self._decode(codec.decode_exception, data)
            if failure is None:
                return error
            return TypeError(f"what {task.name} raised cannot be unpickled: {shown(failure)}")
        if outcome == _core.CANCELLED:
            return task._cancelled_by
        limit = self._pool._recycling.memory_limit or 0
        return verdicts.error_of(task, event, self._oom_kills, limit)

    # ---- workers -----------------------------------------------------------------------------

    def _worker_up(self, event: Event) -> None:
        self.health.worker_up(event[4])
        self._oom_kills.look()
        self._pool.logger.debug("worker %d is up in slot %d", event[4], event[3])

    def _worker_exited(self, event: Event) -> None:
        _, how, _, slot, pid, status, zygote_lost, was_up, *_, memory, written, _, _ = event
        what = how_it_ended(status)
        if zygote_lost and status < 0:
            what = "went down with its zygote"
        if how == _core.EXIT_OVERDUE:
            what += ": it was to end in good order, and did not in ten seconds"
        if memory:
            what += f"; it had {memory} KiB of memory of its own, which was too much"
        level = "info" if memory else "debug"
        if how in (_core.EXIT_UNASKED, _core.EXIT_OVERDUE):
            level = "warning"
        unheard = self.health.worker_exited(pid, bool(was_up))
        self._oom_kills.look()
        getattr(self._pool.logger, level)("worker %d (slot %d) %s", pid, slot, what)
        if unheard and how == _core.EXIT_UNASKED and not zygote_lost:
            message = f"worker {pid} {what} before it was up"
            output = last_lines(written or b"")
            self._start_failed(pid, InitializerError(with_output(message, output)))

    def _worker_failed(self, event: Event) -> None:
        self.health.worker_failed(event[4])
        cause, failure = self._decode(codec.decode_exception, event[8] or b"")
        if failure is not None:
            cause = InitializerError(
                f"what the initializer raised cannot be unpickled: {shown(failure)}"
            )
        self._start_failed(event[4], cause)

    def _spawn_wanted(self, _event: Event) -> None:
        self.callbacks.append((self._pool._permit_spawn, ({},)))

    def _start_failed(self, pid: int, cause: Exception) -> None:
        if self.health.start_failed(pid, cause):
            self._pool._fail_waiting()
        self._pool.logger.error(
            "worker %d failed to start (%d in a row): %s",
            pid, self.health.failed_starts, cause.__cause__ or cause,
        )  # fmt: skip

    def _spawn_failed(self, event: Event) -> None:
        self._pool.logger.error(
            "no worker could be forked for slot %d (errno %d); trying again", event[3], event[5]
        )

    def _zygote_lost(self, event: Event) -> None:
        what = "does not answer" if event[1] else "died"
        if event[5]:
            self._pool.logger.error(
                "zygote %d %s; zygote %d has taken over", event[4], what, event[5]
            )
            return
        self._pool._recovery.is_due = True  # or not: restart() may have been called since
        if event[4]:  # else a standby that was forked a moment ago, and died before it said its pid
            self._pool.logger.error("zygote %d %s, and there is no standby", event[4], what)

    def _outsider(self, event: Event) -> None:
        self._pool.logger.error("worker %d wrote nonsense into the pool and is killed", event[4])


def serve(pool: weakref.ref[Any], core: CorePool, stopping: threading.Event) -> None:
    """The delivery thread: callbacks, and waiters that are not ours, of a pool that is no guest.

    It holds the pool only while it works, so that a forgotten pool can be collected.
    """
    while not stopping.is_set():
        core.wait_gathered()
        alive = pool()
        if alive is None:
            return
        _deliver(alive, stopping)
        if alive._is_copy():  # a callback has forked: with its only thread that process ends
            return
        del alive
    alive = pool()
    if alive is not None:  # what is still due is due here, not in the thread that ends the pool
        alive._delivery.run_callbacks()


def _deliver(pool: Any, stopping: threading.Event) -> None:
    """Whatever is raised, as by a logger whose file system is full: the thread goes on."""
    try:
        pool._look()
    except BaseException:
        if not stopping.is_set():
            pool.logger.exception("the delivery thread of %r met an error", pool)
    while pool._delivery.callbacks:
        try:
            pool._delivery.run_callbacks()
        except BaseException:
            pool.logger.exception("the delivery thread of %r met an error", pool)
