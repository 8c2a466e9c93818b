"""How many items of a map make a batch, by what those before them have cost."""

from __future__ import annotations

WORTH = 1e-3  #: seconds of work that a batch shall be
MOST_SECONDS = 5e-3  #: after which it begins no further item
MOST = 4096  #: items in it
MOST_BYTES = 1 << 18  #: about so many, pickled, in either direction, where it is not a single item
GROWTH = 4  #: so many times as large as one that has ended a batch may be
FINEST = 8  #: towards the end they become smaller, down to this part of their size
UNTIMED = 8  #: of items that go one by one, one of so many is timed


class Pace:
    """What is known of the items' cost. At first: nothing, and they go one by one."""

    def __init__(self) -> None:
        self.size = 1  #: items of a batch
        self.cost: float | None = None  #: seconds an item
        self._light = MOST  # so many items are no more than MOST_BYTES
        self._untimed = 0

    def weigh(self, size: int, count: int) -> None:
        """So many items were so many bytes."""
        self._light = max(1, MOST_BYTES * count // max(1, size))

    def learn(self, seconds: float, count: int, is_cut: bool) -> None:
        """So many calls have taken so long; `is_cut`: longer than was expected."""
        cost = seconds / count
        if self.cost is not None and not is_cut:
            cost = (self.cost + cost) / 2
        self.cost = cost
        self.size = max(1, min(int(WORTH / max(cost, 1e-9)), GROWTH * count, MOST))

    def forget(self) -> None:
        """Begin anew: a worker was lost, and the next such item shall be alone."""
        self.size, self.cost = 1, None

    def is_to_be_timed(self) -> bool:
        """Whether a single item's cost is of interest. The bare call is cheaper where it is not."""
        if self.cost is None or self.cost < WORTH:
            return True
        self._untimed += 1
        return self._untimed % UNTIMED == 0

    def share(self, left: int | None, workers: int) -> int:
        """The size of the next batch. Where it can be seen how many items are `left`, it becomes
        smaller towards the end, so that all workers end together."""
        size = min(self.size, self._light)
        if left is None:
            return size
        share = -(-left // (2 * workers))
        return min(size, max(1, share, size // FINEST))
