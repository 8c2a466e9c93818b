"""What an application is asked before each of its workers is forked."""

from __future__ import annotations

import os
import signal
import threading

import pytest

import prefork
from helpers import eventually, kill_self, square
from prefork import TaskPool


@pytest.fixture
def asked():
    """A note of each time, and of who was asked."""
    return []


def test_it_is_asked_in_start_for_the_first_ones_and_by_the_delivery_thread_later(pool, asked):
    one = pool(3, before_spawn=lambda: asked.append(threading.current_thread()))
    assert asked == [threading.main_thread()] * 3
    with pytest.raises(prefork.WorkerKilled):
        one.apply(kill_self, (signal.SIGKILL,))
    eventually(lambda: len(asked) == 4 and one.stats["workers_spawned"] == 4, one)
    assert asked[3].name == "prefork-delivery"


def test_a_guest_is_asked_inside_of_poll(pool, asked):
    one = pool(1, before_spawn=lambda: asked.append(threading.current_thread()))
    one.fileno()
    for number in range(3):
        with pytest.raises(prefork.WorkerKilled):
            one.apply(kill_self, (signal.SIGKILL,))
        assert one.apply(square, (number,)) == number**2
    assert asked == [threading.main_thread()] * 4


def use_up(one):
    assert one.map(square, range(20)) == [number**2 for number in range(20)]


@pytest.mark.parametrize("change", [TaskPool.grow, TaskPool.restart, use_up])
def test_whatever_a_worker_is_wanted_for_it_is_asked_once_for_each(pool, asked, change):
    one = pool(2, before_spawn=lambda: asked.append(1), maxtasksperchild=3, recycle_jitter=0)
    for _ in range(3):
        change(one)
        assert one.apply(square, (3,)) == 9
    eventually(lambda: len(asked) == one.stats["workers_spawned"] > 4, one)


def test_the_worker_waits_for_the_answer(pool, asked):
    may_answer = threading.Event()

    def answer():
        asked.append(1)
        if len(asked) > 1:
            may_answer.wait()

    one = pool(1, before_spawn=answer)
    pid = one.apply(os.getpid)
    os.kill(pid, signal.SIGKILL)
    task = one.apply_async(square, (4,))
    eventually(lambda: len(asked) == 2, one)
    assert one.stats["workers_spawned"] == 1
    assert not task.done()
    may_answer.set()
    assert task.get() == 16
    assert one.stats["workers_spawned"] == 2


def test_one_that_raises_is_logged_and_the_worker_forked_all_the_same(pool, caplog):
    def refuse():
        raise OSError("no")

    one = pool(2, before_spawn=refuse)
    assert one.apply(square, (5,)) == 25
    assert caplog.text.count("before_spawn raised") == 2
    assert "OSError: no" in caplog.text


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
def test_what_it_lets_out_of_start_ends_the_pool(kind):
    def leave():
        raise kind

    one = TaskPool(2, before_spawn=leave)
    with pytest.raises(kind), one:
        pass
    assert one.state == "stopped"
    with pytest.raises(prefork.PoolClosed):
        one.apply(square, (5,))


def test_it_must_be_callable():
    with pytest.raises(TypeError, match="before_spawn"):
        TaskPool(1, before_spawn=3)
