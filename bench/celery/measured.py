"""What is measured, from outside: a redis-server, and workers that are started, timed and ended."""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import kombu
import redis
import tasks
from celery.result import AsyncResult

HERE = Path(__file__).resolve().parent
PATIENCE = 300.0  # seconds; nothing takes so long
LOOK = 0.002  # seconds between two looks at the board

POOLS = {
    "prefork": "prefork.celery:TaskPool",
    "stock": "prefork",
    "null": "nullpool:TaskPool",
    "threads": "threads",
}


def until(condition: Callable[[], Any], what: str) -> Any:
    """Wait for it, looking now and then."""
    deadline = time.monotonic() + PATIENCE
    while not (found := condition()):
        if time.monotonic() > deadline:
            raise TimeoutError(what)
        time.sleep(LOOK)
    return found


# ---- processes -----------------------------------------------------------------------------------


def cpu_of(pid: int) -> float:
    """Seconds on processors of a process with all its threads, to the nanosecond. The clock of
    another process has this number; see clock_getcpuclockid(3)."""
    return time.clock_gettime(~pid << 3 | 2)


def descendants(root: int) -> set[int]:
    parents = {}
    for name in os.listdir("/proc"):
        with contextlib.suppress(OSError):
            if name.isdigit():
                stat = Path("/proc", name, "stat").read_text(errors="replace")
                parents[int(name)] = int(stat.rpartition(")")[2].split()[1])
    found: set[int] = set()
    fresh = {root}
    while fresh:
        fresh = {pid for pid, parent in parents.items() if parent in fresh} - found
        found |= fresh
    return found


@dataclass(frozen=True)
class Footprint:
    """Of one process, or of several together: memory in KiB, descriptors."""

    private: int
    pss: int
    descriptors: int

    @staticmethod
    def of(pid: int) -> Footprint:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
        sizes = {line.split()[0]: line.split()[1] for line in text.splitlines()[1:]}
        private = int(sizes["Private_Clean:"]) + int(sizes["Private_Dirty:"])
        return Footprint(private, int(sizes["Pss:"]), len(os.listdir(f"/proc/{pid}/fd")))

    @staticmethod
    def mean(several: list[Footprint]) -> Footprint:
        """0 of nothing."""
        count = max(1, len(several))
        return Footprint(
            sum(one.private for one in several) // count,
            sum(one.pss for one in several) // count,
            sum(one.descriptors for one in several) // count,
        )


# ---- redis ---------------------------------------------------------------------------------------


class Broker:
    """A redis-server on a free port of loopback, with messages prepared."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.redis = redis.Redis.from_url(url)

    def prepare(self, name: str, submit: Callable[[], None]) -> int:
        """Keep what `submit` sends, under a name; how many messages that are."""
        submit()
        self.redis.rename("celery", name)
        return int(self.redis.llen(name))

    def fill(self, queue: str, name: str) -> None:
        """Have these messages in a queue, and no others anywhere."""
        self.redis.delete("unacked", "unacked_index")
        self.redis.copy(name, queue, replace=True)

    def left(self, queue: str) -> int:
        """Messages that are still to be taken, or to be acknowledged."""
        return int(self.redis.llen(queue)) + int(self.redis.hlen("unacked"))


def _answers(client: redis.Redis) -> bool:
    try:
        return bool(client.ping())
    except redis.ConnectionError:
        return False


@contextlib.contextmanager
def broker(directory: Path) -> Iterator[Broker]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", ""]
    with open(directory / "redis.log", "wb") as log:
        server = subprocess.Popen(command, cwd=directory, stdout=log, stderr=log)
    found = Broker(f"redis://127.0.0.1:{port}/0")
    try:
        until(lambda: _answers(found.redis), "redis-server does not answer")
        yield found
    finally:
        gc.collect()  # results take their leave of the server when they are collected
        found.redis.close()
        server.terminate()
        server.wait(30)


# ---- workers -------------------------------------------------------------------------------------


class Worker:
    """A `celery worker` with one of the pools, on a queue named like it. `looped`: in an event
    loop, over redis; or else without one, over a folder. `under`: a program that runs it."""

    def __init__(
        self,
        pool: str,
        broker: Broker,
        directory: Path,
        processes: int,
        looped: bool,
        under: Sequence[str],
    ) -> None:
        self.pool = pool
        self.board = tasks.Board(str(directory / f"{pool}.board"))
        self.board.clear()
        self.log = directory / f"{pool}.log"
        environment = os.environ | {
            "PYTHONPATH": str(HERE),
            "BENCH_POOL": POOLS[pool],
            "BENCH_URL": broker.url,
            "BENCH_BOARD": str(directory / f"{pool}.board"),
        }
        self._connection = tasks.app.connection_for_write()
        if not looped:
            folder = str(directory / "messages")
            os.makedirs(folder, exist_ok=True)
            environment["BENCH_FOLDER"] = folder
            self._connection = kombu.Connection(
                "filesystem://", transport_options=tasks.files_in(folder)
            )
        self._producer = tasks.app.amqp.Producer(self._connection)
        command = [
            *under,
            sys.executable,
            "-m",
            "celery",
            "-A",
            "tasks",
            "worker",
            "-c",
            str(processes),
        ]
        command += ["-Q", pool, "-n", f"{pool}@%h", "--without-gossip", "--without-mingle"]
        with open(self.log, "wb") as log:
            self.program = subprocess.Popen(
                command, cwd=directory, env=environment, stdout=log, stderr=log
            )

    def send(self, task: Any) -> AsyncResult:
        """To its queue."""
        return task.apply_async(queue=self.pool, producer=self._producer)

    def until_done(self, count: int) -> None:
        """Wait until so many tasks are done."""
        until(
            lambda: self.board.done >= count or self.program.poll() is not None,
            f"{self.pool}: {self.board.done} of {count} tasks are done; see {self.log}",
        )
        if self.program.poll() is not None:
            raise RuntimeError(f"the worker has ended:\n{self.log.read_text()}")

    def stats(self) -> dict[str, Any]:
        """What it answers to `inspect stats`."""
        inspect = tasks.app.control.inspect(limit=1, timeout=2)
        found: dict[str, Any] = until(inspect.stats, "no answer to inspect stats")
        return next(iter(found.values()))

    def others(self) -> set[int]:
        """All processes that it has started."""
        return descendants(self.program.pid)

    def children(self) -> list[int]:
        """Those that do tasks."""
        pids: list[int] = self.stats()["pool"].get("processes", [])
        return pids

    def cpu(self) -> tuple[float, float]:
        """Seconds on processors: of its main process, of all others together."""
        return cpu_of(self.program.pid), sum(map(cpu_of, self.others()))

    def close(self) -> None:
        """A warm shutdown."""
        self.program.terminate()
        if self.program.wait(PATIENCE) != 0:
            raise RuntimeError(f"the worker ended badly:\n{self.log.read_text()}")
        self._connection.release()


@contextlib.contextmanager
def worker(
    pool: str,
    broker: Broker,
    directory: Path,
    processes: int = 2,
    looped: bool = True,
    under: Sequence[str] = (),
) -> Iterator[Worker]:
    found = Worker(pool, broker, directory, processes, looped, under)
    try:
        yield found
        found.close()
    finally:
        if found.program.poll() is None:
            os.kill(found.program.pid, signal.SIGKILL)
            found.program.wait()
