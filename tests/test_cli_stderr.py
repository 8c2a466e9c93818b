"""The command whose stderr takes nothing: it does and returns what it would otherwise."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from command import COMMAND, LIMIT, records

Done = subprocess.CompletedProcess[str]
Run = Callable[..., Done]

LOUD = """
import sys
print("imported")
print("imported", file=sys.stderr)

def same(text="begun"):
    print("noise" * 2000, flush=True)
    print("noise" * 2000, file=sys.stderr, flush=True)
    if text == "bad":
        raise ValueError
    return text
"""


@pytest.fixture(params=["closed", "full", "unread"])
def deaf(request: pytest.FixtureRequest, here: Path) -> Run:
    """Runs `prefork` with a stderr that takes nothing."""
    (here / "loud.py").write_text(LOUD)

    def run_deaf(*args: str) -> Done:
        command = [*COMMAND[:-1], *args]
        if request.param == "closed":
            command = ["sh", "-c", 'exec "$@" 2>&-', "sh", *command]
        reader, writer = os.pipe()
        os.close(reader)
        try:
            with open("/dev/full", "w") as full:
                return subprocess.run(
                    command, cwd=here, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                    stderr=writer if request.param == "unread" else full,
                    text=True, timeout=LIMIT, check=False,
                )  # fmt: skip
        finally:
            os.close(writer)

    return run_deaf


@pytest.mark.parametrize("more", [(), ("--initializer", "loud:same"), ("--unordered",)])
def test_records_come_out(deaf: Run, more: Sequence[str]) -> None:
    done = deaf("map", "loud:same", *more, "x")
    assert records(done) == [{"input": "x", "result": "x"}]
    assert done.returncode == 0


def test_what_fails_is_still_exit_1(deaf: Run) -> None:
    done = deaf("map", "loud:same", "bad", "x")
    assert [record.get("result") for record in records(done)] == [None, "x"]
    assert records(done)[0]["error"]["type"] == "ValueError"
    assert done.returncode == 1


def test_lines_of_a_file(deaf: Run, here: Path) -> None:
    (here / "lines").write_text("x\ny\n")
    done = deaf("map", "loud:same", "--lines", "lines")
    assert [json.loads(line)["result"] for line in done.stdout.splitlines()] == ["x", "y"]
    assert done.returncode == 0


@pytest.mark.parametrize(
    ("args", "status"),
    [
        (("map", "--workers", "0", "loud:same", "x"), 2),
        (("map", "loud:missing", "x"), 2),
        (("map", "functions:upper", "--initializer", "functions:breaks", "x"), 3),
        (("inspect",), 2),
        (("inspect", str(1 << 40)), 2),
        (("missing",), 2),
        ((), 2),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else str(value),
)
def test_no_word_of_an_error_lands_in_stdout(deaf: Run, args: Sequence[str], status: int) -> None:
    done = deaf(*args)
    assert (done.returncode, done.stdout) == (status, "")
