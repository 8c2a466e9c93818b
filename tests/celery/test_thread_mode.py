"""Thread mode: no event loop, callbacks in a thread, and submitting waits for a slot."""

from __future__ import annotations

import os
import signal
import threading

import billiard.exceptions
import celery.exceptions
import pytest
from workers import failure_of

import prefork.celery.job
from helpers import alive, eventually, hold, kill_self, spin, square
from prefork.celery import TaskPool


@pytest.fixture
def blocking(app):
    """Makes pools in thread mode, with a list of what they say."""
    made = []

    def make(limit=1, **options):
        pool = TaskPool(limit, app=app, initargs=(app, "host"), threads=True, **options)
        pool.said = []
        pool.start()
        made.append(pool)
        return pool

    yield make
    for one in made:
        one.terminate()
    made.clear()


def submit(pool, target, *args, **options):
    """As a Request does it."""
    said = pool.said
    callbacks = {
        "accept_callback": lambda pid, at: said.append(("accept", pid)),
        "callback": lambda value: said.append(("success", value)),
        "error_callback": lambda info: said.append(("error", info)),
        "timeout_callback": lambda soft, timeout: said.append(("limit", soft, timeout)),
    }
    return pool.apply_async(target, args, **(callbacks | options))


def names(pool):
    return [line[0] for line in pool.said]


def test_nobody_has_to_drive_it(blocking):
    one = blocking(1)
    submit(one, square, 3)
    eventually(lambda: len(one.said) == 2)
    assert one.said[1] == ("success", 9)


def test_losses_and_limits(blocking):
    one = blocking(1)
    submit(one, kill_self, signal.SIGKILL)
    eventually(lambda: len(one.said) == 2)
    assert type(one.said[1][1].exception.exc) is billiard.exceptions.WorkerLostError
    one.said.clear()
    submit(one, spin, timeout=0.2)
    eventually(lambda: len(one.said) == 3)
    assert names(one) == ["accept", "error", "limit"]


def test_submitting_waits_for_a_slot(blocking, gate):
    one = blocking(2)
    threads = [threading.Thread(target=submit, args=(one, hold, gate.path)) for _ in range(3)]
    for thread in threads:
        thread.start()
    gate.arrived(2)
    eventually(lambda: sum(thread.is_alive() for thread in threads) == 1)
    assert len(one._pool.workers.jobs) == 2
    gate.open(3)
    for thread in threads:
        thread.join(30)
    eventually(lambda: len(one.said) == 6)
    assert not one._pool.workers.jobs


def test_a_job_may_be_terminated_when_it_is_accepted(blocking, gate):
    one = blocking(1)
    jobs = []

    def accepted(pid, at):
        one.terminate_job(pid, signal.SIGTERM)

    for _ in range(20):
        jobs.append(submit(one, hold, gate.path, accept_callback=accepted))
    eventually(lambda: names(one) == ["error"] * 20)


def ended_by_name(pool, gate):
    """A job that Celery has ended, and whose end would have been told: that of a later one is."""
    job = submit(pool, hold, gate.path)
    (pid,) = gate.arrived()
    eventually(lambda: names(pool) == ["accept"])
    pool.terminate_job(pid, signal.SIGTERM)
    submit(pool, square, 3)
    eventually(lambda: ("success", 9) in pool.said)
    assert job.ready()
    return job


def test_celery_hears_of_what_it_has_ended_when_it_has_noted_that(blocking, gate, monkeypatch):
    """As a Request does it in its `cancel`: it calls the pool, notes it, and calls the job."""
    monkeypatch.setattr(prefork.celery.job, "NOTED", 600)
    one = blocking(1)
    job = ended_by_name(one, gate)
    assert "error" not in names(one)
    job.terminate(signal.SIGTERM)
    assert names(one).count("error") == 1
    assert not one._pool._by_pid


def test_celery_hears_of_what_it_has_ended_when_the_pool_is_cut_off(blocking, gate, monkeypatch):
    """The job is not known to its Request yet where a handler comes just when it is submitted."""
    monkeypatch.setattr(prefork.celery.job, "NOTED", 600)
    one = blocking(1)
    ended_by_name(one, gate)
    one._pool.close()
    one._pool.cut_off()
    assert names(one).count("error") == 1
    assert one._pool.join(30)


def test_celery_hears_of_what_it_has_ended_before_the_pool_is_joined(blocking, gate, monkeypatch):
    """What was to note it, as a broken connection to the backend, did not."""
    monkeypatch.setattr(prefork.celery.job, "NOTED", 600)
    one = blocking(1)
    ended_by_name(one, gate)
    one._pool.close()
    assert one._pool.join(30)
    assert names(one).count("error") == 1


def test_who_ends_a_job_by_its_process_alone_hears_of_it_later(blocking, gate, monkeypatch):
    monkeypatch.setattr(prefork.celery.job, "NOTED", 0.1)
    one = blocking(1)
    ended_by_name(one, gate)
    eventually(lambda: names(one).count("error") == 1)


def test_a_signal_handler_may_end_a_pool_that_a_job_is_just_given_to(blocking, monkeypatch):
    """As the cold shutdown's does, at the worst moment: the pool does not know of the job yet."""
    one = blocking(2)
    submit_to_core = prefork.TaskPool._submit

    def interrupted(pool, task, body):
        one._pool.close()
        one._pool.cut_off()
        assert one._pool.join(30)
        submit_to_core(pool, task, body)

    monkeypatch.setattr(prefork.TaskPool, "_submit", interrupted)
    assert submit(one, square, 3) is None
    assert not one._pool.workers.jobs
    assert one.said == []


def test_stop_waits_for_the_jobs(blocking, gate):
    one = blocking(1)
    submit(one, hold, gate.path, 7)
    gate.arrived()
    stopping = threading.Thread(target=one.stop)
    stopping.start()
    gate.open()
    stopping.join(30)
    assert one.said[1] == ("success", 7)


def test_a_worker_over_a_directory(thread_worker, gate):
    one = thread_worker()
    assert one.tasks.add.delay(2, 3).get(timeout=30) == 5
    assert repr(failure_of(one.tasks.fail.delay("why"))) == "ValueError('why')"
    result = one.tasks.hold.delay(gate.path)
    (pid,) = gate.arrived()
    os.kill(pid, signal.SIGKILL)
    assert type(failure_of(result)) is celery.exceptions.WorkerLostError
    assert type(failure_of(one.tasks.spin.apply_async(time_limit=0.3))).__name__ == (
        "TimeLimitExceeded"
    )
    processes = one.processes()
    assert one.stop() == 0
    assert not any(map(alive, processes))
