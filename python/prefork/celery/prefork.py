"""The TaskPool that a Celery worker has in the place of `celery.concurrency.prefork.TaskPool`.

The last part of this module's name is what Celery goes by where it asks for its kind of pool: in
the banner, in the Django fixup, in its helpers for tests.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import celery.concurrency.prefork as stock
from celery import concurrency
from celery.concurrency.base import BasePool
from celery.worker import state
from kombu.asynchronous import get_event_loop

from ..boot import default_start_method
from .pool import BlockingPool, Pool

#: Seconds between two looks at the hub's timers while jobs that are still running are waited for.
TIMERS = 0.5


NAME = "prefork.celery:TaskPool"


def install() -> None:
    """Have every Celery worker of this process that asks for "prefork", as it does by default, use
    this pool. To be called before the worker is made, as where the application is."""
    concurrency.ALIASES.update(prefork=NAME, processes=NAME)


def process_initializer(app: Any, hostname: str) -> None:
    """Celery's own, whatever it is now: tools for tracing wrap it."""
    stock.process_initializer(app, hostname)


def process_destructor(pid: int, exitcode: int) -> None:
    """Celery's own."""
    stock.process_destructor(pid, exitcode)


class TaskPool(BasePool):
    """Celery's prefork pool, with prefork's workers in it."""

    Pool = Pool
    BlockingPool = BlockingPool

    uses_semaphore = True
    write_stats = None

    # Bound when the pool starts.
    on_apply: Callable[..., Any]
    maintain_pool: Callable[..., None]
    terminate_job: Callable[..., None]
    grow: Callable[..., None]
    shrink: Callable[..., None]
    flush: Callable[..., None] | None

    def on_start(self) -> None:
        """Fork the zygote; it forks the workers, which come up in the background. Raises what a
        pool's `start` raises, TypeError for options that there are not, ValueError for options that
        cannot be."""
        if not self.forking_enable or default_start_method() == "exec":
            # To Celery a fresh interpreter is one that finds this: its tasks are those of the
            # application that was sent to it.
            os.environ["FORKED_BY_MULTIPROCESSING"] = "1"
        options = dict(self.options)
        kind = self.BlockingPool if options.pop("threads", True) else self.Pool
        conf = self.app.conf if self.app else None
        pool = kind(
            processes=self.limit,
            initializer=process_initializer,
            on_process_exit=process_destructor,
            enable_timeouts=True,
            synack=False,
            proc_alive_timeout=conf.worker_proc_alive_timeout if conf else None,
            putlocks=self.putlocks,
            forking_enable=self.forking_enable,
            **options,
        )
        self._pool: Any = pool
        self.on_apply = pool.apply_async
        self.maintain_pool = pool.maintain_pool
        self.terminate_job = pool.terminate_job
        self.grow = pool.grow
        self.shrink = pool.shrink
        self.flush = pool.flush

    def register_with_event_loop(self, loop: Any) -> None:
        """At each start of the consumer, so also after each reconnect."""
        self._pool.register_with_event_loop(loop)

    def did_start_ok(self) -> bool:
        """Whether no worker has failed to start yet."""
        return bool(self._pool.did_start_ok())

    def restart(self) -> None:
        """New workers, from the application as it is now."""
        self._pool.restart()

    def on_close(self) -> None:
        """Take no more jobs."""
        if self._pool is not None:
            self._pool.close()

    def on_stop(self) -> None:
        """Wait until all jobs have ended, keeping up what else the hub does: heartbeats go out, and
        the acknowledgements of what ends. It may come again, also in a signal handler."""
        pool = self._pool
        if pool is None:
            return
        pool.close()
        if state.should_terminate:  # Celery has cancelled all that it knew to have begun
            pool.cut_off()
        hub = get_event_loop()
        if hub is None:
            pool.join()
        else:
            while not pool.join(TIMERS):
                hub.fire_timers()
                _send_acknowledgements(hub)
        self._pool = None

    def on_terminate(self) -> None:
        """End all workers."""
        if self._pool is not None:
            self._pool.terminate()
            self._pool = None

    def _get_info(self) -> dict[str, Any]:
        info: dict[str, Any] = super()._get_info()
        info["put-guarded-by-semaphore"] = self.putlocks
        if self._pool is not None:
            info.update(self._pool.settings())
        return info

    @property
    def num_processes(self) -> int:
        """How many workers there shall be (int)."""
        count: int = self.limit if self._pool is None else self._pool._processes
        return count


def _send_acknowledgements(hub: Any) -> None:
    """What the hub was asked to do soon; it does not run any more. Nothing where a signal handler
    has interrupted the hub just there: its lock is this thread's then."""
    if not hub._ready_lock.acquire(blocking=False):
        return
    hub._ready_lock.release()
    for call in hub._pop_ready():
        try:
            call()
        except Exception as error:  # a broken connection is no reason to leave the jobs
            hub.on_callback_error(call, error)


__all__ = ["TaskPool", "install", "process_destructor", "process_initializer"]
