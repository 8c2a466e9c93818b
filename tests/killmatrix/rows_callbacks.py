"""Rows: callbacks that raise, submit, end the pool, or take long."""

from __future__ import annotations

import threading
from typing import Any

from helpers import eventually

from . import tasks
from .row import row
from .stage import Stage, check

APP = "application: "


@row(APP + "callbacks that raise")
def callback_raises(stage: Stage) -> None:
    stage.start()

    def raise_it(good: bool, what: Any) -> None:
        raise ValueError("of a callback")

    natives = [stage.pool.submit(tasks.echo, (i,), raise_it) for i in range(5)]
    check([stage.pool.wait(n) for n in natives] == list(range(5)), "wrong values")
    stage.others()


@row(APP + "callbacks that submit")
def callback_submits(stage: Stage) -> None:
    stage.start()
    later: list[Any] = []

    def submit(good: bool, what: Any) -> None:
        later.append(stage.pool.submit(tasks.echo, (what + 100,), None))

    natives = [stage.pool.submit(tasks.echo, (i,), submit) for i in range(5)]
    check([stage.pool.wait(n) for n in natives] == list(range(5)), "wrong values")
    eventually(lambda: len(later) == 5)
    check({stage.pool.wait(n) for n in later} == set(range(100, 105)), "wrong values")
    stage.others()


@row(APP + "callbacks that submit")
def callback_submits_and_waits(stage: Stage) -> None:
    stage.start()
    later: list[Any] = []

    def submit(good: bool, what: Any) -> None:
        later.append(stage.pool.wait(stage.pool.submit(tasks.echo, (what + 100,), None)))

    native = stage.pool.submit(tasks.echo, (1,), submit)
    stage.pool.wait(native)
    eventually(lambda: later == [101])
    stage.others()


@row(APP + "callbacks that stop the pool", after="none")
def callback_stops_the_pool(stage: Stage) -> None:
    stage.start()
    ended = threading.Event()

    def stop(good: bool, what: Any) -> None:
        try:
            stage.pool.stop()
        finally:
            ended.set()

    stage.pool.wait(stage.pool.submit(tasks.echo, (1,), stop))
    check(ended.wait(15), "the call that ends the pool does not return")
    stage.pool.stop()
    stage.nothing_is_left()


@row(APP + "callbacks that stop the pool", after="none")
def callback_terminates_the_pool(stage: Stage) -> None:
    stage.start()
    ended = threading.Event()
    gate = stage.gate()
    held = stage.submit(tasks.hold_here, gate.path)
    gate.arrived()

    def terminate(good: bool, what: Any) -> None:
        try:
            stage.pool.terminate()
        finally:
            ended.set()

    stage.pool.wait(stage.pool.submit(tasks.echo, (1,), terminate))
    check(ended.wait(15), "the call that ends the pool does not return")
    _, error = stage.outcome(held)
    check(error is not None, "the held task has no error")
    stage.nothing_is_left()


@row(APP + "callbacks that take long")
def callback_takes_long(stage: Stage) -> None:
    stage.start()
    begun, may_end = threading.Event(), threading.Event()

    def dawdle(good: bool, what: Any) -> None:
        begun.set()
        may_end.wait()

    native = stage.pool.submit(tasks.echo, (1,), dawdle)
    begun.wait()
    if stage.strict:  # others settle meanwhile
        check(stage.pool.wait(native) == 1, "a wrong value")
        waiting = [stage.submit(tasks.echo, i, value=i) for i in range(20)]
        for i, handle in enumerate(waiting):
            check(stage.pool.wait(handle.native) == i, "a wrong value")
    may_end.set()
    stage.others()
