"""Limits: soft and hard, of the pool and of a task, and the time in the queue."""

import functools
import logging
import operator
import os
import signal
import threading
import time

import pytest

import prefork
from helpers import (
    UnpickledAtTheGate,
    alive,
    asleep,
    ended_with_stacks,
    eventually,
    hold,
    note,
    pid_of_worker,
    square,
)
from prefork import SoftTimeLimitExceeded, _core


def spin():
    while True:
        pass


def tidy_up(limit):
    try:
        spin()
    except SoftTimeLimitExceeded as error:
        return error.limit


def spin_with(argument):
    spin()


def note_only(path, message, limit):
    note(path, message)


def end_on_soft_limit():
    time.sleep(60)


def spin_in_threads():
    threading.Thread(target=spin, daemon=True, name="other").start()
    time.sleep(60)


def spin_holding_the_gil():
    return sum(range(10**12))  # one call into C, which never lets go


def deaf():
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    spin()


def ignore_the_soft_signal():
    signal.signal(_core.SOFT_SIGNAL, signal.SIG_IGN)
    return os.getpid()


def ignore_and_log(path):
    logging.basicConfig(filename=path, force=True)
    ignore_the_soft_signal()


def lines_of(path):
    with open(path) as file:
        return sum(f"signal {_core.SOFT_SIGNAL:d} tells of soft limits" in line for line in file)


def hold_the_soft_signal_back(path):
    signal.pthread_sigmask(signal.SIG_BLOCK, [_core.SOFT_SIGNAL])
    return [hold(path), _core.SOFT_SIGNAL in signal.sigpending()]


def block_all_signals():
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    return os.getpid()


def blocked_signals():
    return signal.pthread_sigmask(signal.SIG_BLOCK, [])


# ---- soft ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("limit", [0.1, 0.3, 0.57])
def test_the_soft_limit_is_raised_inside_the_task(pool, limit):
    assert pool(1).apply_async(tidy_up, (0,), soft_timeout=limit).get() == limit


def test_a_limit_that_is_up_before_the_call_begins_is_raised_as_it_begins(pool, gate):
    """The worker has the task, but is still at its arguments."""
    told = threading.Event()
    one = pool(1)
    task = one.apply_async(
        spin_with,
        (UnpickledAtTheGate(gate.path),),
        soft_timeout=0.001,
        timeout_callback=lambda *_: told.set(),
    )
    eventually(told.is_set, one)
    gate.open()
    with pytest.raises(SoftTimeLimitExceeded):
        task.get()


def test_a_limit_that_is_up_before_the_call_begins_is_told_once(pool, gate, tmp_path):
    path = tmp_path / "told"
    one = pool(1, soft_timeout_error=functools.partial(note_only, str(path)))
    task = one.apply_async(type, (UnpickledAtTheGate(gate.path),))
    gate.arrived()
    assert task.interrupt()
    gate.open()
    assert task.get() is int
    assert path.read_text() == "the task was interrupted\n"


def test_a_task_that_does_not_catch_it_fails_with_it(pool):
    one = pool(1)
    task = one.apply_async(end_on_soft_limit, soft_timeout=0.1)
    with pytest.raises(SoftTimeLimitExceeded) as caught:
        task.get()
    assert caught.value.limit == 0.1
    assert "end_on_soft_limit" in str(caught.value.__cause__)  # where it was
    assert not isinstance(caught.value, TimeoutError)
    assert one.stats["workers_exited"] == 0  # the worker lives on


def test_the_pools_soft_timeout_holds_for_every_task_that_has_none_of_its_own(pool, gate):
    one = pool(2, soft_timeout=0.1)
    patient = one.apply_async(hold, (gate.path, 5), soft_timeout=50)
    gate.arrived()
    with pytest.raises(SoftTimeLimitExceeded):
        one.apply(spin)
    with pytest.raises(SoftTimeLimitExceeded):
        one.starmap(end_on_soft_limit, [()])
    gate.open()
    assert patient.get() == 5


def test_the_soft_limit_never_hits_the_next_task(pool):
    """Tasks that end at about the time of their limit: whatever is raised is raised inside."""
    one = pool(1)
    ends = {"in time": 0, "late": 0}
    for i in range(600):
        limited = one.apply_async(time.sleep, (0.0005 + i % 5 * 0.0003,), soft_timeout=0.001)
        unlimited = one.apply_async(square, (i,), waitforslot=False)
        error = limited.exception()
        assert error is None or type(error) is SoftTimeLimitExceeded
        ends["late" if error else "in time"] += 1
        assert unlimited.get() == i * i
    assert min(ends.values()) > 0
    assert one.stats["workers_exited"] == 0


