"""The application of real workers: imported by the tests, and by the workers that they start."""

from __future__ import annotations

import functools
import json
import os
import sys
import time

import celery
import redis
from billiard import current_process
from celery import signals
from celery.exceptions import SoftTimeLimitExceeded

import helpers

app = celery.Celery("celery_tasks")
app.conf.update(
    worker_pool=os.environ.get("CELERY_TEST_POOL", "prefork"),
    broker_connection_retry_on_startup=True,
    worker_pool_restarts="CELERY_TEST_RESTARTS" in os.environ,
)


def configure(url: str, folder: str, **conf: object) -> None:
    """Where messages and results go, and other settings of Celery's."""
    if url == "filesystem://":
        names = ("data_folder_in", "data_folder_out", "control_folder")
        app.conf.broker_transport_options = dict.fromkeys(names, f"{folder}/broker")
        os.makedirs(f"{folder}/broker", exist_ok=True)
        os.makedirs(f"{folder}/results", exist_ok=True)
    app.conf.broker_url = url
    app.conf.result_backend = f"file://{folder}/results" if url == "filesystem://" else url
    app.conf.update(conf)


if "CELERY_TEST_URL" in os.environ:
    configure(
        os.environ["CELERY_TEST_URL"],
        os.environ["CELERY_TEST_FOLDER"],
        **json.loads(os.environ["CELERY_TEST_CONF"]),
    )
if "CELERY_TEST_THREADS" in os.environ:  # there is no flag for it
    app.Worker = functools.partial(app.Worker, use_eventloop=False)
if "CELERY_TEST_INSTALL" in os.environ:
    from prefork.celery import install

    install()


@app.task
def add(a, b):
    return a + b


@app.task
def fail(message):
    raise ValueError(message)


@app.task
def leave(code):
    sys.exit(code)


@app.task
def name():
    return current_process().name


@app.task
def pid():
    return os.getpid()


@app.task
def spin():
    helpers.spin()


@app.task
def hold(path):
    return helpers.hold(path)


@app.task(acks_late=True, reject_on_worker_lost=True)
def hold_late(path):
    return helpers.hold(path)


@app.task(acks_late=True)
def hold_only_late(path):
    return helpers.hold(path)


@app.task
def total(numbers):
    return sum(numbers)


@app.task(bind=True, max_retries=5)
def flaky(self, path, failures):
    """Is tried again so often before it returns how often it was called."""
    helpers.note(path)
    calls = len(helpers.lines(path))
    if calls <= failures:
        raise self.retry(countdown=0.05, exc=ValueError(f"call {calls}"))
    return calls


@app.task
def forgiving(path):
    """Tidies up when its soft limit is over."""
    try:
        helpers.hold(path)
    except SoftTimeLimitExceeded:
        helpers.note(f"{path}.told", "in time")
        return "in time"


@app.task(time_limit=0.3)
def limited():
    helpers.spin()


@app.task
def now():
    return time.time()


@app.task
def environment(name):
    return os.environ.get(name)


@app.task
def tick(path):
    helpers.note(path, "tick")


@app.task
def grow_fat(mib, fat=[]):  # as memory leaks
    fat.append(b"x" * (mib << 20))
    return os.getpid()


@app.task(acks_late=True, reject_on_worker_lost=True, ignore_result=True)
def count(number):
    """Notes its beginning, and its end, in redis."""
    client = _client()
    client.incr(f"began:{number}")
    sum(range(5_000))  # some time in which to be killed
    client.pipeline().incr(f"done:{number}").incr("done").execute()


@app.task(ignore_result=True)
def count_early(number):
    count.run(number)


@functools.cache
def _client():
    return redis.Redis.from_url(os.environ["CELERY_TEST_COUNTS"])


notes = os.environ.get("CELERY_TEST_NOTES")
if notes is not None:

    @signals.worker_process_init.connect(weak=False)
    def _init(**_):
        helpers.note(notes, f"init {os.getpid()}")

    @signals.worker_process_shutdown.connect(weak=False)
    def _shutdown(pid, exitcode, **_):
        helpers.note(notes, f"shutdown {pid} {exitcode}")
