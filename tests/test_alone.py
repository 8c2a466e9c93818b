"""A pool that was started and is left alone: it comes up, and keeps itself up, by itself."""

from __future__ import annotations

import os
import signal

import pytest

from helpers import alive, all_pids, descendants, eventually, full, kill_self, name_of, pids, square


def named(name):
    """Our descendants of that name. Asks the kernel, and the pool nothing."""
    found = set()
    for pid in descendants(os.getpid()) & set(all_pids()):
        try:
            if alive(pid) and name_of(pid) == name:
                found.add(pid)
        except OSError:
            continue
    return found


@pytest.mark.parametrize("method", ["fork", "exec"])
def test_a_pool_without_a_task_comes_up(pool, method):
    one = pool(2, start_method=method)
    workers = eventually(lambda: len(found := named("prefork-worker")) == 2 and found)
    zygotes = eventually(lambda: len(found := named("prefork-zygote")) == 2 and found)
    # It knows, too, or will in a moment: what we ask now drives nothing either.
    eventually(lambda: one.stats["workers_alive"] == 2 and pids(one) == workers)
    eventually(lambda: {one.stats["zygote"], one.stats["standby"]} == zygotes)


def test_an_idle_worker_that_is_killed_is_replaced(pool):
    one = pool(2)
    before = eventually(lambda: len(found := named("prefork-worker")) == 2 and found)
    killed = min(before)
    os.kill(killed, signal.SIGKILL)
    after = eventually(lambda: len(found := named("prefork-worker")) == 2 and found != before)
    assert after
    assert before - named("prefork-worker") == {killed}
    eventually(lambda: one.stats["workers_replaced"] == 1)


def test_a_standby_that_is_killed_is_replaced(pool):
    one = pool(1)
    before = eventually(lambda: len(found := named("prefork-zygote")) == 2 and found)
    os.kill(eventually(lambda: one.stats["standby"]), signal.SIGKILL)
    eventually(lambda: len(found := named("prefork-zygote")) == 2 and found != before)
    eventually(lambda: one.stats["standby"] not in (0, *before))


def test_a_pool_that_was_waited_on_and_is_left_alone_replaces_its_workers(pool):
    """Who waits takes the role of driving from the driver, and gives it back whatever it did."""
    one = pool(2)
    for _ in range(100):
        lost = one.apply_async(kill_self, (signal.SIGKILL,), waitforslot=False)
        others = [one.apply_async(square, (i,), waitforslot=False) for i in range(20)]
        assert lost.exception().signal == signal.SIGKILL
        assert [task.get() for task in others] == [i * i for i in range(20)]
        eventually(lambda: full(one, 2), within=10)
