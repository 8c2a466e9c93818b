"""A worker inside a test, as celery.contrib.testing has it: in a thread, over memory or redis."""

from __future__ import annotations

import os
import signal

import celery
import pytest
from celery.contrib.testing.worker import start_worker
from celery.exceptions import TimeLimitExceeded, WorkerLostError
from workers import failure_of

from helpers import hold, spin, square


@pytest.mark.parametrize("transport", ["memory", "redis"])
def test_an_embedded_worker(transport, redis_url, tmp_path):
    broker = "memory://" if transport == "memory" else redis_url
    app = celery.Celery("embedded", broker=broker, backend=f"file://{tmp_path}")
    compute = app.task(square, name="embedded.square", shared=False)
    pool = "prefork.celery:TaskPool"
    with start_worker(
        app, pool=pool, concurrency=2, perform_ping_check=False, shutdown_timeout=30
    ) as worker:
        assert type(worker.pool).__module__ == "prefork.celery.prefork"
        results = [compute.delay(i) for i in range(20)]
        assert [result.get(timeout=30) for result in results] == [i * i for i in range(20)]


@pytest.mark.parametrize("transport", ["memory", "redis"])
def test_losses_and_limits_in_an_embedded_worker(transport, redis_url, tmp_path, gate):
    """The worker's thread is not the main one: there it is told of nothing by signals."""
    broker = "memory://" if transport == "memory" else redis_url
    app = celery.Celery("embedded", broker=broker, backend=f"file://{tmp_path}")
    tasks = {f: app.task(f, name=f"embedded.{f.__name__}", shared=False) for f in (hold, spin)}
    with start_worker(
        app,
        pool="prefork.celery:TaskPool",
        concurrency=2,
        perform_ping_check=False,
        shutdown_timeout=30,
    ):
        held = tasks[hold].delay(gate.path)
        (pid,) = gate.arrived()
        os.kill(pid, signal.SIGKILL)
        assert type(failure_of(held)) is WorkerLostError
        assert type(failure_of(tasks[spin].apply_async(time_limit=0.3))) is TimeLimitExceeded
        again = tasks[hold].delay(gate.path)
        (second,) = gate.arrived()
        gate.open()
        assert again.get(timeout=30) == second != pid
