"""Maps of single items, each a task: what a chunksize of 1 means.

A list of all results is gathered otherwise than by chunks: calls go out many in one step, and how
many are under way follows from how quick they are. What holds the input back is one task, half-way:
it costs an item nothing, where to be told of each that ends, as chunks are, would.
"""

from __future__ import annotations

import time
from collections import deque
from concurrent.futures._base import FINISHED
from itertools import islice
from typing import Any, TypeVar

from . import codec
from .chunks import ChunkIterator
from .errors import TimeoutError
from .task import Task

R = TypeVar("R")

MOST_AHEAD = 1024  #: tasks submitted for a list of all results, where half of them is done in
SHORT = 5e-3  #: so many seconds


class SingleIterator(ChunkIterator[R]):
    """Of chunks of one item, which is called without a batch around it."""

    def collect(self) -> list[R]:
        """All results, in a list. The input is not held back by those that are not taken; of items
        that are quick more are submitted at a time."""
        results: list[R] = []
        opened = deque(self._open)
        most = least = self._ahead()
        mark: Task[Any] | None = None  # when it has ended, so have about half of them
        looked = time.monotonic()
        while opened:
            self._take_ended(opened, results)
            if not self._exhausted and (mark is None or mark._has_ended()):
                now = time.monotonic()
                most = min(2 * most, MOST_AHEAD) if now - looked < SHORT else most // 2
                most = max(most, least)
                looked = now
                self._submit_many(opened, most // 2)
                has_mark = not self._exhausted and len(opened) > most // 2
                mark = opened[-(most // 2)] if has_mark else None
            if opened:
                self._await_one_of(opened[0], mark)
        if self._error is not None:
            raise self._error
        return results

    def _await_one_of(self, first: Task[Any], mark: Task[Any] | None) -> None:
        if mark is None:
            first.wait()
        elif not first._has_ended():
            self._pool._wait(lambda: first._has_ended() or mark._has_ended(), None)

    def _take_ended(self, opened: deque[Task[Any]], results: list[Any]) -> None:
        """All that have ended, up to the first that has not."""
        while opened:
            task = opened[0]
            if task.has_value():
                results.append(task._result)
            elif not task._has_ended():
                return
            else:
                results.append(self._result_of(task))
            opened.popleft()

    def _submit_many(self, opened: deque[Task[Any]], count: int) -> None:
        """As many items. What Ctrl-C breaks off here has no end in any case."""
        pool, target, star = self._pool, self._target, self._star
        submit, delivery = pool._core.submit_call, pool._delivery
        limits = self._limit, pool._timeout, pool._soft_timeout
        has_limits = any(limit is not None for limit in limits)
        begun = len(opened)
        try:
            pool._check_usable()
            for item in islice(self._input, count):
                if has_limits:
                    opened.append(self._submit_one(item))
                    continue
                try:
                    args = tuple(item) if star else (item,)
                    task = submit(Task, pool, delivery, target, args, None)
                except Exception as error:  # what comes when it has been submitted, too: not again
                    task = self._failed(error)
                if task is None:
                    raise pool._refusal()
                opened.append(task)
                if delivery.events or not delivery.health.is_well:
                    pool._look_after_submit()
        except Exception as error:  # it comes after the results of what went before
            self._error = error
        self._exhausted = self._error is not None or len(opened) - begun < count

    def _submit_one(self, item: Any) -> Task[Any]:
        try:
            args = tuple(item) if self._star else (item,)
            body = codec.encode_call(self._target, args, None)
        except Exception as error:
            return self._failed(error)
        task = self._new_task()
        self._pool._submit(task, body)
        return task

    def _next(self, deadline: float | None, timeout: float | None) -> R:
        task = self._await_next(deadline)
        if task is None:
            raise TimeoutError(f"no result of {self._name} came within {timeout} s")
        is_well = task._exception is None and task._state == FINISHED
        self._drop(task)
        only: R = task._result if is_well else self._result_of(task)
        return only

    def _encode(self, items: list[Any]) -> bytes:
        args = tuple(items[0]) if self._star else (items[0],)
        return codec.encode_call(self._target, args, None)
