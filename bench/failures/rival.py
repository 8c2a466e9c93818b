"""pebble beside prefork: its own venv has neither prefork nor us, only this file and tasks.py."""

from __future__ import annotations

import importlib
import multiprocessing
from typing import Any

from tasks import begun, end_of, rounds, spin, tell


def loss() -> None:
    pebble: Any = importlib.import_module("pebble")
    with pebble.ProcessPool(2, context=multiprocessing.get_context("fork")) as pool:

        def one() -> None:
            future = pool.schedule(spin)
            tell(begun()[0])
            tell(end_of(future.result, pebble.ProcessExpired))

        rounds(one)


if __name__ == "__main__":
    loss()
