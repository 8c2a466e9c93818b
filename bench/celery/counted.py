"""Instructions instead of seconds: what a job costs the main process, counted by valgrind.

The same program as in `alone`. The count is of user space alone, and of a machine on which
everything is slow; but it hardly differs from one run to the next, whatever else runs.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from measured import HERE

FEW, MANY = 400, 2400  # jobs; what is left when one is taken from the other is jobs alone


def instructions(pool: str, directory: Path) -> float:
    """Of the main process, for a job."""
    few, many = (_total(pool, jobs, directory) for jobs in (FEW, MANY))
    return (many - few) / (MANY - FEW)


def _total(pool: str, jobs: int, directory: Path) -> int:
    counts = str(directory / f"{pool}.{jobs}")
    command = ["valgrind", "--tool=callgrind", f"--callgrind-out-file={counts}.%p"]
    program = subprocess.Popen(
        [*command, sys.executable, str(HERE / "alone.py"), pool, str(jobs)],
        cwd=HERE,
        env=os.environ | {"PYTHONHASHSEED": "0"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    _, errors = program.communicate()
    if program.returncode != 0:
        raise RuntimeError(f"valgrind ended with {program.returncode}:\n{errors.decode()}")
    found = re.search(r"^totals: (\d+)", Path(f"{counts}.{program.pid}").read_text(), re.M)
    if found is None:
        raise RuntimeError(f"callgrind has counted nothing:\n{errors.decode()}")
    return int(found[1])
