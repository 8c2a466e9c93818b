"""Tasks that are cancelled, flushed, terminated and interrupted."""

from __future__ import annotations

import concurrent.futures
import os
import signal
import time

import pytest

import prefork
from helpers import alive, eventually, hold, pid_of_worker, spin, square
from prefork import SoftTimeLimitExceeded


def test_a_queued_task_is_cancelled(pool, gate):
    one = pool(1, putlocks=False)
    running = one.apply_async(hold, (gate.path, 1))
    gate.arrived()
    queued = [one.apply_async(square, (i,)) for i in range(40)]
    assert all(task.cancel() for task in queued[::2])
    assert queued[0].cancel() is True  # again
    for task in queued[::2]:
        with pytest.raises(concurrent.futures.CancelledError):
            task.get()
        assert task.cancelled()
        assert task.done()
        assert not task.successful()
        assert "cancelled" in repr(task)
    gate.open()
    assert [task.get() for task in queued[1::2]] == [i * i for i in range(40)][1::2]
    assert running.get() == 1


def test_a_running_or_finished_task_is_not_cancelled(pool, gate):
    one = pool(1)
    task = one.apply_async(hold, (gate.path, 1))
    gate.arrived()
    assert task.cancel() is False
    gate.open()
    assert task.get() == 1
    assert task.cancel() is False


def test_flush_cancels_all_that_have_not_begun(pool, gate):
    one = pool(1, putlocks=False)
    running = one.apply_async(hold, (gate.path, 1))
    gate.arrived()
    queued = [one.apply_async(square, (i,)) for i in range(30)]
    assert one.flush() == 30
    assert all(task.cancelled() for task in queued)
    gate.open()
    assert running.get() == 1
    assert one.flush() == 0


@pytest.mark.parametrize("number", [None, signal.SIGTERM, signal.SIGQUIT, signal.SIGKILL])
def test_terminate_of_a_task_ends_it_and_its_worker_and_nothing_else(pool, gate, number):
    one = pool(2, putlocks=False)
    tasks = [one.apply_async(hold, (gate.path,)) for _ in range(2)]
    gate.arrived(2)
    rest = [one.apply_async(square, (i,)) for i in range(10)]
    pid = tasks[0].pid
    assert tasks[0].terminate(number) is True
    with pytest.raises(prefork.WorkerKilled, match="terminated") as caught:
        tasks[0].get()
    assert caught.value.pid == pid
    eventually(lambda: not alive(pid), one)
    gate.open()
    assert tasks[1].get() != pid
    assert [task.get() for task in rest] == [i * i for i in range(10)]
    assert tasks[0].terminate() is False


def test_terminate_of_a_task_that_does_not_run_does_nothing(pool, gate):
    one = pool(1, putlocks=False)
    running = one.apply_async(hold, (gate.path, 1))
    queued = one.apply_async(square, (3,))
    gate.arrived()
    assert queued.terminate() is False
    gate.open()
    assert (running.get(), queued.get()) == (1, 9)
    assert queued.terminate() is False


def test_terminate_job_hits_the_task_that_the_worker_runs_and_no_other(pool, gate):
    one = pool(2, putlocks=False)
    tasks = [one.apply_async(hold, (gate.path,)) for _ in range(2)]
    hit, spared = gate.arrived(2)
    assert one.terminate_job(hit) is True
    gate.open(2)  # the dying worker may still take one
    outcomes = [task.exception() for task in tasks]
    (error,) = [error for error in outcomes if error]
    assert isinstance(error, prefork.WorkerKilled)
    assert error.pid == hit
    assert alive(spared)


def test_terminate_job_of_an_idle_worker_or_a_stranger_does_nothing(pool):
    one = pool(1)
    pid = one.apply(pid_of_worker)
    eventually(lambda: one.workers[0].state == "idle", one)
    assert one.terminate_job(pid) is False
    assert one.terminate_job(os.getpid(), signal.SIGKILL) is False
    assert one.terminate_job(1) is False
    assert one.apply(pid_of_worker) == pid


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGQUIT, signal.SIGABRT, signal.SIGKILL])
def test_terminate_job_takes_the_signals_it_promises(pool, gate, number):
    one = pool(1)
    task = one.apply_async(hold, (gate.path,))
    (pid,) = gate.arrived()
    assert one.terminate_job(pid, number) is True
    assert isinstance(task.exception(), prefork.WorkerKilled)


def test_terminate_job_refuses_a_signal_that_does_not_end_a_worker(pool, gate):
    one = pool(1)
    task = one.apply_async(hold, (gate.path, 1))
    (pid,) = gate.arrived()
    for number in (signal.SIGUSR1, signal.SIGSTOP, 0, -1, 1000):
        with pytest.raises(ValueError, match="does not end"):
            one.terminate_job(pid, number)
        with pytest.raises(ValueError, match="does not end"):
            task.terminate(number)
    gate.open()
    assert task.get() == 1


# ---- interrupting --------------------------------------------------------------------------------


def hold_until_told(path):
    try:
        hold(path)
    except SoftTimeLimitExceeded as error:
        return os.getpid(), str(error), error.limit


def interrupted(one, task):
    eventually(task.interrupt, one)
    return task


def test_a_running_task_is_interrupted_and_no_other(pool, gate):
    one = pool(1)
    task = one.apply_async(hold_until_told, (gate.path,))
    waiting = one.apply_async(square, (6,), waitforslot=False)
    (pid,) = gate.arrived()
    assert not waiting.interrupt()
    assert task.interrupt()
    assert task.get() == (pid, "the task was interrupted", None)
    assert not task.interrupt()
    assert waiting.get() == 36
    with pytest.raises(SoftTimeLimitExceeded):  # and its worker lives on
        interrupted(one, one.apply_async(spin)).get()
    assert one.apply(pid_of_worker) == pid


def test_an_interruption_never_hits_the_next_task(pool):
    one = pool(1)
    ends = {True: 0, False: 0}
    for i in range(300):
        task = one.apply_async(time.sleep, (i % 3 * 0.0005,))
        following = one.apply_async(square, (i,), waitforslot=False)
        time.sleep(0.0004)  # not to wait for anything: so that some have ended, and some have not
        told = task.interrupt()
        ends[told] += 1
        error = task.exception()
        assert error is None or (told and type(error) is SoftTimeLimitExceeded)
        assert following.get() == i * i
    assert min(ends.values()) > 0
    assert one.stats["workers_exited"] == 0
