"""A pool whose zygote and standby are both dead: it has a new one by itself, or is degraded."""

from __future__ import annotations

import os
import threading

import pytest

import prefork
from helpers import (
    alive,
    drive,
    eventually,
    full,
    hold,
    kill_both_zygotes,
    lose_both,
    parent_of,
    pid_of_worker,
    square,
)
from prefork import machine, recovery
from prefork.health import Health


@pytest.fixture
def second_thread():
    """Some thread of the application's."""
    over = threading.Event()
    thread = threading.Thread(target=over.wait)
    thread.start()
    yield
    over.set()
    thread.join()


# ---- a new one -----------------------------------------------------------------------------------


@pytest.mark.parametrize("guest", [False, True])
@pytest.mark.parametrize("method", ["fork", "exec"])
def test_running_tasks_are_lost_and_queued_ones_are_done_by_a_new_zygotes_workers(
    pool, gate, caplog, method, guest
):
    one = pool(2, putlocks=False, start_method=method)
    if guest:
        one.fileno()
    held = [one.apply_async(hold, (gate.path,)) for _ in range(2)]
    pids = gate.arrived(2, one)
    queued = [one.apply_async(square, (i,)) for i in range(50)]
    first = one.stats["zygote"]
    kill_both_zygotes(one)
    if guest:
        drive(one, lambda: all(task.done() for task in held + queued))
    for task in held:
        with pytest.raises(prefork.WorkerKilled, match="zygote") as caught:
            task.get()
        assert caught.value.zygote_lost
        assert caught.value.pid in pids
    assert [task.get() for task in queued] == [i * i for i in range(50)]
    eventually(lambda: full(one, 2), one)
    stats = one.stats
    assert stats["application_forks"] == 2
    assert {parent_of(worker.pid) for worker in one.workers} == {stats["zygote"]}
    assert parent_of(stats["zygote"]) == os.getpid()
    assert eventually(lambda: one.stats["standby"], one) != first
    assert one.state == "running"
    assert one.did_start_ok()
    text = caplog.text
    assert text.count("there is no standby") == 1
    assert text.count(f"has a new zygote, {stats['zygote']}, started by itself") == 1


def test_an_idle_pool_has_a_new_zygote_for_the_next_task(pool):
    one = pool(1)
    one.apply(square, (1,))
    lose_both(one)
    assert one.apply(square, (2,)) == 4
    assert one.stats["application_forks"] == 2


def test_an_error_that_is_asked_for_while_another_thread_restarts_has_its_reason():
    class Restarted(Health):
        """At the first look at it there is a new zygote already."""

        def __getattribute__(self, name):
            found = super().__getattribute__(name)
            if name in ("zygote_missing", "_cause") and found:
                super().__setattr__(name, type(found)() if name == "zygote_missing" else None)
            return found

    health = Restarted()
    health.zygote_lost("the reason")
    assert "the reason. Call" in str(health.error("it"))
    for _ in range(3):
        health.start_failed(1, OSError("the cause"))
    error = health.error("it")
    assert "the cause" in str(error)
    assert isinstance(error.__cause__, OSError)
    assert health.error("it") is None


def test_another_pools_driver_is_no_second_thread(pool):
    one, _other = pool(1), pool(1)
    lose_both(one)
    assert one.apply(square, (2,)) == 4


@pytest.mark.usefixtures("second_thread")
def test_by_exec_threads_are_no_hindrance(pool):
    one = pool(1, start_method="exec")
    lose_both(one)
    assert one.apply(square, (2,)) == 4


def test_by_exec_the_delivery_thread_sees_to_it_when_nobody_polls(pool, gate):
    one = pool(1, start_method="exec", putlocks=False)
    one.apply_async(square, (1,), callback=lambda _: None).get()
    held = one.apply_async(hold, (gate.path,))
    gate.arrived()
    called = threading.Event()
    one.apply_async(square, (2,), callback=lambda _: called.set())
    kill_both_zygotes(one)
    assert called.wait(30)
    assert held.exception().zygote_lost
    assert one.stats["application_forks"] == 2


def test_a_zygote_that_was_born_in_a_thread_outlives_it(pool):
    one = pool(1, start_method="exec")
    one.apply(square, (1,))
    lose_both(one)
    thread = threading.Thread(target=one.apply, args=(square, (2,)))
    thread.start()
    thread.join()
    stats = one.stats
    assert stats["application_forks"] == 2
    worker = one.apply(pid_of_worker)
    assert parent_of(worker) == stats["zygote"]
    assert alive(stats["zygote"])
    assert one.stats["zygotes_lost"] == stats["zygotes_lost"]


def test_a_closed_pool_does_what_was_submitted(pool, gate):
    one = pool(1, putlocks=False)
    held = one.apply_async(hold, (gate.path,))
    gate.arrived()
    queued = [one.apply_async(square, (i,)) for i in range(20)]
    one.close()
    kill_both_zygotes(one)
    assert one.join()
    assert held.exception().zygote_lost
    assert [task.get() for task in queued] == [i * i for i in range(20)]


@pytest.mark.parametrize("ending", ["stop", "terminate"])
def test_a_pool_that_ends_wants_no_new_zygote(pool, ending):
    one = pool(1, putlocks=False)
    one.apply(square, (1,))
    lose_both(one)
    queued = [one.apply_async(square, (i,)) for i in range(5)] if ending == "terminate" else []
    getattr(one, ending)()
    assert one.state == "stopped"
    assert one.stats["application_forks"] == 1
    assert [type(task.exception()) for task in queued] == [prefork.WorkerKilled] * len(queued)


