"""A pool whose workers are exchanged, added and taken away while it goes on."""

from __future__ import annotations

import threading

import pytest

import prefork
from helpers import alive, eventually, full, hold, pid_of_worker, square


def test_restart_gives_workers_that_know_the_application_as_it_is_now(pool, monkeypatch):
    one = pool(2)
    before = {one.apply(pid_of_worker)}
    monkeypatch.setitem(globals(), "later", lambda: None)
    exec("def later():\n    return 'known now'", globals())
    with pytest.raises(AttributeError):
        one.apply(globals()["later"])
    one.restart()
    assert one.apply(globals()["later"]) == "known now"
    assert not before & {one.apply(pid_of_worker) for _ in range(5)}
    assert one.stats["application_forks"] == 2


def test_restart_lets_running_tasks_end_and_queued_ones_wait_for_the_new_workers(pool, gate):
    one = pool(1, putlocks=False)
    running = one.apply_async(hold, (gate.path,))
    queued = one.apply_async(pid_of_worker)
    (old,) = gate.arrived()
    one.restart()
    gate.open()
    assert running.get() == old
    assert queued.get() != old
    eventually(lambda: not alive(old))
    assert full(one, 1) or eventually(lambda: full(one, 1), one)


def test_restart_may_be_repeated_and_done_from_other_threads_and_callbacks(pool):
    one = pool(2)
    one.restart()
    one.restart()
    thread = threading.Thread(target=one.restart)
    thread.start()
    thread.join()
    again = threading.Event()

    def restart(_):
        one.restart()
        again.set()

    one.apply_async(square, (2,), callback=restart)
    assert again.wait(30)
    assert one.apply(square, (3,)) == 9
    assert one.stats["application_forks"] == 5


@pytest.mark.parametrize("method", ["fork", "exec"])
def test_restarts_of_many_threads_come_one_after_the_other(pool, method):
    one = pool(1, start_method=method)
    together = threading.Barrier(4)

    def restart():
        together.wait()
        one.restart()

    threads = [threading.Thread(target=restart) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert one.stats["application_forks"] == 5
    assert one.apply(square, (3,)) == 9


@pytest.mark.parametrize("method", ["fork", "exec"])
def test_restart_says_so_of_either_start_method(pool, caplog, method):
    with caplog.at_level("INFO", "prefork"):
        pool(1, start_method=method).restart()
    assert "restarts: a new zygote is started from the application" in caplog.text


def test_restart_of_a_closed_pool_is_refused(pool):
    one = pool(1)
    one.stop()
    with pytest.raises(prefork.PoolClosed):
        one.restart()


def test_grow_adds_workers_and_shrink_takes_them_away(pool):
    one = pool(1)
    one.grow(2)
    assert one.num_processes == one.limit == 3
    eventually(lambda: full(one, 3), one)
    one.shrink(2)
    assert one.num_processes == 1
    eventually(lambda: full(one, 1), one)
    assert one.apply(square, (4,)) == 16


def test_shrink_lets_busy_workers_end_their_task(pool, gate):
    one = pool(2)
    tasks = [one.apply_async(hold, (gate.path,)) for _ in range(2)]
    busy = set(gate.arrived(2))
    one.shrink(2)
    gate.open(2)
    assert {task.get() for task in tasks} == busy
    eventually(lambda: one.workers == [], one)


def test_a_pool_cannot_shrink_below_nothing_nor_grow_without_end(pool):
    one = pool(1)
    with pytest.raises(ValueError, match="-1 workers"):
        one.shrink(2)
    with pytest.raises(ValueError, match="workers"):
        one.grow(10_000)
    with pytest.raises(ValueError, match="made for fewer cannot have 1024"):
        one.grow(1024 - one.limit)
    for resize in (one.grow, one.shrink):
        with pytest.raises(ValueError, match="at least 0"):
            resize(-1)
    assert one.limit == 1


def test_a_pool_of_no_workers_queues_until_it_grows(pool):
    one = pool(0, putlocks=False)
    tasks = [one.apply_async(square, (i,)) for i in range(5)]
    assert one.poll(0.05) == 0
    assert [task.ready() for task in tasks] == [False] * 5
    assert one.active
    assert one.workers == []
    one.grow()
    assert [task.get() for task in tasks] == [0, 1, 4, 9, 16]


def test_a_pool_of_no_workers_can_be_terminated(pool):
    one = pool(0, putlocks=False)
    task = one.apply_async(square, (1,))
    one.terminate()
    assert isinstance(task.exception(), prefork.WorkerKilled)
