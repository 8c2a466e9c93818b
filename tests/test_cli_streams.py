"""`prefork map` and Ctrl-C, the streams it reads and writes, and a reader that goes away."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from command import COMMAND, LIMIT, launch, records, run


@contextlib.contextmanager
def begun(
    here: Path, inputs: Sequence[str] = "abc", function: str = "waits", *options: str
) -> Iterator[Any]:
    """A run of one worker that is inside of its call for "a", by default the first of three."""
    for name in ("a.begun", "a.go"):
        os.mkfifo(here / name)
    with launch(here, f"functions:{function}", "--workers", "1", *options, *inputs) as process:
        (here / "a.begun").read_text()
        yield process


def test_first_interrupt_drains(here: Path) -> None:
    with begun(here) as process:
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does: everybody gets it
        assert process.stderr is not None
        assert "interrupted" in process.stderr.readline()
        (here / "a.go").write_text("went on")
        out, err = process.communicate(timeout=LIMIT)
    assert [json.loads(line) for line in out.splitlines()] == [{"input": "a", "result": "went on"}]
    assert process.returncode == 1, err
    assert "1 done, 0 failed, 2 left out" in err


def test_after_an_interrupt_no_lost_call_is_made_again(here: Path) -> None:
    with begun(here, "a", "waits_and_dies") as process:
        process.send_signal(signal.SIGINT)
        assert "interrupted" in process.stderr.readline()
        (here / "a.go").write_text("")
        out, err = process.communicate(timeout=LIMIT)
    assert process.returncode == 1
    (record,) = map(json.loads, out.splitlines())
    assert (record["error"]["signal"], record["error"]["attempts"]) == (signal.SIGKILL, 1)
    assert "0 done, 1 failed, 0 retried" in err


def test_what_is_left_out_is_counted_beyond_the_window(here: Path) -> None:
    with begun(here, ["a", *map(str, range(500))]) as process:
        process.send_signal(signal.SIGINT)
        process.stderr.readline()
        (here / "a.go").write_text("went on")
        _, err = process.communicate(timeout=LIMIT)
    assert "1 done, 0 failed, 500 left out, 0 retried" in err


def test_input_that_was_not_read_is_left_out_too(here: Path) -> None:
    for name in ("a.begun", "a.go"):
        os.mkfifo(here / name)
    with launch(here, "functions:waits", "--workers", "1") as process:
        process.stdin.write("a\nb\n")
        process.stdin.flush()
        (here / "a.begun").read_text()
        process.send_signal(signal.SIGINT)
        process.stderr.readline()
        (here / "a.go").write_text("went on")
        assert process.wait(LIMIT) == 1
        assert "1 done, 0 failed, 1 and the unread input left out" in process.stderr.read()


def test_interrupt_while_waiting_for_input(here: Path) -> None:
    with launch(here, "functions:upper") as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write("a\n")
        process.stdin.flush()
        assert json.loads(process.stdout.readline())["result"] == "A"  # needs no second line
        process.send_signal(signal.SIGINT)
        assert process.wait(LIMIT) == 1


def test_second_interrupt_ends_it(here: Path) -> None:
    with begun(here) as process:
        process.send_signal(signal.SIGINT)
        while process.poll() is None:
            try:  # signals of one kind merge, so more than one may be needed
                process.send_signal(signal.SIGINT)
                process.wait(0.2)
            except subprocess.TimeoutExpired:
                continue
        assert process.returncode == 130


def test_reader_gone(here: Path) -> None:
    lines = here / "many"
    lines.write_text("".join(f"{i}\n" for i in range(100_000)))
    with launch(here, "functions:fails", "--lines", "many") as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.wait(LIMIT) == 0
        assert process.stderr.read() == ""


def test_reader_gone_is_exit_0_whatever_failed_and_the_help_says_so(here: Path) -> None:
    with begun(here, ["bad", "a"], "fails_or_waits") as process:
        assert "it is bad" in process.stdout.readline()
        process.stdout.close()
        assert process.wait(LIMIT) == 0
        assert process.stderr.read() == ""
    (zero, _) = run(here, "--help").stdout.split("exit status: 0 ")[1].split("; 1 ")
    assert "every input was done, or the reader of stdout has gone" in zero
    assert "whatever has failed" in zero


def test_reader_gone_while_nothing_is_printed(here: Path) -> None:
    with begun(here) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.wait(LIMIT) == 0
        assert process.stderr.read() == ""


def test_input_is_read_no_further_than_the_window(here: Path) -> None:
    for name in ("a.begun", "a.go"):
        os.mkfifo(here / name)
    with launch(here, "functions:waits", "--workers", "1") as process:
        assert process.stdin is not None
        process.stdin.write("a\n")
        process.stdin.flush()
        (here / "a.begun").read_text()
        fd = process.stdin.fileno()
        os.set_blocking(fd, False)
        written = 0
        with contextlib.suppress(BlockingIOError):  # the pipe fills, for nobody empties it
            while written < 16 << 20:
                written += os.write(fd, b"x" * 4095 + b"\n")
        process.kill()
    assert written < 4 << 20


def test_bar_on_a_terminal(here: Path) -> None:
    ours, theirs = os.openpty()
    command = [*COMMAND, "functions:shout", "a", "b"]
    done = subprocess.run(
        command, cwd=here, stdout=subprocess.PIPE, stderr=theirs, timeout=LIMIT,
        env={**os.environ, "TERM": "xterm"},
    )  # fmt: skip
    os.close(theirs)
    seen = b""
    try:
        while data := os.read(ours, 4096):
            seen += data
    except OSError:
        pass
    os.close(ours)
    assert len(done.stdout.splitlines()) == 2
    assert b"2/2" in seen
    assert b"2 done" in seen


def test_what_an_import_prints_is_no_record(here: Path) -> None:
    (here / "loud.py").write_text("print('imported')\ndef same(x='x'): return x\n")
    for more in ((), ("--initializer", "loud:same")):
        done = run(here, "loud:same", *more, "x")
        assert records(done) == [{"input": "x", "result": "x"}]
        assert done.stderr.startswith("imported\n")


def test_stdout_that_is_closed(here: Path) -> None:
    command = ["sh", "-c", 'exec "$@" >&-', "sh", *COMMAND, "functions:shout", "a"]
    done = subprocess.run(command, cwd=here, stderr=subprocess.PIPE, text=True, timeout=LIMIT)
    assert done.returncode == 2
    assert done.stderr == "prefork: stdout is closed, and records go there\n"


def test_stdin_that_is_closed(here: Path) -> None:
    command = ["sh", "-c", 'exec "$@" <&-', "sh", *COMMAND, "functions:shout"]
    done = subprocess.run(command, cwd=here, stderr=subprocess.PIPE, text=True, timeout=LIMIT)
    assert done.returncode == 2
    assert done.stderr == "prefork: stdin is closed, and inputs are read from there\n"


@pytest.mark.parametrize("count", [1, 5000])
def test_stdout_that_is_full(here: Path, count: int) -> None:
    (here / "lines").write_text("x\n" * count)
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [*COMMAND, "functions:shout", "--lines", "lines"],
            cwd=here, stdout=full, stderr=subprocess.PIPE, text=True, timeout=LIMIT,
        )  # fmt: skip
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith("prefork: records cannot be written: ")
    assert "No space left" in line