# ---- none ----------------------------------------------------------------------------------------


def is_degraded(pool, why):
    """It says so, by state and by every call."""
    eventually(lambda: pool.state == "degraded", pool)
    assert not pool.did_start_ok()
    for call in (lambda: pool.apply_async(square, (1,)), lambda: pool.map(square, [1]), pool.grow):
        with pytest.raises(RuntimeError, match=rf"{why}.*restart\(\)"):
            call()
    return True


@pytest.mark.usefixtures("second_thread")
def test_by_fork_a_second_thread_leaves_it_to_restart(pool, gate, caplog):
    one = pool(1, putlocks=False)
    held = one.apply_async(hold, (gate.path,))
    gate.arrived()
    queued = [one.apply_async(square, (i,)) for i in range(20)]
    kill_both_zygotes(one)
    assert held.exception().zygote_lost
    for task in queued:
        with pytest.raises(RuntimeError, match=r"the application has 2 threads.*restart\(\)"):
            task.get()
    assert is_degraded(one, "2 threads")
    assert one.stats["application_forks"] == 1
    assert caplog.text.count("no new zygote is started: by fork that may not be") == 1
    one.restart()
    assert one.apply(square, (4,)) == 16
    assert one.state == "running"


def test_by_fork_a_delivery_thread_is_a_second_thread(pool, gate):
    one = pool(1, putlocks=False)
    told = []
    held = one.apply_async(hold, (gate.path,), error_callback=told.append)
    gate.arrived()
    one.apply_async(square, (1,), error_callback=told.append)
    kill_both_zygotes(one)
    eventually(lambda: len(told) == 2)
    assert held.exception() in told
    assert sum("the application has 2 threads" in str(error) for error in told) == 1
    assert is_degraded(one, "2 threads")


def test_where_nobody_can_count_threads_there_is_no_fork(pool, monkeypatch):
    monkeypatch.setattr(recovery, "thread_count", lambda but: None)
    one = pool(1)
    lose_both(one)
    assert is_degraded(one, "nobody knows how many threads")


@pytest.mark.usefixtures("second_thread")
def test_a_degraded_pool_can_be_ended(pool):
    one = pool(1, putlocks=False)
    lose_both(one)
    assert is_degraded(one, "2 threads")
    one.stop(5)
    assert one.state == "stopped"


@pytest.mark.parametrize("method", ["fork", "exec"])
def test_after_three_new_ones_it_is_left_to_restart_which_allows_as_many(pool, method):
    one = pool(1, start_method=method)
    for count in range(2, recovery.MOST + 2):
        lose_both(one)
        assert one.apply(square, (count,)) == count * count
        assert one.stats["application_forks"] == count
    lose_both(one)
    assert is_degraded(one, "3 new ones were lost within 60 seconds")
    one.restart()
    assert one.apply(square, (4,)) == 16
    lose_both(one)
    assert one.apply(square, (5,)) == 25


def test_new_ones_of_long_ago_do_not_count(pool, monkeypatch):
    monkeypatch.setattr(recovery, "WITHIN", 0.0)
    one = pool(1)
    for count in range(recovery.MOST + 2):
        lose_both(one)
        assert one.apply(square, (count,)) == count * count


def test_a_zygote_that_dies_at_once_is_not_started_for_ever(pool, tmp_path, monkeypatch):
    deadly = tmp_path / "deadly_when_told.py"
    deadly.write_text("import os\nif os.path.exists(__file__ + '.now'): os.kill(os.getpid(), 9)\n")
    monkeypatch.syspath_prepend(tmp_path)
    one = pool(1, start_method="exec", preload=["deadly_when_told"], putlocks=False)
    assert one.apply(square, (3,)) == 9
    (tmp_path / "deadly_when_told.py.now").touch()
    lose_both(one)
    task = one.apply_async(square, (4,))
    with pytest.raises(RuntimeError, match=r"3 new ones were lost.*restart\(\)"):
        task.get()
    assert one.stats["application_forks"] == 1 + recovery.MOST
    (tmp_path / "deadly_when_told.py.now").unlink()
    one.restart()
    assert one.apply(square, (5,)) == 25


class Grudging:
    """Pickled until it will no more."""

    refuses = False

    def __reduce__(self):
        if Grudging.refuses:
            raise LookupError("not now")
        return Grudging, ()


def test_one_that_cannot_be_started_leaves_it_to_restart(pool, monkeypatch):
    one = pool(1, start_method="exec", initializer=repr, initargs=(Grudging(),))
    assert one.apply(square, (3,)) == 9
    monkeypatch.setattr(Grudging, "refuses", True)
    lose_both(one)
    assert is_degraded(one, "none could be started .*not now")
    with pytest.raises(LookupError, match="not now"):
        one.restart()
    assert is_degraded(one, "none could be started .*not now")
    monkeypatch.undo()
    one.restart()
    assert one.apply(square, (4,)) == 16


def test_what_is_heard_of_old_zygotes_after_a_restart_is_no_news(pool, caplog):
    one = pool(1)
    lose_both(one)
    one.restart()
    assert one.apply(square, (4,)) == 16
    assert "there is no standby" in caplog.text
    assert one.state == "running"
    assert one.stats["application_forks"] == 2


def test_a_driver_that_has_just_begun_is_not_taken_for_a_thread_of_the_application(pool):
    before = machine.thread_count()
    for _ in range(20):
        one = pool(1)
        assert machine.thread_count() == before + 1
        assert machine.thread_count(but=recovery.DRIVER) == before
        one.terminate()
