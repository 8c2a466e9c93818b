"""Submitting, waiting, results, cancelling, limits and slots."""

from __future__ import annotations

import builtins
import concurrent.futures
import functools
import multiprocessing
import os
import signal
import threading
import time

import pytest

import prefork
from helpers import add, alive, eventually, fail, hold, pid_of_worker, spin, square


def test_apply_returns_what_the_function_returns(pool):
    assert pool(1).apply(add, (1, 2), {"c": 3}) == 6


def test_apply_raises_what_the_function_raises(pool):
    with pytest.raises(ValueError, match="no"):
        pool(1).apply(fail)


def test_a_task_is_a_future(pool):
    task = pool(1).apply_async(square, (3,))
    assert isinstance(task, concurrent.futures.Future)
    assert isinstance(task, prefork.Task)
    assert task.result() == task.get() == 9
    assert task.exception() is None
    assert (task.done(), task.ready(), task.running(), task.cancelled()) == (
        True, True, False, False,
    )  # fmt: skip


def test_only_the_worker_sets_a_result(pool, gate):
    one = pool(1)
    task = one.apply_async(hold, (gate.path,))
    with pytest.raises(concurrent.futures.InvalidStateError):
        task.set_result(1)
    with pytest.raises(concurrent.futures.InvalidStateError):
        task.set_exception(KeyError())


def test_kwargs_and_methods_and_partials_and_builtins(pool):
    one = pool(1)
    assert one.apply_async(add, kwargs={"a": 1, "b": 2}).get() == 3
    assert one.apply(functools.partial(add, 1, c=5), (2,)) == 8
    assert one.apply("abc".upper) == "ABC"
    assert one.apply(max, [(1, 7, 3)]) == 7


def test_many_tasks_return_their_own_results(pool):
    one = pool(2, putlocks=False)
    tasks = [one.apply_async(square, (i,)) for i in range(5000)]
    assert [task.get() for task in tasks] == [i * i for i in range(5000)]
    assert one.stats["tasks_unfinished"] == 0


def test_ids(pool):
    one = pool(1)
    first, second = one.apply_async(square, (1,)), one.apply_async(square, (2,))
    named = one.apply_async(square, (3,), correlation_id="a-b-c")
    assert first.id != second.id
    assert named.id == "a-b-c"
    assert repr(named.id) in repr(named) or "a-b-c" in repr(named)


def test_the_pid_is_that_of_the_worker_while_the_task_runs(pool, gate):
    one = pool(1, putlocks=False)
    running = one.apply_async(hold, (gate.path,))
    queued = one.apply_async(square, (1,))
    (pid,) = gate.arrived()
    assert running.pid == pid
    assert running.worker_pids() == [pid]
    assert running.running()
    assert running.accepted()
    assert not running.ready()
    assert queued.pid is None
    assert queued.worker_pids() == []
    assert not queued.accepted()
    gate.open()
    queued.get()
    assert running.pid is None
    assert running.worker_pids() == []
    assert running.accepted()
    assert queued.accepted()


def test_a_task_that_never_began_was_not_accepted(pool, gate):
    one = pool(1, putlocks=False)
    one.apply_async(hold, (gate.path,))
    gate.arrived()
    queued, cancelled = one.apply_async(square, (1,)), one.apply_async(square, (1,))
    cancelled.cancel()
    eventually(cancelled.cancelled, one)
    one.terminate()
    assert isinstance(queued.exception(), prefork.WorkerKilled)
    assert not queued.accepted()
    assert not cancelled.accepted()


def test_successful_tells_how_a_task_ended(pool, gate):
    one = pool(1)
    held = one.apply_async(hold, (gate.path,))
    with pytest.raises(ValueError, match="not ended"):
        held.successful()
    gate.open()
    held.wait()
    assert held.successful() is True
    failed = one.apply_async(fail)
    failed.wait()
    assert failed.successful() is False


def test_repr_of_a_task(pool, gate):
    one = pool(1, putlocks=False)
    held = one.apply_async(hold, (gate.path,), correlation_id="x1")
    assert repr(held) == "<Task x1 hold unfinished>"
    gate.open()
    held.get()
    assert repr(held) == "<Task x1 hold done>"
    failed = one.apply_async(fail, correlation_id="x2")
    failed.wait()
    assert repr(failed) == "<Task x2 fail failed: ValueError>"


# ---- waiting too long, and running too long ------------------------------------------------------


def test_waiting_too_long_is_a_timeout_error_and_the_task_goes_on(pool, gate):
    task = pool(1).apply_async(hold, (gate.path, 4))
    assert task.wait(0.01) is False
    for wait in (task.get, task.result, task.exception):
        with pytest.raises(prefork.TimeoutError):
            wait(0.01)
    with pytest.raises(prefork.TimeoutError):
        task.get(timeout=0)
    gate.open()
    assert task.get(30) == 4


