"""A batch, in the worker: items of a map whose costs are measured, and the time they may take.

A batch begins no further item once its time is up. It says how many calls it has made and what they
took; what is left goes back to the application, which sends it again: no item is called twice.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any

from . import codec
from ._core import call_each
from .pace import MOST_BYTES, WORTH

_present: list[Any] = []  # the items that are left of the batch that runs in this process


def _forget() -> None:
    """In a fork of the worker, which may come back from its item: the others are not its own."""
    _present.clear()


os.register_at_fork(after_in_child=_forget)


class Batch:
    """What a worker calls: `target` for each item, `target(*item)` with `star`. It goes by the name
    of `target`."""

    def __init__(self, target: Callable[..., Any], star: bool) -> None:
        self.target = target
        self.star = star
        self.__qualname__ = codec.name_of(target)

    def __call__(self, items: list[Any], seconds: float) -> Measured:
        """Calls for the first of the items, at least one, until `seconds` are up."""
        global _present
        _present, worker = items, os.getpid()
        results: list[Any] = []
        odd: dict[int, codec.Outcome] = {}
        began = time.monotonic()
        count = len(items)
        while True:
            try:
                call_each(self.target, self.star, items, results, began + seconds)
                break
            except BaseException as error:
                if os.getpid() != worker:
                    raise
                if len(results) == count:  # a signal handler's, after the last one
                    results.pop()
                odd[len(results)] = codec.ERROR, codec.encode_exception(error)
                results.append(None)
                if time.monotonic() > began + seconds:
                    break
        _present = []
        return Measured(time.monotonic() - began, results, odd or None)


class Measured(codec.Late):
    """What has become of a batch. What cannot be brought over does not spoil the others."""

    def __init__(
        self, seconds: float, results: list[Any], odd: dict[int, codec.Outcome] | None
    ) -> None:
        self.seconds = seconds
        self.results = results
        self.odd = odd

    def encode(self) -> bytes:
        """Together, which is cheap, if they are plain data; else each by itself."""
        data = self._encoded()
        if len(data) > MOST_BYTES and len(self.results) > 1:
            # As if the calls had taken so long that the next batch is small enough.
            self.seconds = max(self.seconds, WORTH * len(data) / MOST_BYTES)
            data = self._encoded()
        return data

    def _encoded(self) -> bytes:
        data = codec.encode_plain((self.seconds, self.results, self.odd))
        if data is not None:
            return data
        self.odd = self.odd or {}
        for place, result in enumerate(self.results):
            if place not in self.odd:
                self.odd[place] = codec.by_itself(codec.OK, result)
        self.results = [None] * len(self.results)
        whole = codec.encode_plain((self.seconds, self.results, self.odd))
        assert whole is not None  # of numbers and bytes
        return whole
