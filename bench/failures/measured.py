"""One round of each measured process in turn, from outside: told to begin, killed, and timed."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

HERE = Path(__file__).resolve().parent
SETTLE = 0.005  # seconds for whoever is about to wait, to wait

Round = Callable[[], int]  #: one round; its nanoseconds


class Side:
    """A process that does a round for each line it is given."""

    def __init__(self, command: Sequence[str]) -> None:
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def number(self) -> int:
        assert self.process.stdout is not None
        return int(self.process.stdout.readline())

    def begin(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    def timed(self) -> int:
        """A round that is timed where it happens; nanoseconds."""
        self.begin()
        return self.number()

    def killed(self) -> int:
        """A round whose worker we kill; nanoseconds until the application knows."""
        self.begin()
        pid = self.number()
        time.sleep(SETTLE)
        at = time.monotonic_ns()
        os.kill(pid, signal.SIGKILL)
        return self.number() - at

    def close(self) -> None:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        self.process.wait(30)
        self.process.stdout.close()


@contextlib.contextmanager
def _side(command: Sequence[str]) -> Iterator[Side]:
    found = Side(command)
    try:
        yield found
        found.close()
    finally:
        if found.process.poll() is None:
            found.process.kill()
            found.process.wait()


@contextlib.contextmanager
def timed(*command: str) -> Iterator[Round]:
    with _side(command) as found:
        yield found.timed


@contextlib.contextmanager
def killed(*command: str) -> Iterator[Round]:
    with _side(command) as found:
        yield found.killed


def members(group: int) -> list[int]:
    """Every process of a process group but its leader."""
    found = []
    for name in os.listdir("/proc"):
        with contextlib.suppress(OSError):
            if name.isdigit() and int(name) != group and os.getpgid(int(name)) == group:
                found.append(int(name))
    return found


@contextlib.contextmanager
def family_killed(*command: str, least: int) -> Iterator[Round]:
    """For each round an application of its own."""
    yield lambda: _kill_family(command, least)


def _kill_family(command: Sequence[str], least: int) -> int:
    """An application is killed with all its workers in a call; nanoseconds until nobody of its
    group is left, its zygotes included."""
    # Not in a session of its own: the kernel would share the processors out by sessions.
    application = subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, preexec_fn=os.setpgrp
    )
    try:
        assert application.stdout is not None
        application.stdout.readline()
        application.stdout.close()
        time.sleep(SETTLE)
        watches = [os.pidfd_open(pid) for pid in members(application.pid)]
        assert len(watches) >= least
        at = time.monotonic_ns()
        application.kill()
        for watch in watches:  # in turn, as one waits for children in turn
            select.select([watch], [], [])
            os.close(watch)
        return time.monotonic_ns() - at
    finally:
        application.kill()
        application.wait()
