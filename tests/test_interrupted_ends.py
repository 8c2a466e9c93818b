"""Signal handlers that come while the end of a task is applied: they raise, wait for that very
task, or are interrupted themselves."""

from __future__ import annotations

import collections
import concurrent.futures
import contextlib
import os
import signal
import sys
import threading

import pytest

from helpers import Interrupt, eventually, hold, square, undisturbed
from prefork.task import Task


@contextlib.contextmanager
def struck_once(one, when, handler):
    """A signal comes once in the main thread, before or after it has settled a task."""
    settle, left = one._delivery._settle, [1]

    def strike():
        if threading.current_thread() is threading.main_thread() and left:
            left.clear()
            signal.raise_signal(signal.SIGUSR2)

    def struck(task, event):
        if when == "before":
            strike()
        settle(task, event)
        strike()

    one._delivery._settle = struck
    previous = signal.signal(signal.SIGUSR2, handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGUSR2, previous)
        one._delivery._settle = settle


class NeverSearched(collections.deque):
    """Others change it all the time, and who iterates then gets RuntimeError."""

    def __iter__(self):
        raise RuntimeError("deque mutated during iteration")


def raise_interrupt(*_):
    raise Interrupt


@pytest.mark.parametrize("when", ["before", "after"])
def test_an_end_whose_application_is_broken_off_is_applied_by_who_comes_first(pool, gate, when):
    one = pool(1, putlocks=False)
    delivery = one._delivery
    delivery.events = NeverSearched(delivery.events)
    delivery._next_event = iter(delivery.events.popleft, None)
    seen = []
    one.apply_async(square, (3,), callback=seen.append)
    eventually(lambda: seen == [9])  # there is a delivery thread
    ours = threading.Event()
    look = one._look
    one._look = lambda: (ours.wait(), look())  # and the main thread is the first to have the end
    task = one.apply_async(square, (4,), callback=seen.append)
    with struck_once(one, when, raise_interrupt), pytest.raises(Interrupt):
        task.wait(30)
    ours.set()
    eventually(lambda: seen == [9, 16])
    assert one.apply(square, (5,)) == 25
    assert seen == [9, 16]
    assert not (delivery.tasks or delivery.early or delivery.hand or delivery.ended)


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_handler_may_wait_for_the_task_whose_end_it_interrupts(pool, when):
    one = pool(1)
    one.fileno()
    seen, waited = [], []
    task = one.apply_async(square, (3,), callback=seen.append)
    with struck_once(one, when, lambda *_: waited.append(task.wait(20))):
        assert task.get(30) == 9
    one.poll()
    assert (waited, seen) == ([True], [9])
    delivery = one._delivery
    assert not (delivery.tasks or delivery.early or delivery.hand or delivery.ended)
    assert one.apply(square, (2,)) == 4


def test_the_start_is_told_before_the_end_also_where_a_handler_comes_between(
    pool, gate, monkeypatch
):
    one = pool(1)
    one.fileno()
    seen = []
    call_accepted, left = Task._call_accepted, [1]

    def interrupted(task, pid, at):
        """A handler comes before it has begun, and waits for the task."""
        if left:
            left.clear()
            gate.open()
            assert task.wait(30)
            one.poll()
        call_accepted(task, pid, at)

    monkeypatch.setattr(Task, "_call_accepted", interrupted)
    task = one.apply_async(
        hold,
        (gate.path,),
        accept_callback=lambda *_: seen.append("accept"),
        callback=lambda _: seen.append("end"),
    )
    gate.arrived(pool=one)
    eventually(lambda: seen == ["accept", "end"], one)
    assert task.done()


def test_a_handler_that_waits_in_vain_leaves_nothing_behind(pool):
    """It goes on with the end that it has interrupted, and is itself interrupted in that."""
    one = pool(1)
    one.fileno()
    caught = []

    def handler(*_):
        try:
            with struck_once(one, "before", raise_interrupt):
                task.wait(20)
        except Interrupt:
            caught.append(task)

    seen = []
    task = one.apply_async(square, (3,), callback=seen.append)
    with struck_once(one, "before", handler):
        assert task.get(30) == 9
    assert one.apply(square, (2,)) == 4
    assert (caught, seen) == ([task], [9])
    delivery = one._delivery
    assert not (delivery.tasks or delivery.early or delivery.hand or delivery.ended)


