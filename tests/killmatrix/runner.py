"""Runs rows, each in a process and a session of its own, and finds what it has left behind.

Every process that comes of a row has a mark in its environment, by which it is found in /proc
whatever has become of its parents.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from helpers import alive, all_pids, eventually

from . import heard
from .row import Row

MARK, LIMIT = "KILLMATRIX_ROW", "KILLMATRIX_LIMIT"  # in the environment of a row's processes
GRACE = 5.0  # seconds beyond a row's limit until it is killed, and for what it left to end
PATIENCE = 8.0, 20.0  # of rows with another pool: usually, and where the row has much to do


@dataclass
class Result:
    """What came of a row: "" if it passed, else why not."""

    row: str
    pool: str
    why: str = ""
    details: str = ""
    seconds: float = 0.0
    said: dict[str, Any] = field(default_factory=dict)  # see heard.py

    @property
    def passed(self) -> bool:
        return not self.why


def marked(mark: str) -> set[int]:
    """The processes of a row that are alive."""
    sign = f"{MARK}={mark}".encode()
    found = set()
    for pid in all_pids():
        with contextlib.suppress(OSError):
            if sign in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0") and alive(pid):
                found.add(pid)
    return found


def end(pids: set[int]) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def run(
    row: Row, pool: str, python: str = sys.executable, strict: bool = True, path: str = ""
) -> Result:
    """Run one row. `path` comes first where modules are looked for."""
    directory = Path(tempfile.mkdtemp(prefix=f"killmatrix-{row.name}-"))
    mark = uuid.uuid4().hex
    limit = row.limit if strict else PATIENCE[row.limit > 30]
    home = str(Path(__file__).parent.parent)
    environment = {
        **os.environ,
        MARK: mark,
        LIMIT: str(limit),
        "PYTHONPATH": os.pathsep.join(filter(None, (path, home))),
    }
    # By files, not by pipes: who is left behind would keep a pipe open.
    with open(directory / "output", "wb") as output:
        process = subprocess.Popen(
            [python, "-m", "killmatrix.perform", row.name, pool, str(directory)],
            env=environment,
            start_new_session=True,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )
        try:
            process.wait(limit + (GRACE if strict else 0.5))
            hangs = False
        except subprocess.TimeoutExpired:
            hangs = True
    try:
        return judged(Result(row.name, pool), process, hangs, mark, directory, strict)
    finally:
        while left := marked(mark):
            end(left)
        process.wait()
        shutil.rmtree(directory, ignore_errors=True)


def judged(
    result: Result,
    process: subprocess.Popen[bytes],
    hangs: bool,
    mark: str,
    directory: Path,
    strict: bool,
) -> Result:
    report, stacks = directory / "report", directory / "stacks"
    result.details = (directory / "output").read_text(errors="replace")
    if stacks.exists():
        result.details += stacks.read_text(errors="replace")
    result.said = heard.read(directory)
    if report.exists():
        verdict = report.read_text()
        result.why = "" if verdict == "passed" else verdict
    elif hangs:
        result.why = "hangs"
    else:
        result.why = f"its process ended with {process.returncode}"
    if strict and result.passed:
        try:
            eventually(lambda: not marked(mark), within=GRACE)
        except AssertionError:
            names = ", ".join(sorted(command_of(pid) for pid in marked(mark)))
            result.why = f"processes are left: {names}"
    return result


def command_of(pid: int) -> str:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/comm").read_text().strip()
    return str(pid)


def arguments_of(pid: int) -> str:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    return ""


def run_all(
    rows: Iterable[Row],
    pool: str,
    heard: Callable[[Result], None],
    jobs: int = 2,
    **options: object,
) -> list[Result]:
    """Run rows, some at a time. The longest first would be quicker; in order is easier to read."""

    def one(row: Row) -> Result:
        begun = time.monotonic()
        result = run(row, pool, **options)  # type: ignore[arg-type]
        result.seconds = time.monotonic() - begun
        heard(result)
        return result

    with concurrent.futures.ThreadPoolExecutor(jobs) as threads:
        return list(threads.map(one, rows))
