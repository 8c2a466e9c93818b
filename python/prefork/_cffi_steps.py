"""Steps of the cffi binding that no signal handler may come between.

A handler comes between any two lines of Python, and raises. Such steps are taken within one call
into C: by `at_once`, or `next`, of iterators that are in C, too. What is to be undone when that
call ends, however it does, is the destructor of an object that nothing but its arguments refers to.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator
from functools import partial
from itertools import chain, compress, islice, repeat, starmap
from operator import is_, itemgetter
from typing import Any

from ._cffi_core import ffi, lib

FOREVER: int = lib.PF_FOREVER

at_once = deque[Any](maxlen=0).extend  # takes all that an iterator has, and keeps nothing
errno_now: Iterator[int] = map(getattr, repeat(ffi), repeat("errno"))  # what it is when asked


def hear(_: object) -> None:
    """As a function is entered the handlers that are due are called."""


def failed(error: int) -> OSError:
    return OSError(error, os.strerror(error))


def in_turn(first: Iterator[Any], *others: Iterator[Any]) -> int:
    """Takes all they have, at once. errno as it was after the first."""
    error: list[int] = []
    at_once(chain(first, map(error.append, islice(errno_now, 1)), *others))
    return error[0]


def call(function: Callable[..., int], *args: Any) -> int:
    """The one place that turns -1 into an exception; a handler may use the core before that."""
    result, error = next(zip(map(function, *zip(args)), errno_now, strict=False))
    if result < 0:
        raise failed(error)
    return result


def nanoseconds(timeout: float | None) -> int:
    if timeout is None or timeout >= 9e9:
        return FOREVER
    return max(1, round(float(timeout) * 1e9)) if timeout > 0 else 0  # "not a number" is 0, too


def bytes_at(place: Any, size: int) -> bytes:
    found: bytes = ffi.buffer(place, size)[:] if size else b""
    return found


def call_once(
    called: dict[str, Any], name: str, function: Callable[..., object], *args: object
) -> None:
    """Notes that it is called, and calls, or does nothing if that is noted: no handler comes in
    between."""
    mine = object()
    is_first = map(is_, map(called.setdefault, (name,), (mine,)), (mine,))
    try:
        next(starmap(function, compress((args,), is_first)))
    except StopIteration:
        if called.get(name) is mine:  # then it is the function's own
            raise


def call_first(functions: list[Callable[[Any], object]], arg: object) -> None:
    """Takes the first of them and calls it: no handler comes in between."""
    taken: list[None] = []
    remove = map(functions.__delitem__, (0,))
    first = zip(islice(functions, 1), remove, map(taken.append, (None,)), strict=False)
    try:
        next(map(partial.__call__, map(partial, map(itemgetter(0), first)), (arg,)))
    except StopIteration:
        if taken:
            raise
