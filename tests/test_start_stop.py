"""Starting and ending a pool: close, join, stop, terminate, from anywhere and again."""

from __future__ import annotations

import os
import signal
import threading

import pytest

import prefork
from helpers import (
    alive,
    descriptors,
    eventually,
    full,
    hold,
    hold_stubbornly,
    leftovers,
    lines,
    note,
    pids,
    square,
)
from prefork import TaskPool


def test_a_pool_goes_from_new_over_running_and_closed_to_stopped():
    pool = TaskPool(1)
    assert (pool.state, pool.active) == ("new", False)
    pool.start()
    assert (pool.state, pool.active) == ("running", True)
    pool.close()
    assert (pool.state, pool.active) == ("closed", False)
    assert pool.join() is True
    assert (pool.state, pool.active) == ("stopped", False)


def test_leaving_a_with_block_finishes_every_task():
    with TaskPool(2, putlocks=False) as pool:
        tasks = [pool.apply_async(square, (i,)) for i in range(50)]
    assert [task.get() for task in tasks] == [i * i for i in range(50)]
    assert pool.state == "stopped"


def test_leaving_a_with_block_by_an_exception_terminates(gate):
    with pytest.raises(KeyError), TaskPool(1) as pool:
        task = pool.apply_async(hold, (gate.path,))
        gate.arrived()
        raise KeyError
    assert pool.state == "stopped"
    with pytest.raises(prefork.WorkerKilled):
        task.get()


def test_with_starts_a_pool_only_if_it_was_not():
    pool = TaskPool(1).__enter__()
    with pool as same:
        assert same is pool
        assert same.apply(square, (3,)) == 9


def test_a_pool_is_started_once(pool):
    with pytest.raises(RuntimeError, match="started already"):
        pool(1).start()


