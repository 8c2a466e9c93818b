"""One job in hub mode: its slot is given back once in whatever way it ends, and what it says of
itself is of now."""

from __future__ import annotations

import signal

import pytest

from helpers import hold, square


class Broken(Exception):
    """What a signal handler raises."""


@pytest.fixture
def taken(driven):
    """A pool whose two slots have been taken, as a consumer takes them."""
    one = driven(1)
    one.semaphore.grow(1)
    for _ in range(2):
        one.semaphore.acquire(lambda: None)
    assert one.semaphore.value == 0
    return one


def break_off(monkeypatch, pool, name):
    """A handler raises as the core has done what it was asked for."""
    core = pool._pool.workers._core

    class BrokenOff:
        def __getattr__(self, other):
            return getattr(core, other)

    def done(_self, *args):
        getattr(core, name)(*args)
        raise Broken

    setattr(BrokenOff, name, done)
    monkeypatch.setattr(pool._pool.workers, "_core", BrokenOff())


def test_one_that_is_cancelled_gives_back_its_slot(taken, gate):
    running, waiting = taken.submit(hold, gate.path), taken.submit(square, 3)
    gate.arrived(pool=taken)
    assert waiting.cancel()
    taken.until(lambda: taken.semaphore.value == 1)
    assert not waiting.terminate()
    gate.open()
    taken.until(lambda: taken.semaphore.value == 2)
    assert running.is_over
    assert waiting.is_over


def test_so_does_one_whose_end_by_name_was_broken_off(taken, gate, monkeypatch):
    taken.submit(hold, gate.path)
    gate.arrived(pool=taken)
    waiting = taken.submit(square, 3)
    with monkeypatch.context() as patch:
        break_off(patch, taken.pool, "cancel")
        with pytest.raises(Broken):
            waiting.terminate(signal.SIGTERM)
    taken.until(lambda: taken.semaphore.value == 1)
    gate.open()
    taken.until(lambda: taken.semaphore.value == 2)


def test_so_does_one_whose_submission_was_broken_off(taken, monkeypatch):
    with monkeypatch.context() as patch:
        break_off(patch, taken.pool, "submit")
        with pytest.raises(Broken):
            taken.submit(square, 3)
    taken.until(lambda: taken.semaphore.value == 1)
    assert taken.names() == ["accept", "success"]
    assert taken.said[1] == ("success", 9)


def test_what_it_says_of_itself_is_of_now(driven, gate):
    one = driven(1)
    job = one.submit(hold, gate.path)
    (pid,) = gate.arrived()
    assert job.accepted()  # which nobody has been told yet
    assert job.running()
    assert job.worker_pids() == [pid]
    gate.open()
    one.until(lambda: len(one.said) == 2)
    assert job.pid == pid
    assert not job.running()
    assert job.worker_pids() == []


class Unreadable:
    """Comes back as what cannot be read."""

    def __reduce__(self):
        return refuse, ()


def refuse():
    raise ValueError("not to be read")


def test_what_cannot_be_read_is_not_its_own_cause(driven):
    one = driven(1)
    job = one.submit(Unreadable)
    one.until(job.ready)
    with pytest.raises(TypeError, match="cannot be unpickled") as caught:
        job.get()
    assert type(caught.value.__cause__) is ValueError
    assert caught.value.__cause__.__context__ is None
