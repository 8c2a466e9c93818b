"""A pool that gives itself a new zygote, and whoever comes between: handlers, other threads."""

from __future__ import annotations

import multiprocessing.util
import os
import signal
import threading

import pytest

from helpers import (
    drive,
    eventually,
    full,
    kill_both_zygotes,
    lose_both,
    square,
)
from prefork import boot


def test_what_a_handler_raises_is_not_a_failure_to_start(pool, monkeypatch):
    def strike(*_):
        raise TimeoutError("the program's own")

    def interrupted(*args):
        os.kill(os.getpid(), signal.SIGUSR1)
        start(*args)

    start = boot.start_zygote
    one = pool(1)
    lose_both(one)
    monkeypatch.setattr(boot, "start_zygote", interrupted)
    previous = signal.signal(signal.SIGUSR1, strike)
    try:
        with pytest.raises(TimeoutError, match="the program's own"):
            eventually(lambda: one.stats["application_forks"] == 2, one)
    finally:
        signal.signal(signal.SIGUSR1, previous)
    assert one.stats["application_forks"] == 2
    assert one.apply(square, (2,)) == 4


@pytest.mark.parametrize("guest", [False, True])
def test_a_recovery_that_is_broken_off_is_taken_up_again(pool, monkeypatch, guest):
    def broken_off(*_):
        raise KeyboardInterrupt

    one = pool(1)
    if guest:
        one.fileno()
        eventually(lambda: full(one, 1), one)
        kill_both_zygotes(one)
    else:
        lose_both(one)
    with monkeypatch.context() as patched:
        patched.setattr(boot, "start_zygote", broken_off)
        with pytest.raises(KeyboardInterrupt):
            drive(one, lambda: False) if guest else one.poll(30)
    assert one.stats["application_forks"] == 1
    if guest:  # whose loop comes again, though nothing has happened since
        drive(one, lambda: one.stats["application_forks"] == 2)
    assert one.apply(square, (2,)) == 4
    assert one.stats["application_forks"] == 2


def test_a_pool_may_be_terminated_while_another_thread_gives_it_a_zygote(pool, monkeypatch):
    begun, go = threading.Event(), threading.Event()
    spawn = multiprocessing.util.spawnv_passfds

    def slow(*args):
        begun.set()
        assert go.wait(30)
        return spawn(*args)

    one = pool(1, start_method="exec")
    assert one.apply(square, (1,)) == 1
    lose_both(one)
    monkeypatch.setattr(multiprocessing.util, "spawnv_passfds", slow)
    found = []
    thread = threading.Thread(target=lambda: found.append(one.poll(30)))
    thread.start()
    assert begun.wait(30)
    one.terminate()
    go.set()
    thread.join()
    assert one.state == "stopped"
    assert found  # and it has raised nothing
    assert one.stats["application_forks"] == 1


def test_while_one_thread_is_at_it_others_wait_for_what_comes_of_it(pool, monkeypatch):
    begun, go = threading.Event(), threading.Event()
    start = boot.start_zygote

    def slow(*args):
        begun.set()
        assert go.wait(30)
        start(*args)

    one = pool(1, start_method="exec", putlocks=False)
    assert one.apply(square, (1,)) == 1
    lose_both(one)
    monkeypatch.setattr(boot, "start_zygote", slow)
    thread = threading.Thread(target=one.poll, args=(30,))
    thread.start()
    assert begun.wait(30)
    one.poll()  # returns
    task = one.apply_async(square, (2,))
    go.set()
    assert task.get() == 4
    thread.join()
    assert one.stats["application_forks"] == 2
