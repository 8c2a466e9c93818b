"""The loggers `prefork` (the pool) and `prefork.worker` (inside workers)."""

from __future__ import annotations

import contextlib
import logging
import os
from typing import Any

pool_logger = logging.getLogger("prefork")
worker_logger = logging.getLogger("prefork.worker")
pool_logger.addHandler(logging.NullHandler())

WRITING = ("debug", "info", "warning", "error", "exception", "critical", "log")


class Log:
    """A logger as the pool uses it: what its methods raise, as where the disk is full, does not
    break what only wanted to tell."""

    def __init__(self, logger: Any) -> None:
        self._logger = logger

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        found = getattr(self._logger, name)
        if name not in WRITING:
            return found

        def write(*args: Any, **options: Any) -> None:
            if isinstance(self._logger, logging.Logger):
                options["stacklevel"] = options.get("stacklevel", 1) + 1  # whoever called us
            with contextlib.suppress(Exception):
                found(*args, **options)

        return write


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