def test_a_call_into_c_that_has_returned_keeps_its_result(pool):
    """The signal comes while no line of Python runs, and is handled when the call is over."""
    told = threading.Event()
    one = pool(1)
    expected = sum(range(15_000_000))
    for _ in range(5):
        told.clear()
        task = one.apply_async(
            sum, (range(15_000_000),), soft_timeout=0.02, timeout_callback=lambda *_: told.set()
        )
        assert task.get() == expected
        assert told.wait(30)


def test_a_call_into_c_that_has_raised_keeps_its_error(pool):
    told = threading.Event()
    one = pool(1)
    for _ in range(5):
        told.clear()
        task = one.apply_async(
            operator.indexOf, (range(8_000_000), "x"), soft_timeout=0.02,
            timeout_callback=lambda *_: told.set(),
        )  # fmt: skip
        assert type(task.exception()) is ValueError
        assert told.wait(30)
    assert one.apply(square, (3,)) == 9


def test_a_signal_that_comes_after_its_task_is_ignored_by_the_next(pool, gate):
    told = threading.Event()
    one = pool(1)
    slow = one.apply_async(
        hold_the_soft_signal_back, (gate.path,), soft_timeout=0.05,
        timeout_callback=lambda *_: told.set(),
    )  # fmt: skip
    (pid,) = gate.arrived()
    eventually(told.is_set, one)
    gate.open()
    assert slow.get() == [pid, True]
    assert one.map(square, range(100)) == [i * i for i in range(100)]
    assert one.apply(pid_of_worker) == pid


def test_a_task_that_blocks_signals_takes_nobody_elses_limits(pool):
    one = pool(1)
    pid = one.apply(block_all_signals)
    assert type(one.apply_async(spin, soft_timeout=0.1).exception()) is SoftTimeLimitExceeded
    pool_signals = {_core.SOFT_SIGNAL, _core.STACKS_SIGNAL}
    blocked = one.apply(blocked_signals)
    assert signal.SIGTERM in blocked
    assert not blocked & pool_signals
    assert one.apply(block_all_signals) == pid
    error = ended_with_stacks(
        lambda: one.apply(block_all_signals) and one.apply_async(spin_in_threads, timeout=0.3)
    )
    assert "in spin_in_threads" in error.stack


@pytest.mark.parametrize("handler", [signal.SIG_IGN, signal.SIG_DFL])
def test_a_handler_that_the_initializer_has_put_away_is_there_for_the_first(pool, handler):
    one = pool(1, initializer=signal.signal, initargs=(_core.SOFT_SIGNAL, handler))
    with pytest.raises(SoftTimeLimitExceeded):
        one.apply_async(spin, soft_timeout=0.1).get()


def test_a_handler_that_a_task_has_put_away_is_there_again_for_the_next(pool):
    one = pool(1)
    pid = one.apply(ignore_the_soft_signal)
    with pytest.raises(SoftTimeLimitExceeded):
        one.apply_async(spin, soft_timeout=0.1).get()
    assert one.apply(pid_of_worker) == pid


def test_who_loses_a_handler_of_the_soft_signal_can_read_so(pool, tmp_path):
    path = str(tmp_path / "log")
    one = pool(1, initializer=ignore_and_log, initargs=(path,))
    assert one.apply(lines_of, (path,)) == 1
    one.apply(ignore_the_soft_signal)
    one.apply(square, (2,))
    assert one.apply(lines_of, (path,)) == 2


def test_the_timeout_callback_is_told_which_limit_it_was(pool):
    told = []
    one = pool(1)
    task = one.apply_async(
        deaf, soft_timeout=0.1, timeout=0.3, timeout_callback=lambda *args: told.append(args)
    )
    assert type(task.exception()) is prefork.TimeLimitExceeded
    eventually(lambda: len(told) == 2)
    assert told == [(True, 0.1), (False, 0.3)]


# ---- hard ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("deed", [spin, spin_holding_the_gil, end_on_soft_limit])
def test_the_hard_limit_shows_where_the_task_was(pool, capfd, deed):
    one = pool(1)
    error = ended_with_stacks(lambda: one.apply_async(deed, timeout=0.1))
    assert type(error) is prefork.TimeLimitExceeded
    assert (error.limit, error.task_name) == (0.1, deed.__name__)
    assert error.stack.rstrip().endswith(f"in {deed.__name__}") and error.stack in str(error)
    eventually(lambda: not alive(error.pid))
    assert capfd.readouterr().err == ""
    assert one.apply(square, (3,)) == 9


