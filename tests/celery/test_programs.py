"""Other ways to run a worker: with beat in it, by `celery multi`, detached, under Django."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap

import pytest
from workers import Worker

from helpers import alive, eventually, lines


def test_beat_in_the_worker(worker, tmp_path):
    ticks = str(tmp_path / "ticks")
    schedule = {"tick": {"task": "celery_tasks.tick", "schedule": 0.3, "args": [ticks]}}
    one = worker("-B", "-s", str(tmp_path / "schedule"), conf={"beat_schedule": schedule})
    eventually(lambda: len(lines(ticks)) >= 3)
    children = one.children()
    os.kill(children[0], signal.SIGKILL)  # whose end is not beat's
    known = len(lines(ticks))
    eventually(lambda: len(lines(ticks)) >= known + 3)
    processes = one.processes()
    assert one.stop() == 0
    assert not any(map(alive, processes))


@pytest.fixture
def daemons(worker, tmp_path):
    """Runs a `celery` command; what it leaves running, by its pidfiles, is ended after the test."""
    one = worker()  # for its environment
    assert one.stop() == 0

    def run(*arguments):
        command = [sys.executable, "-m", "celery", *arguments]
        found = subprocess.run(
            command, cwd=tmp_path, env=one.environment, timeout=50, capture_output=True, text=True
        )
        assert found.returncode == 0, found.stdout + found.stderr

    yield one, run
    for path in tmp_path.glob("*.pid"):
        pid = int(path.read_text())
        os.kill(pid, signal.SIGKILL)
        eventually(lambda: not alive(pid))  # noqa: B023


def test_multi_starts_and_stops_workers(daemons, tmp_path):
    one, run = daemons
    own = ("-A", "celery_tasks", "--pidfile=%n.pid", "--logfile=%n%I.log")
    run(*own[:2], "multi", "start", "2", *own[2:], "-c", "1", "-l", "INFO")
    files = [tmp_path / f"celery{i}.pid" for i in (1, 2)]
    eventually(lambda: all(file.exists() and file.read_text().strip() for file in files))
    pids = [int(file.read_text()) for file in files]
    results = [one.tasks.pid.delay() for _ in range(20)]
    assert not {result.get(timeout=30) for result in results} & {os.getpid(), *pids}
    replies = eventually(lambda: _two(one.app.control.inspect(limit=2, timeout=2).stats()))
    pools = [reply["pool"]["implementation"] for reply in replies.values()]
    assert all(name.endswith("prefork:TaskPool") for name in pools)
    run(*own[:2], "multi", "stopwait", "2", *own[2:])
    eventually(lambda: not any(map(alive, pids)))
    assert not any(file.exists() for file in files)
    assert "Warm shutdown" not in (tmp_path / "celery1-1.log").read_text()  # a process's own log


def _two(replies):
    return replies if replies and len(replies) == 2 else None


def test_a_detached_worker(daemons, tmp_path):
    one, run = daemons
    pidfile = tmp_path / "worker.pid"
    flags = ("--detach", "--pidfile", str(pidfile), "--logfile", str(tmp_path / "detached"))
    run("-A", "celery_tasks", "worker", "-c", "2", "-l", "INFO", *flags)
    eventually(lambda: pidfile.exists() and pidfile.read_text().strip())
    pid = int(pidfile.read_text())
    child = one.tasks.pid.delay().get(timeout=30)
    assert child != pid
    os.kill(pid, signal.SIGTERM)
    eventually(lambda: not alive(pid) and not alive(child))
    assert not pidfile.exists()


SITE = """
    SECRET_KEY = "of a test"
    INSTALLED_APPS = ["django.contrib.contenttypes"]
    USE_TZ = True
    DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": "site.db"}}
"""
APPLICATION = """
    import os

    import django

    os.environ["DJANGO_SETTINGS_MODULE"] = "site_settings"
    django.setup()

    from celery import signals
    from celery_tasks import app
    from django.db import connection

    import helpers

    @signals.celeryd_after_setup.connect(weak=False)
    def _in_the_worker(**_):
        # After the fixup, so that these are called after it.
        signals.worker_process_init.connect(_in_a_process, weak=False)
        signals.task_postrun.connect(_after, weak=False)
        connection.ensure_connection()
        helpers.note("django", f"worker {connection.connection is not None}")

    def _in_a_process(**_):
        helpers.note("django", f"process {connection.connection is not None}")

    @app.task
    def ask(number):
        with connection.cursor() as cursor:
            cursor.execute("SELECT %s", [number])
            return cursor.fetchone()[0]

    def _after(**_):
        helpers.note("django", f"task {connection.connection is not None}")
"""


def test_django_closes_what_the_worker_had_open(worker, tmp_path):
    """Celery's fixup does: each process has a connection of its own, and none between tasks."""
    (tmp_path / "site_settings.py").write_text(textwrap.dedent(SITE))
    (tmp_path / "site_app.py").write_text(textwrap.dedent(APPLICATION))
    one: Worker = worker(application="site_app", DJANGO_SETTINGS_MODULE="site_settings")
    ask = one.app.signature("site_app.ask")
    results = [ask.clone((i,)).apply_async() for i in range(20)]
    assert [result.get(timeout=30) for result in results] == list(range(20))
    assert one.stop() == 0
    said = lines(tmp_path / "django")
    assert said[0] == "worker True"
    assert said.count("process False") >= 2
    assert "process True" not in said
    assert said.count("task False") == 20
