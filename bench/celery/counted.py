"""Instructions instead of seconds: what a job costs the main process, counted by valgrind.

Of the same program as in `alone`, or of a worker over redis. The count is of user space alone, and
of a machine on which everything is slow; but it hardly differs from one run to the next, whatever
else runs.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import tasks
from measured import HERE, Broker, worker

FEW, MANY = 400, 2400  # jobs; what is left when one is taken from the other is jobs alone


def instructions(pool: str, directory: Path) -> float:
    """Of the main process, for a job, the pool alone."""
    few, many = (_alone(pool, jobs, directory) for jobs in (FEW, MANY))
    return (many - few) / (MANY - FEW)


def instructions_of_worker(pool: str, broker: Broker, directory: Path) -> float:
    """Of a worker's main process, for a task."""
    few, many = (_worker(pool, jobs, broker, directory) for jobs in (FEW, MANY))
    return (many - few) / (MANY - FEW)


def _alone(pool: str, jobs: int, directory: Path) -> int:
    program = subprocess.Popen(
        [*_under_valgrind(directory), sys.executable, str(HERE / "alone.py"), pool, str(jobs)],
        cwd=HERE,
        env=os.environ | {"PYTHONHASHSEED": "0"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    _, errors = program.communicate()
    if program.returncode != 0:
        raise RuntimeError(f"valgrind ended with {program.returncode}:\n{errors.decode()}")
    return _total(directory, program.pid)


def _worker(pool: str, jobs: int, broker: Broker, directory: Path) -> int:
    def submit() -> None:
        for _ in range(jobs):
            tasks.noop.delay()

    broker.prepare("counted", submit)
    broker.fill(pool, "counted")
    with worker(pool, broker, directory, under=_under_valgrind(directory)) as one:
        one.until_done(jobs)
    return _total(directory, one.program.pid)


def _under_valgrind(directory: Path) -> list[str]:
    return ["valgrind", "--quiet", "--tool=callgrind", f"--callgrind-out-file={directory}/%p.calls"]


def _total(directory: Path, pid: int) -> int:
    """Of a process that has ended."""
    found = re.search(r"^totals: (\d+)", (directory / f"{pid}.calls").read_text(), re.M)
    if found is None:
        raise RuntimeError("callgrind has counted nothing")
    return int(found[1])
