"""Limits, and tasks that are revoked."""

from __future__ import annotations

import os
import signal
import time

import billiard.exceptions
from celery.exceptions import TimeLimitExceeded, WorkerLostError
from workers import failure_of

from helpers import alive, asleep, eventually, hold, lines, square

from .conftest import send, up


class SlowToPickle:
    """A result."""

    def __reduce__(self):
        end = time.monotonic() + 1
        while time.monotonic() < end:
            pass
        return str, ()


def slow_to_pickle():
    return SlowToPickle()


def test_the_soft_limit_is_up_when_the_call_has_ended(driven):
    """The soft limit is up when a call has ended, while its result is sent: it has ended well"""
    one = driven(1)
    one.submit(slow_to_pickle, soft_timeout=0.3)
    one.until(lambda: {"success", "error"} & set(one.names()))
    assert ("success", "") in one.said, "it fails"


def brief(seconds):
    try:
        time.sleep(seconds)
    except billiard.exceptions.SoftTimeLimitExceeded:
        return "softly"
    return "in time"


def test_the_soft_limit_is_up_just_when_calls_end(driven):
    """The soft limit is up in the moment in which calls end, 150 times: the next one is not hit"""
    one = driven(2)
    up(one)
    ended, failed = [], []
    for _ in range(150):
        limited = {"callback": ended.append, "error_callback": ended.append}
        one.submit(brief, 0.02, soft_timeout=0.02, **limited)
        one.submit(square, 2, callback=ended.append, error_callback=failed.append)
    one.until(lambda: len(ended) + len(failed) == 300)
    assert not failed, f"{len(failed)} fail"


def test_a_late_soft_signal(start):
    """SIGUSR1 comes when a process is idle: the process goes on"""
    one = start("-c", "1")
    for i in range(3):
        pid = one.tasks.pid.delay().get(timeout=20)
        eventually(lambda: one.said().count("succeeded") == i + 2 and asleep(pid))  # noqa: B023
        os.kill(pid, signal.SIGUSR1)
    assert one.tasks.pid.delay().get(timeout=20) == pid, "it ends"


def test_limits_after_a_reconnect(start, gate, cut, soon):
    """The broker's connection is lost while a task with a time limit runs: the limit holds"""
    one = start()
    result = one.tasks.hold.apply_async((gate.path,), time_limit=8)
    gate.arrived()
    assert one.tasks.add.delay(2, 3).get(timeout=20) == 5  # so it has heard that the other runs
    cut(one)
    with soon(20, "the task has none any more"):
        assert type(result.get(timeout=20, propagate=False)) is TimeLimitExceeded


def test_revoking_a_task_that_has_just_ended(driven, gate):
    """`revoke(terminate=True)` for a task that has ended a moment ago: the next task of its
    process goes on"""
    one = driven(1)
    first = one.submit(hold, gate.path)
    one.until(lambda: one.said)
    pid = one.said[0][1]
    gate.arrived()
    gate.open()
    one.until(lambda: len(one.said) == 2)
    one.submit(hold, gate.path)
    one.until(lambda: len(one.said) == 3)
    gate.arrived()
    first.terminate(signal.SIGKILL)
    gate.open()
    one.until(lambda: len(one.said) == 4)
    assert one.names()[3] == "success", "it is killed"
    assert one.said[2][1] == pid


def test_revoking_a_task_that_has_ended_and_we_have_not_heard(driven, gate):
    """`revoke(terminate=True)` for a task that has ended, which the worker has not heard yet: the
    next task of its process goes on"""
    one = driven(1)
    first = one.submit(hold, gate.path)
    one.until(lambda: one.said)
    pid = one.said[0][1]
    gate.arrived()
    second = one.submit(hold, gate.path)
    for _ in range(5):
        one.poll(0)
    gate.open()
    if gate.is_awaited(2):  # of a pool that gives it out before it hears of the end
        gate.arrived()
    one.pool.terminate_job(pid, signal.SIGKILL)
    first.terminate(signal.SIGKILL)
    gate.open()
    one.until(lambda: sum(name in ("success", "error") for name in one.names()) == 2)
    assert one.said[-1][0] == "success", "it is killed"
    assert second.ready()


def test_a_soft_revoke_and_then_a_kill(start, gate, tmp_path):
    """`revoke(terminate=True, signal="SIGUSR1")`, which a task survives; later its process is
    killed with another task: that one is a FAILURE"""
    one = start("-c", "1")
    mark = tmp_path / "mark"
    first = send(one, "hold_through_softly", gate.path, str(mark))
    gate.arrived()
    one.app.control.revoke(first.id, terminate=True, signal="SIGUSR1")
    eventually(lambda: lines(mark) == ["softly"])
    second = one.tasks.hold.delay(gate.path)
    (pid,) = gate.arrived()
    os.kill(pid, signal.SIGKILL)
    error = second.get(timeout=20, propagate=False)
    assert type(error) is WorkerLostError, f"it is {second.state}"


def test_the_hard_limit_of_a_task_that_ignores_sigterm(start, gate):
    """The hard limit of a task that ignores SIGTERM: FAILURE, and its process has ended"""
    one = start()
    result = send(one, "hold_stubbornly", gate.path).id
    (pid,) = gate.arrived()
    again = one.app.send_task("better.tasks.hold_stubbornly", (gate.path,), time_limit=1)
    (limited,) = gate.arrived()
    assert type(failure_of(again)) is TimeLimitExceeded
    eventually(lambda: not alive(limited))
    gate.open()
    assert one.app.AsyncResult(result).get(timeout=20) == pid


def test_cold_shutdown_of_a_task_that_ignores_sigterm(start, gate, soon):
    """A cold shutdown (SIGQUIT) while a task ignores SIGTERM: the worker ends"""
    one = start()
    send(one, "hold_stubbornly", gate.path)
    gate.arrived()
    one.ask("active")  # it has told the broker; a handler that comes in between waits for ever
    with soon(15, "it waits until the task has ended"):
        one.program.send_signal(signal.SIGQUIT)
        one.program.wait(20)


def test_sigterm_before_a_process_has_its_handlers(start, tmp_path):
    """SIGTERM comes to a process right after its fork, before it has signal handlers of its own:
    it ends"""
    one = start("-c", "1")
    pid = one.tasks.pid.delay().get(timeout=20)
    (tmp_path / "term").touch()
    os.kill(pid, signal.SIGKILL)
    eventually(lambda: lines(tmp_path / "termed"))
    assert one.tasks.pid.delay().get(timeout=20) != int(lines(tmp_path / "termed")[0]), (
        "the signal is lost"
    )
