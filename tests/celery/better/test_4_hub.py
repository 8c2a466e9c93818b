"""The worker's event loop, and reconnects."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time

import celery

from helpers import hold, hold_stubbornly, lines, note, square

from .conftest import Beat, begin_to_give, up


def test_hard_limits_of_many_tasks(driven, gate):
    """The hard limits of 16 tasks that ignore SIGTERM are up: timers, as of heartbeats, are held
    up for less than a second"""
    one = driven(16)
    up(one)
    for _ in range(16):
        one.submit(hold_stubbornly, gate.path, timeout=3)
    gate.arrived(16, one)
    beat = Beat(one)
    beat.until(lambda: one.names().count("error") == 16)
    assert beat.longest < 1, f"for {beat.longest:.1f} s"


def test_connection_lost_while_processes_stand_still(driven):
    """The connection is lost while arguments of 8 MB are on their way to 4 processes that stand
    still: the worker goes on, and is held up for less than a second"""
    one = driven(4)
    pids = up(one)
    begin_to_give(one, 4)
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        for _ in range(20):
            one.poll(0)
        signal.setitimer(signal.ITIMER_REAL, 10)
        before = signal.signal(signal.SIGALRM, lambda *_: _go_on(pids))
        began = time.monotonic()
        one.pool.flush()
        took = time.monotonic() - began
    except RuntimeError as error:
        raise AssertionError("an error comes out of the pool, and ends the worker") from error
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        _go_on(pids)
    assert took < 1, "until they go on" if took > 9 else f"for {took:.1f} s"


def _go_on(pids):
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)


def test_large_arguments(driven):
    """8 arguments of 8 MB for processes that stand still: timers go on"""
    one = driven(2)
    pids = up(one)
    begin_to_give(one, 2)
    with standing_still(pids) as gone_on:
        beat = Beat(one)
        for _ in range(6):
            beat.until(lambda: True)
            one.submit(len, b"x" * (8 << 20))
        beat.until(lambda: True)
        assert not gone_on, "they do when the processes go on"
    one.until(lambda: one.names().count("success") == 8)


@contextlib.contextmanager
def standing_still(pids):
    """Processes are stopped in the block. Who waits for one of them does so until all go on after
    a long while, which the list then says."""
    gone_on = []

    def give_up():
        gone_on.append(True)
        _go_on(pids)

    watcher = threading.Timer(20, give_up)
    watcher.start()
    try:
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        yield gone_on
    finally:
        watcher.cancel()
        watcher.join()
        _go_on(pids)


def test_accepting_a_task_raises(driven):
    """To acknowledge a task that has begun raises an error, as where the connection is just lost:
    the event loop goes on, and the task ends"""
    one = driven(1)

    def accepted(pid, at):
        one.said.append(("accept", pid))
        raise ConnectionError("lost")

    one.submit(square, 3, accept_callback=accepted)
    try:
        one.until(lambda: len(one.said) == 2)
    except AttributeError as error:
        raise AssertionError("it ends the worker") from error
    assert one.said[1] == ("success", 9)


def reconnect(one):
    """What the hub goes through where Celery has lost its connection."""
    one.semaphore.clear()
    one.pool.flush()
    if celery.VERSION >= (5, 6, 3):
        one.hub.reset()
        one.hub.timer.clear()
    one.pool.register_with_event_loop(one.hub)
    one._loop = one.hub.create_loop()


def test_timers_and_reconnects(driven):
    """Five reconnects: no more timers than before"""
    one = driven(2)
    up(one)
    before = len(one.hub.timer.queue)
    for _ in range(5):
        reconnect(one)
        one.poll(0)
    after = len(one.hub.timer.queue)
    assert after <= before, f"{after} where there were {before}"


def test_running_tasks_and_reconnects(start, gate, cut):
    """The broker's connection is lost while a task runs: its result arrives"""
    one = start("--prefetch-multiplier", "1")
    result = one.tasks.hold.delay(gate.path)
    (pid,) = gate.arrived()
    assert one.tasks.add.delay(2, 3).get(timeout=20) == 5  # so it has heard that the other runs
    for _ in range(3):
        cut(one)
    gate.open()
    assert one.app.AsyncResult(result.id).get(timeout=20) == pid


def test_slots_and_reconnects(driven, gate):
    """The broker's connection is lost while tasks run: their slots are given back, their ends are
    told"""
    one = driven(2)
    up(one)
    for _ in range(2):
        one.semaphore.acquire(one.submit, hold, gate.path)
    one.until(lambda: len(one.said) == 2)
    reconnect(one)
    gate.open(2)
    deadline = time.monotonic() + 15
    one.until(lambda: one.names().count("success") == 2 or time.monotonic() > deadline)
    assert one.names().count("success") == 2, "the worker hears nothing of them"
    assert one.semaphore.value == 2, "a slot is lost"


def test_busy_processes_and_reconnects(driven, gate, soon):
    """The broker's connection is lost while a task runs: no other task waits behind it while
    another process is idle"""
    one = driven(2)
    up(one)
    one.submit(hold, gate.path)
    one.until(lambda: one.said)
    reconnect(one)
    for i in range(8):
        one.submit(square, i)
    deadline = time.monotonic() + 15
    one.until(lambda: one.names().count("success") == 8 or time.monotonic() > deadline)
    done = one.names().count("success")
    gate.open()
    assert done == 8, "tasks wait until it has ended"


def test_what_has_not_begun_and_reconnects(driven, gate, tmp_path):
    """The broker's connection is lost: what has not begun, and comes again, runs once"""
    one = driven(1)
    up(one)
    one.submit(hold, gate.path)
    one.until(lambda: one.said)
    for i in range(3):
        one.submit(note, str(tmp_path / "ran"), str(i))
    for _ in range(5):
        one.poll(0)
    reconnect(one)
    for i in range(3):
        one.submit(note, str(tmp_path / "ran"), str(i))
    gate.open()
    one.until(lambda: len(set(lines(tmp_path / "ran"))) == 3)
    for _ in range(20):
        one.poll(0)
    assert sorted(lines(tmp_path / "ran")) == ["0", "1", "2"]
