"""The map family: tasks made from an iterable, pulled no further ahead than the pool can use."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import TYPE_CHECKING, Any

from .errors import TimeoutError
from .task import Task

if TYPE_CHECKING:
    from .pool import TaskPool

AHEAD = 16  # items (or chunks) submitted per worker, beyond what has been taken


def run_chunk(target: Callable[..., Any], star: bool, items: list[Any]) -> list[Any]:
    """In the worker: one call of `target` per item."""
    return [target(*item) for item in items] if star else [target(item) for item in items]


class MapIterator(Iterator[Any]):
    """What `imap` and `imap_unordered` return: an iterator over results, which raises what a task
    raised when its turn comes, and goes on after that. `next(timeout)` waits that many seconds."""

    def __init__(
        self,
        pool: TaskPool,
        target: Callable[..., Any],
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
        self._open: deque[Task[Any]] = deque()  # in order of submission
        self._ended: deque[Task[Any]] = deque()  # in order of ending, if that is what is wanted
        self._unfinished = 0
        self._ready: deque[Any] = deque()  # results of a chunk that was taken
        self._exhausted = False
        self._error: Exception | None = None
        self._pull()

    def _pull(self) -> None:
        """Submit until the pool has enough to do."""
        window = AHEAD * max(1, self._pool.limit)
        try:
            while not self._exhausted and self._unfinished < window:
                items = self._next_items()
                if items:
                    self._submit(items)
        except Exception as error:  # of submitting; it comes after the results of what went before
            self._exhausted = True
            self._error = error

    def _next_items(self) -> list[Any]:
        """Up to `chunksize` items; fewer at the end, or where the input raises."""
        items: list[Any] = []
        try:
            items.extend(islice(self._input, self._chunksize))  # keeps what came before an error
        except Exception as error:
            self._error = error
        self._exhausted = len(items) < self._chunksize
        return items

    def _submit(self, items: list[Any]) -> None:
        if self._chunksize > 1:
            call: tuple[Callable[..., Any], tuple[Any, ...]] = (
                run_chunk,
                (self._target, self._star, items),
            )
        else:
            call = (self._target, tuple(items[0]) if self._star else (items[0],))
        completed = None if self._ordered else self._ended
        task = self._pool._submit(*call, None, timeout=self._limit, completed=completed)
        self._unfinished += 1
        if self._ordered:
            self._open.append(task)

    def __iter__(self) -> MapIterator:
        return self

    def __next__(self) -> Any:
        return self.next()

    def next(self, timeout: float | None = None) -> Any:
        """The next result. Raises StopIteration, prefork.TimeoutError after `timeout` seconds
        (nothing is lost: call again), or what the task raised."""
        if self._ready:
            return self._ready.popleft()
        if self._unfinished == 0:
            error, self._error = self._error, None
            raise error or StopIteration
        task = self._next_task(timeout)
        self._unfinished -= 1
        self._pull()
        result = task.result()
        if self._chunksize == 1:
            return result
        self._ready.extend(result)
        return self._ready.popleft()

    def _next_task(self, timeout: float | None) -> Task[Any]:
        if self._ordered:
            if not self._open[0].wait(timeout):
                raise TimeoutError(f"{self._open[0]!r} did not end within {timeout} s")
            return self._open.popleft()
        if not self._pool._wait(lambda: bool(self._ended), timeout):
            raise TimeoutError(f"no task ended within {timeout} s")
        return self._ended.popleft()
