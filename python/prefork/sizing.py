"""How large a pool is: its workers, and the slots in which tasks may be unfinished."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from .lifecycle import Lifecycle
from .options import MAX_WORKERS, not_negative
from .semaphore import Slots

if TYPE_CHECKING:
    from .task import Task


class Sized(Lifecycle):
    """The part of a TaskPool that grows and shrinks, and has tasks wait for a slot."""

    def _have_slots(self, putlocks: bool, semaphore: Any) -> None:
        self.putlocks = putlocks  #: whether apply_async waits for a slot
        self._semaphore: Any = Slots(self.limit) if semaphore is None else semaphore
        self._semaphore_is_ours = semaphore is None

    def grow(self, count: int = 1) -> None:
        """Have `count` more workers, at once. Raises ValueError for less than 0 or too many."""
        self._resize(self.limit + not_negative(count))

    def shrink(self, count: int = 1) -> None:
        """Have `count` fewer; busy ones end after their task. Raises ValueError for less than 0,
        or for more than there are."""
        self._resize(self.limit - not_negative(count))

    def _resize(self, limit: int) -> None:
        self._check_usable()
        if not 0 <= limit <= MAX_WORKERS:
            raise ValueError(f"a pool cannot have {limit} workers")
        self._check_descriptors(limit - self.limit)
        self._core.resize(limit)
        change = limit - self.limit
        resize = getattr(self._semaphore, "grow" if change > 0 else "shrink", None)
        if resize is not None and change != 0:
            resize(abs(change))
        self._core.rouse()  # there may be a slot for somebody now
        self.limit = limit

    def _take_slot(self, task: Task[Any], waits: bool) -> bool:
        """Whether a slot was taken. A semaphore that was passed in is taken where we may wait for
        it, and else is taken to be in the caller's hand: it is released once per task anyhow."""
        if not self.putlocks or self.limit == 0:
            return False
        ours = self._semaphore_is_ours
        if ours:
            task._slot = []
        if not waits or self._guest or threading.get_ident() in self._calling_back:
            return ours and self._semaphore.take(task._slot)
        took = False

        def taken() -> bool:
            nonlocal took
            if ours:
                took = bool(task._slot) or self._semaphore.take(task._slot)
            else:
                took = took or self._semaphore.acquire(blocking=False)
            return took or self._closed

        # A semaphore that was passed in may be released by others, who cannot wake us.
        while not self._wait(taken, None if ours else 0.1):
            self._check_usable()
        return took

    def _give_slot_back(self, task: Task[Any], took: bool) -> None:
        if task._slot is not None:
            self._semaphore.give_back(task._slot)
            self._core.rouse()  # it may be wanted
        elif took:
            self._semaphore.release()
