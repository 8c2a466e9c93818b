"""What every measured process shares: tasks that say when they have begun, and its words to us.

A round begins with a line on stdin and ends with a line of nanoseconds. Where a worker is to be
killed from outside, its pid comes before, and the nanoseconds are when the application knew, by the
monotonic clock that all processes share. Workers are forked, so they have the pipe made here.
"""

from __future__ import annotations

import os
import struct
import sys
import time
from collections.abc import Callable
from typing import Any, NoReturn

HELLO = struct.Struct("=qq")  # of a task that has begun: its pid, and when
hellos, speak = os.pipe()
gate, key = os.pipe()


def say_hello() -> None:
    os.write(speak, HELLO.pack(os.getpid(), time.monotonic_ns()))


def spin() -> NoReturn:
    say_hello()
    while True:
        pass


def sleep() -> NoReturn:
    say_hello()
    while True:
        time.sleep(3600)


def spin_later() -> NoReturn:
    """With many others: nobody begins while the last are still on their way."""
    say_hello()
    os.read(gate, 1)
    while True:
        pass


def begun() -> tuple[int, int]:
    pid, at = HELLO.unpack(os.read(hellos, HELLO.size))
    return pid, at


def all_begun(count: int) -> None:
    for _ in range(count):
        begun()
    os.write(key, bytes(count))
    time.sleep(0.1)  # for all to be at it


def tell(*numbers: int) -> None:
    print(*numbers, flush=True)


def rounds(one: Callable[[], None]) -> None:
    # Not through sys.stdin: its lock would be held whenever a pool forks out of a thread.
    while os.read(sys.stdin.fileno(), 1):
        one()


def end_of(wait: Callable[[], Any], error: type[BaseException]) -> int:
    """When `wait` has raised. Anything else that it does ends the bench."""
    try:
        value = wait()
    except error:
        return time.monotonic_ns()
    raise AssertionError(f"{value!r} instead of {error}")
