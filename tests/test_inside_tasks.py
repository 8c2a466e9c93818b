"""What functions may do in a worker: processes, pools, threads, shared memory, output; what they
may ask: who they are, more time."""

from __future__ import annotations

import multiprocessing
import os
import threading

import pytest

import prefork
from helpers import asleep, eventually, hold, lines, note, spin, square
from prefork import TaskPool
from scripts import run_script


def use_a_process():
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=sender.send, args=("from the child",))
    process.start()
    process.join(20)
    return receiver.recv(), process.exitcode, multiprocessing.current_process().daemon


@pytest.mark.parametrize("method", ["fork", "exec"])
def test_tasks_may_use_multiprocessing(pool, method):
    one = pool(1, start_method=method)
    for _ in range(2):
        assert one.apply(use_a_process) == ("from the child", 0, False)


def nested_pool():
    with TaskPool(2) as pool:
        return pool.map(square, range(5))


@pytest.mark.parametrize("method", ["fork", "exec"])
def test_tasks_may_have_a_pool_of_their_own(pool, method):
    assert pool(1, start_method=method).apply(nested_pool) == [0, 1, 4, 9, 16]


def test_the_applications_own_processes_survive_the_workers(tmp_path):
    done = run_script(
        tmp_path,
        """
        import multiprocessing, signal
        from helpers import square
        from prefork import TaskPool
        process = multiprocessing.get_context("fork").Process(target=signal.pause, daemon=True)
        process.start()
        with TaskPool(2, maxtasksperchild=1) as pool:
            assert pool.map(square, range(10)) == [i * i for i in range(10)]
        print(process.is_alive())
        """,
    )
    assert done.stdout == "True\n", done.stderr


def test_shared_memory_made_in_a_worker_survives_it(tmp_path):
    done = run_script(
        tmp_path,
        """
        import os
        from multiprocessing import resource_tracker, shared_memory
        from prefork import TaskPool

        def make():
            memory = shared_memory.SharedMemory(create=True, size=100)
            memory.buf[:5] = b"hello"
            memory.close()
            return memory.name, os.getpid(), tracker()

        def tracker():  # the pipe to it: one of the worker's own would unlink what it made
            return os.readlink(f"/proc/self/fd/{resource_tracker.getfd()}")

        with TaskPool(1, maxtasksperchild=1) as pool:
            name, pid, tracked_by = pool.apply(make)
            assert pool.apply(os.getpid) != pid
            assert tracked_by == tracker()
            memory = shared_memory.SharedMemory(name)
            print(bytes(memory.buf[:5]))
            memory.close()
            memory.unlink()
        """,
    )
    assert (done.returncode, done.stdout) == (0, "b'hello'\n"), done.stderr


def test_what_workers_print_is_written_when_they_end(tmp_path):
    done = run_script(
        tmp_path,
        """
        from prefork import TaskPool
        print("before", end=" ")
        with TaskPool(1) as pool:
            pool.apply(print, ("worker",))
        print("after")
        """,
    )
    assert done.stdout == "before worker\nafter\n", done.stderr


def leave_thread(gate, path):
    def wait():
        hold(gate)
        note(path)

    threading.Thread(target=wait).start()


def test_a_thread_that_a_task_left_runs_while_the_worker_is_idle(pool, gate, tmp_path):
    path = str(tmp_path / "noted")
    one = pool(1)
    one.apply(leave_thread, (gate.path, path))
    (pid,) = gate.arrived()
    gate.open()
    eventually(lambda: lines(path) == [str(pid)])


def test_a_thread_that_a_task_left_runs_while_nobody_takes_the_workers_result(pool, gate, tmp_path):
    path = str(tmp_path / "noted")
    one = pool(1, putlocks=False)
    one.apply(leave_thread, (gate.path, path))
    (pid,) = gate.arrived()
    one.fileno()  # nobody drives now but us
    eventually(lambda: one.workers[0].state == "idle", one)
    tasks = [one.apply_async(bytes, (16_000,)) for _ in range(8)]
    eventually(lambda: asleep(pid) and one.stats["workers_busy"] == 1)
    gate.open()
    eventually(lambda: lines(path) == [str(pid)])
    assert [task.get() for task in tasks] == [bytes(16_000)] * 8


# ---- what a task knows and asks ------------------------------------------------------------------


def describe_itself():
    return prefork.current_task()


def task_of_a_forked_child():
    reader, writer = os.pipe()
    if os.fork() == 0:
        os.write(writer, repr(prefork.current_task()).encode())
        os._exit(0)
    os.close(writer)
    with open(reader) as stream:
        said = stream.read()
    os.wait()
    return said


def test_a_task_knows_itself(pool):
    one = pool(1)
    task = one.apply_async(describe_itself)
    present = task.get()
    assert (present.id, present.name, present.losses) == (task.id, "describe_itself", 0)
    assert one.apply_async(describe_itself, correlation_id="abc").get().id == "abc"
    assert prefork.current_task() is None
    assert one.apply(task_of_a_forked_child) == "None"


def extend(path, seconds):
    for _ in range(10):  # also the sum of what is asked for may be absurd
        prefork.extend_deadline(seconds)
    return hold(path)


@pytest.mark.parametrize("seconds", [60, 1e10, float("inf")])
def test_a_task_gives_itself_more_time(pool, gate, seconds):
    one = pool(1)
    task = one.apply_async(extend, (gate.path, seconds), timeout=0.2, soft_timeout=0.1)
    gate.arrived()
    behind = one.apply_async(square, (2,), queue_timeout=0.4, waitforslot=False)
    assert type(behind.exception()) is prefork.QueueTimeout  # so 0.2 s are long over
    gate.open()
    assert task.get()


def test_more_time_ends_with_the_task(pool, gate):
    one = pool(1)
    gate.open()
    task = one.apply_async(extend, (gate.path, 60), timeout=5)
    gate.arrived()
    task.get()
    assert type(one.apply_async(spin, timeout=0.1).exception()) is prefork.TimeLimitExceeded


def test_more_time_is_not_for_everybody(pool):
    with pytest.raises(RuntimeError, match="no task"):
        prefork.extend_deadline(1)
    for bad in (0, -1, float("nan")):
        with pytest.raises(ValueError, match="extended"):
            prefork.extend_deadline(bad)
