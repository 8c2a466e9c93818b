"""The flight recorder: of lost tasks, of living workers, and from outside by `prefork inspect`."""

from __future__ import annotations

import copy
import json
import os
import pickle
import signal
import subprocess
import sys
import time

import pytest

from helpers import eventually, full, hold, pid_of_worker, square
from prefork import (
    HistoryEvent,
    SoftTimeLimitExceeded,
    TimeLimitExceeded,
    WorkerKilled,
    WorkerLostError,
)
from scripts import launched

INSPECT = [sys.executable, "-m", "prefork", "inspect"]


def killed():
    os.kill(os.getpid(), signal.SIGKILL)


def whats(events):
    return [event.what for event in events]


def history(pool, slot=0):
    return next((worker.history for worker in pool.workers if worker.slot == slot), ())


# ---- in errors -----------------------------------------------------------------------------------


def test_a_lost_task_comes_with_its_workers_last_events(pool):
    one = pool(1)
    pid = one.apply(pid_of_worker)
    before = time.monotonic()
    with pytest.raises(WorkerKilled) as caught:
        one.apply_async(killed, correlation_id="mine").get()
    events = caught.value.history
    assert whats(events) == ["spawned", "born", "ready", "claimed", "returned", "claimed", "exited"]
    assert events[1].value == pid
    assert events[-2].value == "mine"
    assert events[-1].value == signal.SIGKILL
    assert before < events[-2].at <= events[-1].at <= time.monotonic()
    assert [event.at for event in events] == sorted(event.at for event in events)
    assert "claimed task mine\n" in str(caught.value)
    assert str(caught.value).endswith("  0.000 s  was ended by SIGKILL")
    for other in (pickle.loads(pickle.dumps(caught.value)), copy.copy(caught.value)):
        assert other.history == events


def test_only_the_events_of_the_process_that_was_lost(pool):
    one = pool(1)
    for generation in (1, 2, 3):
        with pytest.raises(WorkerKilled) as caught:
            one.apply(killed)
        events = caught.value.history
        assert events[0][1:] == ("spawned", generation)
        assert whats(events).count("exited") == 1


def test_a_task_over_its_limit_comes_with_them_too(pool, gate):
    one = pool(1)
    task = one.apply_async(hold, (gate.path,), timeout=0.2)
    with pytest.raises(TimeLimitExceeded) as caught:
        task.get()
    assert whats(caught.value.history)[-2:] == ["claimed", "condemned"]
    assert [event.value for event in caught.value.history[-2:]] == [task.id] * 2
    eventually(lambda: "exited" in whats(history(one)), one)
    assert (signal.SIGKILL, "signalled") in [(e.value, e.what) for e in history(one)]


def test_who_never_had_a_worker_has_no_history(pool):
    one = pool(0)
    task = one.apply_async(square, (2,))
    one.terminate()
    with pytest.raises(WorkerLostError) as caught:
        task.get()
    assert caught.value.history == ()


# ---- of the living -------------------------------------------------------------------------------


def test_workers_show_what_happened_in_their_slot(pool):
    one = pool(1, maxtasksperchild=2, putlocks=False)
    eventually(lambda: full(one, 1), one)
    with pytest.raises(ZeroDivisionError):
        one.apply(divmod, (1, 0))
    events = next(worker.history for worker in one.workers if worker.tasks_done == 1)
    assert whats(events)[:5] == ["spawned", "born", "ready", "claimed", "raised"]
    assert all(isinstance(event, HistoryEvent) for event in events)


def until_told():
    try:
        time.sleep(60)
    except SoftTimeLimitExceeded:
        return "told"


def test_the_soft_limit_and_the_order_to_end_are_noted(pool):
    one = pool(2)
    eventually(lambda: full(one, 2), one)
    task = one.apply_async(until_told, soft_timeout=0.1)
    assert task.get() == "told"
    (events,) = [worker.history for worker in one.workers if worker.tasks_done]
    assert whats(events)[-3:] == ["claimed", "soft limit", "returned"]
    assert events[-2].value == task.id
    one.shrink()
    eventually(lambda: len(one.workers) == 1, one)
    one.grow()
    eventually(lambda: full(one, 2), one)
    assert [whats(worker.history).count("retired") for worker in one.workers].count(1) == 1


def test_it_is_bounded_and_keeps_the_newest(pool):
    one = pool(1)
    numbers = [task for task in range(300) if one.apply(square, (task,)) == task * task]
    assert len(numbers) == 300
    events = history(one)
    assert len(events) == 128
    assert whats(events) == ["claimed", "returned"] * 64


# ---- from outside --------------------------------------------------------------------------------


def inspect(*arguments):
    return subprocess.run(
        [*INSPECT, *map(str, arguments)], capture_output=True, text=True, timeout=40, check=False
    )


def test_inspect_shows_another_process_what_the_workers_do(pool, gate):
    one = pool(2)
    eventually(lambda: full(one, 2), one)
    task = one.apply_async(hold, (gate.path,))
    (pid,) = gate.arrived()
    shown = inspect(os.getpid())
    assert (shown.returncode, shown.stderr) == (0, "")
    lines = shown.stdout.splitlines()
    assert lines[0] == f"pool of process {os.getpid()}, 2 slots"
    (busy,) = [line for line in lines if f"pid {pid}, running task {task.id} for " in line]
    assert f"claimed task {task.id}" in lines[lines.index(busy) + 4]
    assert shown.stdout.count(", idle for ") == 1
    gate.open()
    task.get()


def test_inspect_shows_json(pool):
    one = pool(1)
    with pytest.raises(WorkerKilled):
        one.apply(killed)
    eventually(lambda: full(one, 1), one)
    ((slot,),) = json.loads(inspect(os.getpid(), "--json").stdout)
    assert (slot["slot"], slot["state"], slot["generation"]) == (0, "idle", 2)
    assert slot["pid"] == one.workers[0].pid
    assert [event["what"] for event in slot["history"]] == whats(history(one))
    assert [event["at"] for event in slot["history"]] == [e.at for e in history(one)]


APPLICATION = """
import os, sys, time
from prefork import TaskPool
pool = TaskPool(2)
pool.start()
task = pool.apply_async(time.sleep, (60,), accept_callback=lambda pid, at: print(pid, flush=True))
task.wait()
"""


def test_inspect_works_while_the_application_is_stopped():
    with launched([sys.executable, "-c", APPLICATION], stdout=subprocess.PIPE) as application:
        pid = int(application.stdout.readline())
        application.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, application.pid, os.WSTOPPED)
        os.kill(pid, signal.SIGKILL)
        shown = inspect(application.pid, "--events", "0")
        application.send_signal(signal.SIGCONT)
    assert shown.returncode == 0
    assert f"pid {pid}, running task " in shown.stdout
    assert len(shown.stdout.splitlines()) == 3


def test_inspect_says_that_there_is_nothing(pool):
    one = pool(1)
    one.stop()
    shown = inspect(os.getpid())
    assert shown.returncode == 1
    assert shown.stderr == f"prefork: process {os.getpid()} has no running pool\n"
    done = subprocess.Popen(["true"])
    done.wait()
    shown = inspect(done.pid)
    assert shown.returncode == 2
    assert f"cannot look at process {done.pid}" in shown.stderr


def test_inspect_refuses_what_is_no_history():
    fd = os.memfd_create("prefork-history")
    try:
        shown = inspect(os.getpid())
    finally:
        os.close(fd)
    assert (shown.returncode, shown.stdout) == (2, "")
    assert "of another version" in shown.stderr
