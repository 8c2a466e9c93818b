"""The page on which tasks are counted: a file that all processes map, also those that a pool starts
afresh. So nobody's word is needed for what was done, and where.
"""

from __future__ import annotations

import contextlib
import fcntl
import mmap
import os
from collections.abc import Iterator
from pathlib import Path

SLOT = 8  # words: a line of cache for each worker
SLOTS = 16384  # of all workers that a measured process ever has
SIZE = 8 * SLOT * (SLOTS + 1)

USED, MET = 0, 1  # words of the first line: slots in use, tasks that have come to the gate
PID, COUNT = 0, 1  # words of a slot


class Board:
    """As one process has it. The gate is a pipe with a name, where tasks wait for each other."""

    def __init__(self, path: str) -> None:
        self._path = path
        with open(path, "r+b") as file:
            self._words = memoryview(mmap.mmap(file.fileno(), SIZE)).cast("q")
        self._gate = os.open(f"{path}.gate", os.O_RDWR)  # so that nobody waits for who opens it

    @staticmethod
    def make(path: Path) -> None:
        with open(path, "wb") as file:
            file.truncate(SIZE)
        os.mkfifo(f"{path}.gate")

    # ---- for the application ---------------------------------------------------------------------

    def workers(self) -> list[int]:
        """The pids of all that have ever run a task."""
        return [self._words[slot * SLOT + PID] for slot in range(1, self._words[USED] + 1)]

    def done(self) -> int:
        """How many tasks have been run."""
        words = self._words
        return sum(words[slot * SLOT + COUNT] for slot in range(1, words[USED] + 1))

    def at_the_gate(self) -> int:
        return self._words[MET]

    def open_gate(self, count: int) -> None:
        """Let so many tasks go."""
        self._words[MET] = 0
        os.write(self._gate, bytes(count))

    # ---- for tasks -------------------------------------------------------------------------------

    def take_slot(self) -> memoryview:
        """A worker's own count, from its first task on."""
        with self._locked():
            self._words[USED] += 1
            slot = self._words[USED] * SLOT
        self._words[slot + PID] = os.getpid()
        return self._words[slot + COUNT : slot + COUNT + 1]

    def come_to_the_gate(self) -> int:
        """How many are there now."""
        with self._locked():
            self._words[MET] += 1
            return self._words[MET]

    def wait_at_the_gate(self) -> None:
        os.read(self._gate, 1)

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        with open(self._path, "r+b") as file:  # whose close unlocks it
            fcntl.lockf(file, fcntl.LOCK_EX)
            yield
