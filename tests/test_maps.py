"""map, starmap, imap, imap_unordered."""

from __future__ import annotations

import copy
import threading

import pytest

import prefork
from helpers import add, eventually, hold, pid_of_worker, square


@pytest.mark.parametrize("chunksize", [None, 1, 2, 7, 1000])
@pytest.mark.parametrize("name", ["map", "imap"])
def test_results_come_in_the_order_of_the_input(pool, name, chunksize):
    one = pool(2)
    assert list(getattr(one, name)(square, range(300), chunksize)) == [i * i for i in range(300)]


@pytest.mark.parametrize("chunksize", [None, 1, 7])
def test_imap_unordered_gives_every_result_once(pool, chunksize):
    one = pool(2)
    assert sorted(one.imap_unordered(square, range(300), chunksize)) == [i * i for i in range(300)]


@pytest.mark.parametrize("chunksize", [None, 1, 3])
def test_starmap_unpacks(pool, chunksize):
    assert pool(2).starmap(add, [(i, 1) for i in range(20)], chunksize) == list(range(1, 21))


@pytest.mark.parametrize("name", ["map", "starmap", "imap", "imap_unordered"])
def test_no_input_gives_no_results(pool, name):
    assert list(getattr(pool(1), name)(square, [])) == []


def test_a_slow_task_holds_back_the_ordered_only(pool, gate):
    one = pool(2)
    calls = [(hold, (gate.path, "slow")), *((square, (i,)) for i in range(5))]
    unordered = one.imap_unordered(call, calls)
    gate.arrived()
    assert sorted(next(unordered) for _ in range(5)) == [0, 1, 4, 9, 16]
    gate.open()
    assert list(unordered) == ["slow"]
    ordered = one.imap(call, calls)
    gate.arrived()
    with pytest.raises(prefork.TimeoutError):
        ordered.next(0.1)
    gate.open()
    assert list(ordered) == ["slow", 0, 1, 4, 9, 16]


@pytest.mark.parametrize("chunksize", [1, 2])
def test_a_slow_task_does_not_hold_back_a_list_of_all_results(pool, gate, chunksize):
    """It is far ahead of what could be taken that the others are done."""
    one = pool(2)
    results = []
    calls = [(hold, (gate.path, "slow")), *((square, (i,)) for i in range(500))]
    thread = threading.Thread(target=lambda: results.extend(one.map(call, calls, chunksize)))
    thread.start()
    gate.arrived()
    eventually(lambda: one.stats["tasks_succeeded"] == (500 if chunksize == 1 else 250))
    gate.open()
    thread.join()
    assert results == ["slow", *(i * i for i in range(500))]


def call(what):
    function, args = what
    return function(*args)


@pytest.mark.parametrize("name", ["imap", "imap_unordered"])
def test_next_gives_up_after_its_timeout_and_loses_nothing(pool, gate, name):
    results = getattr(pool(1), name)(hold, [gate.path] * 2)
    for _ in range(3):
        with pytest.raises(prefork.TimeoutError):
            results.next(0.02)
    gate.open(2)
    assert len(list(results)) == 2


@pytest.mark.parametrize("name", ["imap", "imap_unordered"])
@pytest.mark.parametrize("chunksize", [1, 5])
def test_the_input_is_pulled_lazily(pool, name, chunksize):
    one = pool(2)
    pulled = 0

    def source():
        nonlocal pulled
        while True:
            pulled += 1
            yield pulled

    results = getattr(one, name)(square, source(), chunksize)
    bound = 64 * one.limit * chunksize
    assert pulled <= bound
    for taken in range(1, 500):
        next(results)
        assert pulled <= taken + bound
    one.flush()


@pytest.mark.parametrize("chunksize", [0, -1])
def test_a_chunk_of_nothing_is_refused(pool, chunksize):
    with pytest.raises(ValueError, match="chunksize"):
        pool(1).map(square, [1], chunksize)


@pytest.mark.parametrize("chunksize", [1.5, "2"])
def test_a_chunksize_that_is_no_integer_is_an_error_that_names_it(pool, chunksize):
    with pytest.raises(TypeError, match="chunksize must be an integer"):
        pool(1).map(square, [1], chunksize)


def test_maps_take_no_slots(pool, gate):
    slots = prefork.Semaphore(1)
    one = pool(1, semaphore=slots)
    results = one.imap(hold, [gate.path] * 5)
    gate.arrived()
    assert slots.value == 1
    gate.open(5)
    assert len(list(results)) == 5


def test_both_workers_work(pool, gate):
    one = pool(2)
    results = one.imap(hold, [gate.path] * 2)
    pids = gate.arrived(2)
    gate.open(2)
    assert sorted(results) == sorted(pids)


def test_maps_in_a_closed_pool_are_refused(pool):
    one = pool(1)
    one.close()
    with pytest.raises(prefork.PoolClosed):
        one.map(square, [1])


def test_an_abandoned_iterator_harms_nobody(pool):
    one = pool(2)
    iterator = one.imap(square, range(10_000))
    next(iterator)
    del iterator
    assert one.map(square, range(3)) == [0, 1, 4]


def test_maps_at_the_same_time(pool):
    one = pool(2)
    first, second = one.imap(square, range(200)), one.imap_unordered(pid_of_worker, range(200))
    pairs = list(zip(first, second, strict=True))
    assert [pair[0] for pair in pairs] == [i * i for i in range(200)]
    eventually(lambda: one.stats["tasks_unfinished"] == 0, one)


@pytest.mark.parametrize(
    "value", [None, 1 << 99, "\ud800", (1.5, b"x", bytearray(b"y"), {3j} - {3j})]
)
def test_plain_data_of_a_chunk_comes_as_it_was(pool, value):
    assert pool(1).map(copy.copy, [value] * 3, 3) == [value] * 3


@pytest.mark.parametrize("chunksize", [None, 1, 3])
@pytest.mark.parametrize("name", ["imap", "imap_unordered"])
def test_threads_may_share_an_iterator(pool, name, chunksize):
    results = getattr(pool(2), name)(square, range(1000), chunksize)
    found = []
    sharing = [threading.Thread(target=lambda: found.extend(results)) for _ in range(4)]
    for thread in sharing:
        thread.start()
    for thread in sharing:
        thread.join()
    assert sorted(found) == [i * i for i in range(1000)]


def test_a_thread_waits_for_another_that_waits_no_longer_than_it_wants(pool, gate):
    results = pool(1).imap(hold, [gate.path])
    found = []
    thread = threading.Thread(target=lambda: found.extend(results))
    thread.start()
    gate.arrived()
    with pytest.raises(prefork.TimeoutError):
        results.next(0.01)
    gate.open()
    thread.join()
    assert len(found) == 1
