"""A TaskPool in kombu's hub: callbacks, their order and arguments, limits, losses, size, end."""

from __future__ import annotations

import json
import logging
import os
import pickle
import signal
import subprocess
import sys
import weakref

import billiard.exceptions
import billiard.pool
import pytest
from billiard.einfo import ExceptionInfo
from billiard.util import get_logger
from celery.exceptions import WorkerShutdown

from helpers import (
    exit_now,
    fail,
    hold,
    kill_self,
    note,
    pid_of_worker,
    square,
)
from prefork.celery.einfo import info_of


def test_a_job_is_accepted_and_then_succeeds(driven):
    one = driven(1)
    job = one.submit(square, 3)
    one.until(lambda: len(one.said) == 2)
    assert one.said == [("accept", job.pid), ("success", 9)]
    assert job.ready()
    assert job.successful()
    assert job.accepted()
    assert job.get() == 9


def test_the_pool_holds_its_jobs_and_lets_go_of_them(driven):
    one = driven(1)
    job = weakref.ref(one.submit(square, 3))
    assert job() is not None
    one.until(lambda: len(one.said) == 2)
    one.poll(0)
    assert job() is None


def test_an_exception_that_the_target_lets_out_comes_with_its_traceback(driven):
    one = driven(1)
    one.submit(fail, "why")
    one.until(lambda: len(one.said) == 2)
    info = one.said[1][1]
    assert one.names() == ["accept", "error"]
    assert type(info) is ExceptionInfo
    assert repr(info.exception) == "ValueError('why')"
    assert "in fail" in info.traceback


def return_a_lambda():
    return lambda: None


def test_a_result_that_cannot_be_pickled_is_an_error_of_billiards(driven):
    one = driven(1)
    one.submit(return_a_lambda)
    one.until(lambda: len(one.said) == 2)
    assert type(one.said[1][1].exception) is billiard.pool.MaybeEncodingError


def interrupt_self(why):
    raise KeyboardInterrupt(why)


@pytest.mark.parametrize(
    ("target", "argument", "how"),
    [
        (kill_self, signal.SIGKILL, "signal 9 (SIGKILL)"),
        (kill_self, signal.SIGTERM, "signal 15 (SIGTERM)"),  # after what belongs to a good end
        (kill_self, signal.SIGHUP, "signal 1 (SIGHUP)"),
        (kill_self, signal.SIGQUIT, "exitcode 3"),  # which would leave a core
        (interrupt_self, "^C", "signal 2 (SIGINT)"),
        (exit_now, 4, "exitcode 4"),
        (sys.exit, 3, "exitcode 3"),
        (sys.exit, None, "exitcode 0"),
        (sys.exit, "bye", "exitcode 1"),
    ],
)
def test_a_lost_worker_is_billiards_error_with_our_facts(driven, target, argument, how):
    one = driven(1)
    job = one.submit(target, argument)
    one.until(lambda: len(one.said) == 2)
    error = one.said[1][1].exception.exc
    assert one.names() == ["accept", "error"]
    assert type(error) is billiard.exceptions.WorkerLostError
    assert str(error).startswith(f"Worker exited prematurely: {how} Job: 1.")
    assert error.pid == job.pid
    assert error.runtime > 0
    assert one.semaphore.value == 1
    one.submit(square, 2)
    one.until(lambda: one.names().count("success") == 1)


def test_such_an_error_is_told_without_what_was_just_being_handled():
    error = billiard.exceptions.WorkerLostError("why")
    try:
        raise KeyError("something else")
    except KeyError:
        info = info_of(error)
    assert "something else" not in info.traceback
    assert error.__context__ is None


READ = """
import pickle, sys
error = pickle.load(sys.stdin.buffer)
assert not any(name.startswith("prefork") for name in sys.modules)
print(type(error).__module__, type(error).__name__, error.signal)
"""


