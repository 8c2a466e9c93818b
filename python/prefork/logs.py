"""The loggers `prefork` (the pool) and `prefork.worker` (inside workers)."""

from __future__ import annotations

import logging
import os

pool_logger = logging.getLogger("prefork")
worker_logger = logging.getLogger("prefork.worker")
pool_logger.addHandler(logging.NullHandler())


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
