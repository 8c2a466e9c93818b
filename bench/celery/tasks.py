"""The application that is measured: imported by the bench, and by the workers that it starts.

What its tasks have done is counted in a file that all processes map: counting costs a task next to
nothing, and looking costs the worker nothing at all.
"""

# mypy: disable-error-code="untyped-decorator"

from __future__ import annotations

import mmap
import os
import time
from typing import Any, NoReturn

import celery
from billiard import current_process
from celery import signals

SLOTS = 64  # more than there are worker processes
MAIN = SLOTS - 1  # of the main process, which has no number

app = celery.Celery("tasks")
app.conf.update(
    broker_connection_retry_on_startup=True,
    worker_pool=os.environ.get("BENCH_POOL", "prefork"),
    result_expires=None,
)


class Board:
    """Numbers in a file: how many tasks each worker process has done, and what was last said."""

    def __init__(self, path: str) -> None:
        with open(path, "ab+") as file:
            file.truncate(8 * (SLOTS + 2))
            self._map = mmap.mmap(file.fileno(), 0)
        self.cells = memoryview(self._map).cast("Q")

    @property
    def done(self) -> int:
        """By all processes together."""
        return sum(self.cells[:SLOTS])

    @property
    def done_in_main(self) -> int:
        """By a process that is no worker process."""
        return self.cells[MAIN]

    @property
    def pid(self) -> int:
        """Of the process whose task said so last; 0 once it was read."""
        found, self.cells[SLOTS] = self.cells[SLOTS], 0
        return found

    @property
    def at(self) -> int:
        """When a task was last about to fail, as of time.monotonic_ns()."""
        return self.cells[SLOTS + 1]

    def clear(self) -> None:
        """All to 0."""
        for number in range(len(self.cells)):
            self.cells[number] = 0


def configure(url: str, folder: str | None = None) -> None:
    """Where messages and results go. With a folder messages go there, and Celery has no event loop:
    results still go to redis, which tells who waits."""
    app.conf.broker_url = app.conf.result_backend = url
    if folder is not None:
        app.conf.broker_url = "filesystem://"
        app.conf.broker_transport_options = files_in(folder)


def files_in(folder: str) -> dict[str, str]:
    """Options of the transport over a folder."""
    return dict.fromkeys(("data_folder_in", "data_folder_out", "control_folder"), folder)


def count_on(path: str) -> None:
    """Where this process, and its forks, count what is done."""
    global _board
    _board = Board(path)


_board: Board
_slot = MAIN  # until it is a worker process

if "BENCH_URL" in os.environ:  # in a worker
    configure(os.environ["BENCH_URL"], os.environ.get("BENCH_FOLDER"))
    count_on(os.environ["BENCH_BOARD"])


@signals.worker_process_init.connect(weak=False)
def _take_slot(**_: Any) -> None:
    global _slot
    _slot = current_process().index


def count() -> None:
    """One more is done, by this process."""
    _board.cells[_slot] += 1


@app.task(ignore_result=True)
def noop() -> None:
    count()


@app.task(ignore_result=True)
def nap(seconds: float) -> None:
    time.sleep(seconds)
    count()


@app.task(ignore_result=True)
def compute(rounds: int) -> None:
    number = 1
    for _ in range(rounds):
        number = number * 48271 % 2147483647
    count()


@app.task
def fail() -> NoReturn:
    _board.cells[SLOTS + 1] = time.monotonic_ns()
    raise ValueError("as a task may")


@app.task
def spin() -> NoReturn:
    """Says its pid, and is busy for ever."""
    _board.cells[SLOTS] = os.getpid()
    while True:
        pass
