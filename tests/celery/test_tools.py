"""Tools that have hooked into billiard's worker have their turn before a process ends."""

from __future__ import annotations

import os
import signal

import pytest

from helpers import eventually, lines

# ---- Sentry's client: what a process has captured is sent -------------------------------------


@pytest.fixture
def watched(worker, tmp_path):
    """Starts workers with Sentry's client; the lines of `sent` are what it has sent."""
    sent = tmp_path / "sent"

    def make(*flags):
        one = worker("-I", "sentry_tasks", "-c", "1", *flags, CELERY_TEST_SENTRY=str(sent))
        one.sent = sent
        return one

    return make


def fail(one, message):
    result = one.tasks.fail.delay(message)
    assert repr(result.get(timeout=30, propagate=False)) == f"ValueError('{message}')"


def test_events_of_a_process_that_has_done_its_tasks(watched):
    one = watched("--max-tasks-per-child", "1")
    for message in ("one", "two", "three"):
        fail(one, message)
    eventually(lambda: lines(one.sent) == ["one", "two", "three"])


def test_events_of_a_worker_that_is_shut_down(watched):
    one = watched()
    for message in ("one", "two"):
        fail(one, message)
    assert lines(one.sent) == []
    assert one.stop() == 0
    assert lines(one.sent) == ["one", "two"]


def test_events_of_a_process_that_is_told_to_end(watched):
    one = watched()
    fail(one, "one")
    pid = one.tasks.pid.delay().get(timeout=30)
    # Where Sentry's own code is at work it swallows what a handler raises, be it SystemExit.
    eventually(lambda: not one.ask("active"))
    os.kill(pid, signal.SIGTERM)
    eventually(lambda: lines(one.sent) == ["one"])


def test_events_of_a_task_that_exits(watched):
    one = watched()
    one.app.send_task("sentry_tasks.fail_and_leave", ("why", 3))
    eventually(lambda: "why" in lines(one.sent))


# ---- what is around Worker._do_exit -----------------------------------------------------------


def test_the_exit_of_a_process_that_has_done_its_tasks(worker, tmp_path):
    left = tmp_path / "left"
    flags = ("-I", "leaving_tasks", "-c", "1", "--max-tasks-per-child", "1")
    one = worker(*flags, CELERY_TEST_LEFT=str(left))
    assert one.tasks.add.delay(1, 2).get(timeout=30) == 3
    eventually(lambda: lines(left) == ["True 0", "shutdown 0"])


def test_the_exit_of_a_worker_that_is_shut_down(worker, tmp_path):
    left = tmp_path / "left"
    one = worker("-I", "leaving_tasks", "-c", "2", CELERY_TEST_LEFT=str(left))
    assert one.tasks.add.delay(1, 2).get(timeout=30) == 3
    assert one.stop() == 0
    assert sorted(lines(left)) == ["True 0"] * 2 + ["shutdown 0"] * 2
