"""Our pool in the words of billiard's: `Pool` is the guest of kombu's hub, `BlockingPool` has a
thread that calls back, and makes whoever submits wait for a slot.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from celery.exceptions import WorkerShutdown, WorkerTerminate
from celery.platforms import EX_FAILURE
from celery.signals import worker_before_create_process
from celery.utils.log import get_logger
from celery.worker import state

import prefork
from prefork import codec
from prefork.health import Health
from prefork.options import check_seconds

from . import child, hooks
from .job import Callback, Job

logger = get_logger(__name__)

#: Billiard's names for ways to choose a process. Here all are one: a job is given to none that has
#: another, and none that is free waits.
STRATEGIES = (None, "default", "fair", "fast", "fcfs")


class Workers(prefork.TaskPool):
    """Its tasks are jobs of Celery's."""

    @property
    def jobs(self) -> list[Job]:
        """Those that have not ended."""
        return list(self._delivery.tasks.values())  # type: ignore[arg-type]

    @property
    def health(self) -> Health:
        """Whether workers can start."""
        return self._delivery.health


class BlockingWorkers(Workers):
    """Nobody hears what a callback raises in the thread of callbacks. It is meant to end Celery's
    worker, whose loop looks at Celery's state."""

    def _propagate(self, error: BaseException) -> None:
        code = error.code or 0 if isinstance(error, SystemExit) else EX_FAILURE
        if not isinstance(code, int):
            code = EX_FAILURE
        if not isinstance(error, SystemExit):
            logger.critical("a callback of the pool raised %r, so this worker ends", error)
        if isinstance(error, WorkerTerminate):
            state.should_terminate = code
        else:
            state.should_stop = code


