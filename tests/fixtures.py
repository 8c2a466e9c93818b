"""Fixtures of all tests, those of the pool and those of Celery."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from helpers import Gate


@pytest.fixture(autouse=True, scope="session")
def signals_of_a_terminal() -> None:
    """A background job of a shell starts with these ignored, and so would all our programs."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number in (signal.SIGHUP, signal.SIGQUIT):
        signal.signal(number, signal.SIG_DFL)


@pytest.fixture
def gate(tmp_path: Path) -> Iterator[Gate]:
    """A gate for tasks to wait at."""
    found = Gate(tmp_path)
    yield found
    found.close()
