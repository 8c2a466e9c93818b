"""Nothing is lost, whatever ends: a process, a worker, a broker."""

from __future__ import annotations

import os
import random
import re
import signal
from collections import Counter

import pytest
import redis
from brokers import RabbitMQ, Redis
from workers import Worker, failure_of

from helpers import alive, eventually

TASKS = 10_000
SEED = 20090616


def counts(client: redis.Redis, kind: str, tasks: int) -> list[int]:
    """How often each task has begun, or is done."""
    return [int(n or 0) for n in client.mget([f"{kind}:{i}" for i in range(tasks)])]


def deliveries(one: Worker, name: str) -> Counter[str]:
    """How often the worker has received each task, by id."""
    return Counter(re.findall(rf"Task celery_tasks\.{name}\[(.+?)\] received", one.said()))


@pytest.mark.smoke
def test_a_lost_process_has_its_task_delivered_again_if_that_is_wanted(worker, gate):
    one = worker()
    result = one.tasks.hold_late.delay(gate.path)
    (pid,) = gate.arrived()
    os.kill(pid, signal.SIGKILL)
    (second,) = gate.arrived()
    assert second != pid
    gate.open()
    assert result.get(timeout=30) == second
    assert deliveries(one, "hold_late")[result.id] == 2


def test_a_lost_process_fails_its_task_else_late_or_not(worker, gate):
    one = worker()
    for task in (one.tasks.hold, one.tasks.hold_only_late):
        result = task.delay(gate.path)
        (pid,) = gate.arrived()
        os.kill(pid, signal.SIGKILL)
        assert type(failure_of(result)).__name__ == "WorkerLostError"
        assert deliveries(one, task.__name__)[result.id] == 1


@pytest.mark.only("rabbitmq", "rabbitmq-threads")
def test_a_killed_workers_late_tasks_go_to_another(worker, gate):
    """With redis it takes its visibility timeout, and is not the pool's matter."""
    one = worker()
    results = [one.tasks.hold_late.delay(gate.path) for _ in range(4)]
    first = gate.arrived(2)
    one.stop(signal.SIGKILL)
    again = worker()
    second = gate.arrived(2)
    gate.open(4)
    assert {result.get(timeout=30) for result in results} <= {*second, *again.processes()}
    assert not any(map(alive, first))


@pytest.mark.timeout(400)
@pytest.mark.only("redis")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_redis_restarts_under_load_and_nothing_is_lost(
    worker, redis_server, tmp_path, gate, number
):
    """The broker is one of the test's own: the counts are in the other."""
    directory = tmp_path / "broker"
    directory.mkdir()
    broker = Redis(directory)
    try:
        _restart(worker, redis_server, broker, gate, number)
    finally:
        broker.stop()


@pytest.mark.timeout(400)
@pytest.mark.only("rabbitmq")
def test_rabbitmq_restarts_under_load_and_nothing_is_lost(
    worker, redis_server, rabbitmq: RabbitMQ, gate
):
    _restart(worker, redis_server, rabbitmq, gate, signal.SIGTERM)


def _restart(worker, redis_server, broker, gate, number):
    """While both processes have a task that is late acknowledged, and many wait. All tasks are done
    at least once, as is the promise of late acknowledgement. (A message that kombu has taken out of
    redis and not yet noted can get lost, so nothing is on its way when redis ends.)"""
    conf = {
        "broker_url": broker.url,
        "result_backend": redis_server.url,
        "broker_transport_options": {"visibility_timeout": 5} if "redis" in broker.url else {},
        "worker_cancel_long_running_tasks_on_connection_loss": False,
    }
    one = worker("--prefetch-multiplier", "1", conf=conf)
    with redis.Redis.from_url(redis_server.url) as client:
        before, after = range(100), range(100, 300)
        for i in before:
            one.tasks.count.delay(i)
        eventually(lambda: all(counts(client, "done", len(before))), within=120)
        held = [one.tasks.hold_late.delay(gate.path) for _ in range(2)]
        gate.arrived(2)
        for i in after:
            one.tasks.count.delay(i)
        broker.stop(number)
        eventually(lambda: "Connection to broker lost" in one.said())
        broker.start()
        gate.open(20)  # also for what is delivered again
        eventually(lambda: all(counts(client, "done", 300)), within=120)
        assert all(result.get(timeout=60) for result in held)
    assert one.stop() == 0


@pytest.mark.timeout(900)
@pytest.mark.only("redis", "redis-threads")  # where one can see that nothing is on its way
def test_ten_thousand_tasks_are_done_once_while_processes_are_killed(worker, redis_server):
    """A task runs again only when it was delivered again, which is once for each process that is
    reported lost; and those are no more than were killed."""
    one = worker("-c", "4", "--prefetch-multiplier", "8")
    chance = random.Random(SEED)
    kills = 0
    with redis.Redis.from_url(redis_server.url) as client:
        with one.app.producer_or_acquire() as producer:
            for i in range(TASKS):
                one.tasks.count.apply_async((i,), task_id=str(i), producer=producer)

        def done() -> int:
            return int(client.get("done") or 0)

        while (so_far := done()) < TASKS:
            target = min(TASKS, so_far + chance.randrange(10, 150))
            eventually(lambda: done() >= target, within=120)  # noqa: B023
            children = one.children()
            if children:
                os.kill(chance.choice(children), signal.SIGKILL)
                kills += 1
        eventually(lambda: not _busy(client))
        assert one.stop() == 0
        began, finished = counts(client, "began", TASKS), counts(client, "done", TASKS)
    received = deliveries(one, "count")
    lost = one.said().count("Task handler raised error: WorkerLostError('Worker exited premat")
    again = sum(received.values()) - TASKS
    print(f"{kills} kills (seed {SEED}), {again} tasks delivered again, {lost} reports")
    assert min(finished) >= 1
    for i in range(TASKS):
        assert finished[i] <= began[i] <= received[str(i)], f"task {i} ran without being delivered"
    assert 0 < again <= lost <= kills


def _busy(client: redis.Redis) -> bool:
    """Whether a task is anywhere between the queue and its acknowledgement."""
    return bool(client.llen("celery") or client.hlen("unacked"))
