"""What a scenario sees of a pool, whichever it is, and how prefork answers to it."""

from __future__ import annotations

import collections
import threading
from collections.abc import Callable
from typing import Any

Told = Callable[[bool, Any], None]  # of the end of a task: whether it succeeded, and with what


class Adapter:
    """A started pool. The names of its options and limits are the matrix's own."""

    name = ""
    features: frozenset[str] = frozenset()
    strict = False
    direct = True  #: workers are children of the application
    pool: Any = None

    def __init__(self, workers: int, **options: Any) -> None:
        raise NotImplementedError

    def submit(self, fn: Any, args: tuple[Any, ...], told: Told | None, **limits: Any) -> Any:
        """The pool's own handle of a task. `told` is to be called once, at its end."""
        raise NotImplementedError

    def wait(self, handle: Any) -> Any:
        """The task's value, or raises its error."""
        raise NotImplementedError

    def pids(self) -> set[int]:
        """Of the workers there are now."""
        raise NotImplementedError

    def describe(self) -> str:
        """How it is, for a report."""
        return str(self.pids())

    def stop(self) -> None:
        """Do what was submitted, then end."""
        raise NotImplementedError

    def terminate(self) -> None:
        """End now."""
        raise NotImplementedError


class Slots:
    """A semaphore that counts: each task gives its slot back exactly once."""

    def __init__(self) -> None:
        self.released: collections.Counter[int] = collections.Counter()

    def acquire(self, blocking: bool = True) -> bool:
        return True

    def release(self) -> None:
        self.released[threading.get_ident()] += 1

    @property
    def count(self) -> int:
        return sum(self.released.values())


class Prefork(Adapter):
    name = "prefork"
    strict = True
    direct = False
    features = frozenset(
        (
            "timeout",
            "soft",
            "queue",
            "retry",
            "recycle",
            "cancel",
            "one task",
            "zygote",
            "exec",
            "guest",
            "prefork",
            "workers",
            "initializer",
            "callbacks",
            "fork",
            "bounded stop",
            "collected",
            "terminate frees",
        )
    )
    OPTIONS = {"recycle": "maxtasksperchild", "method": "start_method"}
    LIMITS = {"soft": "soft_timeout", "queue": "queue_timeout"}

    def __init__(self, workers: int, **options: Any) -> None:
        import prefork

        self.workers = workers
        self.slots = Slots()
        self.submitted = 0
        named = {self.OPTIONS.get(name, name): value for name, value in options.items()}
        self.pool = prefork.TaskPool(workers, semaphore=self.slots, **named)
        self.pool.start()

    def submit(self, fn: Any, args: tuple[Any, ...], told: Told | None, **limits: Any) -> Any:
        named = {self.LIMITS.get(name, name): value for name, value in limits.items()}
        if told is not None:
            named["callback"] = lambda value: told(True, value)
            named["error_callback"] = lambda error: told(False, error)
        task = self.pool.apply_async(fn, args, **named)
        self.submitted += 1
        return task

    def wait(self, handle: Any) -> Any:
        return handle.get()

    def pids(self) -> set[int]:
        return {w.pid for w in self.pool.workers if w.state in ("idle", "running")}

    def describe(self) -> str:
        return f"{self.pool.workers} {self.pool.stats}"

    def stop(self) -> None:
        self.pool.stop()

    def terminate(self) -> None:
        self.pool.terminate()


def adapter(name: str) -> type[Adapter]:
    if name == "prefork":
        return Prefork
    from . import rivals

    return rivals.RIVALS[name]
