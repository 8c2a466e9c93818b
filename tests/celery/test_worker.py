"""A real worker, `celery worker` as a program, over a redis-server of the test's own."""

from __future__ import annotations

import os
import signal
import time

import celery
import pytest
import redis
from celery.exceptions import SoftTimeLimitExceeded, TimeLimitExceeded, WorkerLostError
from workers import failure_of, is_delivered_again

from helpers import Gate, alive, eventually, lines


@pytest.mark.smoke
def test_tasks_run_and_fail_and_the_pool_is_ours(worker):
    one = worker()
    assert one.tasks.add.delay(2, 3).get(timeout=30) == 5
    assert celery.group(one.tasks.add.s(i, i) for i in range(50))().get(timeout=30) == [
        2 * i for i in range(50)
    ]
    assert celery.chain(one.tasks.add.s(1, 2), one.tasks.add.s(3))().get(timeout=30) == 6
    assert repr(failure_of(one.tasks.fail.delay("why"))) == "ValueError('why')"
    assert "(prefork)" in one.said()
    (stats,) = one.stats()
    assert stats["pool"]["implementation"].endswith("prefork:TaskPool")
    assert len(stats["pool"]["processes"]) == 2
    assert one.tasks.name.delay().get(timeout=30).startswith("ForkPoolWorker-")
    assert one.stop() == 0


@pytest.mark.smoke
def test_a_killed_process_is_a_failure_at_once(worker, gate):
    one = worker()
    result = one.tasks.hold.delay(gate.path)
    (pid,) = gate.arrived()
    os.kill(pid, signal.SIGKILL)
    began = time.monotonic()
    error = failure_of(result)
    print(f"{(time.monotonic() - began) * 1000:.1f} ms from the kill to FAILURE")
    assert type(error) is WorkerLostError
    assert "signal 9 (SIGKILL)" in str(error)
    assert one.tasks.add.delay(2, 3).get(timeout=30) == 5


def test_a_task_that_exits_is_a_failure(worker):
    one = worker()
    error = failure_of(one.tasks.leave.delay(4))
    assert type(error) is WorkerLostError
    assert "exitcode 4" in str(error)


def test_a_revoked_task_ends_and_others_do_not(worker, gate, tmp_path):
    one = worker().listens()
    other = Gate(tmp_path, "other")
    try:
        revoked, spared = one.tasks.hold.delay(gate.path), one.tasks.hold.delay(other.path)
        (pid,) = gate.arrived()
        (spared_pid,) = other.arrived()
        one.app.control.revoke(revoked.id, terminate=True, signal="SIGKILL")
        with pytest.raises(celery.exceptions.TaskRevokedError):
            revoked.get(timeout=30)
        eventually(lambda: not alive(pid))
        other.open()
        assert spared.get(timeout=30) == spared_pid
    finally:
        other.close()


def test_limits(worker):
    one = worker("--soft-time-limit", "0.3", "--time-limit", "20")
    assert type(failure_of(one.tasks.spin.delay())) is SoftTimeLimitExceeded
    hard = one.tasks.spin.apply_async(soft_time_limit=10, time_limit=0.3)
    assert type(failure_of(hard)) is TimeLimitExceeded
    for limit in ("Soft", "Hard"):  # Celery stores the error first
        eventually(lambda: f"{limit} time limit (0.3s) exceeded for" in one.said())  # noqa: B023


@pytest.mark.smoke
def test_a_warm_shutdown_ends_what_runs_and_loses_nothing(worker, gate):
    one = worker("--prefetch-multiplier", "1")
    running = [one.tasks.hold.delay(gate.path) for _ in range(2)]
    gate.arrived(2)
    processes = one.processes()
    waiting = one.tasks.add.delay(2, 3)
    one.program.send_signal(signal.SIGTERM)
    eventually(lambda: "Warm shutdown" in one.said())
    gate.open(2)
    assert one.program.wait(30) == 0
    assert {result.get(timeout=30) for result in running} <= processes
    assert not any(map(alive, processes))
    again = worker()
    assert waiting.get(timeout=30) == 5
    assert again.stop() == 0


def test_a_cold_shutdown_requeues_what_runs(worker, gate):
    one = worker()
    result = one.tasks.hold_late.delay(gate.path)
    (pid,) = gate.arrived()
    one.stop(signal.SIGQUIT)
    is_delivered_again(result, pid, worker, gate)


