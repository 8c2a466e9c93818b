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
from .options import check_seconds, check_timeout, checked_chunksize
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
            outcomes.append((codec.OK, target(*item) if star else target(item)))
        except BaseException as error:
            if os.getpid() != worker:
                raise
            outcomes.append((codec.ERROR, codec.encode_exception(error)))
    return outcomes


class MapIterator(Iterator[R]):
    """What `imap` and `imap_unordered` return: an iterator over results. It raises what an item's
    call raised when its turn comes (StopIteration as RuntimeError: it would look like the end), or
    what pickling the item raised, and goes on after that. What the input or pickling the function
    raises is the last. `next(timeout)` waits that many seconds. Several threads may share it."""

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
        chunksize = checked_chunksize(chunksize)
        pool._check_usable()
        self._pool = pool
        self._target = target
        self._input: Iterator[Any] = iter(iterable)
        self._chunksize = chunksize
        self._ordered = ordered
        self._star = star
        self._limit = check_seconds("timeout", timeout)
        self._open: dict[Task[Any], None] = {}  # in order of submission, not taken yet
        self._ended: deque[Task[Any]] = deque()  # in order of ending, if that is what is wanted
        self._items: list[Any] = []  # pulled, not yet submitted
        self._ready: deque[codec.Outcome] = deque()  # of a chunk that was taken
        self._exhausted = False
        self._error: Exception | None = None
        self._name = codec.name_of(target)
        self._lock = threading.RLock()
        self._pull(0)

    def _pull(self, taken: int) -> None:
        """Submit until the pool has enough to do; `taken` of the open tasks are about to be taken.
        What Ctrl-C breaks off goes on at the next call: items that were pulled are kept."""
        most = AHEAD * max(1, self._pool.limit) + taken
        try:
            while len(self._open) < most and (self._items or not self._exhausted):
                if not self._exhausted:
                    self._pull_items()
                if self._items:
                    self._submit(self._items)
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
        """The first ones of those that were pulled."""
        self._pool._check_usable()
        try:
            body = self._encode(items)
        except Exception as error:
            self._submit_singly(items, error)
            return
        task = self._new_task()
        if not self._ordered:
            task._completed = self._ended
        try:
            self._open[task] = None
            self._pool._submit(task, body)
        finally:  # by Ctrl-C, too
            if task._number:
                del self._items[: len(items)]
            else:
                self._open.pop(task, None)

    def _encode(self, items: list[Any]) -> bytes:
        if self._chunksize > 1:
            return codec.encode_call(run_chunk, (self._target, self._star, items), None)
        args = tuple(items[0]) if self._star else (items[0],)
        return codec.encode_call(self._target, args, None)

    def _new_task(self) -> Task[Any]:
        limit = self._pool._timeout if self._limit is None else self._limit
        task: Task[Any] = Task(self._pool, self._name, None, limit)
        task._soft_limit = self._pool._soft_timeout
        return task

    def _submit_singly(self, items: list[Any], error: Exception) -> None:
        """They cannot be pickled. Each item by itself then, and in the place of one that cannot be
        sent a task that has failed. What the function itself raises ends the input."""
        codec.encode_call(self._target, (), None)
        if len(items) > 1:
            while self._items:
                self._submit(self._items[:1])
            return
        task = self._new_task()
        task._settle(None, error, False)
        try:
            self._open[task] = None
            if not self._ordered:
                self._ended.append(task)
        finally:
            del self._items[:1]

    def __iter__(self) -> MapIterator[R]:
        return self

    def __next__(self) -> R:
        return self.next()

    def next(self, timeout: float | None = None) -> R:
        """The next result. Raises StopIteration, prefork.TimeoutError after `timeout` seconds
        (nothing is lost: call again), or what the item's call raised."""
        check_timeout(timeout)
        deadline = None if timeout is None else time.monotonic() + timeout
        patience = -1 if timeout is None else min(max(0.0, timeout), threading.TIMEOUT_MAX)
        if not self._lock.acquire(timeout=patience):
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
            self._pull(1)
            task = next(iter(self._open)) if self._ordered else self._ended[0]
            task._unpack()  # so with what that raises
            if not self._ordered:
                self._ended.popleft()
            del self._open[task]
            if self._chunksize == 1:
                only: R = self._result_of(task)
                return only
            self._ready.extend(self._result_of(task))
        return self._take()

    def _take(self) -> R:
        """The next item of a chunk. It stays the next one where Ctrl-C has broken that off."""
        kind, found = self._ready[0]
        failure: BaseException | None = None
        if kind != codec.OK:
            how = codec.decode_result if kind == codec.PICKLED else codec.decode_exception
            found, failure, interrupt = codec.decode(how, found)
            if interrupt is not None:
                raise interrupt
        self._ready.popleft()
        if failure is not None:
            what = "what {} raised" if kind == codec.ERROR else "the result of {}"
            what = what.format(self._name)
            raise TypeError(f"{what} cannot be unpickled: {failure!r}") from failure
        if kind == codec.ERROR:
            self._raise(found)
        result: R = found
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
