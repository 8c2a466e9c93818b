"""How a task comes into the core, and what is looked at when it has."""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import Any, TypeVar

from .ending import Ending
from .errors import PoolClosed
from .task import Task

R = TypeVar("R")


class Submitting(Ending):
    """The part of a TaskPool that hands tasks to its core."""

    callbacks_propagate: tuple[type[BaseException], ...]
    _timeout: float | None
    _soft_timeout: float | None

    def _adds_nothing(self) -> bool:
        """Whether a call for which nothing is asked is just a call, in this pool."""
        return (
            not self.putlocks
            and self._timeout is None
            and self._soft_timeout is None
            and self._semaphore_is_ours
            and not self.callbacks_propagate
        )

    def _submit_call(
        self, target: Callable[..., R], args: tuple[Any, ...], kwargs: dict[str, Any] | None
    ) -> Task[R]:
        """All that there is to do for such a one, in one step."""
        delivery = self._delivery
        task = self._core.submit_call(Task, self, delivery, target, args, kwargs)
        if task is None:
            raise self._refusal()
        if delivery.events or not delivery.health.is_well:
            self._look_after_submit()
        return task

    def _send(self, task: Task[Any], body: bytes, waitforslot: bool | None) -> None:
        """Submit a task that is ready for it, when it has its slot."""
        took = False
        try:
            if self.putlocks:
                took = self._take_slot(task, waitforslot is not False)
            if not self._semaphore_is_ours:
                task._holds_foreign = True
            self._submit(task, body)
        except BaseException:
            if not task._number:  # else it runs, and nobody has it in hand
                self._give_slot_back(task, took)
            raise

    def _submit(self, task: Task[Any], body: bytes) -> None:
        """Hand a new task to the core."""
        tell = task._accept_callback is not None
        calls_back = tell or bool(task._timeout_callback) or task._wants_callbacks()
        if calls_back or task._holds_foreign or task._completed is not None:
            task._is_plain = False
        delivery = self._delivery
        try:
            self._core.submit(
                task,
                delivery,
                body,
                tell,
                task._soft_limit or 0.0,
                task._limit or 0.0,
                task._queue_limit or 0.0,
                task._retries,
            )
        except OSError as error:
            if error.errno not in (errno.ESHUTDOWN, errno.ECHILD):
                raise
            raise self._refusal() from None
        if delivery.events or not delivery.health.is_well:
            self._look_after_submit()
        if calls_back and not self._guest:
            self._serve_others()

    def _refusal(self) -> PoolClosed:
        self._check_own()
        return PoolClosed(f"{self!r} takes no more tasks")

    def _look_after_submit(self) -> None:
        delivery = self._delivery
        if delivery.events:  # its end has come already, in another thread
            self._look()
            if self._finished:  # there the pool has ended, too
                delivery.apply()
                self._run_callbacks()
        if not delivery.health.is_well:  # since we have looked
            self._fail_waiting()
