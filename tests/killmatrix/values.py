"""Arguments, results and exceptions that make trouble on their way."""

from __future__ import annotations

import builtins
import os
import signal
import sys
import threading
from dataclasses import dataclass
from typing import Any


def fail(what: Any = None) -> Any:
    raise ValueError("of pickling")


def fail_elsewhere(home: int, how: str, value: Any = None) -> Any:
    """Unpickled in the process it is at home in, nothing happens; elsewhere it does."""
    if os.getpid() == home:
        return value
    if how == "exit":
        os._exit(3)
    if how == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    raise getattr(builtins, how)("of unpickling")


class RaisesInReduce:
    def __reduce__(self) -> Any:
        raise ValueError("of pickling")


class BreaksElsewhere:
    def __init__(self, how: str) -> None:
        self.how = how

    def __reduce__(self) -> Any:
        return fail_elsewhere, (os.getpid(), self.how)


def give_what_breaks(how: str) -> Any:
    return BreaksElsewhere(how)


def give_lock() -> Any:
    return threading.Lock()


def give_lambda() -> Any:
    return (lambda: 1, threading.Lock())


def give_raising_reduce() -> Any:
    return RaisesInReduce()


def nested(depth: int) -> Any:
    found: list[Any] = []
    for _ in range(depth):
        found = [found]
    return found


def depth_of(what: Any) -> int:
    depth = 0
    while what:
        what, depth = what[0], depth + 1
    return depth


class TwoArguments(Exception):
    def __init__(self, first: str, second: str) -> None:
        super().__init__(f"{first} and {second}")


class Unpicklable(Exception):
    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.lock = threading.Lock()


@dataclass(frozen=True)
class Frozen(Exception):
    """Nothing can be set on it, not even __cause__; nor can it be unpickled."""

    code: int


@dataclass(frozen=True)
class FrozenPickles(Exception):
    code: int

    def __reduce__(self) -> Any:
        return FrozenPickles, (self.code,)


class RaisesInReduceError(Exception):
    def __reduce__(self) -> Any:
        raise ValueError("of pickling")


class BreaksElsewhereError(Exception):
    def __init__(self, how: str) -> None:
        super().__init__(how)
        self.how = how

    def __reduce__(self) -> Any:
        return fail_elsewhere, (os.getpid(), self.how)


class ShowsNothing(Exception):
    """Neither as text nor by its repr."""

    def __str__(self) -> str:
        raise RuntimeError("of str")

    __repr__ = __str__


def raise_two() -> None:
    raise TwoArguments("this", "that")


def raise_unpicklable() -> None:
    raise Unpicklable("holds a lock")


def raise_frozen() -> None:
    raise Frozen(7)


def raise_frozen_that_pickles() -> None:
    raise FrozenPickles(7)


def raise_that_raises_in_reduce() -> None:
    raise RaisesInReduceError("it")


def raise_that_breaks_elsewhere(how: str) -> None:
    raise BreaksElsewhereError(how)


def raise_that_shows_nothing() -> None:
    raise ShowsNothing


def raise_local() -> None:
    class Local(Exception):
        pass

    raise Local("of a class that nobody finds")


def raise_with_cause_and_notes() -> None:
    try:
        raise KeyError("the cause")
    except KeyError as cause:
        error = ValueError("the effect")
        if sys.version_info >= (3, 11):
            error.add_note("a note")
        raise error from cause


def raise_group() -> None:
    if sys.version_info < (3, 11):
        raise ValueError("a group")
    raise builtins.ExceptionGroup("a group", [ValueError("one"), raised_by(KeyError("two"))])


def raised_by(error: Exception) -> Exception:
    try:
        raise error
    except Exception as caught:
        return caught


def raise_huge() -> None:
    raise ValueError("x" * (32 << 20))


def raise_deep() -> None:
    """A chain of causes, thousands long."""
    error: Exception = ValueError("0")
    for i in range(1, 3000):
        link = ValueError(str(i))
        link.__cause__ = error
        error = link
    raise error


def raise_stopiteration() -> None:
    raise StopIteration("of a task")
