"""How large a pool is: its workers, and the slots in which tasks may be unfinished."""

from __future__ import annotations

import contextlib
import errno
from typing import TYPE_CHECKING, Any

from .lifecycle import Lifecycle
from .options import MAX_WORKERS, not_negative
from .semaphore import Semaphore, Slots

if TYPE_CHECKING:
    from .task import Task


class Sized(Lifecycle):
    """The part of a TaskPool that grows and shrinks, and has tasks wait for a slot."""

    def _have_slots(self, putlocks: bool, semaphore: Any) -> None:
        self.putlocks = putlocks  #: whether apply_async waits for a slot
        self._delivery.slots = Slots(self.limit) if semaphore is None else None
        self._semaphore: Any = self._delivery.slots or semaphore
        self._semaphore_is_ours = semaphore is None
        self._slots_told = self.limit  # to one that only grows and shrinks

    def grow(self, count: int = 1) -> None:
        """Have `count` more workers, at once. Raises ValueError for less than 0 or too many: more
        than 4,095, or than 1,023 if the pool was made for 64 or fewer."""
        self._resize(not_negative(count))

    def shrink(self, count: int = 1) -> None:
        """Have `count` fewer; busy ones end after their task. Raises ValueError for less than 0,
        or for more than there are."""
        self._resize(-not_negative(count))

    def _resize(self, change: int) -> None:
        self._check_usable()
        limit = self.limit + change
        if not 0 <= limit <= MAX_WORKERS:
            raise ValueError(f"a pool cannot have {limit} workers")
        self._check_descriptors(change)
        beyond, told = self._slots_beyond(), 0
        try:
            self.limit, told = self.limit + change, change
            self._have(beyond)
        except BaseException as error:  # of a signal handler, perhaps: then nothing has changed
            self.limit -= told
            with contextlib.suppress(OSError):
                self._have(beyond)
            if isinstance(error, OSError) and error.errno == errno.EINVAL:
                raise ValueError(f"a pool that was made for fewer cannot have {limit}") from None
            raise
        finally:
            self._core.rouse()  # there may be a slot for somebody now

    def _slots_beyond(self) -> int:
        """How many more slots there are than workers: a semaphore that was passed in may have
        others than we know of."""
        if isinstance(self._semaphore, Semaphore):
            return self._semaphore.bound - self.limit
        return 0

    def _have(self, beyond: int) -> None:
        """As many workers and slots as there shall be; again, and nothing comes of it. A handler
        that resizes the pool meanwhile has told another limit: then once more."""
        limit = -1
        while limit != self.limit:
            limit = self.limit
            self._core.resize(limit)
            if isinstance(self._semaphore, (Slots, Semaphore)):
                self._semaphore.resize(max(0, limit + beyond))
            else:
                self._change_slots(limit - self._slots_told)

    def _change_slots(self, change: int) -> None:
        """Of a semaphore that knows no number, if it knows how to grow and shrink. What is broken
        off in there is taken not to have happened."""
        resize = getattr(self._semaphore, "grow" if change > 0 else "shrink", None)
        if resize is None or change == 0:
            return
        try:
            self._slots_told += change
            resize(abs(change))
        except BaseException:
            self._slots_told -= change
            raise

    def _take_slot(self, task: Task[Any], waits: bool) -> bool:
        """Whether a slot was taken. A semaphore that was passed in is taken where we may wait for
        it, and else is taken to be in the caller's hand: it is released once per task anyhow."""
        if self.limit == 0:
            return False
        ours = self._semaphore_is_ours
        if ours:
            task._slot = []
        if not waits or self._guest or self.in_callback():
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
