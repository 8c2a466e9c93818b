"""prefork, and a bare fork of a Python process, as they are measured: `python sides.py SIDE`."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable
from typing import NoReturn

from tasks import all_begun, begun, end_of, rounds, say_hello, sleep, spin, spin_later, tell

from prefork import TaskPool, TimeLimitExceeded, WorkerLostError

initialized: list[int] = []


def initialize() -> None:
    initialized.append(os.getpid())


def spin_deaf() -> NoReturn:
    """Cannot be asked for its stacks, so its time is up before its worker answers."""
    say_hello()
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    while True:
        pass


def full_strength(pool: TaskPool) -> None:
    while any(worker.state != "idle" for worker in pool.workers):
        pool.poll(0.01)


def loss() -> None:
    with TaskPool(2) as pool:

        def one() -> None:
            full_strength(pool)
            task = pool.apply_async(spin)
            tell(begun()[0])
            tell(end_of(task.get, WorkerLostError))

        rounds(one)


def overrun(function: Callable[[], NoReturn], seconds: float) -> None:
    with TaskPool(2) as pool:

        def one() -> None:
            full_strength(pool)
            task = pool.apply_async(function, timeout=seconds)
            at = end_of(task.get, TimeLimitExceeded)
            tell(at - begun()[1] - int(seconds * 1e9))

        rounds(one)


def strength() -> None:
    """The only worker is killed while another task waits, which its replacement answers."""
    with TaskPool(1, putlocks=False, initializer=initialize) as pool:

        def one() -> None:
            full_strength(pool)
            lost = pool.apply_async(spin)
            pid, _ = begun()
            answer = pool.apply_async(os.getpid)
            tell(pid)
            replacement = answer.get()
            at = time.monotonic_ns()
            assert isinstance(lost.exception(), WorkerLostError)
            assert replacement != pid
            tell(at)

        rounds(one)


def bare_fork() -> None:
    def one() -> None:
        at = time.monotonic_ns()
        pid = os.fork()
        if pid == 0:
            initialize()
            say_hello()
            os._exit(0)
        begun()
        tell(time.monotonic_ns() - at)
        os.waitpid(pid, 0)

    rounds(one)


def bare_family(function: Callable[[], NoReturn], count: int) -> None:
    """The same loop as bare.c's, over forks of a process that is as large as ours are."""

    def one() -> None:
        pids = []
        for _ in range(count):
            pids.append(os.fork())
            if pids[-1] == 0:
                function()
        all_begun(count)
        at = time.monotonic_ns()
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        for pid in pids:
            os.waitpid(pid, 0)
        tell(time.monotonic_ns() - at)

    rounds(one)


def family(function: Callable[[], NoReturn], count: int) -> None:
    """An application with so many workers in a call. It is killed, so this is for one round."""
    with TaskPool(count) as pool:
        full_strength(pool)
        for _ in range(count):
            pool.apply_async(function)
        all_begun(count)
        tell(count)
        signal.pause()


SIDES: dict[str, Callable[[str], None]] = {
    "loss": lambda _: loss(),
    "overrun": lambda ms: overrun(spin, int(ms) / 1000),
    "overrun-deaf": lambda ms: overrun(spin_deaf, int(ms) / 1000),
    "strength": lambda _: strength(),
    "fork": lambda _: bare_fork(),
    "forks-spin": lambda count: bare_family(spin_later, int(count)),
    "forks-sleep": lambda count: bare_family(sleep, int(count)),
    "family-spin": lambda count: family(spin_later, int(count)),
    "family-sleep": lambda count: family(sleep, int(count)),
}

if __name__ == "__main__":
    SIDES[sys.argv[1]](sys.argv[-1])
