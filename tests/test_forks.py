"""Forks of the application: in the child the pool is not its own, and can do it no harm."""

from __future__ import annotations

import multiprocessing
import os
import signal
import warnings

import pytest

from helpers import CALLS, eventually, hold, square
from prefork import TaskPool
from scripts import run_script


def in_a_fork(function):
    """What `function` gives in a forked child, as text; the child exits as a program would."""
    reader, writer = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        pid = os.fork()
    if pid == 0:
        try:
            try:
                text = repr(function())
            except BaseException as error:
                text = type(error).__name__
            os.write(writer, text.encode())
        finally:
            os._exit(0)
    os.close(writer)
    with open(reader, "rb") as stream:
        text = stream.read().decode()
    assert os.waitpid(pid, 0)[1] == 0
    return text


@pytest.mark.parametrize("name", CALLS)
def test_in_a_forked_child_the_pool_is_not_its_own(pool, name):
    one = pool(1)
    one.apply(square, (1,))
    assert in_a_fork(lambda: CALLS[name](one)) == "PoolClosed"
    assert one.apply(square, (3,)) == 9


def test_a_forked_child_may_end_or_wait_or_ask_without_harm(pool, gate):
    one = pool(1)
    task = one.apply_async(hold, (gate.path, 8))
    gate.arrived()
    assert in_a_fork(lambda: task.get(20)) == "PoolClosed"
    for name in ("close", "stop", "terminate"):
        in_a_fork(getattr(one, name))
    in_a_fork(lambda: (repr(one), one.state, one.workers, task.pid, task.done()))
    in_a_fork(one.__del__)
    assert one.state == "running"
    gate.open()
    assert task.get() == 8
    assert one.map(square, range(20)) == [i * i for i in range(20)]


OTHERS = {
    **{
        name: lambda pool, task, name=name: getattr(pool, name)()
        for name in ("flush", "did_start_ok", "maintain_pool", "poll", "fileno")
    },
    **{
        name: lambda pool, task, name=name: getattr(pool, name)
        for name in ("stats", "info", "workers")
    },
    "terminate_job": lambda pool, task: pool.terminate_job(1),
    "cancel": lambda pool, task: task.cancel(),
    "terminate": lambda pool, task: task.terminate(),
    "add_done_callback": lambda pool, task: task.add_done_callback(print),
}


@pytest.mark.parametrize("name", OTHERS)
@pytest.mark.parametrize("driver", ["nobody", "thread", "loop"])
def test_in_a_forked_child_even_questions_are_refused(pool, gate, name, driver):
    one = pool(1)
    if driver == "loop":
        one.fileno()
    task = one.apply_async(hold, (gate.path, 8), callback=str if driver == "thread" else None)
    gate.arrived(1, one)
    assert in_a_fork(lambda: OTHERS[name](one, task)) == "PoolClosed"
    assert in_a_fork(lambda: one.state) == "'stopped'"
    gate.open()
    assert task.get() == 8


def test_a_forked_child_may_have_a_pool_of_its_own(pool):
    one = pool(1)
    one.apply(square, (1,))

    def own():
        with TaskPool(1) as another:
            return another.map(square, range(4))

    assert in_a_fork(own) == "[0, 1, 4, 9]"
    assert one.apply(square, (3,)) == 9


def test_a_forked_child_that_exits_normally_disturbs_nobody(tmp_path):
    done = run_script(
        tmp_path,
        """
        import os, sys
        from helpers import square
        from prefork import TaskPool
        with TaskPool(2) as pool:
            task = pool.apply_async(square, (3,))
            pid = os.fork()
            if pid == 0:
                sys.exit(5)
            assert os.waitpid(pid, 0)[1] == 5 << 8
            assert task.get() == 9
            assert pool.map(square, range(50)) == [i * i for i in range(50)]
        print("fine")
        """,
    )
    assert (done.returncode, done.stdout) == (0, "fine\n"), done.stderr
    assert "Error" not in done.stderr


def test_a_process_of_multiprocessing_beside_the_pool(pool):
    one = pool(1)
    context = multiprocessing.get_context("fork")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        process = context.Process(target=square, args=(2,))
        process.start()
    process.join()
    assert process.exitcode == 0
    process.close()
    assert one.apply(square, (3,)) == 9


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_child_that_returns_from_a_callback_ends_and_calls_no_other(pool, gate, tmp_path):
    one = pool(1, putlocks=False)
    called = tmp_path / "called"
    children = []

    def fork(_):
        one._delivery.callbacks.append((note_callback, ()))
        pid = os.fork()
        if pid:
            children.append(pid)

    def note_callback(*_):
        with called.open("a") as file:
            file.write(f"{os.getpid()}\n")

    task = one.apply_async(hold, (gate.path,), callback=fork)
    task.add_done_callback(note_callback)
    gate.open()
    eventually(lambda: children)
    (child,) = children
    try:
        _, status = eventually(lambda: (found := os.waitpid(child, os.WNOHANG))[0] and found)
    except AssertionError:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        raise
    assert os.waitstatus_to_exitcode(status) == 0
    one.stop()
    assert called.read_text().split() == [str(os.getpid())] * 2
