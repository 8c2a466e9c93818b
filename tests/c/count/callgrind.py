"""A program under callgrind: the instructions of each of its sides."""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
from pathlib import Path

SIDES = {"submit": "application_submits", "worker": "workers_work", "poll": "application_polls"}
NAMES = {function: side for side, function in SIDES.items()}

# valgrind 3.19 knows no pidfd; and which memcpy is chosen shall not depend on the processor.
ENVIRONMENT = {
    "PREFORK_NO_PIDFD": "1",
    "GLIBC_TUNABLES": "glibc.cpu.hwcaps=-AVX2,-AVX,-ERMS,-FSRM,-AVX_Fast_Unaligned_Load",
}


def instructions(command: list[str]) -> dict[str, int]:
    """Of user space, by side, with all that it called; but a worker that is at work while the
    application sleeps in its poll counts for itself alone."""
    with tempfile.TemporaryDirectory() as directory:
        calls, log = Path(directory) / "calls", Path(directory) / "log"
        files = (f"--callgrind-out-file={calls}", f"--log-file={log}")
        done = subprocess.run(
            ["valgrind", "--tool=callgrind", *files, *command],
            check=False,
            stdout=subprocess.DEVNULL,
            env=os.environ | ENVIRONMENT,
        )
        if done.returncode != 0:
            raise RuntimeError(f"{command} ended with {done.returncode}:\n{log.read_text()}")
        return _by_side(calls.read_text())


def _by_side(text: str) -> dict[str, int]:
    """A name stands there once, with a number, and then the number alone; the line after `calls=`
    ends with what those calls took."""
    names: dict[str, str] = {}
    taken = dict.fromkeys(SIDES, 0)
    caller = callee = ""
    lines = iter(text.splitlines())
    for line in lines:
        if named := re.match(r"(c?)fn=\((\d+)\)(?: ([^'.]*))?", line):
            is_callee, number, name = named.groups()
            names.setdefault(number, name or "")
            if is_callee:
                callee = names[number]
            else:
                caller = names[number]
        elif line.startswith("calls=") and callee in NAMES:
            cost = int(next(lines).split()[-1])
            taken[NAMES[callee]] += cost
            if caller == "epoll_wait":
                taken["poll"] -= cost
    if not all(taken.values()):
        raise RuntimeError(f"callgrind has not seen all sides: {taken}")
    return taken
