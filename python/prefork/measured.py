"""Maps whose items go in batches by what they cost: thousands together where a call takes about a
microsecond, one by one where it takes long. The caller says nothing of it.

    input --pull--> waiting --submit--> running --settle--> found --take--> in hand --> caller
                       ^                   |
                       +---- the rest -----+   a batch whose time was up (batch.py)

A part is some items of the input that follow each other, and later their results. It is in one of
these places, and which one follows from itself: so where Ctrl-C breaks something off, the next call
puts them all in order again, and goes on.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Sized
from itertools import islice, pairwise
from types import FunctionType
from typing import TYPE_CHECKING, Any, TypeVar

from . import codec
from .batch import Batch
from .chunks import ChunkIterator
from .errors import WorkerLostError
from .maps import AHEAD, PAUSE, MapIterator
from .options import checked_chunksize
from .pace import MOST_SECONDS, Pace
from .parts import Part
from .singles import SingleIterator
from .task import Task, remaining

if TYPE_CHECKING:
    from .pool import TaskPool

R = TypeVar("R")

DEPTH = 4  #: batches submitted per worker, where they are of more than one item
NEVER_PAUSE = frozenset({list, tuple, range, dict, set, frozenset, deque, str, bytes})


def map_over(
    pool: TaskPool,
    target: Callable[..., R],
    iterable: Iterable[Any],
    chunksize: int | None,
    ordered: bool,
    star: bool,
    timeout: float | None,
) -> MapIterator[R]:
    """By what items cost, if `chunksize` is None; but one by one where a limit, or a worker's
    life, is to be counted by the item."""
    if chunksize is None:
        limited = timeout is not None or pool._timeout or pool._soft_timeout
        if not limited and not pool._recycling.tasks:
            return MeasuredIterator(pool, target, iterable, ordered, star)
        chunksize = 1
    kind = SingleIterator if checked_chunksize(chunksize) == 1 else ChunkIterator
    return kind(pool, target, iterable, chunksize, ordered, star, timeout)


def _length_of(iterable: Iterable[Any]) -> int | None:
    try:
        return len(iterable) if isinstance(iterable, Sized) else None
    except (TypeError, ValueError, AttributeError, NotImplementedError):
        # There are those that know theirs only sometimes, as tqdm's.
        return None


class MeasuredIterator(MapIterator[R]):
    """Of batches by measured cost."""

    def __init__(
        self,
        pool: TaskPool,
        target: Callable[..., R],
        iterable: Iterable[Any],
        ordered: bool,
        star: bool = False,
    ) -> None:
        super().__init__(pool, target, iterable, ordered, star)
        self._total = _length_of(iterable)
        self._may_pause = type(iterable) not in NEVER_PAUSE
        self._runner: Any = None  # what the workers call
        self._pace = Pace()
        self._pulled_well = 0  # items pulled since the input has paused
        self._is_slow = False  # it has just paused
        self._is_eager = False  # all results are wanted at once
        self._taken = 0  # items
        self._parts: dict[int, Part] = {}  # all but what is in hand, by their first items
        self._filling = Part(0, [])  # what is being pulled; not among them yet
        self._waiting: deque[Part] = deque()
        self._running: dict[Task[Any], Part] = {}
        self._done: deque[Task[Any]] = deque()  # in order of ending; not settled yet
        self._found: deque[Part] = deque()  # in order of ending, where that is what is wanted
        self._is_in_order = True
        self._refill(False, 0)

    # ---- giving results ----------------------------------------------------------------------

    def collect(self) -> list[R]:
        """All results, in a list. The input is not held back by those that are not taken."""
        self._is_eager = True
        return super().collect()

    def _advance(self, deadline: float | None) -> bool:
        """Have another part in hand; False after the deadline. Raises StopIteration, or the last
        error, if there is none."""
        if not self._is_in_order:
            self._put_in_order()
        self._is_in_order = False
        while True:
            self._settle()
            part = self._due()
            self._refill(part is not None, 0 if part is None else part.end() - part.first)
            part = self._due()
            if part is not None:
                self._take(part)
                break
            if self._running or self._done:
                if not self._pool._wait(lambda: bool(self._done), remaining(deadline)):
                    break
            elif self._exhausted:
                error, self._error = self._error, None
                raise error or StopIteration
        self._is_in_order = True
        return part is not None

    def _due(self) -> Part | None:
        if not self._ordered:
            return self._found[0] if self._found else None
        part = self._parts.get(self._hand[0].end())
        return None if part is None or part.found is None else part

    def _take(self, part: Part) -> None:
        self._hand = part.stretch(0)
        self._taken += part.end() - part.first
        del self._parts[part.first]
        if not self._ordered:
            self._found.popleft()

    def _put_in_order(self) -> None:
        """After something was broken off, at whatever line."""
        hand = self._hand[0]
        if self._parts.get(hand.first) is hand:
            del self._parts[hand.first]
        filling = self._filling
        if self._parts.get(filling.first) is filling:
            self._filling = Part(filling.end(), [])
        parts = sorted(self._parts.values(), key=lambda part: part.first)
        for part, after in pairwise(parts):
            if part.end() > after.first and not part.is_sent():  # it was being cut
                part.items = part.items[: after.first - part.first]
        unsettled = [part for part in parts if part.found is None]
        self._running = {part.task: part for part in unsettled if part.task and part.is_sent()}
        self._done.extend(task for task in self._running if task._has_ended())
        self._waiting = deque(part for part in unsettled if not part.is_sent())
        if not self._ordered:
            self._found = deque(part for part in parts if part.found is not None)
        ends = [*(part.first for part in parts[1:]), self._filling.first]
        untaken = (
            min(part.end(), end) - part.first for part, end in zip(parts, ends, strict=False)
        )
        self._taken = self._filling.first - sum(untaken)

    # ---- from the input to the workers -------------------------------------------------------

    def _refill(self, is_due: bool, taken: int) -> None:
        """Submit until the pool has enough to do; `taken` items are about to be taken. Where a
        result `is_due`, or comes meanwhile, an input that is slow does not hold it back."""
        looked = time.monotonic()
        try:
            while len(self._running) < self._workers() * self._depth():
                if self._waiting:
                    self._submit()
                    continue
                if self._exhausted or not self._has_room(taken):
                    return
                if self._is_slow or time.monotonic() - looked > PAUSE:
                    if is_due or self._look():
                        return
                    looked = time.monotonic()
                self._pull()
        except Exception as error:  # of submitting; it comes after the results of what went before
            self._exhausted = True
            self._error = error
            self._put_in_order()
            for part in self._waiting:
                if part.is_rest:
                    part.fail(error)
                else:
                    del self._parts[part.first]
            self._put_in_order()

    def _workers(self) -> int:
        return max(1, self._pool.limit)

    def _depth(self) -> int:
        return AHEAD if self._pace.size == 1 else DEPTH

    def _has_room(self, taken: int) -> bool:
        """Whether more may be pulled: sixteen items, or four batches, for each worker."""
        if self._is_eager or not (self._running or self._due()):
            return True
        ahead = self._filling.first - self._taken - taken
        return ahead < self._workers() * max(AHEAD, DEPTH * self._pace.size)

    def _look(self) -> bool:
        """Whether a result has come; where items are quicker than the input, it is given time."""
        if not self._running:
            return False
        patience = PAUSE if (self._pace.cost or 0) < PAUSE else 0
        self._pool._wait(lambda: bool(self._done), patience)
        self._settle()
        return self._due() is not None

    def _pull(self) -> None:
        """Items for a batch: fewer at the end, or where the input raises. While it pauses, what it
        has given before waits with us: so one that may do so has given four times as many by then,
        without a pause."""
        count = self._count()
        if self._may_pause:
            count = min(count, max(1, self._pulled_well // 4))
        filling = self._filling
        missing = max(0, count - len(filling.items))
        began = time.monotonic()
        try:
            filling.items.extend(islice(self._input, missing))  # keeps what came before an error
        except Exception as error:
            self._error = error
        seconds = time.monotonic() - began
        self._exhausted = len(filling.items) < count
        self._is_slow = self._may_pause and seconds > PAUSE and seconds > missing * PAUSE / 50
        if self._is_slow:
            self._pulled_well = 0
        elif seconds > PAUSE:
            self._pulled_well //= 2
        else:
            self._pulled_well += missing
        if filling.items:
            self._parts[filling.first] = filling
            self._filling = Part(filling.end(), [])
            self._waiting.append(filling)

    def _count(self) -> int:
        """How many items make the next batch."""
        if self._total is None and not self._exhausted:
            return self._pace.share(None, self._workers())
        left = sum(len(part.items) for part in self._waiting)
        if self._total is not None:
            left += max(0, self._total - self._filling.first)
        return self._pace.share(left, self._workers())

    def _cut(self, part: Part, count: int) -> None:
        """Leave so many items in it. The others come next."""
        if len(part.items) > count:
            rest = Part(part.first + count, part.items[count:], part.is_rest)
            self._parts[rest.first] = rest
            part.items = part.items[:count]
            self._waiting.appendleft(rest)

    def _submit(self) -> None:
        """The first part that waits, or as much of it as makes a batch."""
        self._pool._check_usable()
        count = self._count()
        part = self._waiting.popleft()
        self._cut(part, count)
        try:
            body = self._encode(part)
        except Exception as error:
            self._cannot_encode(part, error)
            return
        task = self._new_task()
        task._completed = self._done
        part.task = task
        self._running[task] = part
        self._pool._submit(task, body)

    def _cannot_encode(self, part: Part, error: Exception) -> None:
        """One of its items cannot, which is found by halves, and fails; if it is not the function:
        then there is no more."""
        codec.encode_call(self._target, (), None)
        if len(part.items) == 1:
            part.fail(error)
            if not self._ordered:
                self._found.append(part)
            return
        try:
            self._encode(part)
        except Exception:
            self._cut(part, len(part.items) // 2)
            self._waiting.appendleft(part)
        else:
            raise error  # which was a signal handler's

    def _encode(self, part: Part) -> bytes:
        items = part.items
        part.is_bare = False
        if len(items) == 1 and not self._pace.is_to_be_timed():
            part.is_bare = True
            args = tuple(items[0]) if self._star else (items[0],)
            return codec.encode_call(self._target, args, None)
        if self._runner is None:
            batch = Batch(self._target, self._star)
            is_plain = type(self._target) is FunctionType
            self._runner = codec.Encoded(batch) if is_plain else batch
        body = codec.encode_call(self._runner, (items, MOST_SECONDS), None)
        self._pace.weigh(len(body), len(items))
        return body

    # ---- and back ----------------------------------------------------------------------------

    def _settle(self) -> None:
        """Find out what has become of the tasks that have ended. Done again where it was broken
        off, and nothing comes of the second time."""
        while self._done:
            task = self._done[0]
            part = self._running.get(task)
            if part is not None:
                self._settle_part(part, task)
                del self._running[task]
                if not self._ordered:
                    self._found.append(part)
            self._done.popleft()

    def _settle_part(self, part: Part, task: Task[Any]) -> None:
        error = part.fails_with(task)
        if error is not None:
            if isinstance(error, WorkerLostError):
                self._pace.forget()
        elif part.is_bare:
            part.found = [task._result], {}
        else:
            seconds, results, odd = task._result
            done, count = len(results), len(part.items)
            self._pace.learn(seconds, done, done < count)
            first = part.first + done
            if done < count and first not in self._parts:
                rest = Part(first, part.items[done:], True)
                self._parts[first] = rest
                self._waiting.appendleft(rest)
            part.found = results, odd or {}
        part.items = []
