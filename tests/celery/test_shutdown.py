"""How a worker ends: warm, cold, killed, under load; and what becomes of its tasks."""

from __future__ import annotations

import os
import signal

import pytest
import redis
from celery.exceptions import TaskRevokedError
from workers import is_delivered_again

from helpers import alive, asleep, eventually

TASKS = 200


def done(client: redis.Redis) -> list[int]:
    """How often each task is done."""
    return [int(n or 0) for n in client.mget([f"done:{i}" for i in range(TASKS)])]


@pytest.mark.smoke
def test_a_warm_shutdown_under_load_does_no_task_twice_and_loses_none(worker, redis_server):
    with redis.Redis.from_url(redis_server.url) as client:
        one = worker()
        for i in range(TASKS):
            one.tasks.count_early.delay(i)
        eventually(lambda: int(client.get("done") or 0) >= 20)
        processes = one.processes()
        assert one.stop(signal.SIGTERM) == 0
        assert not any(map(alive, processes))
        assert "Traceback" not in one.said()
        again = worker()
        eventually(lambda: min(done(client)) >= 1, within=150)
        assert again.stop() == 0
        assert done(client) == [1] * TASKS


@pytest.mark.smoke
@pytest.mark.only("redis", "redis-threads")
def test_a_cold_shutdown_under_load_loses_no_late_task(worker, redis_server):
    """Over RabbitMQ, a SIGQUIT that comes while Celery writes to the broker has it wait for ever,
    whatever its pool: its handler writes too, and the lock of py-amqp is taken."""
    with redis.Redis.from_url(redis_server.url) as client:
        one = worker()
        for i in range(TASKS):
            one.tasks.count.delay(i)
        eventually(lambda: int(client.get("done") or 0) >= 20)
        processes = one.processes()
        one.stop(signal.SIGQUIT)
        assert not any(map(alive, processes))
        assert "Cold shutdown" in one.said()
        again = worker()
        eventually(lambda: min(done(client)) >= 1, within=150)
        assert again.stop() == 0


def test_a_second_sigterm_changes_nothing(worker, gate):
    one = worker()
    result = one.tasks.hold.delay(gate.path)
    (pid,) = gate.arrived()
    for count in (1, 2):
        one.program.send_signal(signal.SIGTERM)
        eventually(lambda: one.said().count("Warm shutdown") == count)  # noqa: B023
    assert alive(pid)
    gate.open()
    assert one.program.wait(30) == 0
    assert result.get(timeout=30) == pid


def consumers(one):
    """How many RabbitMQ has for a worker's queue; other brokers have none."""
    with one.app.connection_for_read() as connection:
        if connection.transport.driver_type != "amqp":
            return 0
        queue = one.app.conf.task_default_queue
        return connection.default_channel.queue_declare(queue, passive=True).consumer_count


def test_a_warm_shutdown_may_turn_cold(worker, gate):
    """Not before Celery has told RabbitMQ of the first: see above."""
    one = worker()
    result = one.tasks.hold_late.delay(gate.path)
    (pid,) = gate.arrived()
    one.program.send_signal(signal.SIGTERM)
    eventually(lambda: "Warm shutdown" in one.said())
    eventually(lambda: not consumers(one) and asleep(one.program.pid))
    one.stop(signal.SIGQUIT)
    is_delivered_again(result, pid, worker, gate)


def test_sigterm_may_be_mapped_to_the_cold_shutdown(worker, gate):
    one = worker(REMAP_SIGTERM="SIGQUIT")
    result = one.tasks.hold_late.delay(gate.path)
    (pid,) = gate.arrived()
    one.stop(signal.SIGTERM)
    assert "Cold shutdown" in one.said()
    is_delivered_again(result, pid, worker, gate)


def test_a_terminal_interrupts_all_processes_and_the_task_goes_on(worker, gate):
    one = worker()
    result = one.tasks.hold.delay(gate.path)
    (pid,) = gate.arrived()
    for process in (*one.processes(), one.program.pid):
        os.kill(process, signal.SIGINT)
    eventually(lambda: "Warm shutdown" in one.said())
    assert alive(pid)
    gate.open()
    one.program.wait(30)
    assert result.get(timeout=30) == pid


def test_a_soft_shutdown_gives_tasks_some_time(worker, gate):
    one = worker(conf={"worker_soft_shutdown_timeout": 10})
    result = one.tasks.hold_late.delay(gate.path)
    (pid,) = gate.arrived()
    eventually(lambda: one.ask("active"))  # Celery knows; else it would not wait
    one.program.send_signal(signal.SIGQUIT)
    eventually(lambda: "soft shutdown" in one.said().lower())
    gate.open()
    assert result.get(timeout=30) == pid
    one.program.wait(60)


def test_a_revoked_task_stays_revoked_over_a_warm_shutdown(worker, gate):
    one = worker().listens()
    result = one.tasks.hold.delay(gate.path)
    (pid,) = gate.arrived()
    one.app.control.revoke(result.id, terminate=True)
    with pytest.raises(TaskRevokedError):
        result.get(timeout=30)
    assert one.stop() == 0
    assert not alive(pid)
