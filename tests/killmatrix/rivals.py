"""Other pools behind the same adapter, each as its own documentation has one use it, and what they
do not have. Where they have an option that helps them here, it is set."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

from .pools import Adapter, Told

PINNED = (Path(__file__).parent / "rivals.txt").read_text().split()

# Why a pool without a feature has no answer to a row that needs it.
WHY_NOT = {
    "timeout": "has no time limit for a task",
    "soft": "has no limit that is raised inside the task",
    "queue": "has no limit for the time in the queue",
    "retry": "does not call a lost task again",
    "recycle": "does not replace workers after a number of tasks (with fork)",
    "cancel": "cannot cancel a task that waits",
    "one task": "cannot end one running task",
    "zygote": "has no zygote",
    "exec": "the row is about a zygote of a fresh interpreter",
    "guest": "cannot be the guest of a loop",
    "prefork": "the row is about what only prefork tells or promises",
    "workers": "does not say which workers it has",
    "initializer": "has no initializer",
    "callbacks": "has no callbacks",
    "fork": "starts workers by exec: nothing is inherited",
    "bounded stop": "cannot be told how long ending may take",
    "collected": "does not say what becomes of a pool that is collected",
    "terminate frees": "ends at once only with tasks left unsettled, by its documents",
}

COMMON = ("initializer", "callbacks", "workers")


class _OfFutures(Adapter):
    """What hands out concurrent.futures' futures."""

    def submit(self, fn: Any, args: tuple[Any, ...], told: Told | None, **limits: Any) -> Any:
        return self._listening(self.pool.submit(fn, *args), told)

    @staticmethod
    def _listening(future: Any, told: Told | None) -> Any:
        if told is not None:

            def ended(future: Any) -> None:
                error = None if future.cancelled() else future.exception()
                told(error is None, error if error is not None else future.result())

            future.add_done_callback(ended)
        return future

    def wait(self, handle: Any) -> Any:
        return handle.result()

    def pids(self) -> set[int]:
        return set(self.pool._processes or ())

    def stop(self) -> None:
        self.pool.shutdown()

    def terminate(self) -> None:
        self.pool.shutdown(wait=False, cancel_futures=True)


class ProcessPoolExecutor(_OfFutures):
    name = "ProcessPoolExecutor"
    features = frozenset((*COMMON, "cancel", "fork"))

    def __init__(self, workers: int, **options: Any) -> None:
        import multiprocessing
        from concurrent.futures import ProcessPoolExecutor

        context = multiprocessing.get_context("fork")
        self.pool = ProcessPoolExecutor(workers, mp_context=context, **options)


class Loky(_OfFutures):
    name = "loky"
    features = frozenset((*COMMON, "cancel"))

    def __init__(self, workers: int, **options: Any) -> None:
        from loky import ProcessPoolExecutor

        self.pool = ProcessPoolExecutor(workers, timeout=1000, **options)

    def terminate(self) -> None:
        self.pool.shutdown(wait=False, kill_workers=True)


class Pebble(_OfFutures):
    name = "pebble"
    features = frozenset(
        (
            *COMMON,
            "cancel",
            "fork",
            "timeout",
            "recycle",
            "one task",
            "bounded stop",
            "terminate frees",
        )
    )

    def __init__(self, workers: int, recycle: int = 0, **options: Any) -> None:
        import multiprocessing

        from pebble import ProcessPool

        context = multiprocessing.get_context("fork")
        self.pool = ProcessPool(workers, max_tasks=recycle, context=context, **options)

    def submit(self, fn: Any, args: tuple[Any, ...], told: Told | None, **limits: Any) -> Any:
        return self._listening(self.pool.schedule(fn, args, timeout=limits.get("timeout")), told)

    def pids(self) -> set[int]:
        return set(self.pool._pool_manager.worker_manager.workers)

    def stop(self) -> None:
        self.pool.close()
        self.pool.join()

    def terminate(self) -> None:
        self.pool.stop()
        self.pool.join()


class _OfMultiprocessing(Adapter):
    def submit(self, fn: Any, args: tuple[Any, ...], told: Told | None, **limits: Any) -> Any:
        if told is not None:
            limits["callback"] = lambda value: told(True, value)
            limits["error_callback"] = lambda error: told(False, error)
        return self.pool.apply_async(fn, args, **limits)

    def wait(self, handle: Any) -> Any:
        return handle.get()

    def pids(self) -> set[int]:
        return {process.pid for process in self.pool._pool if process.exitcode is None}

    def stop(self) -> None:
        self.pool.close()
        self.pool.join()

    def terminate(self) -> None:
        self.pool.terminate()
        self.pool.join()


class MultiprocessingPool(_OfMultiprocessing):
    name = "mp.Pool"
    features = frozenset((*COMMON, "fork", "recycle"))

    def __init__(self, workers: int, recycle: int | None = None, **options: Any) -> None:
        import multiprocessing

        context = multiprocessing.get_context("fork")
        self.pool = context.Pool(workers, maxtasksperchild=recycle, **options)


class Billiard(_OfMultiprocessing):
    name = "billiard"
    features = frozenset((*COMMON, "fork", "recycle", "timeout", "soft", "one task"))

    def __init__(self, workers: int, recycle: int | None = None, **options: Any) -> None:
        from billiard.pool import Pool

        self.pool = Pool(
            workers,
            maxtasksperchild=recycle,
            lost_worker_timeout=1.0,
            enable_timeouts=True,
            **options,
        )

    def submit(self, fn: Any, args: tuple[Any, ...], told: Told | None, **limits: Any) -> Any:
        named = {"soft": "soft_timeout"}
        named_limits = {named.get(name, name): value for name, value in limits.items()}
        return super().submit(fn, args, told, **named_limits)

    def wait(self, handle: Any) -> Any:
        value = handle.get()
        error = getattr(value, "exception", None)  # an ExceptionInfo, where it failed
        with contextlib.suppress(TypeError):
            if isinstance(error, BaseException):
                raise error
        return value


RIVALS: dict[str, type[Adapter]] = {
    rival.name: rival
    for rival in (MultiprocessingPool, ProcessPoolExecutor, Billiard, Loky, Pebble)
}