def test_no_process_outlives_a_killed_worker(worker, gate):
    one = worker()
    one.tasks.hold.delay(gate.path)
    gate.arrived()
    processes = one.processes()
    one.stop(signal.SIGKILL)
    eventually(lambda: not any(map(alive, processes)))


def test_recycling_loses_no_task(worker):
    one = worker("--max-tasks-per-child", "3")
    results = [one.tasks.pid.delay() for _ in range(60)]
    assert len({result.get(timeout=60) for result in results}) >= 20


def test_remote_control_grows_and_shrinks(worker, gate):
    one = worker().listens()
    control = one.app.control
    assert control.pool_grow(1, reply=True, limit=1, timeout=30)
    results = [one.tasks.hold.delay(gate.path) for _ in range(3)]
    assert len(set(gate.arrived(3))) == 3
    (reply,) = control.pool_shrink(99, reply=True, limit=1, timeout=30)
    assert "error" in next(iter(reply.values()))
    assert control.pool_shrink(2, reply=True, limit=1, timeout=30)
    gate.open(3)
    assert [result.get(timeout=30) for result in results]
    assert one.tasks.add.delay(2, 3).get(timeout=30) == 5


def test_celerys_signals_are_heard(worker, tmp_path):
    one = worker(CELERY_TEST_NOTES=str(tmp_path / "notes"))
    pid = one.tasks.pid.delay().get(timeout=30)
    assert one.stop() == 0
    found = lines(tmp_path / "notes")
    assert found.index(f"init {pid}") < found.index(f"shutdown {pid} 0")


def listening(client):
    """The connections by which somebody waits for messages."""
    return {
        connection["id"]
        for connection in client.client_list()
        if connection["cmd"] in ("brpop", "psubscribe")
    }


@pytest.mark.only("redis")
def test_a_reconnect_keeps_what_runs(worker, gate, redis_url):
    with redis.Redis.from_url(redis_url) as client:
        ours = listening(client)
        one = worker("--prefetch-multiplier", "1")
        result = one.tasks.hold.delay(gate.path)
        (pid,) = gate.arrived()
        for i in range(3):
            # What is not acknowledged comes once more, and `hold` would have both processes.
            eventually(lambda: not client.hlen("unacked"))
            known = one.said().count("Connected to")
            for connection in listening(client) - ours:
                client.client_kill_filter(_id=connection)
            eventually(lambda: one.said().count("Connected to") > known)  # noqa: B023
            assert one.tasks.add.delay(i, i).get(timeout=30) == 2 * i
    gate.open()
    assert one.app.AsyncResult(result.id).get(timeout=30) == pid
    assert [one.tasks.add.delay(i, i).get(timeout=30) for i in range(5)] == [0, 2, 4, 6, 8]
    (stats,) = one.stats()
    assert pid in stats["pool"]["processes"]


def test_pool_restart_has_new_processes_and_ends_what_runs(worker, gate):
    one = worker(CELERY_TEST_RESTARTS="1").listens()
    result = one.tasks.hold.delay(gate.path)
    (pid,) = gate.arrived()
    before = one.processes()
    assert one.app.control.pool_restart(reply=True, limit=1, timeout=30)
    gate.open()
    assert result.get(timeout=30) == pid
    assert {one.tasks.pid.delay().get(timeout=30) for _ in range(10)}.isdisjoint(before)
    eventually(lambda: not any(map(alive, before)))


def test_autoscaling_from_nothing_and_back(worker, gate):
    one = worker("--autoscale", "3,0", AUTOSCALE_KEEPALIVE="0.2")
    results = [one.tasks.hold.delay(gate.path) for _ in range(3)]
    gate.arrived(3)
    gate.open(3)
    assert len({result.get(timeout=30) for result in results}) == 3
    eventually(lambda: "Scaling down" in one.said())
    assert one.tasks.add.delay(2, 3).get(timeout=30) == 5


def test_a_warm_shutdown_of_idle_processes_says_nothing_bad(worker):
    one = worker()
    assert one.tasks.add.delay(2, 3).get(timeout=30) == 5
    assert one.stop() == 0
    assert "Warm shutdown" in one.said()
    assert "Traceback" not in one.said()
