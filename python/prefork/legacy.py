"""The process pool of Celery 0.3.7 (2009), `celery.pool.TaskPool`, on ours.

    apply_async ----> room? ----> submit ----> on_acknowledge() ----> add: recorded
                        ^                                               |
                        | wakes who waits                               | ended, or lost
                        |                                               v
    callbacks <---- on_ready <---- on_return: record removed, once <----+---- reap

It follows the names, the signatures and the order of that version's documentation page, and, where
the page says nothing, what its `celery/pool.py` did. `docs/legacy.md` lists both, and what is
mended. Tasks that end are passed on by the pool's delivery thread, as they end; `reap` and
`wait_for_result` do so in the caller's. It needs no Celery.
"""

from __future__ import annotations

import contextlib
import itertools
import multiprocessing
import os
import threading
import traceback
import uuid
import weakref
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError, Future
from logging import Logger
from typing import Any

from .errors import PoolClosed, RemoteError
from .logs import Log
from .options import checked_limit
from .pool import TaskPool as Pool
from .task import Task

__all__ = ["ExceptionInfo", "TaskPool"]

Callback = Callable[[Any, Any], object]  # of a result, or an exception, and the task's meta

_live: weakref.WeakSet[TaskPool] = weakref.WeakSet()


class ExceptionInfo:
    """How a task failed: what `on_return` and `on_ready` take for a failure, and what a task may
    return as one. It stands for `celery.datastructures.ExceptionInfo`.

    Made of what `sys.exc_info()` gives. Raises TypeError where that has no exception.
    """

    def __init__(self, exc_info: tuple[Any, Any, Any]) -> None:
        kind, error, trace = exc_info
        if not isinstance(error, BaseException):
            raise TypeError(f"an ExceptionInfo is made of an exception, not of {error!r}")
        remote = error if isinstance(error, RemoteError) else error.__cause__
        text = remote.text if isinstance(remote, RemoteError) else ""
        self.exception: BaseException = error
        #: The traceback as text, of the worker where there is one (str).
        self.traceback: str = text or "".join(traceback.format_exception(kind, error, trace))

    @property
    def exc_info(self) -> tuple[type[BaseException], BaseException, Any]:
        """Type, exception, traceback: as `logging` takes it. Its traceback is not pickled."""
        return _ExcInfo((type(self.exception), self.exception, self.exception.__traceback__))

    def __str__(self) -> str:
        return str(self.exception)

    def __repr__(self) -> str:
        return f"<ExceptionInfo {self.exception!r}>"


class _ExcInfo(tuple[type[BaseException], BaseException, Any]):
    """An exception carries one, and is to be pickled all the same: without the frames."""

    def __reduce__(self) -> tuple[Any, ...]:
        return tuple, ((*self[:2], None),)


