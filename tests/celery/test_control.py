"""Limits, revoking, scaling and inspecting, from outside."""

from __future__ import annotations

import signal

import pytest
from celery.exceptions import SoftTimeLimitExceeded, TaskRevokedError, TimeLimitExceeded
from workers import failure_of

from helpers import Gate, alive, eventually, lines


def test_limits_may_be_settings(worker, gate):
    one = worker(conf={"task_soft_time_limit": 0.3, "task_time_limit": 60})
    assert one.ask("stats")["pool"]["timeouts"] == [0.3, 60]
    assert type(failure_of(one.tasks.spin.delay())) is SoftTimeLimitExceeded
    assert one.tasks.forgiving.delay(gate.path).get(timeout=30) == "in time"


@pytest.mark.smoke
def test_a_hard_limit_may_be_a_tasks_own(worker):
    one = worker()
    assert type(failure_of(one.tasks.limited.delay())) is TimeLimitExceeded
    assert one.tasks.add.delay(2, 3).get(timeout=30) == 5


@pytest.mark.only("redis", "rabbitmq")  # a thread that waits for a slot hears nothing
def test_a_task_that_is_revoked_before_it_starts_never_does(worker, gate, tmp_path):
    one = worker().listens()
    running = [one.tasks.hold.delay(gate.path) for _ in range(2)]
    gate.arrived(2)
    revoked = one.tasks.tick.delay(str(tmp_path / "ticks"))
    eventually(lambda: revoked.id in str(one.ask("reserved")))
    one.app.control.revoke(revoked.id)
    gate.open(2)
    with pytest.raises(TaskRevokedError):
        revoked.get(timeout=30)
    assert [result.get(timeout=30) for result in running]
    assert not lines(tmp_path / "ticks")


@pytest.mark.parametrize("name", ["SIGTERM", "SIGKILL", "SIGQUIT"])
def test_a_running_task_is_revoked(worker, gate, tmp_path, name):
    one = worker().listens()
    with_other = Gate(tmp_path, "other")
    try:
        revoked, other = one.tasks.hold.delay(gate.path), one.tasks.hold.delay(with_other.path)
        (pid,) = gate.arrived()
        (spared,) = with_other.arrived()
        one.app.control.revoke(revoked.id, terminate=True, signal=name)
        with pytest.raises(TaskRevokedError):
            revoked.get(timeout=30)
        eventually(lambda: not alive(pid))
        with_other.open()
        assert other.get(timeout=30) == spared
    finally:
        with_other.close()


def test_a_revoking_sigusr1_is_a_soft_limit(worker, gate):
    """Celery says "revoked" at once. What the task makes of it is another matter."""
    one = worker().listens()
    result = one.tasks.forgiving.delay(gate.path)
    (pid,) = gate.arrived()
    one.app.control.revoke(result.id, terminate=True, signal="SIGUSR1")
    eventually(lambda: lines(f"{gate.path}.told") == ["in time"])
    assert one.tasks.add.delay(2, 3).get(timeout=30) == 5
    assert pid in one.children()


def test_autoscaling_up_and_down(worker, gate):
    one = worker("--autoscale", "4,1", AUTOSCALE_KEEPALIVE="0.2")
    eventually(lambda: len(one.children()) == 1)
    results = [one.tasks.hold.delay(gate.path) for _ in range(4)]
    assert len(set(gate.arrived(4))) == 4
    gate.open(4)
    assert len({result.get(timeout=30) for result in results}) == 4
    eventually(lambda: len(one.children()) == 1)
    assert one.tasks.add.delay(2, 3).get(timeout=30) == 5


@pytest.mark.smoke
def test_inspecting(worker, gate):
    one = worker()
    assert one.ask("ping") == {"ok": "pong"}
    result = one.tasks.hold.delay(gate.path)
    (pid,) = gate.arrived()
    (active,) = eventually(lambda: one.ask("active"))
    assert (active["id"], active["worker_pid"]) == (result.id, pid)
    pool = one.ask("stats")["pool"]
    assert sorted(pool["processes"]) == one.children()
    assert pool["max-concurrency"] == 2
    gate.open()
    assert result.get(timeout=30) == pid
    eventually(lambda: one.ask("active") == [])


def test_a_process_that_leaks_is_replaced_and_no_task_is_lost(worker):
    one = worker("--max-memory-per-child", str(200 << 10), "-c", "1")
    results = [one.tasks.grow_fat.delay(80) for _ in range(9)]
    assert len({result.get(timeout=60) for result in results}) > 1  # when its successor is up


def test_shrinking_ends_processes_that_have_no_task(worker, gate):
    one = worker("-c", "3").listens()
    result = one.tasks.hold.delay(gate.path)
    (pid,) = gate.arrived()
    assert one.app.control.pool_shrink(2, reply=True, limit=1, timeout=30)
    eventually(lambda: one.children() == [pid])
    gate.open()
    assert result.get(timeout=30) == pid
    assert one.stop(signal.SIGTERM) == 0
