"""Limits of jobs in hub mode, and jobs that are revoked."""

from __future__ import annotations

import signal

import billiard.exceptions
import billiard.pool
import pytest

from helpers import (
    UnpickledAtTheGate,
    hold,
    lines,
    note,
    pid_of_worker,
    spin,
)


def test_the_hard_limit_says_the_error_first_and_then_the_limit(driven):
    one = driven(1, timeout=0.2)
    one.submit(spin)
    one.until(lambda: len(one.said) == 3)
    assert one.names() == ["accept", "error", "limit"]
    error = one.said[1][1].exception.exc
    assert type(error) is billiard.exceptions.TimeLimitExceeded
    assert error.args == (0.2,)
    assert one.said[2] == ("limit", False, 0.2)


def tidy_up_softly():
    try:
        spin()
    except billiard.exceptions.SoftTimeLimitExceeded as error:
        return type(error).__name__


def test_a_soft_limit_that_is_over_before_the_call_begins_is_raised_as_it_begins(driven, gate):
    one = driven(1)
    one.submit(abs, -2)
    one.until(lambda: ("success", 2) in one.said)
    one.said.clear()
    one.submit(pid_of_worker, UnpickledAtTheGate(gate.path), soft_timeout=0.001)
    one.until(lambda: "limit" in one.names())
    gate.open()
    one.until(lambda: len(one.said) == 3)
    assert one.said[2][0] == "error", one.said
    assert type(one.said[2][1].exception) is billiard.exceptions.SoftTimeLimitExceeded
    one.submit(abs, -3, soft_timeout=30)
    one.until(lambda: ("success", 3) in one.said)


class ToldAtTheGate(Exception):
    """What it says is asked for when its call has ended, and comes when the gate opens."""

    def __str__(self):
        return hold(self.args[0], "what it says")


def fail_at_the_gate(path):
    raise ToldAtTheGate(path)


def test_a_soft_limit_that_is_over_when_the_call_has_ended_is_told_to_none(driven, gate):
    one = driven(1)
    job = one.submit(fail_at_the_gate, gate.path)
    gate.arrived(pool=one)
    assert job.interrupt()  # as a limit does
    gate.open(9)  # whoever asks
    one.until(lambda: "error" in one.names())
    assert "ToldAtTheGate: what it says" in one.said[-1][1].traceback
    one.submit(abs, -3)
    one.until(lambda: ("success", 3) in one.said)


def test_the_soft_limit_raises_billiards_error_in_the_task(driven):
    one = driven(1, soft_timeout=30)
    one.submit(tidy_up_softly, soft_timeout=0.2)
    one.until(lambda: len(one.said) == 3)
    assert one.said[1:] == [("limit", True, 0.2), ("success", "SoftTimeLimitExceeded")]


# ---- revoking ------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL, signal.SIGHUP])
def test_a_terminated_job_is_terminated_by_that_signal(driven, gate, number):
    one = driven(1)
    job = one.submit(hold, gate.path)
    one.until(lambda: one.said)
    one.pool.terminate_job(job.pid, number)
    job.terminate(number)  # Celery does both
    one.until(lambda: len(one.said) == 2)
    error = one.said[1][1].exception.exc
    assert type(error) is billiard.exceptions.Terminated
    assert error.args == (int(number),)
    assert one.semaphore.value == 1


def clean_up(path, mark):
    try:
        hold(path)
    finally:
        note(mark, "clean")


def test_a_terminated_job_tidies_up(driven, gate, tmp_path):
    one = driven(1)
    mark = tmp_path / "mark"
    job = one.submit(clean_up, gate.path, str(mark))
    one.until(lambda: one.said)
    gate.arrived()
    one.pool.terminate_job(job.pid, signal.SIGTERM)
    one.until(lambda: len(one.said) == 2 and mark.exists() and lines(mark) == ["clean"])


def test_a_job_that_is_terminated_before_it_begins_never_runs(driven, gate, tmp_path):
    one = driven(1)
    first = one.submit(hold, gate.path)
    second = one.submit(note, str(tmp_path / "ran"))
    one.until(lambda: one.said)
    second.terminate(signal.SIGTERM)
    second.terminate(signal.SIGTERM)
    assert one.names() == ["accept", "error"]
    assert one.said[1][1].exception.exc.args == (15,)
    gate.open()
    one.until(lambda: len(one.said) == 3)
    assert one.said[2] == ("success", first.get())
    assert not (tmp_path / "ran").exists()


def test_terminating_a_job_that_has_ended_hits_no_other(driven, gate):
    one = driven(1)
    first = one.submit(hold, gate.path)
    one.until(lambda: one.said)
    second = one.submit(hold, gate.path)
    gate.open()
    gate.arrived(2)  # the worker is at the second one, which we have not heard of
    one.pool.terminate_job(first.pid, signal.SIGKILL)
    one.pool.terminate_job(1 << 21, signal.SIGKILL)
    gate.open()
    one.until(lambda: len(one.said) == 4)
    assert one.names() == ["accept", "success", "accept", "success"]
    assert second.get() == first.get()


def hold_softly(path):
    try:
        hold(path)
    except billiard.exceptions.SoftTimeLimitExceeded:
        return "softly"


def test_sigusr1_raises_the_soft_limit_in_the_job(driven, gate):
    one = driven(1)
    job = one.submit(hold_softly, gate.path)
    one.until(lambda: one.said)
    gate.arrived()
    one.pool.terminate_job(job.pid, signal.SIGUSR1)
    one.until(lambda: len(one.said) == 2)
    assert one.said[1] == ("success", "softly")


def hold_twice(path):
    try:
        hold(path)
    except billiard.exceptions.SoftTimeLimitExceeded:
        hold(path)
        return "tidy"


def test_sigusr1_that_the_request_sends_as_well_comes_once(driven, gate):
    one = driven(1)
    job = one.submit(hold_twice, gate.path)
    one.until(lambda: one.said)
    gate.arrived()
    one.pool.terminate_job(job.pid, signal.SIGUSR1)
    gate.arrived()
    assert job.terminate(signal.SIGUSR1)
    gate.open()
    one.until(lambda: len(one.said) == 2)
    assert one.said[1] == ("success", "tidy")


def test_a_job_may_be_terminated_when_it_is_accepted(driven, gate):
    one = driven(1)

    def accepted(pid, at):
        one.said.append(("accept", pid))
        one.pool.terminate_job(pid, signal.SIGTERM)
        job.terminate(signal.SIGTERM)

    job = one.submit(hold, gate.path, accept_callback=accepted)
    one.until(lambda: len(one.said) == 2)
    assert one.names() == ["accept", "error"]
