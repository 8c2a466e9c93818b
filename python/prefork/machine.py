"""What this machine, or the container we are in, allows."""

from __future__ import annotations

import math
import os
import resource
from pathlib import Path


def usable_cpus() -> int:
    """How many CPUs this process may use (int, at least 1), by affinity and cgroup quota."""
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    quota = _cgroup_quota(Path("/sys/fs/cgroup"))
    return max(1, min(count or 1, quota if quota is not None else count or 1))


def _cgroup_quota(root: Path) -> int | None:
    """CPUs by quota, rounded up, of cgroup v2 or v1; None if there is no limit."""
    try:
        quota, period = (root / "cpu.max").read_text().split()
    except (OSError, ValueError):
        try:
            quota = (root / "cpu" / "cpu.cfs_quota_us").read_text()
            period = (root / "cpu" / "cpu.cfs_period_us").read_text()
        except OSError:
            return None
    try:
        share = int(quota) / int(period)
    except (ValueError, ZeroDivisionError):  # "max"
        return None
    return max(1, math.ceil(share)) if share > 0 else None


def spare_descriptors() -> int | None:
    """How many descriptors this process may still open (int), None where nobody knows."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        used = len(os.listdir("/dev/fd"))
    except OSError:
        return None
    return None if soft == resource.RLIM_INFINITY else soft - used


def resident_kib(pid: int) -> int:
    """The resident memory of a process in KiB (int), 0 if it is gone or cannot be asked."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except (OSError, IndexError, ValueError):
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE") // 1024
