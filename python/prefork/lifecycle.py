"""A pool's life: new, running, closed or terminated, stopped.

Every ending call may come again, from any thread, from a callback, and from a signal handler.
"""

from __future__ import annotations

import atexit
import contextlib
import errno
import os
import signal as signals
import threading
import time
import warnings
import weakref
from collections.abc import Callable, Sequence
from logging import Logger
from types import TracebackType
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from . import boot
from ._core import CorePool, call_once
from .driving import Driving
from .errors import PoolClosed
from .logs import Log
from .machine import spare_descriptors
from .options import Recycling, check_timeout
from .task import remaining
from .worker import WorkerSetup

if TYPE_CHECKING:
    from .task import Task

TERM_GRACE = 3.0  # seconds between SIGTERM and SIGKILL, and for a callback that does not end
DESCRIPTORS_PER_WORKER, SPARE_DESCRIPTORS = 3, 64  # the pool's, and what it leaves to others

Self = TypeVar("Self", bound="Lifecycle")
_live: weakref.WeakSet[Lifecycle] = weakref.WeakSet()


class Lifecycle(Driving):
    """The part of a TaskPool that starts, ends and restarts it."""

    def __init__(
        self,
        limit: int,
        start_method: str,
        setup: WorkerSetup,
        preload: Sequence[str],
        recycling: Recycling,
        before_spawn: Callable[[], object] | None,
        capture_output: bool,
        logger: Logger,
    ) -> None:
        super().__init__()
        self.limit = limit  #: how many workers there shall be
        self.logger = Log(logger)
        self._start_method = start_method
        self._setup = setup
        self._preload = tuple(preload)
        self._recycling = recycling
        self._before_spawn = before_spawn
        self._capture_output = capture_output
        self._closed = self._terminated = False
        self._starting = threading.Lock()

    def start(self) -> None:
        """Fork the zygote, from this thread, and have it fork the workers, which come up in the
        background. Raises RuntimeError if it was started already, OSError (EMFILE where the limit
        of descriptors is too low for so many workers); with `start_method="exec"` also what
        pickling the initializer and its arguments raises. What `before_spawn` or a signal handler
        raises when there is a zygote already, as for Ctrl-C, ends the pool."""
        if self._started or not self._starting.acquire(blocking=False):
            raise RuntimeError(f"{self!r} was started already")
        try:
            self.on_start()
            self._check_descriptors(self.limit)
            core = CorePool(
                self.limit,
                self._recycling.tasks or 0,
                self._recycling.age or 0.0,
                self._recycling.memory or 0,
                self._recycling.memory_limit or 0,
                self._recycling.jitter,
                TERM_GRACE,
                self._capture_output,
                self._before_spawn is not None,
            )
            boot.start_zygote(core, self._start_method, self._setup, self._preload)
            self._core = core
            self._pid = os.getpid()
            self._started = True
            _live.add(self)
        finally:
            self._starting.release()
        try:
            if self._before_spawn is not None:
                self._answer()
                self._serve_others()
            core.drive_in_background()
        except BaseException:  # nobody is in a `with` block yet, to end the pool
            self.terminate()
            raise

    def _permit_spawn(self, called: dict[str, Any]) -> None:
        """What the pool asks for before each spawn."""
        try:
            if self._before_spawn is not None:
                call_once(called, "before_spawn", self._before_spawn)
        except Exception:
            self.logger.exception("before_spawn raised; the worker is forked all the same")
        finally:
            if not self._finished:
                self._core.permit_spawn()

    def _check_descriptors(self, workers: int) -> None:
        """A pool that ends half-way up would leave the application none to open a file with."""
        spare = spare_descriptors() if workers > 0 else None
        per_worker = DESCRIPTORS_PER_WORKER + self._capture_output
        needed = workers * per_worker + SPARE_DESCRIPTORS
        if spare is not None and needed > spare:
            raise OSError(
                errno.EMFILE,
                f"{workers} more workers want {needed} descriptors, {spare} may be opened "
                "(ulimit -n, RLIMIT_NOFILE)",
            )

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            f"{self!r} cannot be pickled. If it was to be sent to a worker: a bound method brings "
            "its object along, and that may hold the pool; use a function instead."
        )

    def __enter__(self: Self) -> Self:
        if not self._started:
            self.start()
        if self._finished or self._is_copy():
            raise PoolClosed(f"{self!r} cannot be started again")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if kind is None:
                self.stop()
        finally:  # also of a stop that Ctrl-C breaks off
            self.terminate()

    def close(self) -> None:
        """Take no more tasks; what was submitted is done, then the workers end."""
        self._check_started()
        if self._closed or self._is_copy():
            return
        self._closed = True
        self.on_close()
        self._core.retire(False)
        self._core.rouse()  # who waits for a slot will get none

    def join(self, timeout: float | None = None) -> bool:
        """After `close` or `terminate`: wait up to `timeout` seconds until all workers have ended
        and all callbacks have been called. Whether that is so. Raises ValueError if the pool was
        not closed, and what a callback raised that is in `callbacks_propagate`."""
        check_timeout(timeout)
        self._check_started()
        if self._is_copy():
            return True
        if not self._closed:
            raise ValueError(f"{self!r} is to be closed or terminated before it is joined")
        deadline = None if timeout is None else time.monotonic() + timeout
        if not self._wait(self._is_over, timeout):
            return False
        self._finish()
        if not self._end_callbacks(remaining(deadline)):
            return False
        self._raise_propagated()
        return True

    def stop(self, timeout: float | None = None) -> None:
        """Close, wait up to `timeout` seconds for all tasks and callbacks, end the workers in good
        order; what is left after `timeout` is terminated."""
        check_timeout(timeout)
        self._check_started()
        if self._finished or self._is_copy():
            return
        self.on_stop()
        self.close()
        if not self.join(timeout):
            self.terminate()

    def terminate(self, timeout: float | None = None) -> None:
        """End every worker now: SIGTERM, and SIGKILL after a grace of `timeout` seconds (3 s by
        default). Tasks that had not ended fail with WorkerKilled. A callback that does not end
        within the grace is left to its thread."""
        check_timeout(timeout)
        self._check_started()
        if self._finished or self._is_copy():
            return
        grace = TERM_GRACE if timeout is None else timeout
        if not self._terminated:
            self._terminated = self._closed = True
            self.on_terminate()
            self._core.terminate(signals.SIGTERM, grace)
            self._core.rouse()
        if not self._wait(self._is_over, grace):
            self._core.terminate(signals.SIGKILL, 0)
            self._wait(self._is_over, TERM_GRACE)
        self._finish()
        if not self._end_callbacks(max(grace, 1.0)):
            self.logger.warning("a callback of %r does not end; it is left to its thread", self)

    def restart(self) -> None:
        """A new zygote from the application as it is now. Running tasks end on the old workers,
        queued ones wait for the new. The way out for a pool that has lost its zygote and may not
        have a new one by itself. Forks from this thread; raises as `start` does, and PoolClosed."""
        self._check_open()
        self.logger.info("%r restarts: a new zygote is started from the application", self)
        self._have_zygote()
        self._recovery.start_afresh()

    def _have_zygote(self) -> None:
        """In place of one that was lost, or is to be replaced."""
        recovery = self._recovery
        with recovery.lock:
            boot.start_zygote(self._core, self._start_method, self._setup, self._preload)
            self._delivery.health.start_afresh()
            recovery.is_due = False
            if not self._core.describe()["zygote"]:  # another thread may have said so before that
                recovery.is_due = True

    def _is_over(self) -> bool:
        if self._finished:
            return True
        counts = self._core.describe()
        if self._delivery.tasks or counts["unfinished"] or counts["processes"]:
            return False
        # The core may have the end of a task that another thread has submitted, and not kept yet.
        self._take(0, self._core.rouses())
        return not self._delivery.tasks

    def _finish(self) -> None:
        """All workers have ended: let the zygote end, and the threads."""
        if self._finished:
            return
        self._finished = True
        _live.discard(self)
        self._leave_loops()
        self._core.rouse()
        self._core.shut_down()

    def _end_callbacks(self, timeout: float | None) -> bool:
        """Have the last callbacks called; False if that takes longer than `timeout` seconds."""
        if not self._stop_thread(timeout):
            return False
        if not self.in_callback():
            self._run_callbacks()
        return True

    def __del__(self) -> None:
        if getattr(self, "_started", False) and not self._finished and not self._is_copy():
            self._abandon("was collected while it was running")

    def _abandon(self, how: str) -> None:
        # The collector has cleared weak references to us before it called __del__.
        self._delivery.relink(self)
        open_tasks = len(self._delivery.tasks)
        try:
            warnings.warn(
                f"{self!r} {how}, with {open_tasks} open tasks",
                ResourceWarning,
                source=self,
                stacklevel=2,
            )
        finally:  # the warning may be an error
            self.terminate()

    def did_start_ok(self) -> bool:
        """Whether the pool runs and no initializer has failed."""
        self._check_own()
        self._look()
        health = self._delivery.health
        return health.is_well and not health.failed_starts

    def maintain_pool(self) -> None:
        """Do what is due now. Billiard's users know it; the pool needs no such care."""
        self._check_own()
        self._look()

    @property
    def active(self) -> bool:
        """Whether the pool runs and takes tasks."""
        return self.state == "running"

    @property
    def state(self) -> str:
        """new, running, closed, terminated, stopped (also in a fork of the application), or
        degraded (no zygote, or no worker can start)."""
        if not self._started:
            return "new"
        if self._finished or self._is_copy():
            return "stopped"
        if self._terminated:
            return "terminated"
        if self._closed:
            return "closed"
        if not self._is_well():
            return "degraded"
        return "running"

    def _check_open(self) -> None:
        self._check_started()
        if self._closed:
            raise PoolClosed(f"{self!r} takes no more tasks")
        self._check_own()

    def _check_usable(self) -> None:
        if (
            self._started
            and not self._closed
            and self._delivery.health.is_well
            and self._pid == os.getpid()
        ):
            return
        self._check_open()
        error = None if self._is_well() else self._delivery.health.error(self)
        if error is not None:
            raise error

    def _is_well(self) -> bool:
        """Whether workers can start; where they could not, that may be over."""
        if not self._delivery.health.is_well:
            self._look()
        return self._delivery.health.is_well

    # ---- hooks -------------------------------------------------------------------------------

    def on_start(self) -> None:
        """Called by `start` before the zygote is forked."""

    def on_stop(self) -> None:
        """Called by `stop` before anything else."""

    def on_close(self) -> None:
        """Called by `close`."""

    def on_terminate(self) -> None:
        """Called by `terminate` before a worker is touched."""

    def on_apply(self, target: Callable[..., Any], args: Sequence[Any]) -> None:
        """Called by `apply_async` before the task is submitted."""

    def on_hard_timeout(self, task: Task[Any]) -> None:
        """Called, as a callback, when a task was killed for running longer than its limit."""


@atexit.register
def _end_all() -> None:
    """The interpreter ends: pools that still run are terminated, each with one warning."""
    with contextlib.ExitStack() as ends:  # each has its turn, whatever the others raise
        for pool in list(_live):
            if not pool._is_copy():
                ends.callback(pool._abandon, "was still running at exit")
