"""Semaphores that are passed in, and the class by itself."""

from __future__ import annotations

import signal
import sys
import threading

import pytest

import prefork
from helpers import fail, square


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


def test_pools_that_share_a_semaphore_change_it_by_what_they_change(pool):
    slots = prefork.Semaphore(5)
    one, two = pool(2, semaphore=slots), pool(2, semaphore=slots)
    one.grow()
    two.grow(2)
    one.shrink(2)
    assert (one.limit, two.limit, slots.bound) == (1, 4, 6)


class GrowsOnly:
    """A semaphore that is told how many more or fewer, like kombu's."""

    def __init__(self, value):
        self.value = value

    def acquire(self, blocking=True):
        return True

    def release(self):
        pass

    def grow(self, count):
        self.value += count

    def shrink(self, count):
        self.value -= count


@pytest.mark.parametrize("kind", [None, prefork.Semaphore, GrowsOnly])
@pytest.mark.parametrize("call", ["call", "return"])
def test_a_handler_that_grows_the_pool_within_grow_adds_to_it(pool, kind, call):
    slots = kind(2) if kind else None
    one = pool(2, semaphore=slots)
    name = "grow" if kind is GrowsOnly else "resize"
    kind = type(one._semaphore)

    def strike(frame, event, _):
        if event == call and frame.f_code is getattr(kind, name).__code__:
            sys.setprofile(None)
            signal.raise_signal(signal.SIGUSR2)

    previous = signal.signal(signal.SIGUSR2, lambda *_: one.grow(2))
    try:
        sys.setprofile(strike)
        one.grow(1)
    finally:
        sys.setprofile(None)
        signal.signal(signal.SIGUSR2, previous)
    count = len(one._semaphore.free) if slots is None else slots.value
    assert (one.limit, one._core.describe()["target"], count) == (5, 5, 5)


def test_a_semaphore_that_cannot_be_released_harms_no_task(pool, caplog):
    one = pool(1, semaphore=threading.BoundedSemaphore(1), putlocks=False)  # acquired by nobody
    assert [one.apply(square, (i,)) for i in range(5)] == [0, 1, 4, 9, 16]
    with pytest.raises(ValueError, match="no"):
        one.apply(fail)
    one.stop()
    assert one.state == "stopped"
    assert caplog.text.count("semaphore could not be released") == 6


def test_a_refused_task_gives_its_slot_back(pool):
    slots = Counting(1)
    one = pool(1, semaphore=slots)
    with pytest.raises(Exception, match="local object"):
        one.apply_async(lambda: None)
    one.close()
    with pytest.raises(prefork.PoolClosed):
        one.apply_async(square, (1,))
    assert slots.acquired == slots.released
    assert slots.value == 1


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
    slots.acquire()
    slots.resize(3)
    assert (slots.value, slots.bound) == (2, 3)
    slots.resize(0)
    assert (slots.value, slots.bound) == (0, 0)
    for wrong in (prefork.Semaphore, slots.resize):
        with pytest.raises(ValueError, match="slots"):
            wrong(-1)


@pytest.mark.parametrize("name", ["grow", "shrink"])
def test_a_semaphore_changes_by_no_negative_count(name):
    slots = prefork.Semaphore(2)
    with pytest.raises(ValueError, match=f"cannot {name} by -1"):
        getattr(slots, name)(-1)
    assert slots.bound == 2
