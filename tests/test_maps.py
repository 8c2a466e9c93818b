"""map, starmap, imap, imap_unordered."""

from __future__ import annotations

import copy
import functools
import os
import signal
import sys
import threading

import pytest

import prefork
from helpers import add, eventually, fail_on_odd, hold, pid_of_worker, square


@pytest.mark.parametrize("chunksize", [1, 2, 7, 1000])
@pytest.mark.parametrize("name", ["map", "imap"])
def test_results_come_in_the_order_of_the_input(pool, name, chunksize):
    one = pool(2)
    assert list(getattr(one, name)(square, range(300), chunksize)) == [i * i for i in range(300)]


@pytest.mark.parametrize("chunksize", [1, 7])
def test_imap_unordered_gives_every_result_once(pool, chunksize):
    one = pool(2)
    assert sorted(one.imap_unordered(square, range(300), chunksize)) == [i * i for i in range(300)]


@pytest.mark.parametrize("chunksize", [1, 3])
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


def test_an_exception_comes_in_its_turn_and_the_rest_follows(pool):
    results = pool(2).imap(fail_on_odd, range(6))
    seen = []
    while True:
        try:
            seen.append(next(results))
        except StopIteration:
            break
        except ValueError as error:
            seen.append(error.args)
    assert seen == [0, (1,), 2, (3,), 4, (5,)]


def test_map_raises_the_first_exception_of_the_input(pool):
    with pytest.raises(ValueError, match="1"):
        pool(2).map(fail_on_odd, range(100))


def test_a_lost_worker_fails_one_item(pool):
    results = pool(2).imap(exit_on_three, range(6))
    seen = []
    while True:
        try:
            seen.append(next(results))
        except StopIteration:
            break
        except prefork.WorkerExited as error:
            seen.append(error.exitcode)
    assert seen == [0, 1, 2, 9, 4, 5]


def exit_on_three(x):
    if x == 3:
        os._exit(9)
    return x


class Broken(Exception):
    pass


def breaks_after(count):
    yield from range(count)
    raise Broken


@pytest.mark.parametrize("count", [0, 3, 100])
@pytest.mark.parametrize("chunksize", [1, 2])
def test_what_the_input_raises_comes_after_the_results_before_it(pool, count, chunksize):
    results = pool(1).imap(square, breaks_after(count), chunksize)
    assert [next(results) for _ in range(count)] == [i * i for i in range(count)]
    with pytest.raises(Broken):
        next(results)
    with pytest.raises(StopIteration):
        next(results)


def test_map_raises_what_the_input_raises(pool):
    one = pool(1)
    with pytest.raises(Broken):
        one.map(square, breaks_after(5))
    assert one.map(square, range(5)) == [0, 1, 4, 9, 16]


@pytest.mark.parametrize("chunksize", [1, 3, 8])
@pytest.mark.parametrize("name", ["imap", "imap_unordered"])
def test_an_item_that_cannot_be_pickled_fails_alone(pool, name, chunksize):
    items = [0, 1, 2, threading.Lock(), 4, threading.Lock(), 6, 7]
    seen = outcomes(getattr(pool(2), name)(copy.copy, iter(items), chunksize))
    failed = [at for at, one in enumerate(seen) if isinstance(one, TypeError)]
    if name == "imap":
        assert failed == [3, 5]
    assert all("cannot pickle" in str(seen[at]) for at in failed)
    results = [one for one in seen if not isinstance(one, TypeError)]
    assert (sorted(results), len(seen)) == ([0, 1, 2, 4, 6, 7], 8)


@pytest.mark.parametrize("chunksize", [1, 3])
@pytest.mark.parametrize("name", ["imap", "imap_unordered"])
def test_of_items_that_cannot_be_pickled_no_more_are_pulled_than_of_others(pool, name, chunksize):
    one = pool(1)
    pulled = 0

    def source():
        nonlocal pulled
        while True:
            pulled += 1
            yield threading.Lock()

    results = getattr(one, name)(copy.copy, source(), chunksize)
    for taken in range(100):
        assert pulled <= taken + 64 * chunksize
        with pytest.raises(TypeError, match="cannot pickle"):
            next(results)
    assert one.stats["tasks_submitted"] == 0


@pytest.mark.parametrize("chunksize", [1, 2])
def test_what_the_input_raises_after_an_item_that_cannot_be_pickled_ends_it(pool, chunksize):
    def source():
        yield from (1, threading.Lock(), 3)
        raise Broken

    seen = outcomes(pool(1).imap(square, source(), chunksize))
    assert [type(one) for one in seen] == [int, TypeError, int, Broken]


@pytest.mark.parametrize("chunksize", [1, 3])
def test_a_function_that_cannot_be_pickled_ends_the_input(pool, chunksize):
    (error,) = outcomes(pool(1).imap(lambda x: x, range(9), chunksize))
    assert "pickle" in str(error)


@pytest.mark.parametrize("chunksize", [0, -1])
def test_a_chunk_of_nothing_is_refused(pool, chunksize):
    with pytest.raises(ValueError, match="chunksize"):
        pool(1).map(square, [1], chunksize)


@pytest.mark.parametrize("chunksize", [1.5, "2", None])
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


# ---- what calls raise ----------------------------------------------------------------------------


def outcomes(results):
    """Every result, and every exception, in the order in which they come."""
    seen = []
    while True:
        try:
            seen.append(next(results))
        except StopIteration:
            return seen
        except Exception as error:
            seen.append(error)


