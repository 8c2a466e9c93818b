"""Maps that fail: what calls raise, what the input raises, and what cannot be brought over."""

from __future__ import annotations

import copy
import functools
import os
import signal
import sys
import threading
import time

import pytest

import prefork
from helpers import fail_on_odd, hold, lines, square


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


def test_an_exception_comes_in_its_turn_and_the_rest_follows(pool):
    seen = outcomes(pool(2).imap(fail_on_odd, range(6)))
    assert seen[::2] == [0, 2, 4]
    assert [(type(error), error.args) for error in seen[1::2]] == [
        (ValueError, (1,)),
        (ValueError, (3,)),
        (ValueError, (5,)),
    ]


def test_map_raises_the_first_exception_of_the_input(pool):
    with pytest.raises(ValueError, match="1"):
        pool(2).map(fail_on_odd, range(100))


def test_a_lost_worker_fails_one_item(pool):
    seen = outcomes(pool(2).imap(exit_on_three, range(6)))
    lost = seen.pop(3)
    assert isinstance(lost, prefork.WorkerExited)
    assert lost.exitcode == 9
    assert seen == [0, 1, 2, 4, 5]


@pytest.mark.parametrize("name", ["imap", "imap_unordered"])
def test_of_a_lost_chunk_each_item_has_the_error(pool, name):
    seen = outcomes(getattr(pool(1), name)(exit_on_three, range(10), chunksize=4))
    assert [type(one) for one in seen[:4]] == [prefork.WorkerExited] * 4
    assert seen[4:] == list(range(4, 10))


@pytest.mark.parametrize("name", ["imap", "imap_unordered"])
def test_of_a_chunk_over_its_limit_each_item_has_the_error(pool, name):
    results = getattr(pool(1), name)(sleep_on_three, range(7), chunksize=3, timeout=0.2)
    seen = outcomes(results)
    assert seen[:3] + seen[6:] == [0, 1, 2, 6]
    assert [type(one) for one in seen[3:6]] == [prefork.TimeLimitExceeded] * 3


@pytest.mark.parametrize("name", ["imap", "imap_unordered"])
def test_of_a_chunk_that_cannot_be_unpickled_each_item_has_the_error(pool, name):
    items = [0, UnpickledInVain(), 2, 3, 4]
    seen = outcomes(getattr(pool(1), name)(copy.copy, items, chunksize=3))
    assert [type(one) for one in seen[:3]] == [ValueError] * 3
    assert seen[3:] == [3, 4]


class UnpickledInVain:
    def __reduce__(self):
        return int, ("zz",)


def sleep_on_three(x):
    if x == 3:
        time.sleep(60)
    return x


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
@pytest.mark.parametrize("chunksize", [None, 1, 2])
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


@pytest.mark.parametrize("chunksize", [None, 1, 3, 8])
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


@pytest.mark.parametrize("chunksize", [None, 1, 3])
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
        assert pulled <= taken + 64 * (chunksize or 1)
        with pytest.raises(TypeError, match="cannot pickle"):
            next(results)
    assert one.stats["tasks_submitted"] == 0


@pytest.mark.parametrize("chunksize", [None, 1, 2])
def test_what_the_input_raises_after_an_item_that_cannot_be_pickled_ends_it(pool, chunksize):
    def source():
        yield from (1, threading.Lock(), 3)
        raise Broken

    seen = outcomes(pool(1).imap(square, source(), chunksize))
    assert [type(one) for one in seen] == [int, TypeError, int, Broken]


@pytest.mark.parametrize("chunksize", [None, 1, 3])
def test_a_function_that_cannot_be_pickled_ends_the_input(pool, chunksize):
    (error,) = outcomes(pool(1).imap(lambda x: x, range(9), chunksize))
    assert "pickle" in str(error)


def stop_on_three(x, y=0):
    if x == 3:
        raise StopIteration("a slip")
    return x


@pytest.mark.parametrize("chunksize", [None, 1, 2])
@pytest.mark.parametrize("name", ["imap", "imap_unordered"])
def test_stopiteration_of_a_call_is_no_end_of_the_results(pool, name, chunksize):
    seen = outcomes(getattr(pool(2), name)(stop_on_three, range(6), chunksize))
    (error,) = [one for one in seen if isinstance(one, Exception)]
    assert isinstance(error, RuntimeError)
    assert isinstance(error.__cause__, StopIteration)
    assert "stop_on_three" in str(error)
    seen.remove(error)
    assert sorted(seen) == [0, 1, 2, 4, 5]


@pytest.mark.parametrize("chunksize", [None, 1, 2])
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


@pytest.mark.parametrize("chunksize", [None, 1, 6])
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


@pytest.mark.parametrize("chunksize", [None, 1, 3])
def test_ctrl_c_while_an_item_is_unpickled_is_the_programs(pool, chunksize):
    pressed.clear()
    results = pool(1).imap(interrupt_on_one, range(3), chunksize)
    seen = []
    with pytest.raises(KeyboardInterrupt):
        while True:
            seen.append(next(results))
    assert seen + list(results) == [0, "whole", 2]


def test_errors_of_a_chunk_name_the_function(pool):
    lost, _ = outcomes(pool(1).imap(exit_on_three, [3, 3], 2))
    assert isinstance(lost, prefork.WorkerExited)
    assert lost.task_name == "exit_on_three"
    assert "while it ran exit_on_three" in str(lost)
    with pytest.raises(prefork.TimeoutError, match="of hold"):
        pool(0).imap(hold, [1, 2], 2).next(0)


class Counted:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        with open(self.path, "a") as file:
            file.write("pickled\n")
        raise ValueError("not this one")


def give(*args):
    return args


@pytest.mark.parametrize("at", [0, 150])  # what a map begins with goes another way than the rest
def test_an_item_that_cannot_be_sent_is_tried_once_and_its_call_is_not_another(pool, tmp_path, at):
    one = pool(1)
    items = [(i,) for i in range(at)]
    with pytest.raises(ValueError, match="not this one"):
        one.map(give, [*items, Counted(str(tmp_path / "tries"))], chunksize=1)
    assert len(lines(tmp_path / "tries")) == 1
    with pytest.raises(Exception, match="pickle|local object"):
        one.starmap(give, [*items, iter([1, lambda: 0])], chunksize=1)
    with pytest.raises(TypeError, match="not iterable"):
        one.starmap(give, [*items, 5], chunksize=1)
