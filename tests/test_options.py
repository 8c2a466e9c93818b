"""What a pool is made with: size, initializer, destructor, tasks per worker; what is refused."""

from __future__ import annotations

import collections
import os
import threading

import pytest

from helpers import eventually, full, hold, lines, note, pid_of_worker, square
from prefork import Semaphore, TaskPool


def test_the_default_size_is_what_the_machine_allows(pool):
    allowed = len(os.sched_getaffinity(0))
    one = pool()
    assert 1 <= one.limit <= allowed
    os.sched_setaffinity(0, mask := os.sched_getaffinity(0))
    first = {min(mask)}
    try:
        os.sched_setaffinity(0, first)
        assert TaskPool().limit == 1
    finally:
        os.sched_setaffinity(0, mask)


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"limit": -1}, ValueError),
        ({"limit": 5000}, ValueError),
        ({"maxtasksperchild": 0}, ValueError),
        ({"timeout": 0}, ValueError),
        ({"timeout": -1}, ValueError),
        ({"timeout": float("nan")}, ValueError),
        ({"timeout": 10**400}, ValueError),
        ({"limit": 2.9}, TypeError),
        ({"limit": "3"}, TypeError),
        ({"maxtasksperchild": 1.5}, TypeError),
        ({"maxtasksperchild": 2**40}, ValueError),
        ({"initializer": 5}, TypeError),
        ({"on_process_exit": 5}, TypeError),
        ({"semaphore": 5}, TypeError),
        ({"logger": "x"}, TypeError),
        ({"preload": "json"}, TypeError),
        ({"start_method": "spawn"}, ValueError),
        ({"start_method": "fork", "forking_enable": False}, ValueError),
        ({"capture_output": "no"}, TypeError),
        ({"capture_output": 1}, TypeError),
        ({"putlocks": "no"}, TypeError),
    ],
)
def test_nonsense_is_refused_at_once(options, error):
    with pytest.raises(error):
        TaskPool(**options)


@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        ("max_tasks_per_child", "maxtasksperchild"),
        ("initialiser", "initializer"),
        ("processes", "limit"),
        ("max_workers", "limit"),
    ],
)
def test_an_unknown_option_is_an_error_that_names_the_nearest(wrong, right):
    with pytest.raises(TypeError, match=f"'{wrong}'.*'{right}'"):
        TaskPool(1, **{wrong: 1})


@pytest.mark.parametrize("name", ["timeout", "soft_timeout", "max_age_per_child"])
def test_seconds_that_are_no_number_are_an_error_that_names_the_option(name):
    with pytest.raises(TypeError, match=f"{name} must be a number of seconds, not '1'"):
        TaskPool(1, **{name: "1"})


@pytest.mark.parametrize("name", ["timeout", "soft_timeout", "queue_timeout"])
def test_seconds_of_a_task_that_are_no_number_are_an_error_that_names_the_option(pool, name):
    with pytest.raises(TypeError, match=f"{name} must be a number of seconds, not '1'"):
        pool(1).apply_async(square, (1,), **{name: "1"})


def test_kwargs_must_be_a_mapping(pool):
    one = pool(1)
    for kwargs in ([("x", 3)], 5, ""):
        for name in ("apply", "apply_async"):
            with pytest.raises(TypeError, match="kwargs must be a mapping"):
                getattr(one, name)(square, (), kwargs)
    assert one.stats["tasks_submitted"] == 0
    assert one.apply(square, (), collections.OrderedDict(x=3)) == 9


@pytest.mark.parametrize("timeout", [0, -1, float("nan")])
def test_a_limit_of_a_task_that_is_none_is_refused(pool, timeout):
    one = pool(1)
    with pytest.raises(ValueError, match="timeout must be positive"):
        one.apply_async(square, (1,), timeout=timeout)
    for name in ("map", "imap", "imap_unordered", "starmap"):
        with pytest.raises(ValueError, match="timeout must be positive"):
            getattr(one, name)(square, [], timeout=timeout)
    assert one.stats["tasks_submitted"] == 0


def test_an_infinite_limit_is_none(pool, gate):
    one = pool(1, timeout=float("inf"))
    task = one.apply_async(hold, (gate.path, 1), timeout=float("inf"))
    gate.arrived()
    assert not task.wait(0.05)
    gate.open()
    assert task.get() == 1


