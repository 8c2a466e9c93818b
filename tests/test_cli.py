"""The contract of `prefork map`, row by row, through the command itself."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

import prefork
from command import COMMAND, LIMIT, launch, records, run


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


def test_lines_may_end_as_they_do_on_windows(here: Path) -> None:
    done = run(here, "functions:shout", stdin="x\r\n\r\na\rb\r\nlast\r")
    assert [record["input"] for record in records(done)] == ["x", "", "a\rb", "last"]


def test_inputs_are_text_whatever_they_look_like(here: Path) -> None:
    (here / "kinds.py").write_text("def kind(x): return type(x).__name__\n")
    assert [r["result"] for r in records(run(here, "kinds:kind", "5", "None"))] == ["str"] * 2
    assert records(run(here, "kinds:kind", stdin="5\n"))[0]["result"] == "str"


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


@pytest.mark.parametrize("order", [(), ("--unordered",)], ids=" ".join)
def test_fail_fast_calls_no_lost_one_again(here: Path, order: Sequence[str]) -> None:
    for name in ("bad", "a"):
        os.mkfifo(here / f"{name}.begun")
        os.mkfifo(here / f"{name}.go")
    args = ("functions:fails_or_dies", "--fail-fast", *order, "--workers", "2", "bad", "a")
    with launch(here, *args) as process:
        for name in ("bad", "a"):  # both run
            (here / f"{name}.begun").read_text()
        (here / "bad.go").write_text("told to")
        bad = json.loads(process.stdout.readline())
        (here / "a.go").write_text("")
        out, err = process.communicate(timeout=LIMIT)
    assert process.returncode == 1
    assert bad["error"]["message"] == "told to"
    (a,) = map(json.loads, out.splitlines())
    assert (a["error"]["signal"], a["error"]["attempts"]) == (signal.SIGKILL, 1)
    assert "0 done, 2 failed, 0 retried" in err


def test_initializer(here: Path) -> None:
    done = run(here, "functions:says_where", "--initializer", "functions:set_up", "x")
    assert records(done)[0]["result"] == "set up"
    broken = run(here, "functions:upper", "--initializer", "functions:breaks", "x", "y")
    assert (broken.returncode, broken.stdout) == (3, "")
    assert "no database" in broken.stderr
    assert len(broken.stderr.splitlines()) == 1


USAGE: list[Sequence[str]] = [
    ("functions:upper", "--workers", "0", "x"),
    ("functions:upper", "--workers", "4096", "x"),
    ("functions:upper", "--max-tasks-per-child", "99999999999", "x"),
    ("functions:upper", "--max-tasks-per-child", str(1 << 32), "x"),
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


def test_the_most_tasks_of_a_worker(here: Path) -> None:
    done = run(here, "functions:shout", "--max-tasks-per-child", str((1 << 32) - 1), "x")
    assert records(done) == [{"input": "x", "result": "x!"}]


def test_more_workers_than_there_are_descriptors_for(here: Path) -> None:
    command = [*COMMAND, "functions:upper", "--workers", "50", "x"]
    done = subprocess.run(
        ["sh", "-c", 'ulimit -n 100; exec "$@"', "sh", *command],
        cwd=here, capture_output=True, text=True, timeout=LIMIT,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith("prefork: the pool cannot be started: ")
    assert "50 more workers want" in line


def test_version(here: Path) -> None:
    command = [*COMMAND[:-1], "--version"]
    done = subprocess.run(command, cwd=here, capture_output=True, text=True, timeout=LIMIT)
    assert (done.returncode, done.stdout) == (0, f"prefork {prefork.__version__}\n")


def test_without_rich(here: Path) -> None:
    code = "import sys; sys.modules['rich'] = None; from prefork.cli import main; sys.exit(main())"
    command = [sys.executable, "-c", code, "map", "functions:upper", "x"]
    done = subprocess.run(command, cwd=here, capture_output=True, text=True, timeout=LIMIT)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "prefork: the command needs rich: pip install 'prefork[cli]'\n"
