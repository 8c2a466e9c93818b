"""Workers that are worn out: replaced in time, by successors that were forked ahead."""

from __future__ import annotations

import os
import re
import signal

import pytest

import prefork
from helpers import eventually, full, hold, lines, note, pid_of_worker, pids, square

MIB = 1024  # in KiB
kept = []  # of a worker, or of an application and all its workers


def keep(mib):
    """Memory that the worker has for itself from now on."""
    kept.append(b"x" * (mib << 20))
    return os.getpid()


def keep_and_hold(mib, path):
    keep(mib)
    return hold(path)


def keep_and_wait(mib):
    keep(mib)
    signal.pause()


# ---- memory --------------------------------------------------------------------------------------


def test_a_worker_that_has_grown_is_replaced_after_its_task(pool, gate, caplog):
    caplog.set_level("INFO", logger="prefork")
    one = pool(1, max_memory_per_child=150 * MIB, putlocks=False)
    task = one.apply_async(keep_and_hold, (200, gate.path))
    gate.arrived()
    grown = task.pid
    eventually(lambda: "spare" in [worker.state for worker in one.workers], one)
    behind = [one.apply_async(pid_of_worker) for _ in range(20)]
    gate.open()
    assert task.get() == grown
    assert all(other.get() for other in behind)
    eventually(lambda: grown not in pids(one) and full(one, 1), one)
    assert one.stats["tasks_lost"] == 0
    assert re.search(rf"worker {grown} .* exited with code 0; it had \d{{6}} KiB", caplog.text)


def wait_if_successor(gate_path, log):
    note(log)
    if len(lines(log)) > 1:
        hold(gate_path)


def test_a_worker_that_has_grown_does_not_wait_for_ever_for_its_successor(pool, gate, tmp_path):
    setup = (gate.path, str(tmp_path / "started"))
    one = pool(1, max_memory_per_child=100 * MIB, initializer=wait_if_successor, initargs=setup)
    grown = one.apply(keep, (150,))
    gate.arrived()
    eventually(lambda: grown not in pids(one), one)
    behind = one.apply_async(square, (4,))
    gate.open()
    assert behind.get() == 16


def fail_if_successor(log):
    note(log)
    assert len(lines(log)) == 1


def test_a_worker_that_has_grown_stays_while_no_successor_can_be_born(pool, tmp_path):
    log = str(tmp_path / "started")
    one = pool(1, max_memory_per_child=100 * MIB, initializer=fail_if_successor, initargs=(log,))
    grown = one.apply(keep, (150,))
    eventually(lambda: len(lines(log)) > 4, one)
    assert one.apply(pid_of_worker) == grown
    assert one.state == "running"


def test_a_task_that_takes_far_too_much_is_lost_and_says_why(pool):
    one = pool(2, memory_limit=250 * MIB, putlocks=False)
    task = one.apply_async(keep_and_wait, (300,))
    others = [one.apply_async(square, (i,)) for i in range(50)]
    error = task.exception()
    assert type(error) is prefork.OutOfMemory
    assert error.memory > error.memory_limit == 250 * MIB
    assert (error.signal, error.exitcode) == (signal.SIGKILL, -signal.SIGKILL)
    assert error.task_id == task.id
    assert "memory of its own, its limit is 256000 KiB: it was killed" in str(error)
    assert error.stack is None or "in keep_and_wait" in error.stack  # it has nine milliseconds
    assert [other.get() for other in others] == [i * i for i in range(50)]
    eventually(lambda: full(one, 2), one)
    assert error.pid not in pids(one)


def test_a_task_that_always_takes_too_much_is_given_up(pool):
    one = pool(1, memory_limit=150 * MIB)
    error = one.apply_async(keep_and_wait, (200,), on_lost="retry", retries=1).exception()
    assert type(error) is prefork.QuarantinedTask
    assert error.attempts == 2
    assert "its limit is" in str(error)


def test_memory_that_is_shared_with_the_application_is_not_the_workers_own(pool, gate):
    kept.append(b"y" * (300 << 20))
    try:
        one = pool(2, max_memory_per_child=200 * MIB, putlocks=False)
        held = one.apply_async(hold, (gate.path,))
        gate.arrived()
        modest = held.pid
        grown = one.apply(keep, (250,))
        eventually(lambda: grown not in pids(one) and full(one, 2), one)
        assert modest in pids(one)  # it was measured whenever the other one was
        gate.open()
        held.get()
    finally:
        kept.clear()


# ---- age -----------------------------------------------------------------------------------------


def test_a_worker_that_is_old_is_replaced_also_when_idle(pool):
    one = pool(2, max_age_per_child=0.3)
    eventually(lambda: full(one, 2), one)
    first = pids(one)
    eventually(lambda: full(one, 2) and not first & pids(one), one)
    assert one.stats["tasks_lost"] == one.stats["zygotes_lost"] == 0
    assert one.stats["workers_replaced"] >= 2


