"""The walk of `prefork map` over its inputs, with a pool in which nothing happens by itself."""

from __future__ import annotations

import json
from concurrent.futures import Future
from typing import Any, cast

import pytest

from prefork import TaskPool, WorkerLostError
from prefork.cli.call import Call
from prefork.cli.walk import Walk

LOST = WorkerLostError("gone")
FAILED = (False, {"type": "ValueError", "message": "", "pid": 1})


class Tasks:
    """Stands for the pool: `calls` are the inputs and tasks of the calls that were asked for."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, Future[Any]]] = []

    def apply_async(self, _: object, args: tuple[str]) -> Future[Any]:
        self.calls.append((args[0], Future()))
        return self.calls[-1][1]

    def run(self, number: int) -> Future[Any]:
        task = self.calls[number][1]
        task.set_running_or_notify_cancel()
        return task


@pytest.fixture
def tasks() -> Tasks:
    return Tasks()


def walk_of(tasks: Tasks, inputs: str, **options: Any) -> Walk:
    walk = Walk(cast("TaskPool", tasks), Call("f", False), 10, **options)
    for text in inputs:
        walk.submit(text)
    return walk


def attempts(walk: Walk) -> dict[str, int | None]:
    """By the inputs that have come to an end: how often they failed, None if they were dropped."""
    return {
        job.text: json.loads(job.record)["error"]["attempts"] if job.record else None
        for job in walk.take()
    }


@pytest.mark.parametrize("ordered", [True, False])
@pytest.mark.parametrize("lost_first", [True, False])
def test_a_failure_and_a_loss_at_once(tasks: Tasks, ordered: bool, lost_first: bool) -> None:
    walk = walk_of(tasks, "abc", fail_fast=True, ordered=ordered)
    a, b = tasks.run(0), tasks.run(1)
    for is_loss in (lost_first, not lost_first):
        if is_loss:
            a.set_exception(LOST)
        else:
            b.set_result(FAILED)
    assert {**attempts(walk), **attempts(walk)} == {"a": 1, "b": 1, "c": None}
    assert (walk.failed, walk.dropped, walk.retried) == (2, 1, 0)
    assert len(tasks.calls) == 3


@pytest.mark.parametrize("ordered", [True, False])
def test_a_second_call_that_has_not_begun(tasks: Tasks, ordered: bool) -> None:
    walk = walk_of(tasks, "ab", fail_fast=True, ordered=ordered)
    tasks.run(0).set_exception(LOST)
    assert attempts(walk) == {}
    assert (walk.retried, [text for text, _ in tasks.calls]) == (1, ["a", "b", "a"])
    tasks.run(1).set_result(FAILED)
    assert {**attempts(walk), **attempts(walk)} == {"a": 1, "b": 1}
    assert (walk.failed, walk.dropped, walk.retried) == (2, 0, 0)


def test_without_fail_fast_a_lost_call_is_made_again(tasks: Tasks) -> None:
    walk = walk_of(tasks, "ab", ordered=False)
    tasks.run(0).set_result(FAILED)
    tasks.run(1).set_exception(LOST)
    assert attempts(walk) == {"a": 1}
    tasks.run(2).set_result((True, "1"))
    assert [job.record for job in walk.take()] == ['{"input": "b", "result": 1}\n']
    assert (walk.failed, walk.retried) == (1, 1)
