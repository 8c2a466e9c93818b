"""What the command says of itself, to a stdout that does not take it."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence

import pytest

from command import COMMAND, LIMIT

HELP = [("--help",), ("--version",), ("map", "--help"), ("inspect", "--help")]


def ask(args: Sequence[str], stdout: int) -> subprocess.CompletedProcess[str]:
    command = [*COMMAND[:-1], *args]
    buffered = {name: text for name, text in os.environ.items() if name != "PYTHONUNBUFFERED"}
    return subprocess.run(
        command, env=buffered, stdout=stdout, stderr=subprocess.PIPE, text=True, timeout=LIMIT
    )


@pytest.mark.parametrize("args", HELP, ids=" ".join)
def test_a_reader_that_has_gone(args: Sequence[str]) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    try:
        done = ask(args, writer)
    finally:
        os.close(writer)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("args", HELP, ids=" ".join)
def test_stdout_that_is_full(args: Sequence[str]) -> None:
    with open("/dev/full", "w") as full:
        done = ask(args, full.fileno())
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith("prefork: it cannot be shown: ")
