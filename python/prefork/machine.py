"""What this machine, or the container we are in, allows."""

from __future__ import annotations

import math
import os
import resource
from collections.abc import Iterator
from time import monotonic

ENCODING = "utf-8"  # of the kernel's files
OOM_KILL_LASTS = 1.0  # seconds in which who was killed is to be heard of


def _read(*path: str | os.PathLike[str]) -> str:
    """A small file of the kernel's, whole. Raises OSError. Without pathlib, of which no child of
    ours shall have the memory."""
    with open(os.path.join(*path), encoding=ENCODING) as file:
        return file.read()


def usable_cpus() -> int:
    """How many CPUs this process may use (int, at least 1), by affinity and cgroup quota."""
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    quota = _cgroup_quota("/sys/fs/cgroup")
    return max(1, min(count or 1, quota if quota is not None else count or 1))


def _cgroup_quota(root: str | os.PathLike[str]) -> int | None:
    """CPUs by quota, rounded up, of cgroup v2 or v1; None if there is no limit."""
    try:
        quota, period = _read(root, "cpu.max").split()
    except (OSError, ValueError):
        try:
            quota = _read(root, "cpu/cpu.cfs_quota_us")
            period = _read(root, "cpu/cpu.cfs_period_us")
        except OSError:
            return None
    try:
        share = int(quota) / int(period)
    except (ValueError, ZeroDivisionError):  # "max"
        return None
    return max(1, math.ceil(share)) if share > 0 else None


class OomKills:
    """The kernel's count of processes that it has killed for want of memory: of our cgroup (v2 or
    v1), or, where that has none, of the whole machine. It has no times, and one may have been of a
    program that a task has started: what nobody claims is forgotten soon after it was seen."""

    def __init__(self, root: str | os.PathLike[str] = "/") -> None:
        self._root = root
        self._sources = list(_oom_counters(root))
        self._seen = self._count()
        self._unclaimed = 0
        self._at = 0.0  # when the last of them was seen

    def look(self) -> None:
        """To be called whenever a worker comes or goes."""
        count, now = self._count(), monotonic()
        if now - self._at > OOM_KILL_LASTS:
            self._unclaimed = 0
        if count > self._seen:
            self._unclaimed += count - self._seen
            self._seen, self._at = count, now

    def claim(self) -> bool:
        """Whether there is one that nobody has claimed; now it is claimed."""
        self.look()
        if not self._unclaimed:
            return False
        self._unclaimed -= 1
        return True

    def _count(self) -> int:
        for path in self._sources:
            try:
                lines = _read(self._root, path).splitlines()
            except OSError:
                continue
            for name, _, value in (line.partition(" ") for line in lines):
                if name == "oom_kill":
                    return int(value)
        return 0


def _oom_counters(root: str | os.PathLike[str]) -> Iterator[str]:
    try:
        lines = _read(root, "proc/self/cgroup").splitlines()
    except OSError:
        lines = []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        path = path.lstrip("/")
        if controllers == "":
            yield f"sys/fs/cgroup/{path}/memory.events"
        elif "memory" in controllers.split(","):
            # In a container its own group is often mounted as the root.
            yield f"sys/fs/cgroup/memory/{path}/memory.oom_control"
            yield "sys/fs/cgroup/memory/memory.oom_control"
    yield "proc/vmstat"


def spare_descriptors() -> int | None:
    """How many descriptors this process may still open (int), None where nobody knows."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        used = len(os.listdir("/dev/fd"))
    except OSError:
        return None
    return None if soft == resource.RLIM_INFINITY else soft - used


def thread_count(but: str | None = None) -> int | None:
    """How many threads this process has (int), whoever started them, without those that the kernel
    knows by the name `but`; None where nobody knows."""
    try:
        threads = os.listdir("/proc/self/task")
    except OSError:
        return None
    if but is None:
        return len(threads)
    names = [_thread_name(tid) for tid in threads]
    return sum(name not in (None, but) for name in names)


def _thread_name(tid: str) -> str | None:
    """What the kernel calls a thread of ours; None if it has ended meanwhile."""
    try:
        return _read(f"/proc/self/task/{tid}/comm").rstrip("\n")
    except OSError:
        return None


def resident_kib(pid: int) -> int:
    """The resident memory of a process in KiB (int), 0 if it is gone or cannot be asked."""
    try:
        pages = int(_read(f"/proc/{pid}/statm").split()[1])
    except (OSError, IndexError, ValueError):
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE") // 1024
