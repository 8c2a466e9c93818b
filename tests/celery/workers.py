"""Real workers, `celery worker` as a program, in all the places where one may be."""

from __future__ import annotations

import contextlib
import importlib
import itertools
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from brokers import RabbitMQ, Redis

from helpers import alive, descendants, eventually

HERE = Path(__file__).parent
STOCK = os.environ.get("POOL") == "stock"

#: The brokers, each in hub mode and in thread mode: without Celery's event loop.
PLACES = ("redis", "rabbitmq", "redis-threads", "rabbitmq-threads")
SMOKE = ("redis", "rabbitmq", "redis-threads")

_numbers = itertools.count(1)  # of logs and queues


class Worker:
    """A `celery worker` and an application to talk to it. `settings` are variables of its
    environment, `conf` is for both."""

    def __init__(
        self,
        url: str,
        directory: Path,
        *flags: str,
        conf: Mapping[str, Any] | None = None,
        application: str = "celery_tasks",
        **settings: str,
    ) -> None:
        sys.modules.pop("celery_tasks", None)  # an application keeps the connections that it had
        self.tasks = importlib.import_module("celery_tasks")
        self.tasks.configure(url, str(directory), **(conf or {}))
        self.app = self.tasks.app
        self.log = directory / f"log-{next(_numbers)}"
        self.environment = os.environ | {
            "PYTHONPATH": f"{HERE}{os.pathsep}{HERE.parent}",
            "CELERY_TEST_URL": url,
            "CELERY_TEST_FOLDER": str(directory),
            "CELERY_TEST_CONF": json.dumps(dict(conf or {})),
            "CELERY_TEST_POOL": "prefork" if STOCK else "prefork.celery:TaskPool",
            **settings,
        }
        command = [sys.executable, "-m", "celery", "-A", application, "worker"]
        command += ["-c", "2", "-l", "INFO", "--without-gossip", "--without-mingle", *flags]
        with open(self.log, "ab") as log:
            self.program = subprocess.Popen(
                command, cwd=directory, env=self.environment, stdout=log, stderr=log
            )
        try:
            eventually(self._is_ready, within=90)
        except BaseException:
            self.program.kill()
            self.program.wait(30)
            raise

    def _is_ready(self) -> bool:
        assert self.program.poll() is None, self.said()
        return "ready." in self.said()

    def said(self) -> str:
        """Its log, so far."""
        return self.log.read_text()

    def stats(self) -> list[dict[str, Any]]:
        """What it answers to `inspect stats`; asked again until it listens to its first message."""
        inspect = self.app.control.inspect(limit=1, timeout=2)
        return list(eventually(inspect.stats).values())

    def processes(self) -> set[int]:
        """All that it has started."""
        return descendants(self.program.pid)

    def children(self) -> list[int]:
        """Those that run tasks, by their titles."""
        return sorted(pid for pid in self.processes() if "ForkPoolWorker" in _title(pid))

    def listens(self) -> Worker:
        """Wait until it hears what remote control says; who does not listen yet misses that."""
        self.ask("ping")
        return self

    def ask(self, question: str) -> Any:
        """What it answers to an inspect command; asked again until it does."""
        inspect = self.app.control.inspect(limit=1, timeout=2)
        (answer,) = eventually(getattr(inspect, question)).values()
        return answer

    def stop(self, number: int = signal.SIGTERM) -> int:
        """End it; its exit code."""
        self.program.send_signal(number)
        try:
            return self.program.wait(30)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"the worker does not end; its log:\n{self.said()}") from None


@pytest.fixture
def worker(
    place: str, redis_server: Redis, request: pytest.FixtureRequest, tmp_path: Path
) -> Iterator[Callable[..., Worker]]:
    """Starts workers in a place, which are ended after the test with all that they have started.
    Their results are in redis."""
    broker, _, threads = place.partition("-")
    settings = {"CELERY_TEST_COUNTS": redis_server.url}
    if threads:
        settings["CELERY_TEST_THREADS"] = "1"
    conf: dict[str, Any] = {}
    server: Redis | RabbitMQ = redis_server
    if broker == "rabbitmq":
        server = request.getfixturevalue("rabbitmq")
        conf["result_backend"] = redis_server.url
        conf["task_default_queue"] = f"queue-{next(_numbers)}"
        # Else Celery, after a reconnect, waits in the thread that calls back for an answer of the
        # broker's, while its main thread reads the same connection. If that takes it, the thread
        # waits for whatever comes next, and all that is to be told with it. Where Celery has an
        # event loop, which over AMQP is always but here, there is one thread.
        conf["worker_enable_prefetch_count_reduction"] = not threads
    with _workers(server.url, tmp_path, conf, settings) as make:
        yield make
    redis_server.flush()


@pytest.fixture
def thread_worker(tmp_path: Path) -> Iterator[Callable[..., Worker]]:
    """As `worker`, over a directory: Celery has no event loop there."""
    with _workers("filesystem://", tmp_path, {}, {}) as make:
        yield make


@contextlib.contextmanager
def _workers(
    url: str, directory: Path, everyones: dict[str, Any], settings: dict[str, str]
) -> Iterator[Callable[..., Worker]]:
    made: list[Worker] = []

    def make(*flags: str, conf: Mapping[str, Any] | None = None, **more: str) -> Worker:
        both = everyones | dict(conf or {})
        made.append(Worker(url, directory, *flags, conf=both, **(settings | more)))
        return made[-1]

    yield make
    for one in made:
        if one.program.poll() is None:
            processes = one.processes()
            one.program.kill()
            one.program.wait(30)
            eventually(lambda: not any(map(alive, processes)))  # noqa: B023


def _title(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text(errors="replace")
    except OSError:
        return ""


def failure_of(result: Any) -> Any:
    """What a task has failed with."""
    found = result.get(timeout=30, propagate=False)
    assert result.status == "FAILURE", result.status
    return found


def is_delivered_again(result: Any, pid: int, worker: Callable[..., Worker], gate: Any) -> None:
    """A task that is held, whose process has ended with its worker, has another one in the next."""
    assert not alive(pid)
    again = worker()
    (second,) = gate.arrived()
    gate.open()
    assert result.get(timeout=30) == second
    assert again.stop() == 0
