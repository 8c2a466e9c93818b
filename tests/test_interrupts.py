"""Signal handlers that raise, Ctrl-C above all: the program hears of it, and no task is lost."""

from __future__ import annotations

import _thread
import contextlib
import logging
import os
import select
import signal
import sys
import threading

import pytest

import prefork
from helpers import Interrupt, asleep, eventually, hold, kill_both_zygotes, square, undisturbed
from prefork import recovery

LIBRARY = os.path.dirname(prefork.__file__)


@contextlib.contextmanager
def storm(interval):
    """A handler that raises again and again, wherever in the library the main thread is; but not in
    the midst of logging, which would keep its lock for ever."""

    def strike(_, frame):
        while frame is not None and frame.f_code.co_filename != logging.__file__:
            if frame.f_code.co_filename.startswith(LIBRARY):
                raise Interrupt
            frame = frame.f_back

    previous = signal.signal(signal.SIGVTALRM, strike)
    signal.setitimer(signal.ITIMER_VIRTUAL, interval, interval)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, previous)


def test_a_signal_just_before_a_wait_is_not_left_until_its_end(pool, gate):
    """interrupt_main() is like that: the handler is due, and no call was interrupted."""
    one = pool(1)
    task = one.apply_async(hold, (gate.path, 7))
    gate.arrived()
    previous = signal.signal(signal.SIGUSR2, lambda *_: gate.open())

    def strike():
        eventually(lambda: asleep(os.getpid()))
        _thread.interrupt_main(signal.SIGUSR2)

    striking = threading.Thread(target=strike)
    striking.start()
    try:
        assert task.result(30) == 7
    finally:
        striking.join()
        signal.signal(signal.SIGUSR2, previous)


@pytest.mark.parametrize("guest", [False, True])
def test_no_result_is_lost_when_handlers_raise_while_results_come(pool, guest):
    one = pool(2, putlocks=False)
    if guest:
        one.fileno()
    tasks = [one.apply_async(square, (i,)) for i in range(3000)]
    with storm(0.0005):
        assert [undisturbed(task.get) for task in tasks] == [i * i for i in range(3000)]
    assert one.stats["tasks_succeeded"] == 3000


# A handler may come between a file of /sys that is opened and the `with` that closes it.
@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")
@pytest.mark.filterwarnings(
    "ignore:Exception ignored in. <_io:pytest.PytestUnraisableExceptionWarning"
)
@pytest.mark.parametrize("guest", [False, True])
@pytest.mark.parametrize("method", ["fork", "exec"])
def test_handlers_that_raise_keep_no_pool_from_having_a_new_zygote(
    pool, monkeypatch, method, guest
):
    monkeypatch.setattr(recovery, "MOST", 100)
    one = pool(2, putlocks=False, start_method=method)
    if guest:
        one.fileno()
    for _ in range(3):
        tasks = [one.apply_async(square, (i,)) for i in range(100)]
        kill_both_zygotes(one)
        with storm(0.0005):
            errors = [undisturbed(task.exception) for task in tasks]
        assert all(error is None or error.zygote_lost for error in errors), errors
    assert one.state == "running"


def test_slots_survive_interrupts(pool):
    one = pool(2)
    tasks = [one.apply_async(square, (i,), waitforslot=False) for i in range(500)]
    with storm(0.0005):
        for task in tasks:
            undisturbed(task.get)
    assert [one.apply(square, (i,)) for i in range(10)] == [i * i for i in range(10)]


def test_no_callback_comes_twice_when_handlers_raise(pool):
    one = pool(2, putlocks=False)
    one.fileno()
    seen = []
    tasks = [one.apply_async(square, (i,), callback=seen.append) for i in range(1000)]
    with storm(0.0005):
        for task in tasks:
            undisturbed(task.get)
    one.poll()
    # One whose turn it was when a handler raised may be gone, as if it had been interrupted itself.
    assert len(set(seen)) == len(seen) > 900


class InterruptsOnce:
    """A result during whose unpickling Ctrl-C is pressed, the first time."""

    def __reduce__(self):
        return interrupt_once, ()


pressed = []


def interrupt_once():
    if not pressed:
        pressed.append(True)
        signal.raise_signal(signal.SIGINT)
    return "whole"


def give(what):
    return what()


def test_ctrl_c_while_a_result_is_unpickled_is_the_programs(pool):
    pressed.clear()
    task = pool(1).apply_async(give, (InterruptsOnce,))
    with pytest.raises(KeyboardInterrupt):
        task.get()
    assert task.get() == "whole"


@pytest.mark.parametrize("where", ["unpickling", "callback", "propagated"])
def test_a_guest_that_is_interrupted_is_called_again(pool, gate, where):
    one = pool(1, putlocks=False, callbacks_propagate=(ArithmeticError,))
    watched = select.poll()
    watched.register(one.fileno(), select.POLLIN)
    eventually(lambda: one.workers[0].state == "idle", one)
    pressed.clear()
    seen = []

    def interrupted(_):
        if where == "callback":
            raise KeyboardInterrupt
        if where == "propagated":
            raise ArithmeticError

    first = InterruptsOnce if where == "unpickling" else int
    one.apply_async(give, (first,), callback=interrupted)
    for _ in range(2):
        one.apply_async(
            give, (int,), callback=interrupted if where == "propagated" else seen.append
        )
    one.apply_async(give, (int,), callback=seen.append)
    one.apply_async(hold, (gate.path,))
    gate.arrived()  # the only worker has done the others, and nobody has polled since
    with pytest.raises((KeyboardInterrupt, ArithmeticError)):
        one.poll()
    while len(seen) < (1 if where == "propagated" else 3):
        assert watched.poll(20_000)
        with contextlib.suppress(ArithmeticError):
            one.poll()
    gate.open()


