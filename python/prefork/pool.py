"""TaskPool: the pool itself.

One task, as a walk through the layers:

    TaskPool.apply_async   takes a slot, encodes the call          (codec.encode_call, plain.py)
    CorePool.submit        (`submit_call`, with the encoding, if   (_cython_pool.pxi, _cffi.py)
                           it has no slot, limit nor callback)
    pf_pool_submit         supervisor: publish; ring: a READY word (csrc/pool_tasks.c)
    CoreWorker.serve_next  a worker's turn, from worker._serve     (_cython_worker.pxi, …)
    pf_worker_claim        it claims the task, makes the call      (csrc/worker_tasks.c)
    pf_worker_deliver      result ring                             (csrc/worker_tasks.c)
    pf_pool_poll           supervisor: settled; an event           (csrc/pool_poll.c, pool_orders.c)
    Delivery.apply         resolves the Task                       (delivery.py)
    Delivery.run_callbacks calls back                              (delivery.py)
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from logging import Logger
from typing import Any, NoReturn, TypeVar

from . import boot, codec
from .errors import SoftTimeLimitExceeded
from .facts import Worker, info_of, stats_of, workers_of
from .logs import pool_logger
from .machine import usable_cpus
from .maps import MapIterator
from .measured import map_over
from .options import (
    Recycling,
    check_bool,
    check_callable,
    check_has,
    check_kwargs,
    check_recycling,
    check_seconds,
    checked_exceptions,
    checked_limit,
    checked_names,
    checked_retries,
    not_callable,
    unknown_option,
)
from .submitting import Submitting
from .task import Task
from .worker import SoftTimeoutError, WorkerSetup

T = TypeVar("T")
R = TypeVar("R")


class TaskPool(Submitting):
    """A pool of worker processes, forked from a zygote, that survives the loss of any of them.

    Parameters: `limit` (int): how many workers; None: what the container allows; 0: none, tasks
    queue. `putlocks`: at most `limit` unfinished tasks, `apply_async` waits for a slot.
    `forking_enable=False`: the same as `start_method="exec"`. `callbacks_propagate`: exception
    types that, raised by a callback, come out of `poll()` and `join()`. `app`: kept as it is, for
    the caller. `initializer(*initargs)` runs in every new worker; by fork they are inherited and
    never pickled. `on_process_exit(pid, exitcode)` runs in the worker at every orderly exit, for
    ten seconds at most; threads that tasks have left running are not waited for. `before_spawn()`
    is called here, in the application, before each worker is forked, which waits for that: within
    `start()`, and later where callbacks are; so it must not wait for a task of this pool.
    `timeout`: seconds that a task may run, then its worker is killed. `soft_timeout`: seconds after
    which SoftTimeLimitExceeded is raised inside the task, or what `soft_timeout_error(message,
    seconds)` returns (nothing for None; seconds is None for `Task.interrupt()`). A worker is
    replaced, and its successor forked ahead, after `maxtasksperchild` tasks, `max_age_per_child`
    seconds, or the task in which it was seen with more than `max_memory_per_child` KiB of memory of
    its own (looked at ten times a second while it works); each up to the share `recycle_jitter`
    earlier, at random, so that workers do not end together. One that is spent by age or memory goes
    on until its successor is up, or three times as long as that took the last time. `memory_limit`:
    KiB above which, seen as often, its task is lost with OutOfMemory, and it is killed. Its own is
    anonymous memory of this process alone: neither shared memory, nor what its subprocesses have.
    `semaphore`: the slots, if not the pool's own; it has `acquire(blocking)` and `release()`, and
    is released exactly once for every task of `apply_async`, also for one that did not wait for it
    (then whoever called has acquired it). `start_method`: "fork" or "exec". `preload`: modules that
    the zygote imports. `capture_output`: what a task writes to descriptors 1 and 2, with all that C
    code and programs that it starts write there, goes into memory; the last of it (8 KiB, whole
    lines) is the `output` of its WorkerLostError or TimeLimitExceeded, that of tasks that end well
    is dropped. `logger`: instead of `prefork`'s.

    If zygote and standby are killed at once, the pool has a new zygote by itself, three times in a
    minute at most: by "exec" always, by "fork" only while the process has a single thread (a pool
    that calls back has a second one, unless it is a guest). Else it is degraded: tasks that wait
    fail with RuntimeError, calls raise it, and `restart()` is the way out.

    ============================  =============================================================
    call                          outcome
    ============================  =============================================================
    before `start()`              RuntimeError that names `start()` and `with`
    after `close()`, `stop()` …   PoolClosed
    end of a `with` block         `stop()`; by an exception `terminate()`
    collected, or exit, alive     `terminate()` and one ResourceWarning (a Task holds its pool)
    in a fork of the application  PoolClosed, and nothing of an ending call
    an ending call again          nothing
    ============================  =============================================================

    Raises TypeError for a parameter of a wrong type or an unknown one, ValueError for one that is
    out of range.
    """

    def __init__(
        self,
        limit: int | None = None,
        putlocks: bool = True,
        forking_enable: bool = True,
        callbacks_propagate: Sequence[type[BaseException]] = (),
        app: Any = None,
        *,
        initializer: Callable[..., object] | None = None,
        initargs: Iterable[Any] = (),
        on_process_exit: Callable[[int, int], object] | None = None,
        soft_timeout_error: SoftTimeoutError = SoftTimeLimitExceeded,
        before_spawn: Callable[[], object] | None = None,
        timeout: float | None = None,
        soft_timeout: float | None = None,
        maxtasksperchild: int | None = None,
        max_age_per_child: float | None = None,
        max_memory_per_child: int | None = None,
        memory_limit: int | None = None,
        recycle_jitter: float = 0.1,
        semaphore: Any = None,
        start_method: str | None = None,
        preload: Sequence[str] = (),
        capture_output: bool = False,
        logger: Logger | None = None,
        **unknown: NoReturn,
    ) -> None:
        if unknown:
            raise TypeError(unknown_option(TaskPool, next(iter(unknown))))
        limit = usable_cpus() if limit is None else checked_limit(limit)
        recycling = Recycling(
            maxtasksperchild, max_age_per_child, max_memory_per_child, memory_limit, recycle_jitter
        )
        check_recycling(recycling)
        check_seconds("timeout", timeout)
        check_seconds("soft_timeout", soft_timeout)
        check_callable(
            initializer=initializer,
            on_process_exit=on_process_exit,
            soft_timeout_error=soft_timeout_error,
            before_spawn=before_spawn,
        )
        # Celery gives putlocks as it is set, which may be another no.
        check_bool(capture_output=capture_output, putlocks=putlocks or False)
        check_has(semaphore, "semaphore", "acquire", "release")
        check_has(logger, "logger", "warning")
        method = start_method
        if method is None:
            method = boot.default_start_method() if forking_enable else "exec"
        elif method == "fork" and not forking_enable:
            raise ValueError('forking_enable=False is start_method="exec", and not "fork"')
        if method not in boot.START_METHODS:
            raise ValueError(f"start_method must be one of {boot.START_METHODS}, not {method!r}")
        setup = WorkerSetup(initializer, tuple(initargs), on_process_exit, soft_timeout_error)
        super().__init__(
            limit,
            method,
            setup,
            checked_names(preload),
            recycling,
            before_spawn,
            capture_output,
            logger or pool_logger,
        )
        self._have_slots(bool(putlocks), semaphore)
        self.callbacks_propagate = checked_exceptions(callbacks_propagate)
        self.app = app
        self._timeout = timeout
        self._soft_timeout = soft_timeout

    # ---- tasks -------------------------------------------------------------------------------

    def apply(
        self,
        target: Callable[..., R],
        args: Sequence[Any] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> R:
        """Run `target(*args, **kwargs)` in a worker, wait, and return its result or raise its
        exception. Raises what `apply_async` and `Task.result` do."""
        return self.apply_async(target, args, kwargs).get()

    def apply_async(
        self,
        target: Callable[..., R],
        args: Sequence[Any] = (),
        kwargs: dict[str, Any] | None = None,
        callback: Callable[[R], object] | None = None,
        error_callback: Callable[[BaseException], object] | None = None,
        accept_callback: Callable[[int, float], object] | None = None,
        timeout_callback: Callable[[bool, float], object] | None = None,
        callbacks_propagate: Sequence[type[BaseException]] | None = None,
        timeout: float | None = None,
        soft_timeout: float | None = None,
        queue_timeout: float | None = None,
        on_lost: str = "fail",
        retries: int | None = None,
        correlation_id: str | None = None,
        waitforslot: bool | None = None,
    ) -> Task[R]:
        """Submit a task; the first parameters stand where `multiprocessing.Pool` has them. Raises
        what pickling its arguments raises, PoolClosed, InitializerError, RuntimeError before
        `start()` and in a degraded pool, and ValueError or TypeError for an option that cannot be.
        Where a signal handler raises, as for Ctrl-C, the task may have been submitted, and then
        runs though nobody has it in hand.

        `timeout` and `soft_timeout` (seconds) are the task's own, in place of the pool's.
        `queue_timeout`: seconds within which a worker must have begun it, else QueueTimeout.
        `on_lost="retry"`: if its worker dies, it is called again, up to `retries` times (1 by
        default); only for functions that may run more than once. A task that loses a worker each
        time ends with QuarantinedTask. While it waits for its next call it counts as not begun.

        Callbacks get: `callback(result)`, `error_callback(exception)`, `accept_callback(pid, at)`
        when the task begins (`at` as of time.monotonic()), `timeout_callback(soft, seconds)` when
        it has run longer than `soft_timeout` (soft) or `timeout` seconds. With `putlocks` it waits
        for a slot, unless `waitforslot=False`, or called from a callback or in the guest of a loop.
        """
        if not self._started or self._closed or not self._delivery.health.is_well:
            self._check_usable()
        if kwargs is not None:
            check_kwargs(kwargs)
        self.on_apply(target, args)
        if (
            callback is None and error_callback is None and accept_callback is None
            and timeout_callback is None and callbacks_propagate is None and timeout is None
            and soft_timeout is None and queue_timeout is None and retries is None
            and correlation_id is None and on_lost == "fail" and self._adds_nothing()
        ):  # fmt: skip
            return self._submit_call(target, tuple(args), kwargs)
        limit = self._timeout if timeout is None else check_seconds("timeout", timeout)
        task: Task[R] = Task(self, codec.name_of(target), correlation_id, limit)
        soft = self._soft_timeout if soft_timeout is None else soft_timeout
        if soft is not None:
            task._soft_limit = check_seconds("soft_timeout", soft)
        if queue_timeout is not None:
            task._queue_limit = check_seconds("queue_timeout", queue_timeout)
        if on_lost != "fail" or retries is not None:
            task._retries = checked_retries(on_lost, retries)
        if callback is not None:
            if not callable(callback):
                raise not_callable("callback", callback)
            task._callback = callback
        if error_callback is not None:
            if not callable(error_callback):
                raise not_callable("error_callback", error_callback)
            task._error_callback = error_callback
        if accept_callback is not None:
            if not callable(accept_callback):
                raise not_callable("accept_callback", accept_callback)
            task._accept_callback = accept_callback
        if timeout_callback is not None:
            if not callable(timeout_callback):
                raise not_callable("timeout_callback", timeout_callback)
            task._timeout_callback = timeout_callback
        propagate = self.callbacks_propagate
        if callbacks_propagate is not None:
            propagate = checked_exceptions(callbacks_propagate)
        if propagate:
            task._propagate = propagate
        body = codec.encode_call(target, tuple(args), kwargs, correlation_id)
        self._send(task, body, waitforslot)
        return task

    def map(
        self,
        func: Callable[[T], R],
        iterable: Iterable[T],
        chunksize: int | None = None,
        *,
        timeout: float | None = None,
    ) -> list[R]:
        """`[func(x) for x in iterable]`, in workers. `chunksize` and `timeout` (seconds, of an item
        or a chunk) are those of `imap`. Raises what `apply_async` does, and what the first call
        that failed has raised (see `Task.result`), and does not wait for the others: what workers
        have been given is done, of a `chunksize` all that was submitted; nothing further is."""
        return map_over(self, func, iterable, chunksize, True, False, timeout).collect()

    def starmap(
        self,
        func: Callable[..., R],
        iterable: Iterable[Iterable[Any]],
        chunksize: int | None = None,
        *,
        timeout: float | None = None,
    ) -> list[R]:
        """`[func(*x) for x in iterable]`, in workers; else as `map`."""
        return map_over(self, func, iterable, chunksize, True, True, timeout).collect()

    def imap(
        self,
        func: Callable[[T], R],
        iterable: Iterable[T],
        chunksize: int | None = None,
        *,
        timeout: float | None = None,
    ) -> MapIterator[R]:
        """An iterator over `func(x)` in the order of the input, which is pulled as results are
        taken. Each item has its own result or error; one that cannot be pickled has that.

        `chunksize` (int): so many items make one task, which may run `timeout` seconds, and whose
        loss is the error of each. None: as many as make about a millisecond, by the cost of those
        before them, so one if that is long; after 5 ms of a batch (and a tick of the kernel's clock
        at most) no further item of it is begun, the rest goes to whoever is free. If it loses its
        worker, all its items are lost. Each item is a task, with its own limits, where there is a
        `timeout`, here or the pool's, a `soft_timeout` or `maxtasksperchild`. Items of a task share
        one copy of `func`, and what state that has.

        At most 16 tasks, or four batches, are pulled ahead for each worker. The input is pulled by
        whoever asks for results: one that waits for results of the same map waits for ever."""
        return map_over(self, func, iterable, chunksize, True, False, timeout)

    def imap_unordered(
        self,
        func: Callable[[T], R],
        iterable: Iterable[T],
        chunksize: int | None = None,
        *,
        timeout: float | None = None,
    ) -> MapIterator[R]:
        """As `imap`, in the order in which tasks end."""
        return map_over(self, func, iterable, chunksize, False, False, timeout)

    # ---- facts -------------------------------------------------------------------------------

    @property
    def num_processes(self) -> int:
        """How many workers there shall be (int)."""
        return self.limit

    @property
    def info(self) -> dict[str, Any]:
        """Facts and settings, under the names that Celery's pools use."""
        if self._started:
            self._check_own()
        return info_of(self)

    @property
    def stats(self) -> dict[str, int]:
        """Counters since `start()`: tasks_*, workers_*, zygotes_lost, application_forks …; and the
        pids `zygote` and `standby`, 0 while there is none (which is no pid to signal)."""
        self._check_own()
        return stats_of(self._core.describe())

    @property
    def workers(self) -> list[Worker]:
        """The workers there are now."""
        self._check_own()
        return [] if self._finished else workers_of(self)

    def __repr__(self) -> str:
        name = f"<{type(self).__name__} {self.state}"
        if not self._started or self._finished or self._is_copy():
            return name + ">"
        counts = self._core.describe()
        return (
            f"{name} {counts['alive']}/{self.limit} workers, "
            f"{counts['busy']} busy, {counts['queued']} queued>"
        )
