"""Fixtures: pools that are ended, gates that are closed, and a check that nothing is left over."""

from __future__ import annotations

import gc
import logging
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from command import FUNCTIONS
from fixtures import gate, signals_of_a_terminal
from helpers import Calls, descriptors, eventually, leftovers, threads
from pacing import clock
from prefork import TaskPool, batch, legacy, measured, pace
from prefork.calls import call_each

__all__ = ["gate", "signals_of_a_terminal"]


@pytest.fixture(autouse=True)
def _nothing_is_left() -> Iterator[None]:
    """No process, no descriptor and no thread outlives the test that made it."""
    gc.collect()
    gc.freeze()  # collections look at what the test makes, not at all of pytest
    before = descriptors()
    count = threads()
    names = set(threading.enumerate())
    children = leftovers()
    yield
    gc.collect()
    eventually(lambda: not leftovers() - children, within=10)
    eventually(lambda: set(threading.enumerate()) <= names, within=10)
    eventually(lambda: threads() <= count, within=10)
    new = {fd: what for fd, what in descriptors().items() if before.get(fd) != what}
    assert new == {}


@pytest.fixture
def pool(caplog: pytest.LogCaptureFixture) -> Iterator[Callable[..., TaskPool]]:
    """Makes started pools, which are terminated after the test."""
    made: list[TaskPool] = []

    def make(*args: Any, **options: Any) -> TaskPool:
        found = TaskPool(*args, **options)
        made.append(found)
        found.start()
        return found

    yield make
    for one in made:
        if one.state != "new":
            one.terminate()
    one = None
    made.clear()
    for record in caplog.get_records("call"):  # a record keeps what it was made from
        record.args = record.exc_info = None


@pytest.fixture
def legacy_pool(caplog: pytest.LogCaptureFixture) -> Iterator[Callable[..., legacy.TaskPool]]:
    """Makes running pools of Celery 0.3.7, which are terminated after the test."""
    made: list[legacy.TaskPool] = []

    def make(limit: int, kind: type[legacy.TaskPool] = legacy.TaskPool, **options: Any) -> Any:
        options.setdefault("logger", logging.getLogger("legacy"))
        made.append(kind(limit, **options))
        made[-1].run()
        return made[-1]

    yield make
    for one in made:
        one.terminate()
    one = None
    made.clear()
    for record in caplog.get_records("call"):  # a record keeps what it was made from
        record.args = record.exc_info = None


@pytest.fixture
def calls() -> Iterator[Calls]:
    """A note of what was called back."""
    found = Calls()
    yield found
    found.entries.clear()


@pytest.fixture
def here(tmp_path: Path) -> Path:
    """A directory with the functions that `prefork map` is to call."""
    (tmp_path / "functions.py").write_text(FUNCTIONS)
    return tmp_path


@pytest.fixture
def workers_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """That of the batches; workers are forked with it."""
    monkeypatch.setattr(clock, "now", 1000.0)
    monkeypatch.setattr(batch, "time", clock)
    monkeypatch.setattr(batch, "call_each", call_each)
    monkeypatch.setattr("prefork.calls.time", clock)


@pytest.fixture
def eights(monkeypatch: pytest.MonkeyPatch, workers_clock: None) -> None:
    """Batches are of eight items until one of them takes too long, or a worker is lost."""

    class Eights(pace.Pace):
        def __init__(self) -> None:
            super().__init__()
            self.size = 8

        def learn(self, seconds: float, count: int, is_cut: bool) -> None:
            if is_cut:
                self.size = 1

        def share(self, left: int | None, workers: int) -> int:
            return self.size

    monkeypatch.setattr(measured, "Pace", Eights)
