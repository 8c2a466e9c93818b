"""Sentry's client in a worker, with a transport that has nowhere to send to: what was captured is
in the process's memory until somebody flushes it. `-I sentry_tasks`."""

from __future__ import annotations

import os

import sentry_sdk
from celery_tasks import app
from sentry_sdk.integrations.celery import CeleryIntegration
from sentry_sdk.transport import Transport

import helpers


class Held(Transport):
    """Writes into a file what it holds, when it is flushed."""

    def __init__(self, options=None):
        super().__init__(options)
        self.held = []

    def capture_envelope(self, envelope):
        event = envelope.get_event()
        if event is not None:
            self.held.append(event["exception"]["values"][-1]["value"])

    def flush(self, timeout, callback=None):
        for text in self.held:
            helpers.note(os.environ["CELERY_TEST_SENTRY"], text)
        self.held.clear()


sentry_sdk.init(
    dsn="http://key@127.0.0.1:9/1",
    transport=Held,
    integrations=[CeleryIntegration()],
    auto_enabling_integrations=False,
)


@app.task
def fail_and_leave(message, code):
    sentry_sdk.capture_exception(ValueError(message))
    raise SystemExit(code)
