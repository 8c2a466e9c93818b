"""How a row becomes a user that the limit of processes counts, and how that limit is used up."""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import signal
from pathlib import Path

NOBODY = 40_000 + os.getpid() % 20_000  # whom nothing else belongs to
CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH = 1, 2


def become_nobody(room: int, directory: Path) -> None:
    """From now on at most `room` processes and threads may be ours. As root we become a user of our
    own first, who may read all the same; otherwise our user's others are counted, too."""
    used = 0
    if os.geteuid() == 0:
        libc = ctypes.CDLL(None, use_errno=True)
        os.chown(directory, NOBODY, NOBODY)
        libc.prctl(8, 1, 0, 0, 0)  # PR_SET_KEEPCAPS
        os.setresgid(NOBODY, NOBODY, NOBODY)
        os.setresuid(NOBODY, NOBODY, NOBODY)
        kept = 1 << CAP_DAC_OVERRIDE | 1 << CAP_DAC_READ_SEARCH
        header = (ctypes.c_uint32 * 2)(0x20080522, 0)
        data = (ctypes.c_uint32 * 6)(kept, kept, 0, 0, 0, 0)
        if libc.capset(header, data) != 0:
            raise OSError(ctypes.get_errno(), "capset")
        libc.prctl(4, 1, 0, 0, 0)  # PR_SET_DUMPABLE
    else:
        for path in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if path.stat().st_uid == os.getuid():
                    used += len(os.listdir(path / "task"))
    resource.setrlimit(resource.RLIMIT_NPROC, (used + room, used + room))


class Crowd:
    """A process that forks as often as it may, over and over, until it is told to leave."""

    def __init__(self, path: str) -> None:
        self.go, go = os.pipe()
        self._go = go
        self._full = path
        self._pid = os.fork()
        if self._pid == 0:
            try:
                self._crowd()
            finally:
                os._exit(0)
        os.close(self.go)

    def _crowd(self) -> None:
        for number in range(1, 32):
            with contextlib.suppress(OSError):
                signal.signal(number, signal.SIG_DFL)
        os.setpgrp()
        os.close(self._go)
        os.read(self.go, 1)
        parent = os.getppid()
        os.set_blocking(self.go, False)
        while os.getppid() == parent:
            with contextlib.suppress(BlockingIOError):
                if os.read(self.go, 1) == b"":
                    os.killpg(0, signal.SIGKILL)
            try:
                if os.fork() == 0:
                    while True:
                        signal.pause()
            except BlockingIOError:
                if not os.path.exists(self._full):
                    open(self._full, "w").close()
                os.sched_yield()
        os.killpg(0, signal.SIGKILL)

    def fill(self) -> None:
        """Let it begin, and wait until there is no room any more."""
        os.write(self._go, b"x")
        while not os.path.exists(self._full):
            os.sched_yield()

    def leave(self) -> None:
        os.close(self._go)
        os.waitpid(self._pid, 0)