def test_the_timeout_error_is_everybodys():
    assert issubclass(prefork.TimeoutError, builtins.TimeoutError)
    assert issubclass(prefork.TimeoutError, concurrent.futures.TimeoutError)
    assert issubclass(prefork.TimeoutError, multiprocessing.TimeoutError)
    assert not issubclass(prefork.TimeLimitExceeded, builtins.TimeoutError)
    assert not issubclass(prefork.TimeLimitExceeded, multiprocessing.TimeoutError)


def test_a_task_that_runs_longer_than_its_limit_is_killed(pool):
    one = pool(1)
    task = one.apply_async(spin, timeout=0.1, correlation_id="slow")
    with pytest.raises(prefork.TimeLimitExceeded) as caught:
        task.get()
    error = caught.value
    assert error.limit == 0.1
    assert error.task_id == "slow"
    assert error.task_name == "spin"
    assert error.runtime >= 0.1
    eventually(lambda: not alive(error.pid), one)
    assert one.apply(square, (2,)) == 4
    assert one.stats["tasks_timed_out"] == 1


def test_the_pools_timeout_holds_for_every_task_that_has_none_of_its_own(pool, gate):
    one = pool(2, timeout=0.1)
    patient = one.apply_async(hold, (gate.path, 5), timeout=50)
    gate.arrived()
    with pytest.raises(prefork.TimeLimitExceeded):
        one.apply(spin)
    with pytest.raises(prefork.TimeLimitExceeded):
        one.map(hold, [gate.path])
    gate.open()
    assert patient.get() == 5


def test_the_limit_does_not_run_while_the_task_is_queued(pool, gate):
    one = pool(1, putlocks=False)
    first = one.apply_async(hold, (gate.path,))
    second = one.apply_async(square, (7,), timeout=0.05)
    gate.arrived()
    assert second.wait(0.2) is False
    gate.open()
    assert second.get() == 49
    assert first.successful()


def test_the_limit_of_a_map_is_that_of_each_task(pool):
    one = pool(2)
    with pytest.raises(prefork.TimeLimitExceeded):
        one.map(time.sleep, [0, 40], timeout=0.2)
    assert one.map(square, range(20), timeout=40) == [i * i for i in range(20)]


# ---- cancel, terminate ---------------------------------------------------------------------------


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


# ---- slots ---------------------------------------------------------------------------------------


def test_with_putlocks_apply_async_waits_for_a_slot(pool, gate):
    one = pool(2)
    held = [one.apply_async(hold, (gate.path,)) for _ in range(2)]
    gate.arrived(2)
    submitted = threading.Event()
    tasks = []

    def submit():
        tasks.append(one.apply_async(square, (3,)))
        submitted.set()

    thread = threading.Thread(target=submit)
    thread.start()
    assert not submitted.wait(0.3)
    assert one.stats["tasks_submitted"] == 2
    gate.open()
    thread.join()
    assert tasks[0].get() == 9
    gate.open()
    assert all(task.get() for task in held)


def test_never_more_than_limit_tasks_are_unfinished_with_putlocks(pool):
    one = pool(2)
    most = 0
    for i in range(200):
        one.apply_async(square, (i,))
        most = max(most, one.stats["tasks_unfinished"])
    assert most <= 2


def test_waitforslot_false_submits_past_the_slots(pool, gate):
    one = pool(1)
    tasks = [one.apply_async(hold, (gate.path,), waitforslot=False) for _ in range(5)]
    gate.arrived()
    assert one.stats["tasks_unfinished"] == 5
    gate.open(5)
    assert len({task.get() for task in tasks}) == 1
    assert one.apply(square, (1,)) == 1  # and the slots are right again
    assert one.apply(square, (2,)) == 4


def test_without_putlocks_nobody_waits(pool, gate):
    one = pool(1, putlocks=False)
    tasks = [one.apply_async(hold, (gate.path,)) for _ in range(5)]
    gate.open(5)
    assert len({task.get() for task in tasks}) == 1


def test_a_slot_is_given_back_before_the_callbacks_run(pool):
    slots = prefork.Semaphore(1)
    one = pool(1, semaphore=slots)
    seen = []
    called = threading.Event()

    def look(_):
        seen.append(slots.value)
        called.set()

    one.apply_async(square, (1,), callback=look)
    assert called.wait(30)
    assert seen == [1]


