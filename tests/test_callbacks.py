"""Callbacks: when they are called, where, and what becomes of what they raise."""

from __future__ import annotations

import gc
import os
import signal
import threading
import time
import weakref

import pytest

from helpers import eventually, fail, hold, pid_of_worker, spin, square
from prefork import SoftTimeLimitExceeded, TaskPool, _core


class Log:
    """What was called, in order, and in which threads."""

    def __init__(self):
        self.entries = []
        self.threads = set()

    def __call__(self, name):
        def called(*args):
            self.threads.add(threading.get_ident())
            self.entries.append((name, *args))

        return called

    def all(self):
        return {
            f"{name}callback": self(name.rstrip("_"))
            for name in ("", "error_", "accept_", "timeout_")
        }

    @property
    def names(self):
        return [entry[0] for entry in self.entries]


@pytest.fixture
def log():
    found = Log()
    yield found
    found.entries.clear()


def test_accept_comes_before_the_result_and_done_last(pool, log):
    one = pool(1)
    before = time.monotonic()
    task = one.apply_async(pid_of_worker, **log.all())
    task.add_done_callback(log("done"))
    eventually(lambda: len(log.entries) == 3)
    accepted, result, done = log.entries
    assert accepted[:2] == ("accept", task.get())
    assert before <= accepted[2] <= time.monotonic()
    assert result == ("", task.get())
    assert done == ("done", task)


def in_anothers_hand(pool, kind):
    """The thread that takes an event of this kind keeps it: what is set once it has, and what lets
    it go on."""
    handle = pool._delivery._handlers[kind]
    in_hand, ended = threading.Event(), threading.Event()

    def late(event):
        in_hand.set()
        ended.wait()
        handle(event)

    pool._delivery._handlers[kind] = late
    return in_hand, ended


def test_a_task_is_announced_before_its_end_whoever_has_its_beginning_in_hand(pool, log, gate):
    """One thread has taken the event of its beginning, and another applies that of its end."""
    one = pool(1)
    in_hand, ended = in_anothers_hand(one, _core.ACCEPTED)
    task = one.apply_async(hold, (gate.path, "held"), **log.all())
    assert in_hand.wait(10)  # the delivery thread's
    gate.open()
    task.wait()
    ended.set()
    one.stop()
    assert log.names == ["accept", ""]


def test_a_soft_limit_is_told_once_whoever_has_it_in_hand(pool, log, gate):
    """One thread has taken the event of the limit, and another applies that of the task's end."""
    one = pool(1)
    in_hand, ended = in_anothers_hand(one, _core.SOFT_LIMIT)
    timed_out = log("timeout")
    task = one.apply_async(hold, (gate.path,), soft_timeout=0.01, timeout_callback=timed_out)
    assert in_hand.wait(10)  # the delivery thread's
    with pytest.raises(SoftTimeLimitExceeded):
        task.get()
    ended.set()
    one.stop()
    assert log.entries == [("timeout", True, 0.01)]


def test_a_failed_task_calls_the_error_callback_only(pool, log):
    task = pool(1).apply_async(fail, ("x",), **log.all())
    eventually(lambda: len(log.entries) == 2)
    assert log.names == ["accept", "error"]
    assert log.entries[1][1] is task.exception()


def test_a_task_over_its_limit_calls_timeout_then_error(pool, log):
    task = pool(1).apply_async(spin, timeout=0.1, **log.all())
    task.add_done_callback(log("done"))
    eventually(lambda: len(log.entries) == 4)
    assert log.names == ["accept", "timeout", "error", "done"]
    assert log.entries[1] == ("timeout", False, 0.1)
    assert log.entries[2][1] is task.exception()


def test_on_hard_timeout_is_called_with_the_task(log):

    class Hooked(TaskPool):
        on_hard_timeout = staticmethod(log("hook"))

    with Hooked(1) as pool:
        task = pool.apply_async(spin, timeout=0.1)
        task.wait()
        eventually(lambda: log.entries)
    assert log.entries == [("hook", task)]


def test_a_cancelled_task_calls_done_only(pool, log, gate):
    one = pool(1, putlocks=False)
    one.apply_async(hold, (gate.path,))
    gate.arrived()
    task = one.apply_async(square, (1,), **log.all())
    task.add_done_callback(log("done"))
    assert task.cancel()
    eventually(lambda: log.entries)
    gate.open()
    one.stop()
    assert log.entries == [("done", task)]


@pytest.mark.parametrize("guest", [False, True])
def test_a_task_is_announced_while_it_still_runs(pool, log, gate, guest):
    one = pool(2)
    if guest:
        one.fileno()
    tasks = [one.apply_async(hold, (gate.path,), **log.all()) for _ in range(2)]
    pids = gate.arrived(2, one if guest else None)
    eventually(lambda: len(log.entries) == 2, one if guest else None)
    assert {entry[:2] for entry in log.entries} == {("accept", pid) for pid in pids}
    assert not any(task.ready() for task in tasks)
    gate.open(2)


