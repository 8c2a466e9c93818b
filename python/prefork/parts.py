"""A part of a map: items that follow each other in the input, and then their results."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import CancelledError
from typing import Any

from . import codec
from .task import Task

RAISED = 3  # an item's outcome, beside codec's: what was raised here in its place

#: A part that is being taken, the place in it up to which the iterator goes, and that.
Hand = tuple["Part", int, Iterator[Any]]


class Part:
    """Items that follow each other, from the `first` of them, counted from the beginning."""

    __slots__ = ("first", "found", "is_bare", "is_rest", "items", "task")

    def __init__(self, first: int, items: list[Any], is_rest: bool = False) -> None:
        self.first = first
        self.items = items
        self.is_rest = is_rest  # it was submitted before, in a batch whose time was up
        self.is_bare = False  # a single item, whose call is the task's
        self.task: Task[Any] | None = None
        #: Results, None for each that is odd; the odd ones by their places.
        self.found: tuple[list[Any], dict[int, codec.Outcome]] | None = None

    def is_sent(self) -> bool:
        """Whether it has been submitted."""
        return self.task is not None and self.task._number != 0

    def end(self) -> int:
        """The first item after it."""
        return self.first + len(self.items if self.found is None else self.found[0])

    def fail(self, error: BaseException) -> None:
        """That is the outcome of each item."""
        count = len(self.items)
        self.found = [None] * count, dict.fromkeys(range(count), (RAISED, error))

    def fails_with(self, task: Task[Any]) -> BaseException | None:
        """If its task, which has ended, has no result: that is the outcome of each item. What it
        is, or None."""
        error = CancelledError(f"{task!r}") if task.cancelled() else task._exception
        if error is not None:
            self.fail(error)
        return error

    def stretch(self, place: int) -> Hand:
        """From that place up to the next item that is odd, or to the end."""
        assert self.found is not None
        results, odd = self.found
        if not odd:
            return self, len(results), iter(results[place:] if place else results)
        stop = next((at for at in range(place, len(results)) if at in odd), len(results))
        return self, stop, iter(results[place:stop])


def nothing() -> Hand:
    """What is in hand before the first part."""
    before = Part(-1, [])
    before.found = [None], {}
    return before.stretch(1)
