"""What workers run: tasks that keep books, and deeds that no pool deserves."""

from __future__ import annotations

import os
import signal
from typing import Any

from helpers import hold, note


def signed_square(ledger: str, number: int) -> int:
    """A task that nothing happens to: it signs the ledger, once per call."""
    note(ledger, str(number))
    return number * number


def echo(what: Any) -> Any:
    return what


def length(what: Any) -> int:
    return len(what)


def own_pid() -> int:
    return os.getpid()


def give(make: Any, *args: Any) -> Any:
    return make(*args)


# ---- ends ----------------------------------------------------------------------------------------


def end_by_signal(number: int) -> None:
    signal.signal(number, signal.SIG_DFL) if number != signal.SIGKILL else None
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [number])
    os.kill(os.getpid(), number)
    signal.pause()


def read_nothing() -> None:
    import ctypes

    ctypes.string_at(0)


def abort() -> None:
    os.abort()


def exit_at_once(code: int) -> None:
    os._exit(code)


def leave(kind: str) -> None:
    import builtins

    raise getattr(builtins, kind)("of a task")


def overflow_the_stack() -> Any:
    """In C, not in Python: the stack may grow no more, and calls go to and fro between the two."""
    import resource
    import sys

    resource.setrlimit(resource.RLIMIT_STACK, (1 << 14, resource.RLIM_INFINITY))
    sys.setrecursionlimit(1_000_000)
    return nest(9000)


def nest(depth: int) -> int:
    return max([depth], key=lambda _: nest(depth - 1)) if depth else 0


def allocate_beyond_the_limit() -> Any:
    import resource

    pages = int(open("/proc/self/statm").read().split()[0])  # noqa: SIM115
    limit = pages * resource.getpagesize() + (64 << 20)
    resource.setrlimit(resource.RLIMIT_AS, (limit, resource.RLIM_INFINITY))
    try:
        return bytearray(1 << 30)
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY,) * 2)


def eat() -> None:
    hoard = []
    while True:
        hoard.append(bytearray(1 << 20))


def count_and_die(counter: str) -> None:
    with open(counter, "w") as file:
        file.write("oom_kill 1\n")
    os.kill(os.getpid(), signal.SIGKILL)


def burn_until_the_limit() -> None:
    import resource

    resource.setrlimit(resource.RLIMIT_CPU, (1, 2))
    while True:
        pass


def hold_here(path: str, result: Any = None) -> Any:
    return hold(path, result)


def large_result(path: str, size: int) -> bytes:
    hold(path)
    return b"x" * size


def exit_from_a_thread(size: int) -> bytes:
    import threading

    threading.Timer(0.0, os._exit, (5,)).start()
    return b"x" * size
