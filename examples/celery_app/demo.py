"""`make demo-celery`: a Celery worker on prefork's pool, through good and bad, from outside.

Once over a folder, for which no server is needed, and once over redis where there is a
redis-server. Every line says what came out; the exit status is 0 only if all of it came out so.

    python examples/celery_app/demo.py [filesystem] [redis]     some of them
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
PATIENCE = 120.0  # seconds until what does not come is a failure
FILES = sorted(Path(os.__file__).parent.glob("*.py"))[:8]


class Wrong(Exception):
    """Something came out otherwise."""


def expect(found: object, wanted: object, what: str) -> None:
    if found != wanted:
        raise Wrong(f"{what}: {found!r}, and not {wanted!r}")


def until(condition: Callable[[], Any], what: str) -> Any:
    deadline = time.monotonic() + PATIENCE
    while not (found := condition()):
        if time.monotonic() > deadline:
            raise Wrong(f"{what}: not after {PATIENCE:g} s")
        time.sleep(0.01)
    return found


def say(title: str, text: str = "") -> None:
    print(f"  {title:12} {text}", flush=True)


# ---- servers and workers -------------------------------------------------------------------------


@contextlib.contextmanager
def redis_server(folder: Path) -> Iterator[str]:
    """Its URL; on a free port of loopback, and nothing of it stays."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", ""]
    log = folder / "redis.log"
    with open(log, "wb") as output:
        server = subprocess.Popen(command, cwd=folder, stdout=output, stderr=output)
    try:
        until(lambda: "Ready to accept" in log.read_text(), "redis-server is ready")
        yield f"redis://127.0.0.1:{port}/0"
    finally:
        server.terminate()
        server.wait()


class Worker:
    """`celery -A app worker -c 2`, as anybody starts one."""

    def __init__(self, folder: Path) -> None:
        self._log = folder / "worker.log"
        command = [sys.executable, "-m", "celery", "-A", "app", "worker", "-c", "2"]
        with open(self._log, "wb") as log:
            self.program = subprocess.Popen(command, cwd=HERE, stdout=log, stderr=log)

    def said(self) -> str:
        """Its log, so far."""
        return self._log.read_text()

    def lines(self, *words: str) -> list[str]:
        """Those lines of its log that have all of these words."""
        return [line for line in self.said().splitlines() if all(w in line for w in words)]

    def close(self) -> None:
        """Not to stay, whatever has happened."""
        if self.program.poll() is None:
            self.program.kill()
            self.program.wait()


# ---- what is shown -------------------------------------------------------------------------------


def show(folder: Path, worker: Worker, app: Any) -> None:
    import celery

    def end_of(result: Any) -> Any:
        """What it returned, or its error."""
        return result.get(timeout=PATIENCE, interval=0.01, propagate=False)

    def lost(result: Any, name: str) -> BaseException:
        error = end_of(result)
        expect(result.state, "FAILURE", "the state of the task")
        expect(type(error).__name__, name, "its error")
        assert isinstance(error, BaseException)
        return error

    def stats_of() -> Any:
        if worker.program.poll() is not None:
            raise Wrong(f"the worker has ended:\n{worker.said()}")
        return app.app.control.inspect(limit=1, timeout=1).stats()

    stats = next(iter(until(stats_of, "an answer to inspect stats").values()))["pool"]
    expect(stats["implementation"], "prefork.celery.prefork:TaskPool", "the pool")
    expect(len(stats["processes"]), 2, "processes")
    say("pool", f"{stats['implementation']}, processes {stats['processes']}")

    parts = [app.primes.s(first, first + 9_999) for first in range(0, 50_000, 10_000)]
    counts = celery.group(parts)().get(timeout=PATIENCE, interval=0.01)
    expect(sum(counts), 5133, "primes below 50,000")
    say("processor", f"{len(parts)} tasks: primes below 50,000 are {' + '.join(map(str, counts))}")

    sums = [end_of(result) for result in [app.checksum.delay(str(path)) for path in FILES]]
    expect(sums, [hashlib.sha256(path.read_bytes()).hexdigest() for path in FILES], "checksums")
    say("disk", f"{len(FILES)} files: SHA-256 as computed here; the first is {sums[0][:16]}…")

    chord = celery.chord(parts)(app.total.s())
    expect(end_of(chord), 5133, "the chord")
    say("chord", "its end has the sum: 5133")

    error = lost(app.killed.delay(), "WorkerLostError")
    if "signal 9 (SIGKILL)" not in str(error):
        raise Wrong(f"the error says {error}")
    say("killed", "a task whose process is killed is a FAILURE:")
    for line in str(error).splitlines():
        say("", f"| {line}")
    expect(end_of(app.primes.delay(1, 10)), 4, "the task after it")
    say("", "and the next task is done")

    path = folder / "half"
    result = app.tidy.apply_async((str(path),), soft_time_limit=0.5)
    expect((end_of(result), path.exists()), ("tidied up", False), "the soft limit")
    say("soft limit", "SoftTimeLimitExceeded was raised in the task, which tidied up")

    error = lost(app.stuck.apply_async(time_limit=0.5), "TimeLimitExceeded")
    say("hard limit", f"{error!r}")

    result = app.slow.delay(str(folder / "begun"), str(folder / "end"))
    until((folder / "begun").exists, "the task begins")
    worker.program.terminate()
    until(lambda: worker.lines("Warm shutdown"), "the worker shuts down")
    (folder / "end").touch()
    expect(worker.program.wait(PATIENCE), 0, "the worker's exit status")
    expect(end_of(result), "done", "the task that ran")
    say("shutdown", "what ran was done, and the worker ended with status 0")

    say("its log", "")
    for words in (("signal 9 (SIGKILL)", "WorkerLostError"), ("Soft time limit",), ("Hard time",)):
        found = worker.lines(*words)
        if not found:
            raise Wrong(f"the log has no line with {words}:\n{worker.said()}")
        say("", f"| {found[0]}")


def run(transport: str) -> int:
    """All of it, as a process of its own that ends before its server: its exit status."""
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="prefork-demo-"))
        url = "filesystem://"
        if transport == "redis":
            url = stack.enter_context(redis_server(Path(folder)))
        print(f"{transport}: a worker with two processes", flush=True)
        environment = os.environ | {"DEMO_BROKER": url, "DEMO_FOLDER": folder}
        return subprocess.call([sys.executable, __file__, "--show", folder], env=environment)


def show_all(folder: Path) -> int:
    """With a worker that does not stay, whatever happens: the exit status."""
    import app

    worker = None
    try:
        worker = Worker(folder)
        show(folder, worker, app)
    except Wrong as wrong:
        print(f"demo-celery: {wrong}", file=sys.stderr)
        return 1
    finally:
        if worker is not None:
            worker.close()
    return 0


def main() -> int:
    if sys.argv[1:2] == ["--show"]:
        return show_all(Path(sys.argv[2]))
    transports = sys.argv[1:]
    if not transports:
        transports = ["filesystem", "redis"] if shutil.which("redis-server") else ["filesystem"]
    for transport in transports:
        if run(transport):
            return 1
    if "redis" not in transports:
        print("(it can be shown over redis, too, where there is a redis-server)")
    print("all of it came out as it says")
    return 0


if __name__ == "__main__":
    sys.exit(main())
