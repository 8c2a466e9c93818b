"""capture_output: what a task wrote last comes with its loss."""

import ctypes
import io
import os
import pickle
import signal
import subprocess
import sys

import pytest

import prefork
from helpers import (
    alive,
    ended_with_stacks,
    eventually,
    hold,
    hold_stubbornly,
    lines,
    note,
    pid_of_worker,
    square,
)
from prefork.errors import MOST_OUTPUT, last_lines
from scripts import run_script


def end_by(number):
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [number])
    os.kill(os.getpid(), number)


def write(text, number=2):
    os.write(number, text.encode())


def say_it_in_every_way():
    print("printed")
    print("printed on stderr", file=sys.stderr)
    write("written\n")
    subprocess.run(["sh", "-c", "echo said by a program; echo and its stderr >&2"], check=True)


def say_and_die(text="", number=signal.SIGKILL):
    print(text)
    end_by(number)


SAID = "printed\nprinted on stderr\nwritten\nsaid by a program\nand its stderr"


def say_it_and_die():
    say_it_in_every_way()
    end_by(signal.SIGKILL)


def say_it_and_hold(path):
    say_it_in_every_way()
    hold_stubbornly(path)


def fail_an_assertion_in_c():
    ctypes.CDLL(None).__assert_fail(b"x == 1", b"file.c", 7, b"f")


@pytest.mark.parametrize("start_method", ["fork", "exec"])
def test_a_lost_task_shows_what_it_wrote_last(pool, capfd, start_method):
    one = pool(1, capture_output=True, start_method=start_method)
    error = one.apply_async(say_it_and_die).exception()
    assert type(error) is prefork.WorkerKilled
    assert error.output == SAID
    assert str(error).endswith(f"\n{SAID}")
    copy = pickle.loads(pickle.dumps(error))
    assert (str(copy), copy.output) == (str(error), SAID)
    assert capfd.readouterr() == ("", "")


def say_and_hold(path):
    print("about to wait")
    hold(path)


def test_a_task_over_its_limit_shows_what_it_wrote_last(pool, gate):
    one = pool(1, capture_output=True)
    error = ended_with_stacks(lambda: one.apply_async(say_and_hold, (gate.path,), timeout=1.0))
    assert type(error) is prefork.TimeLimitExceeded
    assert error.output == "about to wait"
    assert str(error).endswith("\nabout to wait")


def test_a_task_that_is_terminated_shows_what_it_wrote_last(pool, gate):
    one = pool(2, capture_output=True)
    ended, left = (one.apply_async(say_it_and_hold, (gate.path,)) for _ in range(2))
    waiting = one.apply_async(square, (3,), waitforslot=False)
    gate.arrived(2, one)
    assert ended.terminate(signal.SIGKILL)
    assert ended.exception().output == SAID
    assert waiting.get() == 9
    one.terminate(0.5)
    assert left.exception().output == SAID


def test_what_c_says_before_it_aborts_is_shown(pool):
    error = pool(1, capture_output=True).apply_async(fail_an_assertion_in_c).exception()
    assert error.signal == signal.SIGABRT
    assert "file.c:7: f: Assertion `x == 1' failed." in error.output
    assert error.stack.startswith("Fatal Python error") and error.stack not in error.output


def test_a_task_that_has_written_nothing_shows_nothing(pool):
    error = pool(1, capture_output=True).apply_async(end_by, (9,)).exception()
    assert error.output is None
    assert "wrote" not in str(error)


def test_without_the_option_it_goes_where_it_went(pool, capfd):
    one = pool(1)
    error = one.apply_async(write, ("to stderr",)).exception()
    assert error is None
    lost = one.apply_async(say_it_and_die).exception()
    assert lost.output is None
    assert "to stderr" in capfd.readouterr().err


# ---- whose it is ---------------------------------------------------------------------------------


def print_half_a_line(path):
    note(path)
    print("half a line", end="")


def test_what_other_tasks_wrote_is_not_shown(pool, capfd, tmp_path):
    one = pool(1, capture_output=True)
    pid = one.apply(pid_of_worker)
    for _ in range(3):
        one.apply(say_it_in_every_way)
        one.apply(print_half_a_line, (str(tmp_path / "pids"),))
    error = one.apply_async(say_and_die, ("mine",)).exception()
    assert set(lines(tmp_path / "pids")) == {str(pid)} and error.pid == pid
    assert error.output == "mine"
    assert one.apply_async(end_by, (9,)).exception().output is None
    assert capfd.readouterr() == ("", "")


