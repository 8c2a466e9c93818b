"""Workers that die, exit or are stopped, in a task and idle."""

from __future__ import annotations

import contextlib
import os
import signal
import time

import pytest

import prefork
from helpers import alive, asleep, eventually, exit_now, full, hold, kill_self, square


def test_a_worker_killed_while_running_fails_its_task_and_no_other(pool, gate):
    one = pool(2, putlocks=False)
    held = [one.apply_async(hold, (gate.path,), correlation_id=f"t{i}") for i in range(2)]
    hit, spared = gate.arrived(2)
    rest = [one.apply_async(square, (i,)) for i in range(100)]
    os.kill(hit, signal.SIGKILL)
    victim = next(task for task in held if task.pid in (hit, None))
    with pytest.raises(prefork.WorkerKilled) as caught:
        victim.get()
    error = caught.value
    assert (error.pid, error.signal, error.exitcode) == (hit, signal.SIGKILL, -signal.SIGKILL)
    assert (error.task_id, error.task_name) == (victim.id, "hold")
    assert error.runtime > 0
    assert not error.zygote_lost
    assert "SIGKILL" in str(error)
    assert str(hit) in str(error)
    gate.open()
    assert [task.get() for task in rest] == [i * i for i in range(100)]
    assert next(task for task in held if task is not victim).get() == spared
    eventually(lambda: full(one, 2), one)
    stats = one.stats
    assert (stats["tasks_lost"], stats["tasks_succeeded"]) == (1, 101)
    assert stats["application_forks"] == 1


@pytest.mark.parametrize(
    "number", [signal.SIGKILL, signal.SIGSEGV, signal.SIGTERM, signal.SIGABRT, signal.SIGFPE]
)
def test_the_error_names_the_signal(pool, number):
    one = pool(1)
    with pytest.raises(prefork.WorkerKilled, match=number.name) as caught:
        one.apply(kill_self, (number,))
    assert caught.value.signal == number
    assert one.apply(square, (2,)) == 4


@pytest.mark.parametrize("code", [0, 1, 77])
def test_a_worker_that_exits_in_a_task_fails_it(pool, caplog, code):
    one = pool(1)
    with pytest.raises(prefork.WorkerExited, match=f"code {code}") as caught:
        one.apply(exit_now, (code,))
    eventually(lambda: f"exited with code {code}" in caplog.text)  # a warning, whatever the code
    assert caught.value.exitcode == code
    assert caught.value.signal is None
    assert one.apply(square, (2,)) == 4


def test_a_worker_killed_while_idle_is_noticed_by_the_log_only(pool, caplog):
    one = pool(2)
    pids = [worker.pid for worker in eventually(lambda: full(one, 2) and one.workers, one)]
    with caplog.at_level("WARNING", "prefork"):
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        assert one.map(square, range(50)) == [i * i for i in range(50)]
        eventually(lambda: one.stats["workers_replaced"] == 2, one)
    eventually(lambda: full(one, 2), one)
    assert not {worker.pid for worker in one.workers} & set(pids)
    assert caplog.text.count("was ended by SIGKILL") == 2
    assert one.stats["tasks_lost"] == 0


def test_workers_killed_again_and_again_lose_only_what_they_ran(pool):
    one = pool(2, putlocks=False)
    tasks = []
    killed = 0
    while killed < 10:
        if all(task.ready() for task in tasks):
            fresh = range(len(tasks), len(tasks) + 200)
            tasks += [one.apply_async(square, (i,)) for i in fresh]
        for worker in one.workers:
            if worker.state in ("idle", "running") and killed < 10:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(worker.pid, signal.SIGKILL)
                    killed += 1
        one.poll(0.002)
    errors = [task.exception() for task in tasks if task.exception()]
    assert len(errors) <= killed
    assert all(isinstance(error, prefork.WorkerKilled) for error in errors)
    assert [t.get() for t in tasks if t.successful()] == [
        i * i for i, t in enumerate(tasks) if t.successful()
    ]
    eventually(lambda: full(one, 2), one)


def test_a_stopped_worker_holds_up_its_task_only(pool, gate):
    one = pool(2, putlocks=False)
    task = one.apply_async(hold, (gate.path,))
    (pid,) = gate.arrived()
    os.kill(pid, signal.SIGSTOP)
    try:
        assert one.map(square, range(500)) == [i * i for i in range(500)]
        assert not task.ready()
    finally:
        os.kill(pid, signal.SIGCONT)
    gate.open()
    assert task.get() == pid


@pytest.mark.parametrize("slot", [0, 1])
def test_a_task_that_a_stopped_worker_was_woken_for_is_done_by_another(pool, slot):
    one = pool(2)
    eventually(lambda: full(one, 2) and all(asleep(w.pid) for w in one.workers), one)
    pid = one.workers[slot].pid
    os.kill(pid, signal.SIGSTOP)
    try:
        for i in range(50):
            assert one.apply(square, (i,)) == i * i
    finally:
        os.kill(pid, signal.SIGCONT)


def test_a_stopped_worker_is_killed_at_its_limit(pool, gate):
    one = pool(1)
    task = one.apply_async(hold, (gate.path,), timeout=0.3)
    (pid,) = gate.arrived()
    os.kill(pid, signal.SIGSTOP)
    with pytest.raises(prefork.TimeLimitExceeded):
        task.get()
    eventually(lambda: not alive(pid), one)


def die_delivering(size):
    import threading

    threading.Timer(0.0, os._exit, (5,)).start()
    return b"x" * size


def test_a_worker_that_dies_around_its_delivery_settles_the_task_once(pool):
    one = pool(2, putlocks=False)
    ends = []
    tasks = [
        one.apply_async(
            die_delivering, (10_000_000,), callback=ends.append, error_callback=ends.append
        )
        for _ in range(10)
    ]
    for task in tasks:
        task.wait()
    one.stop()
    assert len(ends) == 10
    for end in ends:
        assert isinstance(end, prefork.WorkerLostError) or len(end) == 10_000_000


def test_times_of_a_lost_task_are_its_own(pool):
    one = pool(1)
    begun = time.monotonic()
    task = one.apply_async(kill_self, (signal.SIGKILL,))
    runtime = task.exception().runtime
    assert 0 < runtime <= time.monotonic() - begun