class TaskPool:
    """At most `limit` tasks at a time in as many worker processes; `apply_async` waits for room.

    Parameters: `limit` (int, at least 1). `reap_timeout`: kept as an attribute; 0.3.7 never used
    it, and neither does this, for nothing is polled. `logger`: instead of multiprocessing's.
    Nothing is started before `run()` or the first task. Raises TypeError for a limit that is no
    integer, ValueError for one out of range.
    """

    def __init__(
        self, limit: int, reap_timeout: float | None = None, logger: Logger | None = None
    ) -> None:
        if checked_limit(limit) < 1:
            raise ValueError(f"limit must be at least 1, not {limit}")
        self.limit = limit  #: how many workers, and how many recorded tasks make the pool full
        self.logger = logger or multiprocessing.get_logger()
        self.reap_timeout = reap_timeout  #: unused, as in 0.3.7
        self._process_counter = itertools.count(1)
        self._processed_total = 0
        self._pool: Pool | None = None
        self._starting = threading.RLock()
        self._forget()
        _live.add(self)

    def _forget(self) -> None:
        """No task is recorded. Also in a fork of the application, where those that were will never
        end, and a thread that is not there may have taken a lock."""
        self._processes: dict[Any, list[Any]] = {}  # tid: result, callbacks, errbacks, meta
        self._changed = threading.Condition()  # a record was removed
        self._delivering_threads: set[int] = set()
        self._interrupt: BaseException | None = None  # for the caller, from the delivery thread

    # ---- start and end -----------------------------------------------------------------------

    def run(self) -> None:
        """Fork all workers; when it returns each has a pid. Nothing if the pool runs. Raises what
        `prefork.TaskPool.start` does."""
        if not self._pool_is_running():
            self._start()

    def _start(self) -> None:
        with self._starting:
            pool = self._pool
            if self._pool_is_running():  # another thread was first
                return
            if pool is not None and pool.state == "degraded":
                pool.restart()
                return
            pool = Pool(self.limit, putlocks=False, logger=self.logger)
            pool.start()
            try:
                # Each worker's pid is known by the event that it is up; nobody else takes those.
                while pool.state == "running" and len(_pids(pool)) < self.limit:
                    pool.poll(None)
            except BaseException:
                pool.terminate()
                raise
            self._pool = pool

    def _pool_is_running(self) -> bool:
        return self._pool is not None and self._pool.state == "running"

    def get_worker_pids(self) -> list[int]:
        """The pids of the workers (ints); none of a pool that does not run."""
        return [] if self._pool is None else _pids(self._pool)

    def terminate(self) -> None:
        """End all workers now. The errbacks of tasks that had not ended get WorkerKilled. The next
        task starts the pool anew."""
        if self._pool is not None:
            self._pool.terminate()

    # ---- tasks -------------------------------------------------------------------------------

    def apply_async(
        self,
        target: Callable[..., Any],
        args: Sequence[Any] | None = None,
        kwargs: dict[str, Any] | None = None,
        callbacks: Sequence[Callback] | None = None,
        errbacks: Sequence[Callback] | None = None,
        on_acknowledge: Callable[[], object] | None = None,
        meta: Any = None,
    ) -> Task[Any]:
        """Run `target(*args, **kwargs)` in a worker. First waits while the pool is full, but not
        in a callback; then submits, calls `on_acknowledge()`, and records the task.

        If it returns, each `callback(result, meta)` is called, in order. If it raises, its worker
        is lost, or it returns an ExceptionInfo: each `errback(exception, meta)`; the exception has
        `exception` (itself), `traceback` (str) and `exc_info`. `meta` is {} unless given. What a
        callback raises is logged, and the next one is called.

        Starts a pool that does not run, but not from a callback: there PoolClosed, as where another
        thread terminates the pool meanwhile. Raises what pickling the arguments does. What
        `on_acknowledge` raises comes out of here as well: then the task runs, and nobody is called
        back.
        """
        self._raise_interrupt()
        if not self._pool_is_running():
            if self._is_in_callback():
                raise PoolClosed("the pool does not run, and a callback does not start it")
            self._start()
        assert self._pool is not None
        tid = str(uuid.uuid4())
        self._processed_total = next(self._process_counter)
        self._wait_for_room()
        if self._pool.state == "degraded" and not self._is_in_callback():  # since we wait
            self._start()
        result = self._pool.apply_async(target, tuple(args or ()), kwargs or {})
        if on_acknowledge:
            on_acknowledge()
        self.add(result, callbacks or [], errbacks or [], tid, {} if meta is None else meta)
        return result

    def add(
        self,
        result: Future[Any],
        callbacks: Sequence[Callback],
        errbacks: Sequence[Callback],
        tid: Any,
        meta: Any,
    ) -> None:
        """Record a task under the name `tid`: anything hashable, and its own. `result` is what
        `apply_async` returns, or another Future. Waits while the pool is full, but not in a
        callback. If the task has ended by now, its callbacks are called here."""
        job = [result, callbacks, errbacks, meta]
        while not self._record(tid, job):
            self._wait_for_room()
        if result.done():
            self._deliver(tid, job)

    def _record(self, tid: Any, job: list[Any]) -> bool:
        """Whether there was room. First to be told of the end: so no record is left by Ctrl-C."""
        with self._changed:
            if self._must_wait():
                return False
            job[0].add_done_callback(lambda _: self._on_end(tid, job))
            self._processes[tid] = job
            return True

    def full(self) -> bool:
        """Whether `limit` tasks are recorded, or more; until they are passed on, as in 0.3.7."""
        return len(self._processes) >= self.limit

    def _wait_for_room(self) -> None:
        while self._must_wait():
            self.wait_for_result()

    def _must_wait(self) -> bool:
        return self.full() and bool(self._processes) and not self._is_in_callback()

    def wait_for_result(self) -> int:
        """Wait until a recorded task has ended and been passed on, here or by the delivery thread.
        How many that were (int). 0 at once if none is recorded; a callback does not wait."""
        with self._changed:
            recorded = set(self._processes)
        self.reap()
        with self._changed:
            if recorded and not self._is_in_callback():
                self._changed.wait_for(lambda: recorded.difference(self._processes))
            passed_on = recorded.difference(self._processes)
        self._raise_interrupt()
        return len(passed_on)

    def reap(self) -> int:
        """Pass on, in this thread, the tasks that have ended; how many that were (int). Does not
        wait. Raises KeyboardInterrupt or SystemExit if a task has returned one as its failure."""
        Log(self.logger).debug("Reaping processes...")
        self._raise_interrupt()
        with self._changed:
            recorded = list(self._processes.items())
        ended = [(tid, job) for tid, job in recorded if job[0].done()]
        for tid, job in ended:
            self._deliver(tid, job)
        return len(ended)

    # ---- what becomes of them ----------------------------------------------------------------

    def _on_end(self, tid: Any, job: list[Any]) -> None:
        """In the delivery thread: nobody of the program would hear what is raised here."""
        with self._calling_back():
            self._deliver(tid, job)

    def _deliver(self, tid: Any, job: list[Any]) -> None:
        if self._processes.get(tid) is job:  # else not recorded yet, or passed on already
            result, callbacks, errbacks, meta = job
            self.on_return(_outcome_of(result), tid, callbacks, errbacks, meta)

    def on_return(
        self,
        ret_val: Any,
        tid: Any,
        callbacks: Sequence[Callback],
        errbacks: Sequence[Callback],
        meta: Any,
    ) -> None:
        """A recorded task has ended: remove the record and call `on_ready`. Nothing if it was
        removed already, so that each task is passed on once, as 0.3.7 did."""
        kept = _end_of_program(ret_val) if self._is_in_callback() else None
        with self._changed:
            if self._processes.pop(tid, None) is None:
                return
            if kept is None:
                self._changed.notify_all()
        try:
            with self._calling_back():
                self.on_ready(ret_val, callbacks, errbacks, meta)
        except (KeyboardInterrupt, SystemExit) as error:
            if error is not kept:
                raise
            self._interrupt = error
        finally:
            if kept is not None:  # not before: who waits for room shall hear of it
                with self._changed:
                    self._changed.notify_all()

    def on_ready(
        self,
        ret_value: Any,
        callbacks: Sequence[Callback],
        errbacks: Sequence[Callback],
        meta: Any,
    ) -> None:
        """Call the errbacks if `ret_value` is an ExceptionInfo (ours, Celery's or billiard's), else
        the callbacks. If its exception is KeyboardInterrupt or SystemExit: terminate, and raise
        that, as 0.3.7 did."""
        if not _is_failure(ret_value):
            self._call_all(callbacks, ret_value, meta)
            return
        if (end := _end_of_program(ret_value)) is not None:
            self.terminate()
            raise end
        _equip(ret_value.exception, ret_value.traceback)
        self._call_all(errbacks, ret_value.exception, meta)

    def _call_all(self, functions: Sequence[Callback], value: Any, meta: Any) -> None:
        for function in functions:
            try:
                function(value, meta)
            except BaseException as error:
                # In the main thread that may be Ctrl-C, which is meant for the program.
                is_main = threading.current_thread() is threading.main_thread()
                if isinstance(error, KeyboardInterrupt) and is_main:
                    raise
                Log(self.logger).exception("a callback of %r raised; it is dropped", self)

    # ---- whose thread this is ----------------------------------------------------------------

    @contextlib.contextmanager
    def _calling_back(self) -> Iterator[None]:
        """Callbacks run in this thread. It must not wait for room: it may be what makes room."""
        me = threading.get_ident()
        nested = me in self._delivering_threads
        self._delivering_threads.add(me)
        try:
            yield
        finally:
            if not nested:
                self._delivering_threads.discard(me)

    def _is_in_callback(self) -> bool:
        if threading.get_ident() in self._delivering_threads:
            return True
        return self._pool is not None and self._pool.in_callback()  # a Task's own

    def _raise_interrupt(self) -> None:
        if self._interrupt is None or self._is_in_callback():
            return
        with self._changed:
            error, self._interrupt = self._interrupt, None
        if error is not None:  # else another thread has it
            raise error


