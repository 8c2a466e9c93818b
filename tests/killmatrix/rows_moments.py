"""Rows: when a worker ends: idle, starting, in its initializer, half-way through something."""

from __future__ import annotations

import os
import signal
from typing import Any

from helpers import eventually

from . import tasks
from .row import VALUE, Expect, deed, exited, killed, row
from .stage import Stage, check

WHEN = "worker ends, when: "
LOST = killed(signal.SIGKILL)


@row(WHEN + "running", LOST)
def killed_from_outside_while_running(stage: Stage) -> None:
    stage.start()
    gate = stage.gate()
    victim = stage.victim(tasks.hold_here, gate.path)
    (pid,) = gate.arrived()
    stage.others()
    stage.kill(pid)
    _, error = stage.outcome(victim)
    check(not stage.strict or error.pid == pid, f"the error names {error!r}, it was {pid}")


@row(WHEN + "idle")
def killed_while_idle(stage: Stage) -> None:
    stage.start()
    victim = min(stage.idle())
    stage.kill(victim)
    stage.others()


@row(WHEN + "idle")
def killed_while_idle_and_none_submitted_until_replaced(stage: Stage) -> None:
    stage.start()
    before = stage.idle()
    stage.kill(min(before))
    eventually(lambda: (now := stage.is_full()) and now != before, within=10)
    stage.others()


@row(WHEN + "all workers at once")
def all_killed_while_idle(stage: Stage) -> None:
    stage.start()
    for pid in stage.idle():
        stage.kill(pid)
    stage.others()


@row(WHEN + "all workers at once", LOST)
def all_killed_while_running(stage: Stage) -> None:
    stage.start()
    gate = stage.gate()
    for _ in range(2):
        stage.victim(tasks.hold_here, gate.path)
    pids = gate.arrived(2)
    stage.others()
    for pid in pids:
        stage.kill(pid)


@row(WHEN + "all workers at once", exited(3))
def many_exits_at_once(stage: Stage) -> None:
    stage.start()
    for _ in range(20):
        stage.victim(tasks.exit_at_once, 3)
        stage.others(5)


@row(WHEN + "one after another, thousands of times", exited(3), limit=90)
def two_thousand_exits(stage: Stage) -> None:
    stage.start()
    for i in range(2000 if stage.strict else 20):
        stage.victim(tasks.exit_at_once, 3)
        if i % 10 == 0:
            stage.others(1)
            stage.outcome(stage.bystanders[-1])


@row(WHEN + "one after another, thousands of times", limit=60)
def hundreds_of_idle_workers_killed(stage: Stage) -> None:
    stage.start(1)
    for _ in range(300 if stage.strict else 3):
        before = stage.full() if stage.strict else stage.idle()
        stage.kill(*before)
        stage.others(1)
        stage.outcome(stage.bystanders[-1])


# ---- starting ------------------------------------------------------------------------------------


def newborns_end(stage: Stage, how: int, count: int) -> None:
    """From `doom` on, the next `count` workers that are forked end before they are anything."""
    application, births, direct = os.getpid(), stage.path("births"), stage.make.direct

    def on_birth() -> None:
        if (os.getppid() == application) != direct:
            return  # a zygote
        try:
            fd = os.open(births, os.O_WRONLY | os.O_APPEND)
        except FileNotFoundError:
            return
        os.write(fd, b"x")
        if os.fstat(fd).st_size <= count:
            os._exit(3) if how == 0 else os.kill(os.getpid(), how)
        os.close(fd)

    os.register_at_fork(after_in_child=on_birth)


def doom(stage: Stage) -> None:
    os.close(os.open(stage.path("births"), os.O_CREAT))


@row(WHEN + "starting", needs=("fork",))
def newborn_exits(stage: Stage) -> None:
    newborns_end(stage, 0, 2)
    doom(stage)
    stage.start()
    stage.others()


