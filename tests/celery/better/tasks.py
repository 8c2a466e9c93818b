"""What workers are asked to do, beside what celery_tasks.py has: `-I better.tasks`."""

from __future__ import annotations

import multiprocessing
import multiprocessing.util
import os
import signal
import time

from celery import signals
from celery.exceptions import SoftTimeLimitExceeded
from celery_tasks import app

import helpers

folder = os.environ["CELERY_TEST_FOLDER"]
ballast = b"x" * (int(os.environ.get("CELERY_TEST_BALLAST", "0")) << 20)


@app.task
def exit_at_once(code):
    os._exit(code)


@app.task
def eat(group):
    """More memory than that group has."""
    with open(f"{group}/cgroup.procs", "w") as file:
        file.write(str(os.getpid()))
    return len([b"x" * (1 << 20) for _ in range(1 << 20)])


@app.task
def hold_through_softly(path, mark):
    """As helpers.hold, and once more after the soft limit's error."""
    try:
        helpers.hold(path)
    except SoftTimeLimitExceeded:
        helpers.note(mark, "softly")
    return os.getpid()


@app.task
def hold_stubbornly(path):
    return helpers.hold_stubbornly(path)


@app.task
def have_a_child():
    process = multiprocessing.get_context("fork").Process(target=helpers.square, args=(2,))
    process.start()
    process.join()
    return process.exitcode


@signals.worker_process_init.connect(weak=False)
def _start(**_):
    """As files in the worker's folder say: slowly, or not at all; with that much memory."""
    helpers.note(f"{folder}/started")
    len(b"x" * (int(os.environ.get("CELERY_TEST_SWELL", "0")) << 20))
    if os.path.exists(f"{folder}/break"):
        os._exit(3)
    if os.path.exists(f"{folder}/slow"):
        time.sleep(5)


class _AfterFork:
    """A SIGTERM that comes before the process has its own signal handlers."""

    def __init__(self):
        multiprocessing.util.register_after_fork(self, _AfterFork.run)

    def run(self):
        try:
            os.unlink(f"{folder}/term")
        except FileNotFoundError:
            return
        helpers.note(f"{folder}/termed")
        os.kill(os.getpid(), signal.SIGTERM)


_after_fork = _AfterFork()
