"""The map family: tasks made from an iterable, pulled no further ahead than the pool can use.

What all its iterators have in common. Where the caller has said how many items make a task it is
`chunks.py`, and `singles.py` for one; else items go in batches by what they cost: `measured.py`.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from . import codec
from .errors import TimeoutError
from .options import check_seconds, check_timeout
from .parts import RAISED, Hand, Part, nothing
from .task import Task

if TYPE_CHECKING:
    from .pool import TaskPool

AHEAD = 16  #: items (or chunks) submitted per worker, beyond what has been taken
PAUSE = 5e-3  #: seconds: an input that takes longer is waited for, and holds results back

R = TypeVar("R")


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
        ordered: bool,
        star: bool = False,
        timeout: float | None = None,
    ) -> None:
        pool._check_usable()
        self._pool = pool
        self._target = target
        self._input: Iterator[Any] = iter(iterable)
        self._ordered = ordered
        self._star = star
        self._limit = check_seconds("timeout", timeout)
        self._exhausted = False
        self._error: Exception | None = None  # after which there is no more
        self._name = codec.name_of(target)
        self._hand: Hand = nothing()  # stored as one
        self._lock = threading.RLock()

    def __iter__(self) -> MapIterator[R]:
        return self

    def __next__(self) -> R:
        for result in self._hand[2]:  # no handler comes between this line and the next
            return result  # type: ignore[no-any-return]
        return self.next()

    def next(self, timeout: float | None = None) -> R:
        """The next result. Raises StopIteration, prefork.TimeoutError after `timeout` seconds
        (nothing is lost: call again), or what the item's call raised."""
        check_timeout(timeout)
        deadline = None if timeout is None else time.monotonic() + timeout
        patience = -1 if timeout is None else min(max(0.0, timeout), threading.TIMEOUT_MAX)
        held: list[bool] = []
        try:  # in one step: no handler that raises comes between the lock and the note of it
            held.extend(filter(None, map(self._lock.acquire, (True,), (patience,))))
            if not held:
                raise TimeoutError(f"another thread waits for the next result for {timeout} s")
            return self._next(deadline, timeout)
        finally:
            if held:
                self._lock.release()

    def collect(self) -> list[R]:
        """All results, in a list. What was collected is gone where this raises: iterate instead to
        have the results before an error, or to go on after Ctrl-C."""
        results: list[R] = []
        while True:
            try:
                results.append(self.next())
            except StopIteration:
                return results
            results.extend(self._hand[2])

    def _next(self, deadline: float | None, timeout: float | None) -> R:
        while True:
            part, place, results = self._hand
            for result in results:
                return result  # type: ignore[no-any-return]
            assert part.found is not None
            if place < len(part.found[0]):
                return self._take_odd(part, place)
            if not self._advance(deadline):
                raise TimeoutError(f"no result of {self._name} came within {timeout} s")

    def _advance(self, deadline: float | None) -> bool:
        """Have another part in hand; False after the deadline. Raises StopIteration, or the last
        error, if there is none."""
        raise NotImplementedError

    def _take_odd(self, part: Part, place: int) -> R:
        """An item that has not simply a result. It stays the next one where Ctrl-C has broken that
        off."""
        assert part.found is not None
        kind, found = part.found[1][place]
        error: BaseException | None
        if kind == RAISED:
            error = found.with_traceback(None)
        else:
            found, error = self._opened(kind, found)
        self._hand = part.stretch(place + 1)
        if error is not None:
            self._raise(error)
        result: R = found
        return result

    def _new_task(self) -> Task[Any]:
        limit = self._pool._timeout if self._limit is None else self._limit
        task: Task[Any] = Task(self._pool, self._name, None, limit)
        task._soft_limit = self._pool._soft_timeout
        return task

    def _opened(self, kind: int, found: Any) -> tuple[Any, BaseException | None]:
        """A result, or what is to be raised in its place. Raises what a signal handler does."""
        if kind == codec.OK:
            return found, None
        how = codec.decode_result if kind == codec.PICKLED else codec.decode_exception
        found, failure, interrupt = codec.decode(how, found)
        if interrupt is not None:
            raise interrupt
        if failure is None:
            return (None, found) if kind == codec.ERROR else (found, None)
        what = "what {} raised" if kind == codec.ERROR else "the result of {}"
        error = TypeError(f"{what.format(self._name)} cannot be unpickled: {failure!r}")
        error.__cause__ = failure
        return None, error

    def _raise(self, error: BaseException) -> NoReturn:
        if isinstance(error, StopIteration):
            raise RuntimeError(f"{self._name} raised StopIteration") from error
        raise error
