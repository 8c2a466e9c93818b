"""A pool that does nothing: every job has a ready-made outcome, here and at once. What a worker
does in a second with it no other pool can exceed.
"""

# mypy: disable-error-code="misc"

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any

import tasks
from celery.concurrency.base import BasePool

OUTCOME = (0, None, 0.0)  # Celery's for a task that has returned None


class Done:
    """What `apply_async` returns: Celery keeps a weak reference."""

    __slots__ = ("__weakref__",)


class TaskPool(BasePool):
    """As a worker asks for it, without a process."""

    uses_semaphore = True

    def on_apply(
        self,
        target: Callable[..., Any],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
        *,
        callback: Callable[[Any], object],
        accept_callback: Callable[[int, float], object],
        **_: Any,
    ) -> Done:
        """The order of the calls is the stock pool's."""
        tasks.count()
        accept_callback(os.getpid(), time.monotonic())
        self.options["semaphore"].release()
        callback(OUTCOME)
        return Done()

    def terminate_job(self, pid: int, signal: int | None = None) -> None:
        """There is none."""