def test_the_stacks_of_all_threads_are_shown(pool):
    one = pool(1)
    error = ended_with_stacks(lambda: one.apply_async(spin_in_threads, timeout=0.2))
    assert "in spin\n" in error.stack and "in spin_in_threads" in error.stack


@pytest.mark.parametrize("deed", [deaf, ignore_the_soft_signal])
def test_who_does_not_answer_is_killed_all_the_same(pool, deed):
    one = pool(1)
    if deed is ignore_the_soft_signal:
        pid = one.apply(pid_of_worker)
        task = one.apply_async(end_on_soft_limit, timeout=0.3, accept_callback=lambda *_: None)
        eventually(task.accepted)
        os.kill(pid, signal.SIGSTOP)
    else:
        task = one.apply_async(deaf, timeout=0.2)
    error = task.exception()
    assert type(error) is prefork.TimeLimitExceeded
    assert error.stack is None or "Fatal" not in error.stack
    assert one.apply(square, (3,)) == 9


def test_a_worker_that_is_killed_while_it_shows_its_stacks_was_over_its_limit(pool):
    one = pool(2, putlocks=False)
    errors = []
    for _ in range(10):
        task = one.apply_async(deaf, timeout=0.05, accept_callback=lambda *_: None)
        eventually(task.accepted)
        pid = task.pid
        while not task.done() and pid:
            try:
                os.kill(pid, 0)
            except ProcessLookupError:
                break
        errors.append(type(task.exception()))
    assert set(errors) == {prefork.TimeLimitExceeded}


def much(path):
    hold(path)
    return bytes(5_000_000)


def test_a_worker_that_is_stuck_with_its_result_is_killed_too(pool, gate):
    one = pool(1)
    one.fileno()  # nobody reads its pipe now
    task = one.apply_async(much, (gate.path,), timeout=0.5)
    (pid,) = gate.arrived(pool=one)
    gate.open()
    eventually(lambda: asleep(pid))
    os.kill(pid, signal.SIGSTOP)
    error = task.exception()
    assert type(error) is prefork.TimeLimitExceeded
    assert one.apply_async(square, (3,)).get() == 9


# ---- the time in the queue -----------------------------------------------------------------------


def test_a_task_that_is_not_begun_in_time_fails(pool, gate):
    one = pool(1, putlocks=False)
    first = one.apply_async(hold, (gate.path, 1))
    gate.arrived()
    task = one.apply_async(square, (2,), queue_timeout=0.1)
    many = [one.apply_async(square, (i,), queue_timeout=0.1) for i in range(3000)]  # past the ring
    error = task.exception()
    assert type(error) is prefork.QueueTimeout
    assert (error.limit, error.task_name, error.pid) == (0.1, "square", None)
    assert {type(t.exception()) for t in many} == {prefork.QueueTimeout}
    assert not task.accepted() and not first.done()
    gate.open()
    assert first.get() == 1
    assert one.apply(square, (3,)) == 9


def test_a_task_that_is_begun_in_time_is_not_bothered(pool, gate):
    one = pool(1, putlocks=False)
    task = one.apply_async(hold, (gate.path, 1), queue_timeout=0.5)
    gate.arrived()
    behind = one.apply_async(square, (2,), queue_timeout=0.6)
    assert type(behind.exception()) is prefork.QueueTimeout  # so 0.5 s are over, too
    gate.open()
    assert task.get() == 1


def test_a_pool_of_no_workers_lets_tasks_expire(pool):
    task = pool(0).apply_async(square, (2,), queue_timeout=0.05)
    assert type(task.exception()) is prefork.QueueTimeout


# ---- options -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["timeout", "soft_timeout", "queue_timeout"])
@pytest.mark.parametrize("value", [0, -1, float("nan")])
def test_a_limit_is_positive(pool, name, value):
    with pytest.raises(ValueError, match=f"{name} must be positive"):
        pool(1).apply_async(square, (1,), **{name: value})
    if name != "queue_timeout":
        with pytest.raises(ValueError, match=f"{name} must be positive"):
            prefork.TaskPool(1, **{name: value})


def test_a_limit_of_less_than_a_nanosecond_is_one(pool):
    task = pool(1).apply_async(time.sleep, (60,), timeout=4e-10)
    assert type(task.exception()) is prefork.TimeLimitExceeded


def test_limits_are_among_the_facts(pool):
    assert pool(1, timeout=20, soft_timeout=10).info["timeouts"] == (10, 20)
