"""A small application of Celery's, whose workers have prefork's pool by one setting.

    celery -A app worker -c 2

DEMO_BROKER and DEMO_FOLDER say where messages and results go: a broker's URL, or a folder.
"""

# mypy: disable-error-code="untyped-decorator"

from __future__ import annotations

import hashlib
import math
import os
import signal
import time
from pathlib import Path

import celery
from celery.exceptions import SoftTimeLimitExceeded

FOLDER = Path(os.environ.get("DEMO_FOLDER", "run"))
BROKER = os.environ.get("DEMO_BROKER", "filesystem://")

app = celery.Celery("app", broker=BROKER)

# This line is the switch. Without it, the same application runs on Celery's own pool.
app.conf.worker_pool = "prefork.celery:TaskPool"

app.conf.broker_connection_retry_on_startup = True
if BROKER == "filesystem://":
    for name in ("messages", "results"):
        (FOLDER / name).mkdir(parents=True, exist_ok=True)
    places = ("data_folder_in", "data_folder_out", "control_folder")
    app.conf.broker_transport_options = dict.fromkeys(places, str(FOLDER / "messages"))
    app.conf.result_backend = f"file://{(FOLDER / 'results').absolute()}"
else:
    app.conf.result_backend = BROKER


@app.task
def primes(first: int, last: int) -> int:
    """How many numbers from `first` to `last` are prime: work for a processor."""
    return sum(
        number > 1 and all(number % other for other in range(2, math.isqrt(number) + 1))
        for number in range(first, last + 1)
    )


@app.task
def checksum(path: str) -> str:
    """The SHA-256 of a file: work for a disk."""
    with open(path, "rb") as file:
        digest = hashlib.sha256()
        while data := file.read(1 << 16):
            digest.update(data)
    return digest.hexdigest()


@app.task
def total(numbers: list[int]) -> int:
    """The end of a chord."""
    return sum(numbers)


@app.task
def killed() -> None:
    """As by the kernel, when memory runs out: no line of Python runs after it."""
    os.kill(os.getpid(), signal.SIGKILL)


@app.task
def tidy(path: str) -> str:
    """Longer than its soft limit, which it takes as a friend's word."""
    Path(path).touch()
    try:
        time.sleep(600)
    except SoftTimeLimitExceeded:
        os.unlink(path)
        return "tidied up"
    return "not interrupted"


@app.task
def stuck() -> None:
    """Longer than any limit."""
    while True:
        try:
            time.sleep(600)
        except SoftTimeLimitExceeded:
            continue


@app.task
def slow(begun: str, end: str) -> str:
    """Says that it has begun, and goes on until it is told to end."""
    Path(begun).touch()
    while not os.path.exists(end):
        time.sleep(0.01)
    return "done"