def test_a_task_that_is_called_again_shows_its_last_call(pool, tmp_path):
    one = pool(1, capture_output=True)
    path = str(tmp_path / "calls")
    error = one.apply_async(
        count_and_die, (path,), on_lost="retry", retries=2, waitforslot=False
    ).exception()
    assert type(error) is prefork.QuarantinedTask
    assert error.output == "call 3" and str(error).endswith("\ncall 3")


def count_and_die(path):
    note(path)
    say_and_die(f"call {len(lines(path))}")


def test_each_task_of_many_workers_shows_its_own(pool):
    one = pool(3, capture_output=True, putlocks=False)
    tasks = [one.apply_async(say_and_die, (f"task {i}",)) for i in range(12)]
    assert [task.exception().output for task in tasks] == [f"task {i}" for i in range(12)]


def say_in_the_initializer():
    print("said by the initializer")


def test_what_an_initializer_wrote_is_no_tasks(pool):
    one = pool(1, capture_output=True, initializer=say_in_the_initializer)
    assert one.apply_async(end_by, (9,)).exception().output is None


# ---- what tasks do to it -------------------------------------------------------------------------


def close_both():
    os.close(1)
    os.close(2)


def close_and_die():
    write("before")
    close_both()
    end_by(signal.SIGKILL)


def redirect(path):
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(fd, 1)
    os.dup2(fd, 2)
    os.close(fd)


def test_a_task_may_close_stdout_and_stderr(pool):
    one = pool(1, capture_output=True)
    assert one.apply_async(close_and_die).exception().output == "before"
    pid = one.apply(pid_of_worker)
    one.apply(close_both)
    error = one.apply_async(say_it_and_die).exception()
    assert error.pid == pid
    assert error.output == SAID


def test_a_task_may_redirect_them_for_good(pool, tmp_path):
    one = pool(1, capture_output=True)
    path = tmp_path / "log"
    one.apply(write, ("captured\n",))
    one.apply(redirect, (str(path),))
    assert one.apply_async(say_it_and_die).exception().output is None
    assert path.read_text().splitlines() == SAID.splitlines()


def own_descriptor():
    """Ours, by which the worker empties it."""
    (found,) = [
        int(name)
        for name in os.listdir("/proc/self/fd")
        if int(name) > 2
        and os.path.exists(f"/proc/self/fd/{name}")
        and os.path.sameopenfile(int(name), 1)
    ]
    return found


def put_a_file_in_its_place(path):
    fd = os.open(path, os.O_RDWR | os.O_CREAT)
    os.dup2(fd, own_descriptor())
    os.write(fd, b"precious")


def test_a_file_that_a_task_has_in_its_place_is_not_emptied(pool, tmp_path):
    one = pool(1, capture_output=True)
    pid = one.apply(pid_of_worker)
    one.apply(put_a_file_in_its_place, (str(tmp_path / "file"),))
    assert one.apply(pid_of_worker) == pid
    assert (tmp_path / "file").read_text() == "precious"


def inherited_by_a_program():
    listing = "import os; print(*sorted(os.listdir('/proc/self/fd')))"
    done = subprocess.run(
        [sys.executable, "-c", listing], close_fds=False, capture_output=True, text=True, check=True
    )
    return len(done.stdout.split())


def test_programs_inherit_one_and_two_alone(pool):
    assert pool(1, capture_output=True).apply(inherited_by_a_program) == pool(1).apply(
        inherited_by_a_program
    )


def leave_a_process_behind(here, there):
    if os.fork() > 0:
        say_and_die("the parent")
    hold(here)
    try:
        write("still here")
    except OSError as error:
        note(there, str(error.errno))
    os._exit(0)


def test_who_outlives_the_worker_cannot_fill_memory(pool, gate, tmp_path):
    one = pool(1, capture_output=True)
    there = str(tmp_path / "errno")
    task = one.apply_async(leave_a_process_behind, (gate.path, there))
    (orphan,) = gate.arrived(1, one)
    assert task.exception().output == "the parent"
    gate.open()
    eventually(lambda: not alive(orphan), one)
    assert lines(there) == ["1"]  # EPERM


# ---- how much ------------------------------------------------------------------------------------


def talk(count, path):
    for number in range(count):
        write(f"line {number:7}{'.' * 88}\n")
    hold(path)
    write("the end")
    end_by(signal.SIGKILL)


