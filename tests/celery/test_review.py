"""What a signal handler finds half done, and what is raised where nobody hears it."""

from __future__ import annotations

import signal
import threading

import billiard.exceptions
import pytest
from celery.exceptions import WorkerShutdown, WorkerTerminate
from celery.worker import state

import prefork
from helpers import asleep, eventually, hold, in_a_thread, kill_both_zygotes, square
from prefork.celery import TaskPool


@pytest.fixture(autouse=True)
def _state_of_a_worker(monkeypatch):
    """What tells Celery's loop to end is as it was, after the test."""
    monkeypatch.setattr(state, "should_stop", None)
    monkeypatch.setattr(state, "should_terminate", None)


@pytest.fixture
def blocking(app):
    """A pool in thread mode."""
    one = TaskPool(1, app=app, initargs=(app, "host"), threads=True)
    one.start()
    yield one
    one.terminate()


class Interrupted:
    """An argument that is pickled for so long that a signal comes."""

    def __init__(self, handler):
        self.handler = handler

    def __reduce__(self):
        self.handler()
        return int, ()


def cold_shutdown(pool):
    """What Celery's handler for SIGQUIT does with the pool."""
    state.should_terminate = True
    pool.stop()


# ---- a cold shutdown while a job is being submitted ----------------------------------------------


def test_a_cold_shutdown_comes_while_arguments_are_pickled(driven, gate):
    one = driven(1)
    one.submit(hold, gate.path)
    one.until(lambda: one.said)
    assert one.submit(square, Interrupted(lambda: cold_shutdown(one.pool))) is None
    assert one.names() == ["accept"]


def interrupted_submission(monkeypatch, handler, submitted):
    """A signal comes just before a job is submitted, or when it has been and nobody has it yet."""
    submit = prefork.TaskPool._submit

    def interrupted(pool, task, body):
        monkeypatch.setattr(prefork.TaskPool, "_submit", submit)
        if not submitted:
            handler()
        submit(pool, task, body)
        if submitted:
            handler()

    monkeypatch.setattr(prefork.TaskPool, "_submit", interrupted)


def test_a_cold_shutdown_comes_when_a_job_is_about_to_be_submitted(driven, gate, monkeypatch):
    one = driven(1)
    interrupted_submission(monkeypatch, lambda: cold_shutdown(one.pool), submitted=False)
    assert one.submit(hold, gate.path) is None
    assert one.names() == []


@pytest.mark.parametrize("has_begun", [True, False])
def test_a_cold_shutdown_comes_when_a_job_has_just_been_submitted(
    driven, gate, monkeypatch, has_begun
):
    one = driven(1)
    if not has_begun:
        one.submit(hold, gate.path)
        gate.arrived()

    def handler():
        if has_begun:
            gate.arrived()
        cold_shutdown(one.pool)

    interrupted_submission(monkeypatch, handler, submitted=True)
    one.submit(hold, gate.path)
    assert one.names() == ["accept"]


def test_so_it_does_in_thread_mode(blocking, gate, monkeypatch):
    said = []

    def handler():
        gate.arrived()
        cold_shutdown(blocking)

    interrupted_submission(monkeypatch, handler, submitted=True)
    blocking.apply_async(hold, (gate.path,), callback=said.append, error_callback=said.append)
    assert said == []


def test_flush_does_not_wait_for_a_thread_that_waits_for_a_slot(blocking, gate):
    """As that of Celery's timer does, for a task whose time has come."""
    said = []

    def submit():
        blocking.apply_async(hold, (gate.path, 7), callback=said.append)

    submit()
    gate.arrived()
    thread, _ = in_a_thread(submit)
    eventually(lambda: asleep(thread.native_id))
    blocking.flush()
    gate.open(2)
    thread.join()
    eventually(lambda: said == [7, 7])


# ---- jobs that are ended beside their call -------------------------------------------------------


class Holding:
    """A result that is pickled until somebody ends that."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return hold(self.path), ()


def test_a_job_that_is_ended_by_name_while_its_result_is_pickled_is_terminated(driven, gate):
    one = driven(1)
    job = one.submit(Holding, gate.path)
    one.until(lambda: one.said)
    gate.arrived()
    one.pool.terminate_job(job.pid, signal.SIGTERM)
    one.until(lambda: len(one.said) == 2)
    error = one.said[1][1].exception.exc
    assert type(error) is billiard.exceptions.Terminated
    assert error.args == (15,)


def test_nothing_is_said_of_one_that_the_end_of_the_pool_meets_there(driven, gate):
    one = driven(1)
    one.submit(Holding, gate.path)
    one.until(lambda: one.said)
    gate.arrived()
    one.pool.terminate()
    assert one.names() == ["accept"]


# ---- what ends the worker, raised in the thread that calls back ----------------------------------


@pytest.mark.parametrize(
    ("error", "stop", "terminate"),
    [
        (MemoryError(), 1, None),
        (WorkerShutdown(3), 3, None),
        (WorkerShutdown(), 0, None),
        (SystemExit("said"), 1, None),
        (WorkerTerminate(4), None, 4),
    ],
)
@pytest.mark.parametrize("name", ["accept_callback", "callback"])
def test_what_must_end_the_worker_does_so_in_thread_mode(blocking, error, stop, terminate, name):
    """Celery's blocking loop looks at these."""

    def raises(*args):
        raise error

    blocking.apply_async(square, (2,), **{name: raises})
    eventually(lambda: (state.should_stop, state.should_terminate) == (stop, terminate))


def broken(app, hostname):
    raise KeyError("broken")


def test_a_worker_whose_processes_cannot_start_ends_in_thread_mode(app, monkeypatch):
    monkeypatch.setattr("celery.concurrency.prefork.process_initializer", broken)
    one = TaskPool(1, app=app, initargs=(app, "host"), threads=True)
    one.start()
    try:
        one.apply_async(square, (2,))
        eventually(lambda: state.should_stop == 1)
    except WorkerShutdown:
        assert state.should_stop == 1
    finally:
        one.terminate()


# ---- a pool without zygotes ----------------------------------------------------------------------


def test_a_worker_with_threads_whose_zygotes_are_killed_has_new_ones(driven):
    one = driven(1)
    over = threading.Event()
    thread, _ = in_a_thread(over.wait)  # beside which the pool does not fork by itself
    try:
        kill_both_zygotes(one.pool._pool.workers)
        one.until(lambda: one.pool._pool.workers.state == "degraded")
        one.submit(square, 3)
        one.until(lambda: one.names() == ["accept", "success"])
    finally:
        over.set()
        thread.join()


def test_so_has_one_in_thread_mode(blocking):
    said = []
    blocking.apply_async(square, (2,), callback=said.append)
    eventually(lambda: said)
    kill_both_zygotes(blocking._pool.workers)
    eventually(lambda: blocking._pool.workers.state == "degraded")
    blocking.apply_async(square, (3,), callback=said.append)
    eventually(lambda: said == [4, 9])


# ---- nothing is left of a job --------------------------------------------------------------------


def test_a_pool_keeps_nothing_of_jobs_that_have_ended(driven, gate):
    one = driven(2, maxtasksperchild=2)
    for _ in range(10):
        one.submit(square, 2)
        job = one.submit(hold, gate.path)
        one.submit(square, 3).terminate(signal.SIGTERM)
        one.until(lambda job=job: job.accepted())
        job.terminate(signal.SIGKILL)
    inner = one.pool._pool
    one.until(lambda: not (inner.workers.jobs or inner._by_pid))
    assert one.semaphore.value == 2