def test_of_threads_that_start_a_pool_at_once_one_succeeds(pool):
    one = TaskPool(1)
    begin, raised = threading.Barrier(4), []

    def start():
        begin.wait()
        try:
            one.start()
        except RuntimeError as error:
            raised.append(str(error))

    threads = [threading.Thread(target=start) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with one:
        assert len(raised) == 3
        assert all("started already" in text for text in raised)
        assert one.apply(square, (3,)) == 9
        assert one.stats["application_forks"] == 1


def test_close_takes_no_more_but_finishes_what_there_is(pool, gate):
    one = pool(1, putlocks=False)
    tasks = [one.apply_async(hold, (gate.path, i)) for i in (1, 2)]
    gate.arrived()
    one.close()
    with pytest.raises(prefork.PoolClosed):
        one.apply_async(square, (1,))
    gate.open(2)
    assert one.join() is True
    assert [task.get() for task in tasks] == [1, 2]


def test_join_gives_up_after_its_timeout_and_may_be_called_again(pool, gate):
    one = pool(1)
    one.apply_async(hold, (gate.path,))
    gate.arrived()
    one.close()
    assert one.join(0.01) is False
    assert one.state == "closed"
    gate.open()
    assert one.join() is True


def test_join_of_an_open_pool_is_an_error(pool):
    with pytest.raises(ValueError, match="closed or terminated"):
        pool(1).join()


def test_stop_terminates_what_is_left_after_its_timeout(pool, gate):
    one = pool(1)
    task = one.apply_async(hold, (gate.path,))
    gate.arrived()
    one.stop(0.01)
    assert one.state == "stopped"
    assert isinstance(task.exception(), prefork.WorkerKilled)


def test_terminate_ends_running_and_queued_tasks(pool, gate):
    one = pool(1, putlocks=False)
    running = one.apply_async(hold, (gate.path,))
    queued = one.apply_async(square, (1,))
    (pid,) = gate.arrived()
    one.terminate()
    for task in (running, queued):
        assert isinstance(task.exception(), prefork.WorkerKilled)
    assert not alive(pid)
    assert running.exception().pid == pid
    assert queued.exception().pid is None
    assert "was terminated by the pool" in str(running.exception())
    assert str(queued.exception()) == "square had not begun when the pool was terminated"


def test_terminate_kills_a_worker_that_is_deaf_to_sigterm(pool, gate):
    one = pool(1)
    task = one.apply_async(hold_stubbornly, (gate.path,))
    (pid,) = gate.arrived()
    one.terminate(0.05)
    assert not alive(pid)
    assert isinstance(task.exception(), prefork.WorkerKilled)


def clean_up_on_sigterm(path, done):
    """A task that has something to do when it is told to end, and takes its time."""

    def clean_up(*_):
        hold(path)
        note(done, "cleaned up")
        os._exit(0)

    signal.signal(signal.SIGTERM, clean_up)
    hold(path)


def test_terminate_gives_workers_the_time_it_was_told_to(gate, tmp_path, monkeypatch):
    monkeypatch.setattr("prefork.lifecycle.TERM_GRACE", 0.001)  # and nothing beyond that
    one = TaskPool(1)
    one.start()
    task = one.apply_async(clean_up_on_sigterm, (gate.path, str(tmp_path / "done")))
    (pid,) = gate.arrived()
    ending = threading.Thread(target=one.terminate, args=(60,))
    ending.start()
    assert gate.arrived() == [pid]  # SIGTERM has come, and it cleans up
    ending.join(0.2)
    assert alive(pid)
    assert ending.is_alive()
    gate.open()
    ending.join()
    assert lines(tmp_path / "done") == ["cleaned up"]
    assert isinstance(task.exception(), prefork.WorkerKilled)


def test_terminate_without_a_grace_kills_at_once(gate, monkeypatch):
    monkeypatch.setattr("prefork.lifecycle.TERM_GRACE", 1000.0)
    one = TaskPool(1)
    one.start()
    task = one.apply_async(hold_stubbornly, (gate.path,))
    (pid,) = gate.arrived()
    one.terminate(timeout=0)
    assert not alive(pid)
    assert isinstance(task.exception(), prefork.WorkerKilled)


@pytest.mark.parametrize("first", ["stop", "terminate", "close"])
def test_ending_calls_may_be_repeated_in_any_order(pool, first):
    one = pool(2)
    getattr(one, first)()
    for name in ("close", "stop", "terminate", "close", "join", "terminate", "stop", "join"):
        getattr(one, name)()
    assert one.state == "stopped"


def test_ending_calls_may_come_from_many_threads_at_once(pool):
    for _ in range(5):
        one = pool(2, putlocks=False)
        tasks = [one.apply_async(square, (i,), callback=str) for i in range(20)]
        raised = []
        begin = threading.Barrier(6)

        def end(name, one=one, raised=raised, begin=begin):
            begin.wait()
            try:
                getattr(one, name)()
            except BaseException as error:
                raised.append(error)

        threads = [threading.Thread(target=end, args=(n,)) for n in ("stop", "close", "stop") * 2]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert raised == []
        assert one.state == "stopped"
        assert [task.get() for task in tasks] == [i * i for i in range(20)]


@pytest.mark.parametrize("ending", ["stop", "terminate"])
@pytest.mark.parametrize("with_callback", [False, True])
def test_a_callback_may_end_the_pool(pool, ending, with_callback):
    one = pool(2)
    raised = []

    def end(_):
        try:
            getattr(one, ending)()
        except BaseException as error:
            raised.append(error)

    if with_callback:
        one.apply_async(square, (2,), callback=end)
    else:
        one.apply_async(square, (2,)).add_done_callback(end)
    eventually(lambda: one.state == "stopped")
    getattr(one, ending)()
    assert raised == []


@pytest.mark.parametrize("ending", ["stop", "terminate"])
def test_a_signal_handler_that_interrupts_a_waiter_may_end_the_pool(pool, gate, ending):
    one = pool(1)
    task = one.apply_async(hold, (gate.path, 5))
    gate.arrived()

    def end(*_):
        gate.open()
        getattr(one, ending)()

    previous = signal.signal(signal.SIGALRM, end)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        assert task.wait() is True
    finally:
        signal.signal(signal.SIGALRM, previous)
    assert one.state == "stopped"
    if ending == "stop":
        assert task.get() == 5
    else:
        assert isinstance(task.exception(), prefork.WorkerKilled)


@pytest.mark.parametrize("ending", ["stop", "terminate"])
def test_a_signal_handler_that_interrupts_poll_may_end_the_pool(pool, ending):
    one = pool(1)
    one.apply(square, (1,))
    previous = signal.signal(signal.SIGALRM, lambda *_: getattr(one, ending)())
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        while one.state != "stopped":
            one.poll(20)
    finally:
        signal.signal(signal.SIGALRM, previous)
    assert one.poll() == 0


class SignalsWhenUnpickled:
    """A result whose unpickling, in the application, sends it a signal."""

    def __reduce__(self):
        return signal.raise_signal, (signal.SIGUSR1,)


def signalling(x):
    return SignalsWhenUnpickled() if x == 0 else x


@pytest.mark.parametrize("ending", ["stop", "terminate"])
def test_a_signal_handler_in_the_middle_of_a_batch_of_results_may_end_the_pool(pool, gate, ending):
    one = pool(1, putlocks=False)
    one.fileno()
    eventually(lambda: one.workers[0].state == "idle", one)
    # Who wants to be called has their results unpickled as they come.
    tasks = [one.apply_async(signalling, (i,), callback=bool) for i in range(8)]
    # The only worker is done with them, and nobody has polled since: they will come as one batch.
    tasks.append(one.apply_async(hold, (gate.path,)))
    gate.arrived()

    def end(*_):
        gate.open()
        getattr(one, ending)()

    previous = signal.signal(signal.SIGUSR1, end)
    try:
        eventually(lambda: one.state == "stopped", one)
    finally:
        signal.signal(signal.SIGUSR1, previous)
    assert all(task.done() for task in tasks)


def test_terminate_during_stop_ends_it(pool, gate):
    one = pool(1)
    task = one.apply_async(hold, (gate.path,))
    gate.arrived()
    stopping = threading.Thread(target=one.stop)
    stopping.start()
    eventually(lambda: one.state == "closed")
    one.terminate()
    stopping.join()
    assert isinstance(task.exception(), prefork.WorkerKilled)


def test_hooks_are_called():
    called = []

    class Hooked(TaskPool):
        def on_start(self):
            called.append("start")

        def on_apply(self, target, args):
            called.append(("apply", target, args))

        def on_stop(self):
            called.append("stop")

        def on_close(self):
            called.append("close")

        def on_terminate(self):
            called.append("terminate")

    with Hooked(1) as pool:
        pool.apply(square, (2,))
    assert called == ["start", ("apply", square, (2,)), "stop", "close"]
    called.clear()
    Hooked(1).__enter__().terminate()
    assert called == ["start", "terminate"]


def test_a_started_pool_has_nothing_but_its_processes():
    before = leftovers()
    with TaskPool(2) as pool:
        eventually(lambda: full(pool, 2) and pool.stats["standby"], pool)
        own = {pool.stats["zygote"], pool.stats["standby"], *pids(pool)}
        assert leftovers() - before == own


@pytest.mark.parametrize("ending", ["stop", "terminate"])
@pytest.mark.parametrize("guest", [False, True])
def test_a_pool_that_has_ended_holds_no_descriptor(pool, ending, guest):
    before = descriptors()
    one = pool(2)
    if guest:
        one.fileno()
    one.apply(square, (1,))
    getattr(one, ending)()
    assert descriptors() == before
    assert one.stats["tasks_succeeded"] == 1
