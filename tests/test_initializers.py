"""Initializers that fail: for a while, in one worker, or always."""

from __future__ import annotations

import concurrent.futures
import os
import signal
import sys
import threading
import traceback
from pathlib import Path

import pytest

import prefork
from helpers import eventually, full, hold, kill_self, pid_of_worker, pids, spin, square
from prefork import _core


def broken(*_):
    raise KeyError("broken initializer")


def test_an_initializer_that_always_fails_fails_the_waiting_tasks(pool):
    one = pool(2, initializer=broken, putlocks=False)
    with pytest.raises(prefork.InitializerError, match="initializer") as caught:
        one.apply_async(square, (1,)).get()
    assert isinstance(caught.value.__cause__, KeyError)
    assert one.state == "degraded"
    assert not one.did_start_ok()
    with pytest.raises(prefork.InitializerError):
        one.apply_async(square, (1,))


class WithoutRepr(Exception):
    def __repr__(self):
        raise ValueError("no repr")

    __str__ = __repr__


class WithoutCause(Exception):
    @property
    def __cause__(self):
        raise RuntimeError("no cause")


class ExitsWhenDecoded(Exception):
    def __reduce__(self):
        return sys.exit, (4,)


def raises(kind):
    raise kind()


@pytest.mark.parametrize("kind", [WithoutRepr, WithoutCause, ExitsWhenDecoded])
def test_an_initializer_may_raise_what_cannot_be_shown_nor_decoded(pool, kind):
    """Whoever waits is told, in whatever way."""
    one = pool(1, initializer=raises, initargs=(kind,), putlocks=False)
    heard = []
    task = one.apply_async(square, (1,), error_callback=heard.append)
    assert concurrent.futures.wait([task], 30).done == {task}
    assert type(task.exception()) is prefork.InitializerError
    eventually(lambda: heard)
    assert heard == [task.exception()]
    with pytest.raises(prefork.InitializerError, match="no worker can start"):
        one.apply(square, (1,))


def exits(*_):
    raise SystemExit(3)


def test_an_initializer_that_raises_systemexit_fails_like_any_other(pool):
    one = pool(1, initializer=exits)
    with pytest.raises(prefork.InitializerError):
        one.apply(square, (1,))


@pytest.mark.parametrize(
    ("ends", "argument", "how"),
    [
        (kill_self, signal.SIGKILL, "ended by SIGKILL"),
        (os._exit, 3, "exited with code 3"),
        (os._exit, 0, "exited with code 0"),
    ],
)
def test_an_initializer_that_ends_its_worker_fails_like_any_other(pool, ends, argument, how):
    one = pool(2, initializer=ends, initargs=(argument,), putlocks=False)
    with pytest.raises(prefork.InitializerError, match=f"{how} before it was up"):
        one.apply_async(square, (1,)).get()
    assert one.state == "degraded"
    assert not one.did_start_ok()
    with pytest.raises(prefork.InitializerError, match=how):
        one.apply_async(square, (1,))


def test_a_worker_that_dies_in_its_first_task_has_started(pool):
    one = pool(1, putlocks=False)
    for task in [one.apply_async(os._exit, (3,)) for _ in range(10)]:
        assert isinstance(task.exception(), prefork.WorkerExited)
    assert one.did_start_ok()
    assert one.state == "running"


def test_a_worker_whose_end_is_heard_before_that_it_was_up_had_started_and_is_gone():
    """One thread has taken the event that it is up, and another applies that of its end."""
    one = prefork.TaskPool(1)
    up = one._delivery._handlers[_core.WORKER_UP]
    in_hand, ended = threading.Event(), threading.Event()

    def late(event):
        if not in_hand.is_set():
            in_hand.set()
            ended.wait()
        up(event)

    one._delivery._handlers[_core.WORKER_UP] = late
    with one:
        thread = threading.Thread(target=one.poll, args=(30,))
        thread.start()
        assert in_hand.wait(10)
        (pid,) = pids(one)
        os.kill(pid, signal.SIGKILL)
        eventually(lambda: full(one, 1) and pids(one) != {pid}, one)
        assert one.did_start_ok()
        ended.set()
        thread.join()
        assert pid not in one._delivery.health._up