@contextlib.contextmanager
def signal_at(what, name):
    """SIGUSR2 comes in the main thread, once, where `what` (of sys.setprofile) happens to a
    function of that name; its handler raises Interrupt."""
    left = [1]

    def look(frame, event, _):
        if left and (event, frame.f_code.co_name) == (what, name):
            left.clear()
            signal.raise_signal(signal.SIGUSR2)

    previous = signal.signal(signal.SIGUSR2, raise_interrupt)
    sys.setprofile(look)
    try:
        yield
    finally:
        sys.setprofile(None)
        signal.signal(signal.SIGUSR2, previous)
    assert not left


@pytest.mark.parametrize(
    ("what", "name"),
    [
        ("call", "run_callbacks"),
        ("call", "_call_ended"),
        ("call", "_call_once"),
        ("return", "_call_once"),
        ("call", "_call_done_callbacks"),
        ("return", "_call_done_callbacks"),
    ],
)
def test_a_callback_is_called_once_wherever_a_handler_raises(pool, what, name):
    one = pool(1)
    one.fileno()
    seen = []
    task = one.apply_async(square, (3,), callback=seen.append)
    for mark in ("first", "second"):
        task.add_done_callback(lambda _, mark=mark: seen.append(mark))
    eventually(lambda: undisturbed(task.done))
    with signal_at(what, name):
        eventually(lambda: undisturbed(one.poll) == 0 and len(seen) >= 3)
    assert seen == [9, "first", "second"]


def test_a_worker_is_spawned_where_a_handler_breaks_off_what_permits_it(pool):
    asked = []
    one = pool(1, before_spawn=lambda: asked.append(1))
    one.fileno()
    pid = one.apply(os.getpid)
    with signal_at("call", "_permit_spawn"):
        os.kill(pid, signal.SIGKILL)
        eventually(lambda: undisturbed(one.poll) is not None and len(asked) == 2)
    assert one.apply(square, (3,)) == 9
    assert len(asked) == 2


def test_who_waits_by_concurrent_futures_is_told_where_a_handler_breaks_off_the_telling(pool, gate):
    one = pool(1)
    one.fileno()
    tasks = [one.apply_async(hold, (gate.path, 1)), one.apply_async(square, (3,))]
    told = []
    waiter = threading.Thread(target=lambda: told.append(concurrent.futures.wait(tasks)))
    waiter.start()
    eventually(lambda: all(task._waiters for task in tasks))
    gate.arrived(pool=one)
    with signal_at("call", "add_result"):
        gate.open()
        for task in tasks:
            assert undisturbed(task.get) in (1, 9)
    waiter.join(30)
    assert [len(found) for found in told[0]] == [2, 0]


class Counted:
    """A semaphore of the application's, in whose release() a signal comes."""

    def __init__(self, value):
        self.value = value

    def acquire(self, blocking=True):
        self.value -= 1
        return True

    def release(self):
        self.value += 1
        signal.raise_signal(signal.SIGUSR2)


def test_a_handler_that_looks_at_the_task_releases_no_semaphore_twice(pool):
    slots = Counted(2)
    one = pool(1, semaphore=slots)
    previous = signal.signal(signal.SIGUSR2, lambda *_: task.done())
    try:
        task = one.apply_async(square, (3,))
        assert task.get() == 9
    finally:
        signal.signal(signal.SIGUSR2, previous)
    assert slots.value == 2


class StruckAtPoll:
    """A core out of whose poll a handler raises in the main thread, once it has found something."""

    def __init__(self, core):
        self.core = core
        self.left = [1]

    def __getattr__(self, name):
        return getattr(self.core, name)

    def poll(self, timeout, rouses, events):
        count = self.core.poll(timeout, rouses, events)
        if events and self.left and threading.current_thread() is threading.main_thread():
            self.left.clear()
            raise Interrupt
        return count


def test_what_a_poll_that_is_broken_off_has_found_is_not_left_to_chance(pool, gate):
    """Another thread waits for it, and the main thread does not come again."""
    one = pool(1)
    one._core = core = StruckAtPoll(one._core)
    while core.left:
        task = one.apply_async(hold, (gate.path, 1))
        gate.arrived()
        other = threading.Thread(target=task.wait)
        other.start()
        with contextlib.suppress(Interrupt):
            gate.open()
            task.wait()
        other.join(30)
        assert not other.is_alive()


def test_ctrl_c_while_a_result_is_unpickled_is_for_the_main_thread(pool):
    one = pool(1)
    one._delivery._interrupt = KeyboardInterrupt()
    other = threading.Thread(target=one._delivery.apply)
    other.start()
    other.join()
    with pytest.raises(KeyboardInterrupt):
        one._delivery.apply()