def test_such_an_error_can_be_read_where_there_is_no_prefork(driven):
    one = driven(1)
    one.submit(kill_self, signal.SIGKILL)
    one.until(lambda: len(one.said) == 2)
    error = one.said[1][1].exception.exc
    json.dumps({"exc_message": error.args})
    done = subprocess.run(
        [sys.executable, "-c", READ], input=pickle.dumps(error), capture_output=True, check=True
    )
    assert done.stdout == b"billiard.exceptions WorkerLostError 9\n"


# ---- slots, size ---------------------------------------------------------------------------------


def test_every_job_gives_back_one_slot_whatever_its_end(driven):
    one = driven(2, maxtasksperchild=2)
    targets = [(square, 2), (fail, "no"), (kill_self, 9), (exit_now, 3), (square, 4)] * 3

    def run(target, argument):
        one.submit(target, argument)
        assert len(one.pool._pool.workers.jobs) <= 2

    for target in targets:
        one.semaphore.acquire(run, *target)
    one.until(lambda: len(one.said) == 2 * len(targets))
    assert one.semaphore.value == 2


def test_flush_forgets_what_has_not_begun_and_keeps_what_runs(driven, gate, tmp_path):
    one = driven(1)
    one.submit(hold, gate.path, 7)
    one.until(lambda: one.said)
    for _ in range(3):
        one.submit(note, str(tmp_path / "ran"))
    one.semaphore.clear()
    one.pool.flush()
    gate.open()
    one.until(lambda: len(one.said) == 2)
    assert one.names() == ["accept", "success"]
    assert one.semaphore.value == 1
    assert one.submit(square, 2) is not None
    one.until(lambda: len(one.said) == 4)
    assert not (tmp_path / "ran").exists()


def test_growing_and_shrinking_take_the_semaphore_along(driven, gate):
    one = driven(1)
    for _ in range(4):
        one.semaphore.acquire(one.submit, hold, gate.path)
    one.pool.grow(2)
    assert one.pool.num_processes == 3
    one.until(lambda: one.names() == ["accept"] * 3)
    assert len(one.pool._pool.workers.jobs) == 3
    gate.open(4)
    one.until(lambda: len(one.said) == 8)
    assert one.semaphore.value == 3
    one.pool.shrink(2)
    assert (one.pool.num_processes, one.semaphore.value) == (1, 1)


@pytest.mark.parametrize("count", [1, 2, 99])
def test_a_pool_cannot_be_shrunk_to_nothing(driven, count):
    one = driven(1)
    with pytest.raises(ValueError, match="fewer"):
        one.pool.shrink(count)
    assert one.pool.num_processes == 1
    one.submit(square, 2)
    one.until(lambda: len(one.said) == 2)


def test_a_pool_that_was_made_with_none_may_be_shrunk_to_that(driven):
    one = driven(0)
    one.semaphore.acquire(one.submit, square, 2)
    one.pool.grow(1)
    one.until(lambda: len(one.said) == 2)
    one.pool.shrink(1)
    assert one.pool.num_processes == 0


# ---- the hub -------------------------------------------------------------------------------------


def test_the_pool_survives_resets_of_the_hub(driven):
    one = driven(1)
    fd = one.pool._pool.workers.fileno()
    for _ in range(3):
        one.hub.reset()
        one.pool.register_with_event_loop(one.hub)
        assert list(one.hub.readers) == [fd]
        one._loop = one.hub.create_loop()
        one.said.clear()
        one.submit(square, 2)
        one.until(lambda: len(one.said) == 2)


def test_a_callback_that_raises_is_logged_and_no_more(driven, caplog, monkeypatch):
    one = driven(1)

    def callback(value):
        raise KeyError("a bug")

    monkeypatch.setattr(get_logger(), "propagate", True)
    with caplog.at_level(logging.ERROR):
        one.submit(square, 2, callback=callback)
        one.submit(square, 3)
        one.until(lambda: len(one.said) == 3)
    assert "Pool callback raised exception: KeyError('a bug')" in caplog.text