@row(WHEN + "starting", needs=("fork",))
def newborn_is_killed(stage: Stage) -> None:
    newborns_end(stage, signal.SIGKILL, 2)
    doom(stage)
    stage.start()
    stage.others()


@row(WHEN + "starting", needs=("fork",))
def replacement_is_killed_while_it_starts(stage: Stage) -> None:
    newborns_end(stage, signal.SIGKILL, 2)
    stage.start()
    pids = stage.idle()
    doom(stage)
    for pid in pids:
        stage.kill(pid)
    stage.others()
    stage.settle()
    stage.full() if stage.strict else None
    check(os.path.getsize(stage.path("births")) > 2, "nobody was killed at birth")


# ---- in the initializer --------------------------------------------------------------------------


def end_in_initializer(path: str, how: str, count: int) -> None:
    """The first `count` initializers end their process or fail."""
    fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(fd, b"x")
    calls = os.fstat(fd).st_size
    os.close(fd)
    if calls > count:
        return
    if how == "raise":
        raise ValueError("in the initializer")
    os._exit(3) if how == "exit" else os.kill(os.getpid(), getattr(signal, how))


def initializer_ends(name: str, how: str) -> None:
    def scenario(stage: Stage) -> None:
        stage.start(initializer=end_in_initializer, initargs=(stage.path("initialized"), how, 2))
        stage.others()

    scenario.__name__, scenario.__module__ = name, __name__
    row(WHEN + "in the initializer", needs=("initializer",))(scenario)


for ending in ("SIGKILL", "SIGSEGV", "exit", "raise"):
    initializer_ends(f"initializer_{ending.lower()}_twice", ending)


# ---- half-way ------------------------------------------------------------------------------------

LARGE = 48 << 20


class EndsWhilePickled:
    """A result whose pickling ends the process."""

    def __reduce__(self) -> Any:
        os.kill(os.getpid(), signal.SIGKILL)
        return str, ()


deed(
    "killed-while-its-result-is-pickled",
    WHEN + "half-way through publishing a result",
    "moments",
    LOST,
    tasks.give,
    EndsWhilePickled,
)


@row(WHEN + "half-way through publishing a result", LOST, limit=40)
def killed_half_way_through_a_large_result(stage: Stage) -> None:
    stage.start(1)
    for _ in range(20):
        gate = stage.gate()
        task = stage.submit(tasks.large_result, gate.path, LARGE)
        (pid,) = gate.arrived()
        assassin = stage.assassin(pid, "wchar", LARGE)
        gate.open()
        value, error = stage.outcome(task)
        if assassin.wait() == 0:
            break
        check(error is None and len(value) == LARGE, f"it was spared, and gave {error!r}")
    else:
        raise AssertionError("the assassin was always late")
    check(error is not None, "half a result was taken for a whole one")
    stage.victims.append(task)
    stage.others()


@row(WHEN + "half-way through reading a task", VALUE, limit=40)
def killed_half_way_through_a_large_argument(stage: Stage) -> None:
    """Its call had not begun: it is done by the next worker."""
    stage.start(1)
    for _ in range(20):
        (pid,) = stage.idle()
        assassin = stage.assassin(pid, "rchar", LARGE)
        stage.victim(tasks.length, bytes(LARGE), value=LARGE)
        stage.outcome(stage.victims[-1])
        if assassin.wait() == 0:
            break
    else:
        raise AssertionError("the assassin was always late")
    stage.others()


@row(WHEN + "half-way through publishing a result", Expect("WorkerExited", {"exitcode": 5}))
def exits_from_another_thread_while_results_are_published(stage: Stage) -> None:
    """The thread may come before, in the midst, or after: a value is whole, or the task is lost."""
    stage.start()
    for _ in range(10):
        handle = stage.submit(tasks.exit_from_a_thread, 4 << 20)
        value, error = stage.outcome(handle)
        if error is None:
            check(len(value) == 4 << 20, "the value is not whole")
        elif stage.strict:
            stage.judge(handle, stage.row.expect)
        stage.others(2)
