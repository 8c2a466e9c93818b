"""The pool's slots: how many tasks may be unfinished at a time."""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from itertools import islice

from .options import MAX_WORKERS, check_timeout


class Slots:
    """What a pool has where it was given no semaphore.

    A slot is in one place at a time: among the free ones, in the hand (a list) of the task that
    holds it, or put away: there are as many as a pool may ever have. It moves within one call into
    C, so that neither another thread nor a signal handler that raises finds it on the way.
    """

    def __init__(self, count: int) -> None:
        self.free = deque([True] * count)  #: for the binding, which gives back in one step
        self._away = deque([True] * (MAX_WORKERS - count))
        self._due = len(self._away)  # how many are to be away
        self._next_free = iter(self.free.popleft, None)
        self._next_away = iter(self._away.popleft, None)

    def take(self, hand: list[bool]) -> bool:
        """Whether there was one."""
        try:
            hand.extend(islice(self._next_free, 1))
        except IndexError:
            return False
        return True

    def give_back(self, hand: list[bool]) -> None:
        """Nothing if the hand is empty."""
        with contextlib.suppress(IndexError):
            self.free.extend(islice(iter(hand.pop, None), 1))
        self.settle()

    def settle(self) -> None:
        """After slots were given back: put away those that are too many."""
        if len(self._away) != self._due:
            self._balance()

    def resize(self, count: int) -> None:
        """Have `count` slots; those in use that are too many go when they are given back. What a
        handler breaks off here is seen to when the next is given back."""
        self._due = MAX_WORKERS - count
        self._balance()

    def _balance(self) -> None:
        """As many away as are due to be, or as there are free ones. Two threads may overdo it: then
        one of them takes back what was too much."""
        with contextlib.suppress(IndexError):
            while over := len(self._away) - self._due:
                if over < 0:
                    self._away.extend(islice(self._next_free, 1))
                else:
                    self.free.extend(islice(self._next_away, 1))


class Semaphore:
    """A bounded counter that grows and shrinks with the pool, and never overflows.

    `acquire` takes a slot, `release` gives one back; a release beyond the bound is dropped, so that
    a shrunk semaphore cannot hold more than it should. Safe from any thread and from a signal
    handler: nothing here waits while it holds a lock.

    >>> slots = Semaphore(1)
    >>> slots.acquire(blocking=False), slots.acquire(blocking=False)
    (True, False)
    """

    def __init__(self, value: int) -> None:
        if value < 0:
            raise ValueError(f"a semaphore cannot have {value} slots")
        self._bound = value
        self._taken = 0
        self._changed = threading.Condition(threading.RLock())

    @property
    def bound(self) -> int:
        """How many slots there are (int)."""
        return self._bound

    @property
    def value(self) -> int:
        """How many are free (int, not below 0)."""
        return max(0, self._bound - self._taken)

    def acquire(self, blocking: bool = True, timeout: float | None = None) -> bool:
        """Take a slot. True; False if there was none (within `timeout` seconds)."""
        check_timeout(timeout)
        if timeout is not None:
            timeout = min(timeout, threading.TIMEOUT_MAX)
        with self._changed:
            if blocking and self._taken >= self._bound:
                self._changed.wait_for(lambda: self._taken < self._bound, timeout)
            if self._taken >= self._bound:
                return False
            self._taken += 1
            return True

    def release(self) -> None:
        """Give a slot back."""
        with self._changed:
            self._taken = max(0, self._taken - 1)
            self._changed.notify()

    def grow(self, count: int = 1) -> None:
        """Have `count` more slots. Raises ValueError for a negative count."""
        if count < 0:
            raise ValueError(f"a semaphore cannot grow by {count}")
        with self._changed:
            self._bound += count
            self._changed.notify_all()

    def shrink(self, count: int = 1) -> None:
        """Have `count` fewer; those in use stay so until they are released. Raises ValueError for a
        negative count."""
        if count < 0:
            raise ValueError(f"a semaphore cannot shrink by {count}")
        with self._changed:
            self._bound = max(0, self._bound - count)

    def resize(self, bound: int) -> None:
        """Have so many slots; those in use that are too many go when they are released. Again, and
        nothing comes of it. Raises ValueError below 0."""
        if bound < 0:
            raise ValueError(f"a semaphore cannot have {bound} slots")
        with self._changed:
            self._bound = bound
            self._changed.notify_all()

    def clear(self) -> None:
        """Give every slot back."""
        with self._changed:
            self._taken = 0
            self._changed.notify_all()

    def __repr__(self) -> str:
        return f"<Semaphore {self.value}/{self._bound} free>"