def _pids(pool: Pool) -> list[int]:
    return [worker.pid for worker in pool.workers if worker.pid]


def _outcome_of(result: Future[Any]) -> Any:
    """What a task that has ended returned, or an ExceptionInfo."""
    try:
        error = result.exception()
    except CancelledError as cancelled:
        error = cancelled
    if error is None:
        return result.result()
    return ExceptionInfo((type(error), error, error.__traceback__))


def _is_failure(value: Any) -> bool:
    """Whether it is an ExceptionInfo, by the name of its class: nobody else's is imported, and no
    attribute of any other result is touched."""
    return (
        any(kind.__name__ == "ExceptionInfo" for kind in type(value).__mro__)
        and isinstance(getattr(value, "exception", None), BaseException)
        and isinstance(getattr(value, "traceback", None), str)
    )


def _end_of_program(value: Any) -> BaseException | None:
    """The KeyboardInterrupt or SystemExit that a task has returned as its failure, or None."""
    error = value.exception if _is_failure(value) else None
    return error if isinstance(error, (KeyboardInterrupt, SystemExit)) else None


def _equip(error: BaseException, text: str) -> None:
    """Give an exception what errbacks read of it."""
    exc_info = _ExcInfo((type(error), error, error.__traceback__))
    for name, value in (("exception", error), ("traceback", text), ("exc_info", exc_info)):
        with contextlib.suppress(Exception):  # its class may have a property of that name
            BaseException.__setattr__(error, name, value)


def _forget_all() -> None:
    """In a fork of the application: its copies of pools are as before `run()`."""
    for pool in list(_live):
        pool._pool = None
        pool._starting = threading.RLock()
        pool._forget()


os.register_at_fork(after_in_child=_forget_all)
