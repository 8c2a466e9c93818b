"""`prefork inspect` and the streams it writes to, and its arguments."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from command import LIMIT

INSPECT = [sys.executable, "-m", "prefork", "inspect"]


def inspect(*args, **streams):
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **streams}
    command = [*INSPECT, str(os.getpid()), *args]
    return subprocess.run(command, text=True, timeout=LIMIT, check=False, **streams)


@pytest.mark.parametrize("args", [(), ("--json",), ("--events", "0")], ids=" ".join)
def test_a_reader_that_has_gone(pool, args):
    one = pool(1)
    one.apply(abs, (1,))
    reader, writer = os.pipe()
    os.close(reader)
    try:
        shown = inspect(*args, stdout=writer)
    finally:
        os.close(writer)
    assert (shown.returncode, shown.stderr) == (0, "")


@pytest.mark.parametrize("args", [(), ("--json",)], ids=" ".join)
def test_stdout_that_is_full(pool, args):
    one = pool(1)
    one.apply(abs, (1,))
    with open("/dev/full", "w") as full:
        shown = inspect(*args, stdout=full)
    assert shown.returncode == 2
    (line,) = shown.stderr.splitlines()
    assert line.startswith("prefork: it cannot be shown: ")
    assert "No space left" in line


def test_stdout_that_is_closed(pool):
    one = pool(1)
    one.apply(abs, (1,))
    command = ["sh", "-c", 'exec "$@" >&-', "sh", *INSPECT, str(os.getpid())]
    shown = subprocess.run(command, stderr=subprocess.PIPE, text=True, timeout=LIMIT, check=False)
    assert shown.returncode == 2
    assert shown.stderr == "prefork: stdout is closed, and there is nowhere else to show it\n"


@pytest.mark.parametrize("events", ["-1", "five", ""])
def test_events_that_cannot_be(pool, events):
    one = pool(1)
    one.apply(abs, (1,))
    shown = inspect(f"--events={events}")
    assert (shown.returncode, shown.stdout) == (2, "")
    assert "--events" in shown.stderr
