"""What callbacks raise: who hears of it, and who goes on."""

from __future__ import annotations

import logging
import threading

import pytest

import prefork
from helpers import eventually, spin, square
from prefork import TaskPool


def test_what_a_callback_raises_is_logged_and_dropped(pool, caplog):
    one = pool(1)
    after = threading.Event()

    def bad(_):
        raise KeyError("from the callback")

    with caplog.at_level(logging.ERROR, "prefork"):
        task = one.apply_async(square, (3,), callback=bad)
        task.add_done_callback(lambda _: after.set())
        assert after.wait(30)
    assert "from the callback" in caplog.text
    assert task.get() == 9
    one.poll()


class Wanted(Exception):
    pass


def raise_wanted(*_):
    raise Wanted("out")


@pytest.mark.parametrize("where", ["pool", "task"])
def test_what_is_to_be_propagated_comes_out_of_poll(pool, where):
    one = pool(1, callbacks_propagate=(Wanted,) if where == "pool" else ())
    options = {"callbacks_propagate": (Wanted,)} if where == "task" else {}
    one.apply_async(square, (1,), callback=raise_wanted, **options)
    with pytest.raises(Wanted):
        eventually(lambda: one.poll(0.01) < 0)
    assert one.poll() >= 0  # once


def test_what_is_to_be_propagated_comes_out_of_join(pool):
    one = pool(1, callbacks_propagate=(Wanted,))
    one.apply_async(square, (1,), callback=raise_wanted)
    one.close()
    with pytest.raises(Wanted):
        one.join()
    assert one.join() is True


def test_what_is_to_be_propagated_comes_out_of_a_guests_poll(pool):
    one = pool(1, callbacks_propagate=(Wanted,))
    one.fileno()
    one.apply_async(square, (1,), callback=raise_wanted)
    with pytest.raises(Wanted):
        eventually(lambda: False, one)


def test_systemexit_of_a_callback_does_not_end_the_delivery(pool):
    one = pool(1)

    def leave(_):
        raise SystemExit

    called = threading.Event()
    one.apply_async(square, (1,), callback=leave).wait()
    one.apply_async(square, (1,), callback=lambda _: called.set())
    assert called.wait(10)


class Unheard(BaseException):
    pass


@pytest.mark.parametrize("kind", [Unheard, KeyboardInterrupt, GeneratorExit])
def test_whatever_a_callback_raises_the_others_are_called(pool, caplog, kind):
    one = pool(1, putlocks=False)
    done, results = threading.Event(), []

    def bad(_):
        raise kind("from the callback")

    with caplog.at_level(logging.ERROR, "prefork"):
        one.apply_async(square, (3,), callback=bad).add_done_callback(lambda _: done.set())
        for i in range(5):
            one.apply_async(square, (i,), callback=results.append)
        eventually(lambda: done.is_set() and len(results) == 5)
    assert results == [0, 1, 4, 9, 16]
    assert f"{kind.__name__}: from the callback" in caplog.text


class FullDisk(logging.Logger):
    """What it is told goes nowhere, and it says so."""

    def handle(self, record):
        raise OSError("no space left on device")


@pytest.mark.parametrize("who", ["hook", "logger"])
def test_whatever_raises_in_the_delivery_thread_it_goes_on(who, calls):
    class Raising(TaskPool):
        def on_hard_timeout(self, task):
            raise ValueError("hook")

    logger = FullDisk("full") if who == "logger" else None
    with Raising(1, logger=logger) as one:
        failing = one.apply_async(square, (2,), callback=raise_wanted)
        limited = one.apply_async(spin, timeout=0.1, error_callback=calls("limited"))
        eventually(lambda: [name for name, *_ in calls.entries] == ["limited"])
        one.apply_async(square, (3,), callback=calls("later"))
        eventually(lambda: calls.entries[1:] == [("later", 9)])
        assert failing.get() == 4
        assert type(limited.exception()) is prefork.TimeLimitExceeded
