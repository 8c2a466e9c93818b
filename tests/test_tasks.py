"""Submitting, waiting, results and time limits."""

from __future__ import annotations

import builtins
import concurrent.futures
import functools
import multiprocessing
import os
import threading
import time

import pytest

import helpers
import prefork
from helpers import add, alive, eventually, fail, hold, kill_self, spin, square
from prefork import codec


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


def test_an_executor_that_asks_changes_nothing(pool):
    one = pool(0, putlocks=False)
    task, cancelled = (one.apply_async(square, (3,)) for _ in range(2))
    assert cancelled.cancel()
    assert not cancelled.set_running_or_notify_cancel()
    assert task.set_running_or_notify_cancel()
    assert not task.running()
    one.grow()
    assert task.result(30) == 9
    with pytest.raises(concurrent.futures.InvalidStateError, match="has ended"):
        task.set_running_or_notify_cancel()
    assert task.done() and task.result(0) == 9


def test_a_function_may_be_pickled_once_for_many_calls(pool):
    one = pool(1)
    squares = codec.Encoded(square)
    assert [one.apply(squares, (i,)) for i in range(3)] == [0, 1, 4]
    error = one.apply_async(codec.Encoded(kill_self), (9,)).exception()
    assert error.task_name == "kill_self"
    with pytest.raises(AttributeError):
        codec.Encoded(lambda: None)


def test_a_worker_looks_a_function_up_once_by_its_name(pool, monkeypatch):
    one = pool(1)
    assert one.apply(square, (3,)) == 9
    monkeypatch.setattr(helpers, "square", None)  # here; a worker has it from before the fork
    assert one.apply(square, (4,)) == 16
    assert one.apply(forget_square) == 16
    assert one.apply(square, (5,)) == 25


def forget_square():
    found = helpers.square(4)
    helpers.square = None
    return found


class Counting:
    """A callable with a state of its own."""

    def __init__(self):
        self.calls = 0

    def __call__(self):
        self.calls += 1
        return self.calls


def test_a_callable_is_as_it_was_submitted_in_each_call(pool):
    one, counting = pool(1), Counting()
    assert [one.apply(counting) for _ in range(3)] == [1, 1, 1]
    counting.calls = 7
    assert one.apply(counting) == 8
    assert one.apply(counting.__call__) == 8


unpickled = []


def note_unpickled():
    unpickled.append(os.getpid())


class Noted:
    """Says so where it is unpickled."""

    def __reduce__(self):
        return note_unpickled, ()


def noted():
    return Noted()


@pytest.mark.parametrize("putlocks", [True, False])
def test_a_result_is_unpickled_once_by_whoever_asks(pool, putlocks):
    unpickled.clear()
    one = pool(1, putlocks=putlocks)
    task = one.apply_async(noted)
    assert task.wait(30)
    assert task.done()
    assert task.accepted()
    assert unpickled == []
    assert [task.get(), task.exception(), task.successful()] == [None, None, True]
    assert len(unpickled) == 1


def test_a_result_is_unpickled_for_callbacks_as_it_comes(pool):
    unpickled.clear()
    told = threading.Event()
    one = pool(1)
    one.apply_async(noted, callback=lambda _: told.set())
    assert told.wait(30)
    assert len(unpickled) == 1


def test_a_result_that_two_threads_ask_for_is_one_object(pool):
    one = pool(1)
    task = one.apply_async(list, ((1, 2),))
    assert task.wait(30)
    with concurrent.futures.ThreadPoolExecutor(4) as threads:
        found = list(threads.map(lambda _: task.get(), range(8)))
    assert all(each is found[0] for each in found)


def test_kwargs_and_methods_and_partials_and_builtins(pool):
    one = pool(1)
    assert one.apply_async(add, kwargs={"a": 1, "b": 2}).get() == 3
    assert one.apply(functools.partial(add, 1, c=5), (2,)) == 8
    assert one.apply("abc".upper) == "ABC"
    assert one.apply(max, [(1, 7, 3)]) == 7


class Callable:
    def __call__(self, x):
        return x + 1

    def __repr__(self):
        raise RuntimeError("it has no words")


@pytest.mark.parametrize(
    ("target", "name"),
    [
        (functools.partial(functools.partial(fail), "x" * 100), "fail"),
        (functools.partial(Callable(), 1), "Callable"),
        (Callable(), "Callable"),
        ("abc".upper, "str.upper"),
    ],
    ids=["partial", "partial of an object", "object", "method"],
)
def test_tasks_are_named_by_function_or_class_and_never_by_repr(pool, target, name):
    task = pool(1).apply_async(target, correlation_id="x")
    assert task.name == name
    assert repr(task).startswith(f"<Task x {name} ")
    task.wait()


def test_an_object_that_cannot_be_shown_can_be_called(pool):
    assert pool(1).apply(Callable(), (1,)) == 2


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
    gate.open(2)  # the one that was killed may take one with it
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