@pytest.mark.parametrize("error", [MemoryError, WorkerShutdown, SystemExit])
def test_what_must_end_the_worker_comes_out_of_the_hub(driven, error):
    one = driven(1)

    def callback(value):
        raise error

    one.submit(square, 2, callback=callback)
    with pytest.raises(error):
        one.until(lambda: False)
    assert one.semaphore.value == 1


def broken(app, hostname):
    raise KeyError("broken")


def test_a_worker_whose_processes_cannot_start_ends(driven, monkeypatch):
    monkeypatch.setattr("celery.concurrency.prefork.process_initializer", broken)
    one = driven(1)
    one.submit(square, 2)
    one.submit(square, 2)
    with pytest.raises(WorkerShutdown):
        one.until(lambda: False)
    assert not one.pool.did_start_ok()
    assert one.said == []
    assert one.submit(square, 2) is None


# ---- the end -------------------------------------------------------------------------------------


def test_stop_waits_for_the_jobs_and_keeps_the_hub_going(driven, gate):
    one = driven(1)
    done = []

    def callback(value):
        one.hub.call_soon(done.append, "acknowledged")
        done.append(value)

    one.submit(hold, gate.path, 7, callback=callback)
    one.submit(square, 5, callback=callback)
    one.until(lambda: one.said)
    one.hub.timer.call_after(0.01, gate.open)
    one.pool.close()
    assert one.submit(square, 1) is None
    one.pool.stop()
    one.hub.close()
    assert sorted(done, key=str) == [25, 7, "acknowledged", "acknowledged"]
    one.pool.stop()
    one.pool.terminate()
    assert one.pool.num_processes == 1


def test_terminate_says_nothing_of_what_it_cuts_off(driven, gate):
    one = driven(2)
    one.submit(hold, gate.path)
    one.submit(hold, gate.path)
    one.until(lambda: len(one.said) == 2)
    one.pool.terminate()
    assert one.names() == ["accept", "accept"]
    one.pool.stop()
    one.pool.close()


def test_stop_inside_stop_as_a_signal_handler_has_it(driven, gate):
    one = driven(1)
    job = one.submit(hold, gate.path)
    one.until(lambda: one.said)

    def handler(number, frame):
        one.pool.terminate_job(job.pid, signal.SIGTERM)
        job.terminate(signal.SIGTERM)
        one.pool.stop()

    before = signal.signal(signal.SIGALRM, handler)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.1)
        one.pool.stop()
    finally:
        signal.signal(signal.SIGALRM, before)
    assert one.names() == ["accept", "error"]


def test_new_workers_have_the_application_as_it_is_now(driven):
    one = driven(1)
    one.submit(pid_of_worker)
    one.until(lambda: len(one.said) == 2)
    one.pool.restart()
    one.submit(pid_of_worker)
    one.until(lambda: len(one.said) == 4)
    assert one.said[1][1] != one.said[3][1]


def test_what_inspect_stats_shows(driven):
    # So many that none is about to have done them, and has a successor.
    one = driven(2, timeout=30, soft_timeout=20, maxtasksperchild=1_000_000)
    one.submit(square, 1)
    one.until(lambda: len(one.said) == 2)
    info = json.loads(json.dumps(one.pool.info))
    assert info["implementation"] == "prefork.celery.prefork:TaskPool"
    assert info["max-concurrency"] == 2
    assert len(info["processes"]) == 2
    assert all(os.path.exists(f"/proc/{pid}") for pid in info["processes"])
    assert info["max-tasks-per-child"] == 1_000_000
    assert info["timeouts"] == [20, 30]
    assert info["put-guarded-by-semaphore"] is False
    assert info["writes"]["total"] == 1
    assert info["writes"]["strategy"] == "fair"
    assert info["writes"]["inqueues"] == {"total": 2, "active": 0}
