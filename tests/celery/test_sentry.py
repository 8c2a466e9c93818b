"""Sentry's integration with Celery: what a process has captured is sent before it ends."""

from __future__ import annotations

import os
import signal

import pytest

from helpers import eventually, lines


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
