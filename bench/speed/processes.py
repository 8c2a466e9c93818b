"""What processes have used, as the kernel tells."""

from __future__ import annotations

import contextlib
import os
import resource
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path


def _stat(pid: int | str) -> list[str]:
    """Of /proc/<pid>/stat, from the third field on."""
    return Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()


def descendants(root: int) -> list[int]:
    parents = {}
    for name in os.listdir("/proc"):
        with contextlib.suppress(OSError):
            if name.isdigit():
                parents[int(name)] = int(_stat(name)[1])
    found: list[int] = []
    fresh = {root}
    while fresh:
        fresh = {pid for pid, parent in parents.items() if parent in fresh}
        found += fresh
    return found


def children_cpu(pids: Iterable[int]) -> int:
    """Nanoseconds on processors. The clock of another process has this number; see
    clock_getcpuclockid(3)."""
    total = 0
    for pid in pids:
        with contextlib.suppress(OSError):  # it has ended
            total += time.clock_gettime_ns(~pid << 3 | 2)
    return total


def resident(pid: int) -> int:
    """Bytes of memory that a process has."""
    with contextlib.suppress(OSError):
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * resource.getpagesize()
    return 0


@dataclass(frozen=True)
class Activity:
    """Of several processes together, with all their threads."""

    ticks: int
    switches: int

    @staticmethod
    def of(pids: Iterable[int]) -> Activity:
        ticks = switches = 0
        for pid in pids:
            user, system = _stat(pid)[11:13]
            ticks += int(user) + int(system)
            for task in os.listdir(f"/proc/{pid}/task"):
                for line in Path(f"/proc/{pid}/task/{task}/status").read_text().splitlines():
                    if "_ctxt_switches:" in line:
                        switches += int(line.split()[1])
        return Activity(ticks, switches)
