"""From the core's events to resolved tasks and called callbacks.

A batch of events is applied completely, every task in it resolved and every waiter woken, before
its first callback runs; callbacks wait in a deque of the pool and are popped one by one, so a
callback may itself wait for a task of the same batch, submit, cancel, or stop the pool.
"""

from __future__ import annotations

import signal as signals
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable
from itertools import islice
from typing import TYPE_CHECKING, Any

from . import _core, codec
from .errors import (
    InitializerError,
    WorkerEnd,
    last_lines,
    lost_error,
    queue_timeout,
    readable_stack,
    time_limit,
    with_output,
)
from .health import Health
from .history import history_of, how_it_ended, last_life
from .machine import OomKills

if TYPE_CHECKING:
    from ._core import CorePool
    from ._cython import Event
    from .task import Task

TRIES = 3  # at unpickling, before what was raised is held to be the data's own doing


class Delivery:
    """What a pool does with events; one per pool, in the pool's own state, without a thread."""

    def __init__(self, pool: Any) -> None:
        self._pool: Any = weakref.proxy(pool)
        self.tasks: dict[int, Task[Any]] = {}
        self.early: dict[int, Event] = {}  # ends of tasks that are not in the table yet
        self.events: deque[Event] = deque()
        self._next_event = iter(self.events.popleft, None)
        self._interrupt: BaseException | None = None  # raised by a handler while we unpickled
        self.callbacks: deque[tuple[Callable[..., None], tuple[Any, ...]]] = deque()
        self._oom_kills = OomKills()
        self.health = Health()
        self._handlers: dict[int, Callable[[Event], None]] = {
            _core.DONE: self._task_ended,
            _core.ACCEPTED: self._task_accepted,
            _core.SOFT_LIMIT: self._task_softened,
            _core.WORKER_UP: self._worker_up,
            _core.WORKER_EXITED: self._worker_exited,
            _core.WORKER_FAILED: self._worker_failed,
            _core.SPAWN_FAILED: self._spawn_failed,
            _core.ZYGOTE_LOST: self._zygote_lost,
            _core.OUTSIDER: self._outsider,
        }

    def relink(self, pool: Any) -> None:
        """Hold the pool itself, for its last act."""
        self._pool = pool

    def apply(self) -> None:
        """Resolve what the events are about. No user code runs here, but for unpickling.

        They wait in a deque of the pool's: a signal handler that interrupts this and waits for a
        task of the same batch finds the rest there, and goes on with it. If the handler raises, as
        for Ctrl-C, the event in hand goes back there.
        """
        hand: list[Event] = []
        task: Task[Any] | None = None
        try:
            while self.events:
                hand.clear()
                # Out of the deque and into our hand within one call into C: no handler in between.
                try:
                    hand.extend(islice(self._next_event, 1))
                except IndexError:
                    break
                event = hand[0]
                task = self.tasks.get(event[2])
                self._handlers[event[0]](event)
        except BaseException:
            if hand and hand[0][0] == _core.DONE:
                self._put_back(hand[0], task)
            elif hand and hand[0][0] == _core.ZYGOTE_LOST:
                self._pool._recovery.is_due = True
            raise
        interrupt, self._interrupt = self._interrupt, None
        if interrupt is not None:
            raise interrupt

    def _put_back(self, event: Event, task: Task[Any] | None) -> None:
        """The end of a task that was in hand, and the task, if the table had it then."""
        task = self.tasks.get(event[2], task)
        if task is not None and task._number == event[2]:
            if task._is_delivered:
                return
            self.tasks[task._number] = task
        if event[2] not in self.early and not any(other is event for other in self.events):
            self.events.appendleft(event)

    def run_callbacks(self) -> int:
        """Call what is due; how many that was. Several threads may do so at a time."""
        count = 0
        while self.callbacks:
            try:
                function, args = self.callbacks.popleft()
            except IndexError:
                break
            count += 1
            function(*args)
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

    def _task_ended(self, event: Event) -> None:
        task = self.tasks.pop(event[2], None)
        if task is None:  # another thread has submitted it, and is about to keep it
            self.early[event[2]] = event
            task = self.tasks.get(event[2])
            if task is not None and self.early.pop(event[2], None) is not None:
                self.events.append(event)
            return
        self._settle(task, event)

    def _settle(self, task: Task[Any], event: Event) -> None:
        """Resolve a task, give back its slot, and put its callbacks in the queue. Done again from
        the start where Ctrl-C has broken it off."""
        outcome = event[1]
        result, error = self._outcome_of(task, event)
        if event[7] or outcome in (_core.OK, _core.ERROR):
            task._accepted_by = event[4]
        if task._slot:
            self._pool._semaphore.give_back(task._slot)
        elif task._holds_foreign:
            try:
                self._pool._semaphore.release()
            except Exception:  # the task has its outcome all the same
                self._pool.logger.exception("the pool's semaphore could not be released")
            task._holds_foreign = False
        task._settle(result, error, outcome == _core.CANCELLED and error is None)
        task._is_delivered = True
        # What came before may still be in the hand of another thread, which finds no task any more.
        if event[7] and task._accept_callback is not None:
            self.callbacks.append((task._call_accepted, (event[4], event[7])))
        if event[13] and task._timeout_callback is not None:
            self.callbacks.append((task._call_softened, (event[13],)))
        timed_out = outcome == _core.TIMED_OUT
        if timed_out:
            self.callbacks.append((task._call_back, (self._pool.on_hard_timeout, task)))
        if timed_out or task._wants_callbacks():
            self.callbacks.append((task._call_ended, (timed_out,)))

    def _decode(
        self, decode: Callable[[Any], Any], data: bytes | None
    ) -> tuple[Any, BaseException | None]:
        """A value, or why there is none. What a signal handler raises while we unpickle, as for
        Ctrl-C, is meant for the program and not for this task; the task's own data raises again
        when it is tried again."""
        failure: BaseException | None = None
        for _ in range(TRIES):
            try:
                found = decode(data)
                break
            except BaseException as error:
                failure = error
                if threading.current_thread() is not threading.main_thread():
                    return None, failure  # handlers run in the main thread only
        else:
            return None, failure
        if failure is not None:
            self._interrupt = failure
        return found, None

    def _outcome_of(self, task: Task[Any], event: Event) -> tuple[Any, BaseException | None]:
        _, outcome, number, _, pid, status, zygote_lost, at, data = event[:9]
        peak_rss, memory, written, notes = event[9:13]
        if outcome == _core.OK:
            result, failure = self._decode(codec.decode_result, data)
            if failure is None:
                return result, None
            failed = TypeError(f"the result of {task.name} cannot be unpickled: {failure!r}")
            failed.__cause__ = failure
            return None, failed
        if outcome == _core.ERROR:
            if data is None:
                return None, MemoryError(f"there is no room for what {task.name} has returned")
            error, failure = self._decode(codec.decode_exception, data)
            if failure is None:
                return None, error
            return None, TypeError(f"what {task.name} raised cannot be unpickled: {failure!r}")
        runtime = time.monotonic() - at if at else None
        if outcome == _core.CANCELLED:
            return None, task._cancelled_by
        stack = readable_stack((data or b"").decode(errors="replace"))
        output = last_lines(written or b"")
        history = last_life(history_of(notes, {number: task.id}))
        if outcome == _core.EXPIRED:
            return None, queue_timeout(task.id, task.name, task._queue_limit)
        if outcome == _core.TIMED_OUT:
            ran = (task._limit, pid, runtime)
            return None, time_limit(task.id, task.name, *ran, stack, output, history)
        killed = outcome == _core.LOST and status & 0x7F == signals.SIGKILL
        end = WorkerEnd(
            pid=pid,
            status=status,
            runtime=runtime,
            zygote_lost=bool(zygote_lost),
            terminated=outcome == _core.TERMINATED,
            out_of_memory=killed and not zygote_lost and not memory and self._oom_kills.claim(),
            peak_rss=peak_rss,
            memory=memory,
            memory_limit=self._pool._recycling.memory_limit or 0,
            stack=stack,
            output=output,
            history=history,
        )
        lost = lost_error(task.name, end, task._retries if outcome == _core.LOST else 0)
        lost.task_id, lost.task_name = task.id, task.name
        return None, lost

    # ---- workers -----------------------------------------------------------------------------

    def _worker_up(self, event: Event) -> None:
        self.health.worker_up(event[4])
        self._pool.logger.debug("worker %d is up in slot %d", event[4], event[3])

    def _worker_exited(self, event: Event) -> None:
        _, how, _, slot, pid, status, zygote_lost, was_up, *_, memory, written, _, _ = event
        what = how_it_ended(status)
        if how == _core.EXIT_OVERDUE:
            what += ": it was to end in good order, and did not in ten seconds"
        if memory:
            what += f"; it had {memory} KiB of memory of its own, which was too much"
        level = "info" if memory else "debug"
        if how in (_core.EXIT_UNASKED, _core.EXIT_OVERDUE):
            level = "warning"
        unheard = self.health.worker_exited(pid, bool(was_up))
        getattr(self._pool.logger, level)("worker %d (slot %d) %s", pid, slot, what)
        if unheard and how == _core.EXIT_UNASKED and not zygote_lost:
            message = f"worker {pid} {what} before it was up"
            output = last_lines(written or b"")
            self._start_failed(pid, InitializerError(with_output(message, output)))

    def _worker_failed(self, event: Event) -> None:
        self.health.worker_failed(event[4])
        self._start_failed(event[4], codec.decode_exception(event[8] or b""))

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
        if event[5]:
            what = "does not answer" if event[1] else "died"
            self._pool.logger.error(
                "zygote %d %s; zygote %d has taken over", event[4], what, event[5]
            )
            return
        self._pool._recovery.is_due = True  # or not: restart() may have been called since
        if event[4]:  # else a standby that was forked a moment ago, and died before it said its pid
            self._pool.logger.error("zygote %d died, and there is no standby", event[4])

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
