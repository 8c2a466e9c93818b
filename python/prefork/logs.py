"""The loggers `prefork` (the pool) and `prefork.worker` (inside workers)."""

from __future__ import annotations

import contextlib
import logging
import os
from typing import Any

pool_logger = logging.getLogger("prefork")
worker_logger = logging.getLogger("prefork.worker")


def log(logger: Any, level: str, message: str, *args: Any) -> None:
    """By the logger's method of that name. What it raises, as where its disk is full, is not to
    break what only wanted to tell."""
    with contextlib.suppress(Exception):
        getattr(logger, level)(message, *args)


def _log_by_environment() -> None:
    """PREFORK_LOG=debug (or info …) shows the log on stderr without a line of code."""
    level = os.environ.get("PREFORK_LOG", "").upper()
    if level not in ("DEBUG", "INFO", "WARNING", "ERROR"):
        return
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(process)d %(name)s %(message)s"))
    pool_logger.addHandler(handler)
    pool_logger.setLevel(level)


_log_by_environment()
