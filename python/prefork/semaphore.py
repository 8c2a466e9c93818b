"""The pool's slots: how many tasks may be unfinished at a time."""

from __future__ import annotations

import threading


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

    def clear(self) -> None:
        """Give every slot back."""
        with self._changed:
            self._taken = 0
            self._changed.notify_all()

    def __repr__(self) -> str:
        return f"<Semaphore {self.value}/{self._bound} free>"
