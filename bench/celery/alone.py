"""One pool alone in an event loop, without a broker: what a job costs the main process.

    python alone.py POOL JOBS      prints microseconds of its CPU for a job

The jobs are calls of Celery's for a task that does nothing, as a request makes them, at most eight
sent and two begun at a time. With the null pool it is the loop and this program that is measured.
"""

# mypy: disable-error-code="untyped-decorator"

from __future__ import annotations

import statistics
import sys
import tempfile
import time
import uuid
from typing import Any

import celery
import nullpool
import tasks
from celery.app import trace
from celery.concurrency import prefork as stock
from kombu.asynchronous import Hub, set_event_loop
from kombu.asynchronous.semaphore import LaxBoundedSemaphore

import prefork.celery

POOLS = {"prefork": prefork.celery.TaskPool, "stock": stock.TaskPool, "null": nullpool.TaskPool}
CHUNK = 200  # jobs
AHEAD = 8  # sent and not done

app = celery.Celery("alone", broker="memory://", backend="disabled")


@app.task(ignore_result=True)
def noop() -> None:
    pass


def request_of(number: str) -> dict[str, Any]:
    """As large as those of messages are."""
    none = ("shadow", "eta", "expires", "group", "group_index", "parent_id", "stamped_headers")
    return dict.fromkeys(none) | {
        "lang": "py",
        "task": noop.name,
        "id": number,
        "root_id": number,
        "retries": 0,
        "timelimit": [None, None],
        "argsrepr": "()",
        "kwargsrepr": "{}",
        "origin": "gen1@host",
        "ignore_result": True,
        "replaced_task_nesting": 0,
        "stamps": {},
        "reply_to": number,
        "correlation_id": number,
        "hostname": "host",
        "delivery_info": {"exchange": "", "routing_key": "celery", "priority": 0},
        "args": [],
        "kwargs": {},
    }


class Bench:
    """A pool with two processes in a loop."""

    def __init__(self, name: str) -> None:
        app.set_default()
        app.finalize()
        trace.setup_worker_optimizations(app, "host")
        self.hub = Hub()
        set_event_loop(self.hub)
        self.slots = LaxBoundedSemaphore(2)
        self.pool = POOLS[name](
            2, app=app, initargs=(app, "host"), threads=False, putlocks=False, semaphore=self.slots
        )
        self.pool.start()
        self.pool.register_with_event_loop(self.hub)
        self._loop = self.hub.create_loop()
        self._done = 0
        self._held: list[Any] = []  # Celery holds its requests, which the callbacks belong to

    def _send(self, number: str) -> None:
        body = b'[[], {}, {"callbacks": null, "errbacks": null, "chain": null, "chord": null}]'
        call = (noop.name, number, request_of(number), body, "application/json", "utf-8")
        self._held.append(
            self.pool.apply_async(
                trace.fast_trace_task,
                args=call,
                accept_callback=self._begun,
                timeout_callback=self._failed,
                callback=self._ended,
                error_callback=self._failed,
                soft_timeout=None,
                timeout=None,
                correlation_id=number,
            )
        )

    def _begun(self, pid: int, at: float) -> None:
        pass

    def _ended(self, outcome: tuple[int, Any, float]) -> None:
        if outcome[0]:
            self._failed(outcome)
        self._done += 1

    def _failed(self, *what: Any, **more: Any) -> None:
        raise SystemExit(f"a job has failed: {what} {more}")

    def chunk(self) -> float:
        """Seconds of CPU for a job."""
        began = time.process_time()
        self._done = sent = 0
        self._held.clear()
        while self._done < CHUNK:
            while sent < CHUNK and sent - self._done < AHEAD:
                sent += 1
                self.slots.acquire(self._send, str(uuid.uuid4()))
            if self._done == sent:  # the null pool has nothing that could wake the loop
                self.hub.call_soon(lambda: None)
            next(self._loop)
        return (time.process_time() - began) / CHUNK


def main() -> None:
    with tempfile.NamedTemporaryFile() as board:
        tasks.count_on(board.name)
        measure()


def measure() -> None:
    bench = Bench(sys.argv[1])
    try:
        for _ in range(3):
            bench.chunk()
        rounds = max(1, int(sys.argv[2]) // CHUNK)
        print(statistics.median(bench.chunk() for _ in range(rounds)) * 1e6)
    finally:
        bench.pool.terminate()


if __name__ == "__main__":
    main()