@pytest.mark.parametrize("how", ["result", "error", "cancel", "kill", "limit"])
def test_a_slot_is_given_back_however_the_task_ends(pool, gate, how):
    slots = prefork.Semaphore(2)
    one = pool(1, semaphore=slots)
    blocker = one.apply_async(hold, (gate.path,)) if how == "cancel" else None
    if blocker:
        gate.arrived()
    options = {"timeout": 0.05} if how == "limit" else {}
    target = {"result": square, "error": fail, "limit": spin, "cancel": square}.get(how)
    if how == "kill":
        task = one.apply_async(hold, (gate.path,))
        (pid,) = gate.arrived()
        os.kill(pid, signal.SIGKILL)
    else:
        task = one.apply_async(target, (3,) if target is square else (), **options)
    if how == "cancel":
        assert task.cancel()
    task.wait()
    assert slots.value == (1 if blocker else 2)
    gate.open()


class Counting(prefork.Semaphore):
    def __init__(self, value):
        super().__init__(value)
        self.acquired = self.released = 0

    def acquire(self, *args, **options):
        got = super().acquire(*args, **options)
        self.acquired += got
        return got

    def release(self):
        self.released += 1
        super().release()


def test_a_semaphore_passed_in_is_released_once_per_task(pool):
    slots = Counting(2)
    one = pool(2, semaphore=slots)
    for task in [one.apply_async(square if i % 3 else fail, (i,)) for i in range(30)]:
        task.wait()
    assert (slots.acquired, slots.released, slots.value) == (30, 30, 2)


@pytest.mark.parametrize("how", ["waitforslot=False", "putlocks=False", "guest", "no workers"])
def test_a_semaphore_that_the_caller_has_acquired_is_released_once_per_task(pool, how):
    slots = Counting(100)
    one = pool(0 if how == "no workers" else 2, semaphore=slots, putlocks=how != "putlocks=False")
    if how == "guest":
        one.fileno()
    options = {"waitforslot": False} if how == "waitforslot=False" else {}
    for _ in range(30):
        assert slots.acquire()
    tasks = [one.apply_async(square if i % 3 else fail, (i,), **options) for i in range(30)]
    if how == "no workers":
        one.grow(1)
    for task in tasks:
        task.wait()
    assert (slots.acquired, slots.released) == (30, 30)


def test_a_semaphore_that_cannot_grow_is_left_as_it_is(pool):
    slots = threading.BoundedSemaphore(1)
    one = pool(1, semaphore=slots)
    one.grow(2)
    one.shrink()
    assert one.map(square, range(5)) == [0, 1, 4, 9, 16]
    assert one.apply(square, (3,)) == 9


def test_a_refused_task_gives_its_slot_back(pool):
    slots = Counting(1)
    one = pool(1, semaphore=slots)
    with pytest.raises(Exception, match="pickle"):
        one.apply_async(lambda: None)
    one.close()
    with pytest.raises(prefork.PoolClosed):
        one.apply_async(square, (1,))
    assert slots.acquired == slots.released
    assert slots.value == 1


def test_closing_wakes_who_waits_for_a_slot(pool, gate):
    one = pool(1)
    one.apply_async(hold, (gate.path,))
    gate.arrived()
    raised = []
    waiting = threading.Event()

    def submit():
        waiting.set()
        try:
            one.apply_async(square, (1,))
        except prefork.PoolClosed as error:
            raised.append(error)

    thread = threading.Thread(target=submit)
    thread.start()
    waiting.wait()
    one.close()
    thread.join(30)
    assert len(raised) == 1
    gate.open()


def test_slots_grow_and_shrink_with_the_pool(pool, gate):
    slots = prefork.Semaphore(1)
    one = pool(1, semaphore=slots)
    one.grow(2)
    assert slots.bound == 3
    tasks = [one.apply_async(hold, (gate.path,)) for _ in range(3)]
    gate.arrived(3)
    one.shrink(2)
    assert (slots.bound, slots.value) == (1, 0)
    gate.open(3)
    assert all(task.get() for task in tasks)
    assert slots.value == 1


def test_growing_lets_a_waiting_submitter_go_on(pool, gate):
    one = pool(1)
    first = one.apply_async(hold, (gate.path,))
    gate.arrived()
    tasks = []
    thread = threading.Thread(target=lambda: tasks.append(one.apply_async(square, (5,))))
    thread.start()
    one.grow()
    thread.join(30)
    assert tasks[0].get() == 25
    gate.open()
    first.get()


def test_the_semaphore_alone():
    slots = prefork.Semaphore(2)
    assert slots.acquire()
    assert slots.acquire()
    assert not slots.acquire(blocking=False)
    assert not slots.acquire(timeout=0.01)
    slots.grow()
    assert slots.acquire(blocking=False)
    slots.shrink(2)
    slots.release()
    slots.release()
    assert slots.value == 0
    slots.release()
    slots.release()  # one too many is dropped
    assert (slots.value, slots.bound) == (1, 1)
    assert repr(slots) == "<Semaphore 1/1 free>"
    slots.acquire()
    slots.clear()
    assert slots.value == 1
    with pytest.raises(ValueError, match="slots"):
        prefork.Semaphore(-1)