def test_every_callback_is_called_once_and_elsewhere(pool, log):
    one = pool(2, putlocks=False)
    done = []  # called here, as a Future does, where the task has ended before we ask
    for i in range(500):
        one.apply_async(square, (i,), callback=log("r")).add_done_callback(done.append)
    one.stop()
    assert sorted(e[1] for e in log.entries) == [i * i for i in range(500)]
    assert len(done) == len(set(done)) == 500
    assert threading.get_ident() not in log.threads


def test_callbacks_are_never_called_by_the_submitter_that_stops_the_pool(pool, log):
    for _ in range(60):
        one = pool(1, putlocks=False)
        one.apply_async(square, (1,), callback=log("r"))
        one.stop()
    assert log.names == ["r"] * 60
    assert threading.get_ident() not in log.threads


def test_callbacks_are_called_though_nobody_waits_or_polls(pool):
    called = threading.Event()
    pool(1).apply_async(square, (1,), callback=lambda _: called.set())
    assert called.wait(30)


def test_timeout_callbacks_are_called_though_nobody_waits_or_polls(pool):
    told = [threading.Event(), threading.Event()]
    pool(1).apply_async(
        signal.pause, timeout=0.3, soft_timeout=0.1,
        timeout_callback=lambda soft, _: told[soft].set(),
    )  # fmt: skip
    assert told[True].wait(30)
    pool(1).apply_async(
        signal.pause, timeout=0.1, timeout_callback=lambda soft, _: told[soft].set()
    )
    assert told[False].wait(30)


def test_a_callback_added_after_the_end_is_called_at_once(pool, log):
    task = pool(1).apply_async(square, (2,))
    task.get()
    task.add_done_callback(log("done"))
    assert log.entries == [("done", task)]


def test_callbacks_may_submit_and_wait_and_cancel(pool):
    one = pool(1, putlocks=True)
    seen = []
    end = threading.Event()

    def chain(result):
        seen.append(result)
        if result >= 256:
            cancelled = one.apply_async(square, (1,)).cancel()
            seen.append(cancelled in (True, False))
            seen.append(one.apply_async(square, (5,)).get(30))
            end.set()
        else:
            one.apply_async(square, (result,), callback=chain)

    one.apply_async(square, (2,), callback=chain)
    assert end.wait(30)
    assert seen == [4, 16, 256, True, 25]


def test_a_callback_may_wait_for_a_task_of_the_same_batch(pool):
    one = pool(1, putlocks=False)
    seen = []
    tasks = []
    ready = threading.Event()

    def wait(_):
        ready.wait(30)
        seen.append([task.get(30) for task in tasks])

    tasks += [one.apply_async(square, (i,), callback=wait if i == 0 else None) for i in range(20)]
    ready.set()
    eventually(lambda: seen)
    assert seen == [[i * i for i in range(20)]]


@pytest.mark.parametrize("ending", ["join", "stop", "terminate"])
def test_a_callback_that_blocks_does_not_block_what_has_a_timeout(pool, ending):
    one = pool(1, putlocks=False)
    called, go_on, later = threading.Event(), threading.Event(), threading.Event()

    def block(_):
        called.set()
        go_on.wait()

    one.apply_async(square, (1,), callback=block)
    one.apply_async(square, (2,), callback=lambda _: later.set()).wait()
    assert called.wait(30)
    if ending == "join":
        one.close()
        assert one.join(0.05) is False
    else:
        getattr(one, ending)(0.05)
        assert one.state == "stopped"
    assert not later.is_set()
    go_on.set()
    assert one.join() is True
    assert later.is_set()


def test_a_dead_workers_callbacks(pool, log):
    one = pool(1)
    task = one.apply_async(spin, **log.all())
    eventually(lambda: task.pid)
    os.kill(task.pid, signal.SIGKILL)
    eventually(lambda: len(log.entries) == 2)
    assert log.names == ["accept", "error"]


class Caller:
    """Holds its task, which calls its methods."""

    def __init__(self):
        self.heard = []

    def hear(self, *what):
        self.heard.append(what)


@pytest.mark.parametrize("target", [square, fail])
def test_a_task_lets_go_of_its_callbacks_when_they_have_been_called(pool, target):
    one = pool(1)
    one.fileno()
    caller = Caller()
    caller.task = one.apply_async(
        target,
        (3,),
        callback=caller.hear,
        error_callback=caller.hear,
        accept_callback=caller.hear,
        timeout_callback=caller.hear,
    )
    eventually(caller.task.done, one)
    one.poll()
    assert len(caller.heard) == 2
    caller.heard.clear()
    gone = weakref.ref(caller)
    gc.disable()
    try:
        del caller
        assert gone() is None
    finally:
        gc.enable()