class AlwaysInterrupts:
    def __reduce__(self):
        return interrupt, ()


def interrupt():
    raise KeyboardInterrupt("from the data itself")


def test_a_result_that_raises_keyboardinterrupt_fails_its_task_only(pool):
    one = pool(1)
    with pytest.raises(TypeError, match="cannot be unpickled"):
        one.apply(give, (AlwaysInterrupts,))
    assert one.apply(square, (3,)) == 9


def test_ctrl_c_while_waiting_for_a_slot(pool, gate):
    one = pool(1)
    task = one.apply_async(hold, (gate.path,))
    gate.arrived()
    timer = threading.Timer(0.05, os.kill, [os.getpid(), signal.SIGINT])
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        one.apply_async(square, (2,))
    timer.join()
    gate.open()
    assert task.get() > 0
    assert one.apply(square, (2,)) == 4
    assert isinstance(one, prefork.TaskPool)


class InterruptedInput:
    """Numbers; asked for the eightieth, it is Ctrl-C that comes, once, and nothing is consumed."""

    def __init__(self, count):
        self.count, self.given, self.pressed = count, 0, False

    def __iter__(self):
        return self

    def __next__(self):
        if self.given == 80 and not self.pressed:
            self.pressed = True
            signal.raise_signal(signal.SIGINT)
        if self.given == self.count:
            raise StopIteration
        self.given += 1
        return self.given - 1


@pytest.mark.parametrize("chunksize", [None, 1, 3])
@pytest.mark.parametrize("name", ["imap", "imap_unordered"])
def test_ctrl_c_in_the_input_of_a_map_loses_neither_inputs_nor_results(pool, name, chunksize):
    results = getattr(pool(1), name)(square, InterruptedInput(200), chunksize)
    found = []
    with pytest.raises(KeyboardInterrupt):
        while True:
            found.append(next(results))
    found.extend(results)
    assert sorted(found) == [i * i for i in range(200)]
    if name == "imap":
        assert found == sorted(found)


# ---- a handler that raises, at every line in turn ------------------------------------------------


class Alarm(Exception):
    pass


def raised_at(line, call):
    """Whether there is such a line of the library's in what `call` runs, by count, and Alarm came
    out of it."""
    passed = 0

    def trace(frame, event, _):
        nonlocal passed
        if not frame.f_code.co_filename.startswith(LIBRARY):
            return None
        passed += event == "line"
        if passed == line:
            sys.settrace(None)
            raise Alarm
        return trace

    sys.settrace(trace)
    try:
        call()
    except Alarm:
        return True
    finally:
        sys.settrace(None)
    assert passed < line, "it was raised, and never came"
    return False


@pytest.mark.parametrize("how", ["apply", "apply_async", "map"])
def test_a_handler_that_raises_anywhere_leaves_no_slot_and_no_task_behind(pool, gate, how):
    one = pool(2)

    def call():
        if how == "map":
            assert one.map(square, range(10)) == [i * i for i in range(10)]
        else:
            getattr(one, how)(square, (3,))

    line = 1
    while raised_at(line, call):
        line += 1
        eventually(lambda: not one._delivery.tasks, one)
    assert line > 30
    held = [one.apply_async(hold, (gate.path,)) for _ in range(2)]
    gate.arrived(2)
    gate.open(2)
    assert [task.done() or bool(task.get()) for task in held] == [True, True]
    delivery = one._delivery
    assert not (delivery.tasks or delivery.early or delivery.events or delivery.callbacks)
    assert not delivery.hand


@pytest.mark.parametrize("passed_in", [False, True])
@pytest.mark.parametrize("name", ["grow", "shrink"])
def test_a_handler_that_raises_anywhere_leaves_as_many_slots_as_workers(pool, name, passed_in):
    one = pool(2, semaphore=prefork.Semaphore(2) if passed_in else None)

    def agreed():
        slots = one._semaphore.bound if passed_in else len(one._semaphore.free)
        counts = (one.limit, one._core.describe()["target"], slots)
        assert len(set(counts)) == 1, counts
        return one.limit

    line, found = 1, set()
    while raised_at(line, getattr(one, name)):
        found.add(agreed())
        one._resize(2 - one.limit)
        line += 1
    assert line > 5 and 2 in found
    assert agreed() == (3 if name == "grow" else 1)


@pytest.mark.parametrize("timeout", [None, 30])
@pytest.mark.parametrize("options", [{}, {"chunksize": 1}, {"chunksize": 2}])
def test_a_handler_that_raises_as_a_turn_begins_leaves_the_next_to_others(pool, options, timeout):
    results = pool(2).imap(square, range(9), **options)

    def trace(frame, event, _):
        if event == "line" and results._lock._is_owned():
            sys.settrace(None)
            raise Alarm
        return trace

    sys.settrace(trace)
    with pytest.raises(Alarm):
        results.next(timeout)
    found = []
    other = threading.Thread(target=lambda: found.extend(results), daemon=True)
    other.start()
    other.join(30)
    assert found == [i * i for i in range(9)]
