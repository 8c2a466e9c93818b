"""Maps in chunks of which the caller has said how large they are."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable
from itertools import islice
from typing import TYPE_CHECKING, Any, TypeVar

from . import codec
from .batch import Batch
from .maps import AHEAD, PAUSE, MapIterator
from .options import checked_chunksize
from .parts import Part
from .task import Task, remaining

if TYPE_CHECKING:
    from .pool import TaskPool

R = TypeVar("R")

FOREVER = float("inf")  # a chunk is done to its end


class ChunkIterator(MapIterator[R]):
    """Of chunks of `chunksize` items, each a task."""

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
        self._chunksize = checked_chunksize(chunksize)
        super().__init__(pool, target, iterable, ordered, star, timeout)
        #: In order of submission, not taken yet; of how many items.
        self._open: dict[Task[Any], int] = {}
        self._ended: deque[Task[Any]] = deque()  # in order of ending, if that is what is wanted
        self._items: list[Any] = []  # pulled, not yet submitted
        #: What is being submitted: the task, those items, and how many of them are its own.
        self._sending: tuple[Task[Any], list[Any], int] | None = None
        self._batch = Batch(target, star)
        self._is_slow = False  # the input has just paused
        self._patience = PAUSE  # seconds that it then waits for a result
        #: Where all results are wanted at once: only these hold the input back, not those that have
        #: ended and were not taken.
        self._unfinished: set[Task[Any]] | None = None
        self._pull()

    def collect(self) -> list[R]:
        """All results, in a list. The input is not held back by those that are not taken."""
        if self._ordered:
            self._unfinished, self._is_slow = set(), False
        return super().collect()

    def _failed(self, error: Exception) -> Task[Any]:
        """In the place of an item that could not be sent. If it is the function that cannot be
        pickled, that is raised."""
        codec.encode_call(self._target, (), None)
        task = self._new_task()
        task._settle(None, error, False)
        return task

    def _ahead(self) -> int:
        return AHEAD * max(1, self._pool.limit)

    def _pull(self) -> None:
        """Submit until the pool has enough to do. Where a result is due, or comes meanwhile, an
        input that is slow does not hold it back. What Ctrl-C breaks off goes on at the next call:
        items that were pulled are kept."""
        self._sent()
        is_due = self._is_due()
        most = self._ahead() + is_due
        looked = time.monotonic() if self._unfinished is None else FOREVER
        try:
            while self._open_count() < most and self._has_more():
                if self._is_slow or time.monotonic() - looked > PAUSE:
                    if is_due or self._look():
                        return
                    looked = time.monotonic()
                if not self._exhausted:
                    self._pull_items()
                if self._items:
                    self._submit(self._items)
        except Exception as error:  # of submitting; it comes after the results of what went before
            self._sent()
            self._exhausted = True
            self._items = []
            self._error = error

    def _has_more(self) -> bool:
        """Whether something is to be submitted yet."""
        return bool(self._items) or not self._exhausted

    def _open_count(self) -> int:
        """How many tasks hold the input back."""
        unfinished = self._unfinished
        if unfinished is None:
            return len(self._open)
        while self._ended:
            unfinished.discard(self._ended.popleft())
        return len(unfinished)

    def _look(self) -> bool:
        """Whether a result has come. Where tasks are quicker than the input, it is given time."""
        if not self._open or self._await(self._patience):
            return bool(self._open)
        self._patience = 0
        return False

    def _pull_items(self) -> None:
        """Up to `chunksize` items; fewer at the end, or where the input raises."""
        missing = self._chunksize - len(self._items)
        began = time.monotonic()
        try:
            self._items.extend(islice(self._input, missing))  # keeps what came before an error
        except Exception as error:
            self._error = error
        self._exhausted = len(self._items) < self._chunksize
        self._is_slow = self._unfinished is None and time.monotonic() - began > PAUSE

    def _submit(self, items: list[Any]) -> None:
        """The first ones of those that were pulled."""
        self._pool._check_usable()
        try:
            body = self._encode(items)
        except Exception as error:
            self._submit_singly(items, error)
            return
        task = self._new_task()
        if not self._ordered or self._unfinished is not None:
            task._completed = self._ended
        self._sending = task, self._items, len(items)
        self._open[task] = len(items)
        if self._unfinished is not None:
            self._unfinished.add(task)
        self._pool._submit(task, body)
        self._sent()

    def _sent(self) -> None:
        """What was being sent is out, or it is not: known from itself, where that was broken off.
        Done again, nothing comes of the second time."""
        if self._sending is None:
            return
        task, items, count = self._sending
        if task._number or task._has_ended():
            self._open[task] = count
            if self._items is items:
                self._items = items[count:]
        else:
            self._open.pop(task, None)
            if self._unfinished is not None:
                self._unfinished.discard(task)
        self._sending = None

    def _encode(self, items: list[Any]) -> bytes:
        return codec.encode_call(self._batch, (items, FOREVER), None)

    def _submit_singly(self, items: list[Any], error: Exception) -> None:
        """They cannot be pickled. Each item by itself then, and in the place of one that cannot be
        sent a task that has failed. What the function itself raises ends the input."""
        if len(items) > 1:
            codec.encode_call(self._target, (), None)
            while self._items:
                self._submit(self._items[:1])
            return
        task = self._failed(error)
        if not self._ordered:
            self._ended.append(task)
        self._sending = task, self._items, 1
        self._sent()

    def _advance(self, deadline: float | None) -> bool:
        self._drop(self._hand[0].task)  # again, if Ctrl-C has broken that off
        task = self._await_next(deadline)
        if task is None:
            return False
        part = Part(0, [None] * self._open[task])
        part.task = task
        if part.fails_with(task) is None:
            _, results, odd = task._result
            part.found = results, odd or {}
        self._hand = part.stretch(0)
        self._drop(task)
        return True

    def _await_next(self, deadline: float | None) -> Task[Any] | None:
        """The next task, when it has ended; None after the deadline. Before that what takes its
        place is pulled: if the input is interrupted, the task that has ended is still there."""
        while True:
            self._pull()
            if not self._open:
                error, self._error = self._error, None
                raise error or StopIteration
            if self._is_due():
                break
            if not self._await(remaining(deadline)):
                return None
        task = next(iter(self._open)) if self._ordered else self._ended[0]
        task._unpack()  # so with what that raises
        return task

    def _drop(self, task: Task[Any] | None) -> None:
        if task in self._open:
            del self._open[task]

    def _is_due(self) -> bool:
        """Whether the next result is there."""
        if not self._ordered:
            return self._has_ended()
        return any(task._has_ended() for task in islice(self._open, 1))

    def _await(self, timeout: float | None) -> bool:
        """The next result; or that the pool has half as much to do, where that counts."""
        if not self._ordered:
            return self._pool._wait(self._has_ended, timeout)
        first = next(iter(self._open))
        if self._unfinished is None:
            return first.wait(timeout)
        few = self._ahead() // 2 if self._has_more() else -1
        return self._pool._wait(lambda: first._has_ended() or self._open_count() <= few, timeout)

    def _has_ended(self) -> bool:
        """Whether there is a task that has ended and was not taken. Some are told of twice."""
        while self._ended and self._ended[0] not in self._open:
            self._ended.popleft()
        return bool(self._ended)

    def _result_of(self, task: Task[Any]) -> Any:
        try:
            return task.result()
        except StopIteration as error:
            self._raise(error)
