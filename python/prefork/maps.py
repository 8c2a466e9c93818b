"""The map family: tasks made from an iterable, pulled no further ahead than the pool can use."""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from . import codec
from .errors import TimeoutError
from .task import Task, remaining

if TYPE_CHECKING:
    from .pool import TaskPool

AHEAD = 16  # items (or chunks) submitted per worker, beyond what has been taken


R = TypeVar("R")


def run_chunk(target: Callable[..., Any], star: bool, items: list[Any]) -> codec.Outcomes:
    """In the worker: one call of `target` per item, and one outcome."""
    outcomes = codec.Outcomes()
    worker = os.getpid()
    for item in items:
        try:
            outcomes.append((True, target(*item) if star else target(item)))
        except BaseException as error:
            if os.getpid() != worker:
                raise
            outcomes.append((False, codec.encode_exception(error)))
    return outcomes


class MapIterator(Iterator[R]):
    """What `imap` and `imap_unordered` return: an iterator over results. It raises what an item's
    call raised when its turn comes (StopIteration as RuntimeError: it would look like the end), and
    goes on after that. `next(timeout)` waits that many seconds. Several threads may share it."""

    def __init__(
        self,
        pool: TaskPool,
        target: Callable[..., R],
        iterable: Iterable[Any],
        chunksize: int,
        ordered: bool,
        star: bool = False,
        timeout: float | None = None,
    ) -> None:
        if chunksize < 1:
            raise ValueError(f"chunksize must be at least 1, not {chunksize}")
        pool._check_usable()
        self._pool = pool
        self._target = target
        self._input: Iterator[Any] = iter(iterable)
        self._chunksize = chunksize
        self._ordered = ordered
        self._star = star
        self._limit = timeout
        self._open: dict[Task[Any], None] = {}  # in order of submission, not taken yet
        self._ended: deque[Task[Any]] = deque()  # in order of ending, if that is what is wanted
        self._items: list[Any] = []  # pulled, not yet submitted
        self._ready: deque[codec.Outcome] = deque()  # of a chunk that was taken
        self._exhausted = False
        self._error: Exception | None = None
        self._name = codec.name_of(target)
        self._lock = threading.RLock()
        self._pull(0)

    def _pull(self, unfinished: int) -> None:
        """Submit until the pool has enough to do. What Ctrl-C breaks off goes on at the next call:
        items that were pulled are kept."""
        window = AHEAD * max(1, self._pool.limit) - unfinished
        try:
            while window > 0 and (self._items or not self._exhausted):
                if not self._exhausted:
                    self._pull_items()
                if self._items:
                    self._submit(self._items)
                    window -= 1
        except Exception as error:  # of submitting; it comes after the results of what went before
            self._exhausted = True
            self._items = []
            self._error = error

    def _pull_items(self) -> None:
        """Up to `chunksize` items; fewer at the end, or where the input raises."""
        missing = self._chunksize - len(self._items)
        try:
            self._items.extend(islice(self._input, missing))  # keeps what came before an error
        except Exception as error:
            self._error = error
        self._exhausted = len(self._items) < self._chunksize

    def _submit(self, items: list[Any]) -> None:
        if self._chunksize > 1:
            call: tuple[Callable[..., Any], tuple[Any, ...]] = (
                run_chunk,
                (self._target, self._star, items),
            )
        else:
            call = (self._target, tuple(items[0]) if self._star else (items[0],))
        self._pool._check_usable()
        limit = self._pool._timeout if self._limit is None else self._limit
        task: Task[Any] = Task(self._pool, self._name, None, limit)
        task._soft_limit = self._pool._soft_timeout
        if not self._ordered:
            task._completed = self._ended
        body = codec.encode_call(*call, None)
        try:
            self._open[task] = None
            self._pool._submit(task, body)
        finally:  # by Ctrl-C, too
            if task._number:
                self._items = []
            else:
                self._open.pop(task, None)

    def __iter__(self) -> MapIterator[R]:
        return self

    def __next__(self) -> R:
        return self.next()

    def next(self, timeout: float | None = None) -> R:
        """The next result. Raises StopIteration, prefork.TimeoutError after `timeout` seconds
        (nothing is lost: call again), or what the item's call raised."""
        deadline = None if timeout is None else time.monotonic() + timeout
        if not self._lock.acquire(timeout=-1 if timeout is None else max(0.0, timeout)):
            raise TimeoutError(f"another thread waits for the next result for {timeout} s")
        try:
            return self._next(deadline, timeout)
        finally:
            self._lock.release()

    def _next(self, deadline: float | None, timeout: float | None) -> R:
        if not self._ready:
            if not self._open:
                error, self._error = self._error, None
                raise error or StopIteration
            if not self._await(remaining(deadline)):
                raise TimeoutError(f"no result of {self._name} came within {timeout} s")
            # The input first: if it is interrupted, the task that has ended is still there.
            self._pull(len(self._open) - 1)
            task = next(iter(self._open)) if self._ordered else self._ended.popleft()
            del self._open[task]
            if self._chunksize == 1:
                only: R = self._result_of(task)
                return only
            self._ready.extend(self._result_of(task))
        good, value = self._ready.popleft()
        if not good:
            self._raise(codec.decode_exception(value))
        result: R = value
        return result

    def _await(self, timeout: float | None) -> bool:
        if self._ordered:
            return next(iter(self._open)).wait(timeout)
        return self._pool._wait(lambda: bool(self._ended), timeout)

    def _result_of(self, task: Task[Any]) -> Any:
        try:
            return task.result()
        except StopIteration as error:
            self._raise(error)

    def _raise(self, error: BaseException) -> NoReturn:
        if isinstance(error, StopIteration):
            raise RuntimeError(f"{self._name} raised StopIteration") from error
        raise error
