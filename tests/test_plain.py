"""The short form of calls and results brings over what the long one does, exactly."""

from __future__ import annotations

import copy
import enum
import importlib
import os
import pickle
import resource
import signal
import time
from concurrent.futures._base import FINISHED, PENDING

import pytest

from prefork import PoolClosed, SoftTimeLimitExceeded, TaskPool, WorkerKilled, plain
from prefork.task import Task


class Colour(enum.IntEnum):
    RED = 1


class Name(str):
    pass


class Key(bytes):
    pass


PLAIN = [
    None, True, False, 0, 1, -1, 255, 2**31 - 1, 2**31, -(2**31) - 1, 2**63, -(10**1000),
    0.0, -0.0, 1e-320, 1.5, float("inf"), float("-inf"), float("nan"),
    "", "a", "ä", "\0", "\ud800", "😀" * 5000, b"", b"\0", b"\x80", b"(", b"x" * 100_000,
]  # fmt: skip
OTHER = [
    Colour.RED, Name("a"), Key(b"a"), bytearray(b"a"), (), (1,), [1], {"a": 1}, {1}, 1j,
    frozenset({1}), range(3), ..., int, NotImplemented, slice(1), (None, (True,)),
]  # fmt: skip


def echo(*args):
    return args


def first(*args):
    return args[0]


def shown(value):
    return type(value), repr(value)


class WithoutHash(type):
    def __eq__(cls, other):
        return cls is other


class Odd(metaclass=WithoutHash):
    pass


def odd():
    return Odd()


def more_than_fits():
    data = bytes(64 << 20)
    with open("/proc/self/statm") as file:
        present = int(file.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (present + (16 << 20), resource.RLIM_INFINITY))
    return data


def catch():
    try:
        time.sleep(30)
    except SoftTimeLimitExceeded:
        return "caught"


def kill():
    signal.raise_signal(signal.SIGKILL)


def fork():
    return os.fork() or echo()


forked = []


def fork_when_told():
    signal.signal(signal.SIGUSR1, lambda *_: forked.append(os.fork()))


def has_forked():
    return len(forked)


def end_of_fork():
    return os.waitstatus_to_exitcode(os.waitpid(forked[0], 0)[1])


@pytest.fixture
def two(pool):
    return pool(2, putlocks=False)


@pytest.mark.parametrize("value", PLAIN + OTHER, ids=ascii)
def test_arguments_and_results_are_what_they_were(two, value):
    assert shown(two.apply(first, (value,))) == shown(value)
    assert shown(two.apply(echo, (value, 1, value))) == shown((value, 1, value))
    assert shown(two.apply_async(first, (value,), callback=echo).get()) == shown(value)
    assert [shown(found) for found in two.map(first, [value, value])] == [shown(value)] * 2


@pytest.mark.parametrize("value", PLAIN, ids=ascii)
def test_what_is_plain_takes_the_short_form(value):
    data = plain.encode_call(echo, (value, value))
    function, args = plain.decode_call(data)
    assert function is echo
    assert shown(args) == shown((value, value))
    assert plain.is_call(data)
    result = plain.encode_result(value)
    assert plain.is_result(result)
    assert shown(plain.decode_result(result)) == shown(value)


@pytest.mark.parametrize("value", OTHER, ids=ascii)
def test_what_is_not_plain_does_not(value):
    assert plain.encode_call(echo, (1, value)) is None
    assert plain.encode_result(value) is None


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("value", [None, "(", 1, [1], (echo, (1,), None, None)], ids=repr)
def test_no_pickle_is_taken_for_the_short_form(value, protocol):
    data = pickle.dumps(value, protocol)
    assert not plain.is_call(data)
    assert not plain.is_result(data)


def test_what_is_too_large_for_marshal_takes_the_long_form(monkeypatch):
    def refuse(what, version):
        raise ValueError("unmarshallable object")

    monkeypatch.setattr(plain.marshal, "dumps", refuse)
    assert plain.encode_call(echo, (1,)) is None
    assert plain.encode_result(1) is None


def test_nothing_is_no_result():
    assert not plain.is_result(b"")


def test_keywords_and_a_correlation_id_take_the_long_form(two):
    task = two.apply_async(dict, (), {"a": 1}, correlation_id="mine")
    assert (task.get(), task.id) == ({"a": 1}, "mine")