def test_forking_enable_false_means_exec(pool):
    assert TaskPool(1, forking_enable=False).info["start-method"] == "exec"
    assert TaskPool(1).info["start-method"] == "fork"


# ---- initializer and destructor ------------------------------------------------------------------

STATE: list = []


def remember(*args):
    STATE.extend(args)


def recalled(*_):
    value = STATE[0]
    return value() if callable(value) else value


def test_initargs_are_inherited_and_never_pickled(pool):
    one = pool(1, initializer=remember, initargs=(lambda: "unpicklable", threading.Lock()))
    assert one.apply(recalled) == "unpicklable"


def test_initializer_may_be_a_lambda(pool):
    one = pool(2, initializer=lambda: STATE.append(7))
    assert one.map(recalled, range(4)) == [7] * 4


def test_the_initializer_runs_in_every_worker_and_its_replacements(pool, tmp_path):
    path = tmp_path / "born"
    one = pool(2, initializer=note, initargs=(str(path),), maxtasksperchild=1)
    used = one.map(pid_of_worker, range(5))
    assert len(set(used)) == 5
    assert set(map(str, used)) <= set(lines(path))


def leave(path, pid, code):
    note(path, f"{pid} {os.getpid()} {code}")


@pytest.mark.parametrize("how", ["stop", "maxtasksperchild", "shrink", "restart"])
def test_the_destructor_runs_in_the_worker_at_every_orderly_exit(pool, tmp_path, how):
    path = tmp_path / "gone"
    one = pool(
        1,
        on_process_exit=lambda pid, code: leave(str(path), pid, code),
        maxtasksperchild=1 if how == "maxtasksperchild" else None,
    )
    pid = one.apply(pid_of_worker)
    if how in ("stop", "shrink", "restart"):
        getattr(one, how)()
    eventually(lambda: f"{pid} {pid} 0" in lines(path), one)
    one.stop()
    assert lines(path).count(f"{pid} {pid} 0") == 1


def test_a_failing_destructor_harms_nobody(pool):
    one = pool(1, on_process_exit=lambda *_: 1 / 0, maxtasksperchild=1)
    assert one.map(square, range(5)) == [0, 1, 4, 9, 16]


# ---- maxtasksperchild ----------------------------------------------------------------------------


@pytest.mark.parametrize("share", [1, 3, 7])
def test_a_worker_does_exactly_its_share_and_nothing_is_lost(pool, share):
    one = pool(2, maxtasksperchild=share, putlocks=False)
    used = [task.get() for task in [one.apply_async(pid_of_worker) for _ in range(42)]]
    counts = [used.count(pid) for pid in set(used)]
    assert sum(counts) == 42
    assert max(counts) == share
    assert sorted(counts, reverse=True)[: 42 // share - 1] == [share] * (42 // share - 1)
    eventually(lambda: full(one, 2), one)
    assert one.stats["application_forks"] == 1


WAITS = {
    "get": lambda one, timeout: one.apply_async(abs, (-1,)).get(timeout),
    "wait": lambda one, timeout: one.apply_async(abs, (-1,)).wait(timeout),
    "imap": lambda one, timeout: one.imap(abs, [-1]).next(timeout),
    "imap_unordered": lambda one, timeout: one.imap_unordered(abs, [-1]).next(timeout),
    "acquire": lambda _, timeout: Semaphore(1).acquire(timeout=timeout),
    "poll": lambda one, timeout: bool(one.apply_async(abs, (-1,))) and one.poll(timeout) >= 0,
    "join": lambda one, timeout: one.close() or one.join(timeout),
    "stop": lambda one, timeout: one.stop(timeout) or 1,
}


@pytest.mark.parametrize("name", WAITS)
def test_a_timeout_may_be_of_any_length_but_not_nan(pool, name):
    one = pool(1, putlocks=False)
    with pytest.raises(ValueError, match="nan"):
        WAITS[name](one, float("nan"))
    for timeout in () if name in ("join", "stop") else (1e300,):
        assert WAITS[name](one, timeout) == 1
    assert WAITS[name](one, float("inf")) == 1
