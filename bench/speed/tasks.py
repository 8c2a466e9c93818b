"""What workers run. Each task counts itself on the board."""

from __future__ import annotations

import os
import time
from typing import Any

from board import Board

board = Board(os.environ["BENCH_BOARD"])

_loops = int(os.environ["BENCH_LOOPS"])  # of an empty loop, that take a microsecond
_mine: Any = None  # the count of this process


def _first() -> None:
    global _mine
    _mine = board.take_slot()
    _mine[0] = 1


def _count() -> None:
    try:
        _mine[0] += 1
    except TypeError:
        _first()


def number(number: int) -> int:
    """Nothing, with an argument as small as can be."""
    try:
        _mine[0] += 1
    except TypeError:
        _first()
    return number


def record(_: int, record: dict[str, int]) -> dict[str, int]:
    """Nothing, with arguments and a result that have to be pickled."""
    try:
        _mine[0] += 1
    except TypeError:
        _first()
    return record


def _spin(microseconds: int) -> None:
    _count()
    for _ in range(microseconds * _loops):
        pass


def item_1us(number: int) -> int:
    _spin(1)
    return number


def item_100us(number: int) -> int:
    _spin(100)
    return number


def item_10ms(number: int) -> int:
    _spin(10_000)
    return number


def nap(number: int, seconds: float) -> int:
    time.sleep(seconds)
    _count()
    return number


def nap_ms(milliseconds: int) -> int:
    return nap(milliseconds, milliseconds / 1000)


def meet(number: int, count: int) -> int:
    """Returns when so many have come: then as many workers are at it."""
    _count()
    if board.come_to_the_gate() == count:
        board.open_gate(count)
    board.wait_at_the_gate()
    return number


def hold(number: int) -> int:
    """Returns when the application opens the gate."""
    _count()
    board.come_to_the_gate()
    board.wait_at_the_gate()
    return number