def test_nothing_is_lost_or_done_twice_while_all_grow_old(pool):
    one = pool(2, max_age_per_child=0.05, putlocks=False)
    while one.stats["workers_exited"] < 20:
        tasks = [one.apply_async(square, (i,)) for i in range(200)]
        assert [task.get() for task in tasks] == [i * i for i in range(200)]
    assert one.stats["tasks_succeeded"] == one.stats["tasks_submitted"]


# ---- the successor -------------------------------------------------------------------------------


def test_the_successor_is_ready_before_the_last_task_has_ended(pool, gate):
    one = pool(1, maxtasksperchild=2, recycle_jitter=0, putlocks=False)
    first = one.apply(pid_of_worker)
    last = one.apply_async(hold, (gate.path,))
    gate.arrived()
    spare = eventually(lambda: [w.pid for w in one.workers if w.state == "spare"], one)
    behind = [one.apply_async(pid_of_worker) for _ in range(2)]
    assert one.stats["workers_alive"] == 1
    assert not any(task.running() for task in behind)
    gate.open()
    last.get()
    assert [task.get() for task in behind] == spare * 2
    assert first not in spare


def test_the_successor_is_forked_though_nobody_looks(pool, gate, tmp_path):
    path = tmp_path / "started"
    one = pool(1, maxtasksperchild=1, initializer=note, initargs=(str(path),))
    task = one.apply_async(hold, (gate.path,))
    gate.arrived()
    eventually(lambda: len(lines(path)) == 2)
    gate.open()
    task.get()


def test_a_successor_takes_over_at_once_when_a_worker_is_killed(pool, gate):
    one = pool(1, maxtasksperchild=1, putlocks=False)
    last = one.apply_async(hold, (gate.path,))
    gate.arrived()
    spare = eventually(lambda: [w.pid for w in one.workers if w.state == "spare"], one)
    os.kill(last.pid, signal.SIGKILL)
    assert type(last.exception()) is prefork.WorkerKilled
    assert [one.apply(pid_of_worker)] == spare


def test_a_pool_that_shrinks_while_a_successor_waits(pool, gate):
    one = pool(2, maxtasksperchild=1, putlocks=False)
    held = one.apply_async(hold, (gate.path,))
    gate.arrived()
    eventually(lambda: [w for w in one.workers if w.state == "spare"], one)
    one.shrink()
    gate.open()
    held.get()
    eventually(lambda: full(one, 1) and len(one.workers) == 1, one)
    assert one.apply(square, (4,)) == 16


def test_workers_do_not_end_together(pool):
    one = pool(1, maxtasksperchild=50, recycle_jitter=0.9, putlocks=False)
    used = [task.get() for task in [one.apply_async(pid_of_worker) for _ in range(1000)]]
    counts = [used.count(pid) for pid in dict.fromkeys(used)][:-1]
    assert 5 <= min(counts)
    assert max(counts) <= 50
    assert len(set(counts)) > 1


# ---- the end -------------------------------------------------------------------------------------


def never_return(*_):
    while True:
        signal.pause()


def test_a_destructor_that_does_not_return_is_cut_short(pool, caplog):
    spent = pool(1, on_process_exit=never_return, maxtasksperchild=1, putlocks=False)
    renewed, shrunk = (pool(2, on_process_exit=never_return, putlocks=False) for _ in range(2))
    ending = [(one, one.apply(pid_of_worker)) for one in (spent, renewed, shrunk)]
    renewed.restart()
    shrunk.shrink(2)
    shrunk.grow(2)
    for one, first in ending:
        said = f"worker {first} (slot"
        eventually(lambda: said in caplog.text, one)  # noqa: B023
        assert one.apply(square, (3,)) == 9
        one.terminate(0.1)
    assert "was to end in good order, and did not in ten seconds" in caplog.text


# ---- options -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "kind"),
    [
        ({"max_age_per_child": 0}, ValueError),
        ({"max_age_per_child": float("nan")}, ValueError),
        ({"max_memory_per_child": 0}, ValueError),
        ({"max_memory_per_child": 1.5}, TypeError),
        ({"memory_limit": -1}, ValueError),
        ({"memory_limit": "1G"}, TypeError),
        ({"recycle_jitter": 1}, ValueError),
        ({"recycle_jitter": -0.1}, ValueError),
        ({"recycle_jitter": float("nan")}, ValueError),
    ],
)
def test_options_that_cannot_be(options, kind):
    with pytest.raises(kind, match=next(iter(options)) if kind is ValueError else "integer"):
        prefork.TaskPool(1, **options)