def test_a_task_by_the_short_way_is_like_any_other(two):
    task = two.apply_async(first, ("a",))
    assert type(task) is Task
    assert (task.name, task.id) == ("first", task._number)
    assert (task.get(), task.exception(), task.successful(), task.pid) == ("a", None, True, None)
    assert task.accepted()


def test_a_task_is_no_argument(two):
    task = two.apply_async(first, ("a",))
    for refused in (pickle.dumps, copy.copy, lambda found: two.apply_async(first, (found,))):
        with pytest.raises(TypeError, match="<Task .*first.*> cannot be pickled or copied"):
            refused(task)


def test_its_errors_are_its_own(two):
    error = two.apply_async(first).exception()
    assert isinstance(error, IndexError)
    assert "in first" in str(error.__cause__)
    assert isinstance(two.apply_async(kill).exception(), WorkerKilled)
    assert two.apply(first, (1,)) == 1


@pytest.mark.parametrize("call", [odd, more_than_fits])
def test_a_result_that_cannot_be_encoded_is_no_loss(two, call):
    error = two.apply_async(call).exception()
    assert isinstance(error, TypeError)
    assert "cannot be pickled" in str(error)
    assert two.stats["workers_replaced"] == 0


def test_who_asks_while_it_is_settled_takes_nothing_away(two, monkeypatch):
    asked = []
    settle = Task._settle

    def ask_first(task, *outcome):
        asked.append(task.has_value())  # as another thread may
        settle(task, *outcome)

    monkeypatch.setattr(Task, "_settle", ask_first)
    task = two.apply_async(catch, soft_timeout=0.05)  # an end that takes the long way in both
    assert [task.get(), task.get(), task.exception()] == ["caught", "caught", None]
    assert asked == [False]


def test_wild_bytes_are_an_error_of_the_task(two):
    task = two.apply_async(first, (1,))
    assert task.wait(30)
    task._data = b"u\xff"
    for _ in range(2):
        with pytest.raises(TypeError, match="cannot be unpickled: EOFError"):
            task.get()
    assert not task.successful()


def test_a_call_that_returns_in_a_fork_is_answered_once(two):
    assert two.apply(fork) > 0
    assert two.map(first, range(20)) == list(range(20))
    assert two.stats["workers_replaced"] == 0


def test_a_fork_by_a_handler_of_a_worker_that_sleeps_ends_quietly(pool):
    idle = pool(1, putlocks=False, initializer=fork_when_told)
    idle.apply(first, (1,))
    os.kill(idle.workers[0].pid, signal.SIGUSR1)
    deadline = time.monotonic() + 30
    while not idle.apply(has_forked) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert idle.apply(end_of_fork) == 0


def test_the_hook_is_called_for_each(pool):
    class Hooked(TaskPool):
        calls = ()

        def on_apply(self, target, args):
            self.calls = (*self.calls, (target, args))

    with Hooked(1, putlocks=False) as hooked:
        hooked.apply(first, ("a",))
        hooked.apply_async(first, ("b",), correlation_id="b").get()
    assert hooked.calls == ((first, ("a",)), (first, ("b",)))


def test_a_pool_that_is_closed_takes_none(two):
    two.apply(first, (1,))
    two.close()
    with pytest.raises(PoolClosed, match="takes no more tasks"):
        two.apply_async(first, (1,))


def test_the_table_of_functions_is_bounded(monkeypatch):
    monkeypatch.setattr(plain, "MOST_KNOWN", 1)
    monkeypatch.setattr(plain, "references", {})
    monkeypatch.setattr(plain, "known", {})
    for function in (echo, first, echo):
        assert plain.find(plain.reference_to(function)) is function
        assert list(plain.references) == [function]
        assert list(plain.known.values()) == [function]


@pytest.mark.parametrize("name", ["cffi", "cython"])
def test_a_task_has_the_same_state_in_both_bindings(name):
    kind = importlib.import_module(f"prefork._{name}").TaskState
    task = kind(None, "name", "id", limit=1.5)
    assert (task._pool, task._name, task._correlation_id, task._limit) == (None, "name", "id", 1.5)
    assert (task._state, task._is_plain, task._number, task._accepted_by) == (PENDING, True, 0, 0)
    assert (task._data, task._result, task._exception, task._slot) == (None,) * 4
    assert not task.has_value()
    task._data = plain.encode_result("a")
    assert not task.has_value()  # who settles it has not done so yet
    task._state = FINISHED
    assert (task.has_value(), task._result, task._data) == (True, "a", None)
    assert task.has_value()
    task._exception = LookupError()
    assert not task.has_value()
