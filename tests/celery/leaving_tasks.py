"""A tool in a worker that is told of the end of each process as New Relic's agent is: by what it
has put around billiard's `Worker._do_exit`. `-I leaving_tasks`."""

from __future__ import annotations

import os

from billiard.pool import Worker
from celery.signals import worker_process_shutdown

import helpers

_do_exit = Worker._do_exit


def _noted(self, pid, exitcode, *args, **kwargs):
    helpers.note(os.environ["CELERY_TEST_LEFT"], f"{pid == os.getpid()} {exitcode}")
    return _do_exit(self, pid, exitcode, *args, **kwargs)


Worker._do_exit = _noted


@worker_process_shutdown.connect(weak=False)
def _shut_down(exitcode, **_):
    helpers.note(os.environ["CELERY_TEST_LEFT"], f"shutdown {exitcode}")