def stop_on_three(x, y=0):
    if x == 3:
        raise StopIteration("a slip")
    return x


@pytest.mark.parametrize("chunksize", [1, 2])
@pytest.mark.parametrize("name", ["imap", "imap_unordered"])
def test_stopiteration_of_a_call_is_no_end_of_the_results(pool, name, chunksize):
    seen = outcomes(getattr(pool(2), name)(stop_on_three, range(6), chunksize))
    (error,) = [one for one in seen if isinstance(one, Exception)]
    assert isinstance(error, RuntimeError)
    assert isinstance(error.__cause__, StopIteration)
    assert "stop_on_three" in str(error)
    seen.remove(error)
    assert sorted(seen) == [0, 1, 2, 4, 5]


@pytest.mark.parametrize("chunksize", [1, 2])
def test_stopiteration_of_a_call_does_not_shorten_a_map(pool, chunksize):
    one = pool(2)
    with pytest.raises(RuntimeError, match="StopIteration") as caught:
        one.map(stop_on_three, range(6), chunksize)
    assert isinstance(caught.value.__cause__, StopIteration)
    with pytest.raises(RuntimeError, match="StopIteration"):
        one.starmap(stop_on_three, [(i, 0) for i in range(6)], chunksize)


@pytest.mark.parametrize("name", ["imap", "imap_unordered"])
def test_the_items_of_a_chunk_have_outcomes_of_their_own(pool, name):
    seen = outcomes(getattr(pool(1), name)(fail_on_odd, range(6), 4))
    assert [one.args if isinstance(one, ValueError) else one for one in seen] == [
        0, (1,), 2, (3,), 4, (5,),
    ]  # fmt: skip
    assert "in fail_on_odd" in str(seen[1].__cause__)


def lock_on_three(x):
    return threading.Lock() if x == 3 else x


def exits_on_three(x):
    return sys.exit(3) if x == 3 else x


@pytest.mark.parametrize(
    ("target", "kind"), [(lock_on_three, TypeError), (exits_on_three, prefork.RemoteError)]
)
def test_what_cannot_be_brought_here_fails_one_item_of_its_chunk(pool, target, kind):
    seen = outcomes(pool(1).imap(target, range(6), 6))
    assert isinstance(seen.pop(3), kind)
    assert seen == [0, 1, 2, 4, 5]


class Breaks(Exception):
    """A value, or an exception, whose unpickling raises, if not in the process that made it."""

    def __init__(self, how):
        self.how = how

    def __reduce__(self):
        return break_elsewhere, (os.getpid(), self.how)


def break_elsewhere(pid, how):
    if os.getpid() != pid:
        raise how("while unpickling")
    return how


def give_on_three(x, how):
    return Breaks(how) if x == 3 else [x, {"square": x * x}]


def raise_on_three(x, how):
    if x == 3:
        raise Breaks(how)
    return [x, {"square": x * x}]


@pytest.mark.parametrize("chunksize", [1, 6])
@pytest.mark.parametrize("how", [KeyError, SystemExit, KeyboardInterrupt])
@pytest.mark.parametrize(
    ("target", "what"),
    [
        (give_on_three, "the result of give_on_three"),
        (raise_on_three, "what raise_on_three raised"),
    ],
)
def test_what_does_not_unpickle_fails_one_item(pool, target, what, how, chunksize):
    one = pool(1)
    call = functools.partial(target, how=how)
    seen = outcomes(one.imap(call, range(6), chunksize))
    error = seen.pop(3)
    if how is KeyError and target is raise_on_three:
        assert isinstance(error, prefork.RemoteError)  # which says what it was in the worker
    else:
        assert isinstance(error, TypeError)
        assert what in str(error)
        assert "while unpickling" in str(error)
    assert seen == [[x, {"square": x * x}] for x in (0, 1, 2, 4, 5)]


class Interrupts:
    """A result at whose unpickling Ctrl-C is pressed, the first time."""

    def __reduce__(self):
        return press, ()


pressed = []


def press():
    if not pressed:
        pressed.append(True)
        signal.raise_signal(signal.SIGINT)
    return "whole"


def interrupt_on_one(x):
    return Interrupts() if x == 1 else x


@pytest.mark.parametrize("chunksize", [1, 3])
def test_ctrl_c_while_an_item_is_unpickled_is_the_programs(pool, chunksize):
    pressed.clear()
    results = pool(1).imap(interrupt_on_one, range(3), chunksize)
    seen = []
    with pytest.raises(KeyboardInterrupt):
        while True:
            seen.append(next(results))
    assert seen + list(results) == [0, "whole", 2]


@pytest.mark.parametrize(
    "value", [None, 1 << 99, "\ud800", (1.5, b"x", bytearray(b"y"), {3j} - {3j})]
)
def test_plain_data_of_a_chunk_comes_as_it_was(pool, value):
    assert pool(1).map(copy.copy, [value] * 3, 3) == [value] * 3


def test_errors_of_a_chunk_name_the_function(pool):
    (lost,) = outcomes(pool(1).imap(exit_on_three, [3, 3], 2))
    assert isinstance(lost, prefork.WorkerExited)
    assert lost.task_name == "exit_on_three"
    assert "while it ran exit_on_three" in str(lost)
    with pytest.raises(prefork.TimeoutError, match="of hold"):
        pool(0).imap(hold, [1, 2], 2).next(0)


@pytest.mark.parametrize("chunksize", [1, 3])
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