def broken_while(path):
    if Path(path).exists():
        raise KeyError("broken initializer")


def killed_while(path):
    if Path(path).exists():
        os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize("initializer", [broken_while, killed_while])
def test_a_pool_recovers_when_the_initializer_does(pool, tmp_path, initializer):
    flag = tmp_path / "broken"
    flag.touch()
    one = pool(1, initializer=initializer, initargs=(str(flag),))
    eventually(lambda: one.state == "degraded", one)
    flag.unlink()
    eventually(lambda: one.state == "running", one)
    assert one.apply(square, (3,)) == 9
    assert one.did_start_ok()


def test_restart_recovers_a_pool_whose_initializer_failed(pool):
    broken_now = [True]

    def initialize():
        if broken_now:
            raise KeyError

    one = pool(1, initializer=initialize)
    eventually(lambda: one.state == "degraded", one)
    broken_now.clear()
    one.restart()
    eventually(lambda: one.state == "running", one)
    assert one.apply(square, (3,)) == 9


def test_who_submits_again_and_again_finds_that_it_has_recovered(pool, tmp_path):
    flag = tmp_path / "broken"
    flag.touch()
    one = pool(1, initializer=broken_while, initargs=(str(flag),))
    assert type(one.apply_async(square, (1,)).exception()) is prefork.InitializerError
    flag.unlink()

    def submitted():
        try:
            return one.apply_async(square, (3,))
        except prefork.InitializerError:
            return None

    assert eventually(submitted).get() == 9


def test_everybody_gets_an_exception_of_their_own(pool):
    one = pool(1, initializer=broken, putlocks=False)
    tasks = [one.apply_async(square, (i,)) for i in range(2)]
    caught = [task.exception() for task in tasks]
    for _ in range(3):
        with pytest.raises(prefork.InitializerError) as refused:
            one.apply_async(square, (1,))
        caught.append(refused.value)
    assert len(set(map(id, caught))) == 5
    lengths = [len(traceback.extract_tb(error.__traceback__)) for error in caught[2:]]
    assert lengths == lengths[:1] * 3


def test_a_worker_that_cannot_start_harms_no_task_while_others_can(pool, gate, tmp_path):
    flag = tmp_path / "broken"
    one = pool(2, initializer=broken_while, initargs=(str(flag),), putlocks=False)
    held = one.apply_async(hold, (gate.path,))
    gate.arrived()
    eventually(lambda: full(one, 2), one)
    flag.touch()
    (idle,) = pids(one) - {held.pid}
    os.kill(idle, signal.SIGKILL)
    tasks = [one.apply_async(square, (i,)) for i in range(10)]
    eventually(lambda: one.stats["workers_exited"] > 4, one)
    gate.open()
    assert [task.get() for task in tasks] == [i * i for i in range(10)]
    assert one.state == "running"


def test_tasks_outlast_a_short_outage(pool, tmp_path):
    flag = tmp_path / "broken"
    one = pool(1, initializer=broken_while, initargs=(str(flag),), putlocks=False)
    os.kill(one.apply(pid_of_worker), signal.SIGKILL)
    flag.touch()
    tasks = [one.apply_async(square, (i,)) for i in range(10)]
    eventually(lambda: one.stats["workers_exited"] > 4, one)
    assert not one.did_start_ok()
    flag.unlink()
    assert [task.get() for task in tasks] == [i * i for i in range(10)]
    assert one.did_start_ok()


def test_an_initializer_that_never_returns_does_not_keep_an_idle_pool_from_its_end(pool):
    one = pool(2, initializer=spin)
    eventually(lambda: [w.state for w in one.workers] == ["starting"] * 2, one)
    one.stop()
    assert one.state == "stopped"
