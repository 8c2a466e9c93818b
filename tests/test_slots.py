"""Slots that apply_async waits for, and the semaphore that counts them."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading

import pytest

import prefork
from helpers import fail, hold, spin, square
from prefork.semaphore import Slots


class Alarm(Exception):
    pass


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


# ---- the pool's own ------------------------------------------------------------------------------


def free(slots):
    """How many may be taken, by taking them."""
    hands = []
    while slots.take(hand := []):
        hands.append(hand)
    for hand in hands:
        slots.give_back(hand)
    return len(hands)


def test_slots_that_are_to_go_do_so_when_they_are_given_back():
    slots = Slots(2)
    hands = [[], []]
    assert [slots.take(hand) for hand in hands] == [True, True]
    assert not slots.take([])
    slots.resize(1)
    slots.give_back(hands[0])
    slots.give_back(hands[0])  # there is nothing in it
    assert free(slots) == 0
    slots.give_back(hands[1])
    assert free(slots) == 1
    slots.resize(4)
    assert free(slots) == 4
    slots.resize(0)
    assert free(slots) == 0
    slots.resize(1)
    assert free(slots) == 1


def test_slots_are_right_again_whatever_threads_did_at_once():
    slots = Slots(3)
    begin = threading.Barrier(4)

    def take_and_give():
        begin.wait()
        for _ in range(3000):
            hand = []
            slots.take(hand)
            slots.give_back(hand)

    def resize():
        begin.wait()
        for _ in range(1000):
            slots.resize(1)
            slots.resize(3)

    threads = [threading.Thread(target=take_and_give) for _ in range(3)]
    threads.append(threading.Thread(target=resize))
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
    assert free(slots) == 3


def test_a_handler_that_raises_while_slots_are_given_back_loses_none():
    def raise_alarm(*_):
        raise Alarm

    previous = signal.signal(signal.SIGVTALRM, raise_alarm)
    try:
        for _ in range(300):
            slots = Slots(3)
            hands = [[], [], []]
            for hand in hands:
                slots.take(hand)
            slots.resize(1)
            with contextlib.suppress(Alarm):
                signal.setitimer(signal.ITIMER_VIRTUAL, 1e-5)
                while any(hands):
                    for hand in hands:
                        slots.give_back(hand)
                while True:
                    slots.give_back([])
            for hand in hands:
                slots.give_back(hand)
            assert free(slots) == 1
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, previous)
