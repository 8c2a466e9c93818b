"""The errors that Celery is handed: billiard's classes, and what becomes of them in a backend."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import billiard.exceptions
import pytest

from helpers import hold, kill_self, spin

#: A client of another program: it has Celery, and not this pool.
READ = """
import sys
import celery
result = celery.Celery(broker=sys.argv[1], backend=sys.argv[1]).AsyncResult(sys.argv[2])
error = result.get(timeout=30, propagate=False)
assert not any(name.partition(".")[0] == "prefork" for name in sys.modules)
print(result.status, f"{type(error).__module__}.{type(error).__qualname__}", *error.args)
"""


def read_elsewhere(url, result):
    command = [sys.executable, "-c", READ, url, result.id]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd="/")
    return done.stdout


def test_a_lost_task_is_read_from_the_backend_by_who_has_no_prefork(worker, gate, redis_url):
    one = worker()
    assert one.app.conf.result_serializer == "json"
    result = one.tasks.hold.delay(gate.path)
    (pid,) = gate.arrived()
    os.kill(pid, signal.SIGKILL)
    said = read_elsewhere(redis_url, result)
    assert said.startswith(
        "FAILURE billiard.exceptions.WorkerLostError "
        "Worker exited prematurely: signal 9 (SIGKILL) Job: "
    )
    assert f"worker {pid} was killed by SIGKILL" in said


def test_a_task_over_its_limit_is_read_from_the_backend_by_who_has_no_prefork(worker, redis_url):
    one = worker()
    result = one.tasks.spin.apply_async(time_limit=0.3)
    assert read_elsewhere(redis_url, result) == (
        "FAILURE billiard.exceptions.TimeLimitExceeded 0.3\n"
    )


@pytest.mark.parametrize("kind", ["WorkerLostError", "TimeLimitExceeded", "Terminated"])
def test_the_error_is_of_exactly_billiards_class_and_has_our_facts(driven, gate, kind):
    one = driven(1)
    if kind == "WorkerLostError":
        job = one.submit(kill_self, signal.SIGKILL)
    elif kind == "TimeLimitExceeded":
        job = one.submit(spin, timeout=0.2)
    else:
        job = one.submit(hold, gate.path)
        one.until(lambda: one.said)
        job.terminate(signal.SIGTERM)
    one.until(lambda: "error" in one.names())
    error = one.said[1][1].exception.exc
    assert type(error) is getattr(billiard.exceptions, kind)
    assert all(type(value).__module__ == "builtins" for value in vars(error).values())
    if kind != "Terminated":
        assert (error.pid, error.task_name) == (job.pid, "spin" if "Time" in kind else "kill_self")
        assert error.runtime > 0
