"""What functions may do in a worker: processes, pools, threads, shared memory, output."""

from __future__ import annotations

import multiprocessing
import threading

import pytest

from helpers import asleep, eventually, hold, lines, note, square
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
    tasks = [one.apply_async(bytes, (16_000,)) for _ in range(8)]
    eventually(lambda: asleep(pid) and one.stats["workers_busy"] == 1)
    gate.open()
    eventually(lambda: lines(path) == [str(pid)])
    assert [task.get() for task in tasks] == [bytes(16_000)] * 8