class Pool:
    """The pool of hub mode: everything happens in the thread that runs the hub.

    `processes`: how many workers (int); `initializer(*initargs)` runs in each, and at its end
    `on_process_exit(pid, exitcode)`. `maxtasksperchild` tasks, or `max_memory_per_child` KiB of its
    own, after which it is replaced. `timeout`, `soft_timeout`: seconds that a job may run; with
    `enable_timeouts` False there are no limits, not even a job's own. `putlocks`: whether
    submitting waits for a slot, in thread mode. `semaphore`: what has a slot released for each job
    that has ended. `forking_enable`: whether workers are forks of this program, or programs of
    their own. `proc_alive_timeout`: seconds after which a worker that is not up yet is mentioned in
    the log, once; it is not killed. `allow_restart`: whether `restart` may be called.
    `sched_strategy`: one of STRATEGIES.

    Two are for what does not happen here. `lost_worker_timeout`: seconds until a loss is believed;
    it is certain at once. `max_restarts`: new processes in a second that are too many; three in a
    row that cannot start are.

    Raises TypeError for any other, ValueError for values that cannot be: so for `synack`, which
    would have each job wait for a second answer.
    """

    is_guest = True
    workers_class: type[Workers] = Workers

    def __init__(
        self,
        processes: int | None = None,
        initializer: Callable[..., object] | None = None,
        initargs: Iterable[Any] = (),
        maxtasksperchild: int | None = None,
        max_memory_per_child: int | None = None,
        timeout: float | None = None,
        soft_timeout: float | None = None,
        putlocks: bool = False,
        on_process_exit: Callable[[int, int], object] | None = None,
        semaphore: Any = None,
        forking_enable: bool = True,
        enable_timeouts: bool = True,
        proc_alive_timeout: float | None = None,
        allow_restart: bool = True,
        sched_strategy: str | None = None,
        synack: bool = False,
        lost_worker_timeout: float | None = None,
        max_restarts: int | None = None,
    ) -> None:
        if sched_strategy not in STRATEGIES:
            raise ValueError(f"sched_strategy must be one of {STRATEGIES}, not {sched_strategy!r}")
        if synack:
            raise ValueError("synack is not for this pool: a job that has begun runs")
        self._semaphore = semaphore
        self._has_limits = enable_timeouts
        self._timeout = self._limit("timeout", timeout)
        self._soft_timeout = self._limit("soft_timeout", soft_timeout)
        self._may_restart = allow_restart
        self._by_pid: dict[int, Job] = {}  # which job each worker has begun last
        self._calls: dict[tuple[Callable[..., Any], str], codec.Encoded] = {}
        self._numbers = itertools.count(1)
        self._terminated = self._cut_off = self._gave_up = False
        self._least = processes or 0
        self._told_of = 0  # workers that are still to be forked
        self.workers = self.workers_class(
            processes,
            putlocks=putlocks and not self.is_guest,
            forking_enable=forking_enable,
            callbacks_propagate=(BaseException,),
            initializer=child.begin,
            initargs=(proc_alive_timeout, initializer, *initargs),
            on_process_exit=hooks.End(on_process_exit),
            before_spawn=self._before_spawn,
            soft_timeout_error=child.soft_timeout_error,
            timeout=self._timeout,
            soft_timeout=self._soft_timeout,
            maxtasksperchild=maxtasksperchild,
            max_memory_per_child=max_memory_per_child,
            recycle_jitter=0,
            logger=logger,
        )
        self._health = self.workers.health
        self._tell_of_spawns(self.workers.limit)
        self.workers.start()
        if self.is_guest:
            self.workers.fileno()

    # ---- jobs ------------------------------------------------------------------------------------

    def apply_async(
        self,
        func: Callable[..., Any],
        args: Sequence[Any] = (),
        kwds: dict[str, Any] | None = None,
        callback: Callback | None = None,
        error_callback: Callback | None = None,
        accept_callback: Callback | None = None,
        timeout_callback: Callback | None = None,
        waitforslot: bool | None = None,
        soft_timeout: float | None = None,
        timeout: float | None = None,
        callbacks_propagate: Sequence[type[BaseException]] = (),
        correlation_id: str | None = None,
    ) -> Job | None:
        """Submit a call: its Job, or None where the pool takes none any more (the broker will
        deliver it again). `waitforslot`: wait while all slots are taken, in thread mode. Raises
        what pickling the arguments raises, and WorkerShutdown where no worker can start."""
        if not self._health.is_well:
            self._have_zygote()
        call = self._call_of(func, args)
        job = Job(
            self,
            call.__qualname__,
            next(self._numbers),
            correlation_id,
            self._limit("soft_timeout", soft_timeout) if soft_timeout else self._soft_timeout,
            self._limit("timeout", timeout) if timeout else self._timeout,
            callback,
            error_callback,
            accept_callback,
            timeout_callback,
            (MemoryError, *callbacks_propagate),
        )
        try:
            body = codec.encode_call(call, tuple(args), kwds, correlation_id)
            self.workers._check_usable()
            self.workers._send(job, body, waitforslot)
        except BaseException as error:
            job.is_over = not job._number  # else it runs, though nobody has it in hand
            if isinstance(error, prefork.InitializerError):
                self._give_up(error)
            elif not isinstance(error, prefork.PoolClosed):
                raise
            return None
        return job

    def _call_of(self, func: Callable[..., Any], args: Sequence[Any]) -> child.Call | codec.Encoded:
        """What goes to a worker. For each of Celery's tasks, which are few, it is pickled once."""
        try:
            return self._calls[func, args[0]]
        except (KeyError, IndexError, TypeError):  # the last of a list for an argument
            pass
        if not (args and isinstance(args[0], str) and func.__module__ == "celery.app.trace"):
            return child.Call(func, codec.name_of(func))
        return self._calls.setdefault((func, args[0]), codec.Encoded(child.Call(func, args[0])))

    def _limit(self, name: str, seconds: float | None) -> float | None:
        return check_seconds(name, seconds or None) if self._has_limits else None

    def _have_zygote(self) -> None:
        """Where both were killed, the pool has no new one by itself beside other threads. Celery
        has always forked beside them."""
        if self.workers.state == "degraded" and not self.workers.stats["zygote"]:
            logger.warning("the pool has lost its zygotes and is restarted")
            self._renew()

    def job_began(self, job: Job, pid: int) -> None:
        """Of a Job: what Celery means by `pid` from now on."""
        if not job.is_over:
            self._by_pid[pid] = job
        if self._cut_off and not job.was_ended_by_name:  # it was just being submitted then
            job.cut_off()

    def job_ended(self, job: Job) -> None:
        """Of a Job: one slot is free, once for each, whatever its end."""
        if job.is_over:
            return
        job.is_over = True
        pid = job._accepted_by
        if self._by_pid.get(pid) is job:
            del self._by_pid[pid]
        if self._semaphore is not None:
            self._semaphore.release()

    def hides(self, job: Job, error: BaseException) -> bool:
        """Whether Celery shall hear nothing of that end: the broker delivers the message again. So
        with what the end of the pool has cut off. Raises WorkerShutdown where no worker starts."""
        if isinstance(error, prefork.InitializerError):
            job.is_over = True
            self._give_up(error)
            return True
        lost = isinstance(error, prefork.WorkerLostError)
        return self._terminated and lost and not job.was_ended_by_name

    def _give_up(self, error: BaseException) -> None:
        """No worker process can start: we would only fail what the broker can deliver elsewhere.
        Raises WorkerShutdown, once."""
        if self._gave_up:
            return
        self._gave_up = True
        logger.critical("no worker process can start, so this worker ends: %s", error)
        raise WorkerShutdown(EX_FAILURE) from error

    def terminate_job(self, pid: int, signum: int) -> None:
        """Send a signal to the job that worker `pid` was last said to have begun. Nothing if that
        has ended."""
        job = self._by_pid.get(pid)
        if job is not None:
            job.is_being_noted = not (self.is_guest or self.workers.in_callback())
            job.signal(signum)

    def flush(self) -> None:
        """Forget what has not begun. What runs goes on."""
        for job in self.workers.jobs:
            job.drop()

    # ---- size ------------------------------------------------------------------------------------

    def grow(self, n: int = 1) -> None:
        """Have `n` more workers, at once."""
        self._have_zygote()
        self.workers.grow(n)
        semaphore = self._semaphore
        if semaphore is not None:  # its own grow() lets in one too many for each that waits
            semaphore.initial_value += n
            for _ in range(n):
                semaphore.release()

    def shrink(self, n: int = 1) -> None:
        """Have `n` fewer; busy ones end after their job. Raises ValueError, and does nothing, where
        none would be left (but that the pool was made with none)."""
        self._have_zygote()
        left = self.workers.limit - n
        if left < min(1, self._least):
            raise ValueError(f"a pool of {self.workers.limit} cannot have {n} workers fewer")
        self.workers.shrink(n)
        if self._semaphore is not None:
            self._semaphore.shrink(n)

    @property
    def _processes(self) -> int:
        return self.workers.limit

    @property
    def _pool(self) -> list[prefork.Worker]:
        """Those that have been forked."""
        if self.workers.state == "stopped":
            return []
        return [worker for worker in self.workers.workers if worker.pid]

    # ---- life ------------------------------------------------------------------------------------

    def register_with_event_loop(self, hub: Any) -> None:
        """Be the guest of a hub, with one descriptor. Again after each reconnect."""
        self.workers.register_with_event_loop(hub)

    def did_start_ok(self) -> bool:
        """Whether no initializer has failed yet."""
        return self.workers.did_start_ok()

    def maintain_pool(self) -> None:
        """Do what is due now."""
        self.workers.maintain_pool()
        if self.is_guest:
            self.workers.poll()

    def restart(self) -> None:
        """New workers, of the application as it is now; running jobs end on the old ones. Raises
        RuntimeError where the pool was made with `allow_restart` False."""
        if not self._may_restart:
            raise RuntimeError("the pool may not be restarted: worker_pool_restarts is not set")
        self._renew()

    def _renew(self) -> None:
        self._tell_of_spawns(self.workers.limit)
        self.workers.restart()

    def _tell_of_spawns(self, count: int) -> None:
        """Those of a new zygote: it shall be forked after what a handler does, and its workers get
        to see that."""
        for _ in range(count):
            worker_before_create_process.send(sender=self)
        self._told_of += count

    def _before_spawn(self) -> None:
        if self._told_of:
            self._told_of -= 1
        else:
            worker_before_create_process.send(sender=self)

    def close(self) -> None:
        """Take no more jobs."""
        self.workers.close()

    def join(self, timeout: float | None = None) -> bool:
        """After `close`: wait up to `timeout` seconds for the end of all jobs and workers, and call
        back. Whether that has come."""
        is_over = self.workers.join(timeout)
        for job in list(self._by_pid.values() if is_over else ()):
            job.noted()  # if Celery was about to note why it has ended
        return is_over

    def cut_off(self) -> None:
        """End, without a word to Celery, every job that nobody has ended by name: the broker
        delivers it again."""
        self._terminated = self._cut_off = True
        # The latter have begun, and may have ended without a word to Celery so far.
        for job in (*self.workers.jobs, *list(self._by_pid.values())):
            if job.was_ended_by_name:
                job.noted()
            elif not job.drop():
                job.cut_off()

    def terminate(self) -> None:
        """End every worker: SIGTERM, and SIGKILL after three seconds."""
        self._terminated = True
        self.workers.terminate()

    def settings(self) -> dict[str, Any]:
        """For `inspect stats`."""
        info = self.workers.info
        names = ("processes", "max-tasks-per-child", "timeouts", "start-method")
        return {name: info[name] for name in names} | {"writes": self.human_write_stats()}

    def human_write_stats(self) -> dict[str, Any]:
        """How the jobs were spread over the workers that there are now."""
        workers = self._pool
        counts = [worker.tasks_done + (worker.task is not None) for worker in workers]
        total = sum(counts)
        share = [f"{count / total if total else 0:.2f}" for count in counts]
        return {
            "total": total,
            "avg": f"{total / len(counts) if counts else 0:.2f}",
            "all": ", ".join(share),
            "raw": ", ".join(map(str, counts)),
            "strategy": "fair",
            "inqueues": {
                "total": len(counts),
                "active": sum(worker.task is not None for worker in workers),
            },
        }


class BlockingPool(Pool):
    """The pool of thread mode: a thread calls back, and `apply_async` waits for a slot."""

    is_guest = False
    workers_class = BlockingWorkers

    def _give_up(self, error: BaseException) -> None:
        if not self._gave_up:
            state.should_stop = EX_FAILURE  # it may be a thread that Celery does not wait for
        super()._give_up(error)
