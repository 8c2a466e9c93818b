"""The contract of `prefork map`, row by row, through the command itself."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from helpers import launched

COMMAND = [sys.executable, "-m", "prefork", "map"]
LIMIT = 40  # seconds, for anything

FUNCTIONS = '''
import os, sys

def upper(text):
    print("noise")
    return text.upper()

def fails(text):
    if text.startswith("bad"):
        raise ValueError("it is " + text)
    if text.startswith("quit"):
        sys.exit(3)
    return text

def dies(text):
    if text == "kill":
        os.kill(os.getpid(), 9)
    if text == "exit":
        os._exit(7)
    return text

def dies_once(path):
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return "second time"
    os.kill(os.getpid(), 9)

def waits(path):
    """Say that it runs, then wait for a word. Both are named pipes."""
    with open(path + ".begun", "w") as begun:
        begun.write("x")
    with open(path + ".go") as go:
        return go.read()

def pid(text):
    return os.getpid()

def loops(text):
    while True:
        pass

def a_set(text):
    return {1}

def not_a_number(text):
    return float("nan")

shout = lambda text: text + "!"
number = 5
where = None

def set_up():
    global where
    where = "set up"

def says_where(text):
    return where

def breaks():
    raise RuntimeError("no database")
'''


@pytest.fixture
def here(tmp_path: Path) -> Path:
    (tmp_path / "functions.py").write_text(FUNCTIONS)
    return tmp_path


def run(here: Path, *args: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    command = [*COMMAND, *args]
    return subprocess.run(
        command, cwd=here, input=stdin, capture_output=True, text=True, timeout=LIMIT
    )


def records(done: subprocess.CompletedProcess[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.parametrize("func", ["functions:upper", "functions.py:upper"])
def test_records_in_order_and_nothing_else_on_stdout(here: Path, func: str) -> None:
    done = run(here, func, "a", "b", "c")
    assert done.returncode == 0, done.stderr
    assert records(done) == [{"input": x, "result": x.upper()} for x in "abc"]
    assert "prefork: 3 done, 0 failed, 0 retried, 0 workers replaced" in done.stderr
    assert "tasks/s" in done.stderr
    assert "noise" in done.stderr


def test_lines_of_stdin_and_of_a_file(here: Path) -> None:
    (here / "lines").write_text("x\n\nlast without an end")
    expected = [{"input": x, "result": x + "!"} for x in ("x", "", "last without an end")]
    assert records(run(here, "functions:shout", "--lines", "lines")) == expected
    given = run(here, "functions:shout", stdin="x\n\nlast without an end")
    assert records(given) == expected
    assert given.returncode == 0


def test_no_input_at_all(here: Path) -> None:
    done = run(here, "functions:upper")
    assert (done.returncode, done.stdout) == (0, "")


def test_globs_are_expanded(here: Path) -> None:
    for name in ("2.txt", "1.txt"):
        (here / name).touch()
    done = run(here, "functions:upper", "*.txt", "*.none")
    assert [record["input"] for record in records(done)] == ["1.txt", "2.txt", "*.none"]


def test_bytes_that_are_no_text_survive(here: Path) -> None:
    command = [*COMMAND, "functions:shout"]
    done = subprocess.run(command, cwd=here, input=b"\xff\n", capture_output=True, timeout=LIMIT)
    assert os.fsencode(json.loads(done.stdout)["input"]) == b"\xff"


def test_unordered_has_every_record_once(here: Path) -> None:
    done = run(here, "functions:upper", "--unordered", stdin="".join(f"{i}\n" for i in range(500)))
    assert sorted(int(record["input"]) for record in records(done)) == list(range(500))


def test_what_fails_is_a_record_and_exit_1(here: Path) -> None:
    done = run(here, "functions:fails", "good", "bad", "quit")
    assert done.returncode == 1
    good, bad, left = records(done)
    assert good == {"input": "good", "result": "good"}
    pid = bad["error"].pop("pid")
    assert isinstance(pid, int)
    assert bad["error"] == {
        "type": "ValueError", "message": "it is bad",
        "signal": None, "exitcode": None, "attempts": 1,
    }  # fmt: skip
    assert left["error"]["type"] == "SystemExit"
    assert "1 done, 2 failed" in done.stderr


@pytest.mark.parametrize("func", ["a_set", "not_a_number"])
def test_a_result_that_json_cannot_hold(here: Path, func: str) -> None:
    done = run(here, f"functions:{func}", "x")
    assert done.returncode == 1
    assert records(done)[0]["error"]["type"] in ("TypeError", "ValueError")
    shown = run(here, f"functions:{func}", "--repr", "x")
    assert shown.returncode == 0
    assert records(shown)[0]["result"] in ("{1}", "nan")


def test_lost_for_good(here: Path) -> None:
    done = run(here, "functions:dies", "--retries", "2", "a", "kill", "exit", "b")
    assert done.returncode == 1
    a, kill, left, b = records(done)
    assert (a["result"], b["result"]) == ("a", "b")
    assert isinstance(kill["error"]["pid"], int)
    assert kill["error"]["signal"] == signal.SIGKILL
    assert "functions:dies" in kill["error"]["message"]
    assert left["error"]["exitcode"] == 7
    assert kill["error"]["attempts"] == left["error"]["attempts"] == 3
    assert "2 done, 2 failed, 4 retried" in done.stderr


def test_lost_once_is_retried(here: Path) -> None:
    done = run(here, "functions:dies_once", str(here / "mark"))
    assert records(done)[0]["result"] == "second time"
    assert done.returncode == 0
    assert "1 done, 0 failed, 1 retried" in done.stderr
    assert run(here, "functions:dies_once", "--retries", "0", str(here / "2")).returncode == 1


def test_timeout(here: Path) -> None:
    done = run(here, "functions:loops", "--timeout", "0.2", "x")
    assert done.returncode == 1
    error = records(done)[0]["error"]
    assert (error["type"], error["attempts"]) == ("TimeLimitExceeded", 1)


def test_max_tasks_per_child_and_workers(here: Path) -> None:
    args = ("--workers", "1", "--max-tasks-per-child", "2", "a", "b", "c", "d")
    pids = [record["result"] for record in records(run(here, "functions:pid", *args))]
    assert pids[0] == pids[1] != pids[2] == pids[3]


def test_fail_fast_begins_nothing_more(here: Path) -> None:
    lines = "".join(f"bad {i}\n" for i in range(5000))
    done = run(here, "functions:fails", "--workers", "1", "--fail-fast", stdin=lines)
    assert done.returncode == 1
    assert 1 <= len(records(done)) < 5000


def test_initializer(here: Path) -> None:
    done = run(here, "functions:says_where", "--initializer", "functions:set_up", "x")
    assert records(done)[0]["result"] == "set up"
    broken = run(here, "functions:upper", "--initializer", "functions:breaks", "x", "y")
    assert (broken.returncode, broken.stdout) == (3, "")
    assert "no database" in broken.stderr
    assert len(broken.stderr.splitlines()) == 1


USAGE: list[Sequence[str]] = [
    ("functions:upper", "--workers", "0", "x"),
    ("functions:upper", "--lines", "functions.py", "x"),
    ("functions:upper", "--lines", "missing"),
    ("functions", "x"),
    ("functions:missing", "x"),
    ("functions:number", "x"),
    ("missing:upper", "x"),
    ("missing.py:upper", "x"),
    ("functions:upper", "--initializer", "missing:f", "x"),
]


@pytest.mark.parametrize("args", USAGE, ids=" ".join)
def test_usage(here: Path, args: Sequence[str]) -> None:
    done = run(here, *args)
    assert (done.returncode, done.stdout) == (2, "")
    assert "prefork" in done.stderr
    assert "Traceback" not in done.stderr


def test_without_rich(here: Path) -> None:
    code = "import sys; sys.modules['rich'] = None; from prefork.cli import main; sys.exit(main())"
    command = [sys.executable, "-c", code, "map", "functions:upper", "x"]
    done = subprocess.run(command, cwd=here, capture_output=True, text=True, timeout=LIMIT)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "prefork: the command needs rich: pip install 'prefork[cli]'\n"


# ---- Ctrl-C, and a reader that goes away -------------------------------------------------------


def launch(here: Path, *args: str) -> Any:
    pipe = subprocess.PIPE
    command = [*COMMAND, *args]
    return launched(command, cwd=here, text=True, stdin=pipe, stdout=pipe, stderr=pipe)


@contextlib.contextmanager
def begun(here: Path) -> Iterator[Any]:
    """A run of one worker that is inside of its first call, of three."""
    for name in ("a.begun", "a.go"):
        os.mkfifo(here / name)
    with launch(here, "functions:waits", "--workers", "1", "a", "b", "c") as process:
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