def test_a_talkative_task_does_not_fill_memory(pool, gate):
    one = pool(1, capture_output=True)
    task = one.apply_async(talk, (200_000, gate.path))
    (pid,) = gate.arrived(1, one)
    found = f"/proc/{pid}/fd/1"
    assert os.stat(found).st_size == 200_000 * 101
    eventually(
        lambda: os.stat(found).st_blocks * 512 <= (64 << 10) + os.sysconf("SC_PAGESIZE"), one
    )
    gate.open()
    said = task.exception().output.splitlines()
    assert said[-1] == "the end"
    assert [line[5:12] for line in said[:-1]] == [
        f"{number:7}" for number in range(200_000 - len(said) + 1, 200_000)
    ]
    assert MOST_OUTPUT - 2 * 101 < 101 * (len(said) - 1) < MOST_OUTPUT


def talk_for_ever(path):
    note(path)
    while True:
        write("." * 99 + "\n")


def test_an_initializer_that_talks_for_ever_does_not_fill_memory(pool, tmp_path):
    path = tmp_path / "pid"
    one = pool(
        1, capture_output=True, initializer=talk_for_ever, initargs=(str(path),), putlocks=False
    )
    one.apply_async(square, (1,))
    (pid,) = eventually(lambda: lines(path), one)
    found = f"/proc/{pid}/fd/1"
    eventually(lambda: (at := os.stat(found)).st_size > at.st_blocks * 512 + (1 << 20), one)


@pytest.mark.parametrize(
    ("written", "told"),
    [
        (b"", ""),
        (b"one\ntwo\n", "one\ntwo"),
        (b"\xff\n", "\N{REPLACEMENT CHARACTER}"),
        (b"\0\0\0one\n", "one"),
        (b"a" * MOST_OUTPUT, "a" * MOST_OUTPUT),
        (b"a" * (MOST_OUTPUT - 1) + b"\n", "a" * (MOST_OUTPUT - 1)),
        (b"a" * (MOST_OUTPUT - 4) + b"\nb\n\n", "b"),
        (b"one\n" + b"a" * (MOST_OUTPUT - 5), "one\n" + "a" * (MOST_OUTPUT - 5)),
    ],
)
def test_the_last_lines_are_whole_lines(written, told):
    assert last_lines(written) == told


# ---- starting ------------------------------------------------------------------------------------


def say_and_exit():
    print("the licence server is away", file=sys.stderr)
    os._exit(3)


@pytest.mark.parametrize("start_method", ["fork", "exec"])
def test_a_worker_that_ends_before_it_is_up_shows_what_it_wrote(pool, start_method):
    one = pool(1, capture_output=True, initializer=say_and_exit, start_method=start_method)
    error = one.apply_async(square, (1,)).exception()
    assert type(error) is prefork.InitializerError
    assert "exited with code 3 before it was up" in str(error)
    assert str(error).endswith("\nthe licence server is away")
    assert str(error.__cause__).endswith("\nthe licence server is away")


def test_a_stream_that_the_application_had_put_in_place_is_not_the_workers(pool, monkeypatch):
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    monkeypatch.setattr(sys, "stderr", None)
    assert pool(1, capture_output=True).apply_async(say_it_and_die).exception().output == SAID
    assert sys.stdout.getvalue() == ""


WITHOUT_STDIO = """
    import os, signal, sys
    from pathlib import Path
    from prefork import TaskPool

    def die():
        os.write(1, b"one\\n")
        os.write(2, b"two\\n")
        print("three")
        print("four", file=sys.stderr)
        os.kill(os.getpid(), signal.SIGKILL)

    if __name__ == "__main__":
        for fd in range(3):
            os.close(fd)
        with TaskPool(2, capture_output=True, start_method=sys.argv[2]) as pool:
            error = pool.apply_async(die).exception()
            results = pool.map(abs, range(-20, 0))
        Path(sys.argv[1]).write_text(f"{error.output!r} {results == list(range(20, 0, -1))}")
"""


@pytest.mark.parametrize("start_method", ["fork", "exec"])
def test_an_application_without_stdio(tmp_path, start_method):
    run_script(tmp_path, WITHOUT_STDIO, str(tmp_path / "said"), start_method)
    assert (tmp_path / "said").read_text() == "'one\\ntwo\\nthree\\nfour' True"
