"""One call after the other, for the items of a batch, and a look at the clock after each."""

from __future__ import annotations

import time
from collections.abc import Callable
from itertools import islice
from typing import Any


def call_each(
    target: Callable[..., Any],
    star: bool,
    items: list[Any],
    results: list[Any],
    until: float,
) -> None:
    """Go on with the items after so many as there are results: append `target(item)`, or
    `target(*item)` with `star`. Once it is later than `until` (time.monotonic()) no further one is
    begun. Raises whatever a call raises.

    Cython's binding has its own, by a cheaper clock, which may be a tick of the kernel's late.
    """
    append, clock = results.append, time.monotonic
    for item in islice(items, len(results), None):
        append(target(*item) if star else target(item))
        if clock() > until:
            return
