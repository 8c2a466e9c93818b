"""Rows: limits, cancelling and ending one task, retries, initializers, recycling."""

from __future__ import annotations

import os
import signal
from collections import Counter
from concurrent.futures import CancelledError
from typing import Any

from helpers import alive, eventually, lines

from . import limited, tasks
from .row import Expect, row
from .stage import Stage, check

LIMIT, ENDING = "limits: ", "ending one task: "


def over(
    name: str, clause: str, deed: Any, words: str = "", pool_wide: bool = False, **options: Any
) -> None:
    def scenario(stage: Stage) -> None:
        stage.start(**({"timeout": 1.0} if pool_wide else {}))
        stage.others()
        for _ in range(5):  # a busy machine may not give a worker the 9 ms that it wants
            victim = stage.victim(deed, **({} if pool_wide else {"timeout": 1.0}))
            stage.others()
            _, error = stage.outcome(victim)
            if not stage.strict:
                return
            eventually(lambda pid=error.pid: not alive(pid), stage.native)
            if words in (error.stack or ""):
                return
        check(False, f"the stack does not say {words!r}: {error.stack}")

    scenario.__name__, scenario.__module__ = name, __name__
    needs = ("timeout", "prefork") if pool_wide else ("timeout",)
    row(
        LIMIT + clause,
        Expect("TimeLimitExceeded", {"limit": 1.0}, "limit of 1.0 s"),
        needs=needs,
        **options,
    )(scenario)


over("hard_limit", "hard, per task", limited.spin, "in spin")
over("hard_limit_of_the_pool", "hard, per pool", limited.spin, "in spin", True)
over("hard_limit_while_asleep", "hard, per task", limited.sleep, "in sleep")
over(
    "hard_limit_while_the_gil_is_held",
    "hard: stacks of all threads, also while the GIL is held",
    limited.hold_the_gil,
    "in hold_the_gil",
)
over(
    "hard_limit_with_threads",
    "hard: stacks of all threads, also while the GIL is held",
    limited.spin_in_threads,
    "in spin_in_threads",
)
over("hard_limit_deaf_to_every_signal", "hard: no TERM, no grace", limited.deaf)
over("hard_limit_stack_signal_ignored", "hard: no TERM, no grace", limited.ignore_every_signal)


@row(LIMIT + "from the claim", needs=("timeout", "queue"))
def a_limit_does_not_count_the_queue(stage: Stage) -> None:
    stage.start(1)
    gate = stage.gate()
    stage.victim(tasks.hold_here, gate.path, "held", value="held")
    gate.arrived()
    stage.victim(tasks.echo, 5, value=5, timeout=0.2)
    late = stage.submit(tasks.echo, 6, queue=0.4)
    _, error = stage.outcome(late)
    check(type(error).__name__ == "QueueTimeout", f"ended with {error!r}")
    gate.open()


@row(
    LIMIT + "soft: raised inside the task",
    Expect("SoftTimeLimitExceeded", {"limit": 0.2}, cause="RemoteError"),
    needs=("soft",),
)
def soft_limit_that_is_not_caught(stage: Stage) -> None:
    stage.start()
    stage.others()
    stage.victim(limited.spin, soft=0.2)
    stage.others()


@row(LIMIT + "soft: raised inside the task", needs=("soft",))
def soft_limit_that_is_caught(stage: Stage) -> None:
    stage.start()
    stage.others()
    stage.victim(limited.tidy_up, value="tidy", soft=0.2)
    stage.others()


@row(
    LIMIT + "soft: raised inside the task",
    Expect("TimeLimitExceeded", {"limit": 0.5}),
    needs=("soft", "timeout"),
)
def soft_limit_that_is_ignored_then_hard(stage: Stage) -> None:
    stage.start()
    stage.others()
    stage.victim(limited.deaf, soft=0.2, timeout=0.5)
    stage.others()


@row(LIMIT + "only that task, never its successor", needs=("soft",), limit=40)
def soft_limit_never_hits_the_next_task(stage: Stage) -> None:
    stage.start(1)
    ends: Counter[str] = Counter()
    for i in range(400 if stage.strict else 40):
        handle = stage.submit(limited.work, 0.0005 + i % 5 * 0.0003, soft=0.001)
        stage.others(1)
        _, error = stage.outcome(handle)
        ends[type(error).__name__] += 1
        stage.outcome(stage.bystanders[-1])
    if stage.strict:
        stage.outcome(stage.submit(limited.keep_the_soft_signal_back, soft=0.001))
        late = stage.outcome(stage.submit(limited.let_the_soft_signal_in))
        check(late == ("not told", None), f"a signal that came late: {late}")
        check(set(ends) == {"NoneType", "SoftTimeLimitExceeded"}, f"ends: {ends}")
        check(stage.native.stats["workers_exited"] == 0, "a worker has ended")


@row(LIMIT + "only that task, never its successor", needs=("timeout",), limit=40)
def hard_limit_never_hits_the_next_task(stage: Stage) -> None:
    stage.start(1)
    ends: Counter[str] = Counter()
    for i in range(200 if stage.strict else 10):
        handle = stage.submit(limited.work, 0.001 + i % 5 * 0.0005, timeout=0.002)
        stage.others(1)
        _, error = stage.outcome(handle)
        ends[type(error).__name__] += 1
        stage.outcome(stage.bystanders[-1])
    check(not stage.strict or set(ends) <= {"NoneType", "TimeLimitExceeded"}, f"ends: {ends}")


@row(LIMIT + "extend_deadline and current_task", needs=("prefork",))
def a_task_gives_itself_more_time(stage: Stage) -> None:
    stage.start(1)
    gate = stage.gate()
    stage.victim(limited.extend, gate.path, value="held", timeout=0.2)
    gate.arrived()
    late = stage.submit(tasks.echo, 6, queue=0.4)
    stage.outcome(late)
    gate.open()


@row(
    LIMIT + "queue_timeout",
    Expect("QueueTimeout", {"limit": 0.1, "pid": None}, "no worker began"),
    needs=("queue",),
)
def time_in_the_queue(stage: Stage) -> None:
    stage.start(1)
    gate = stage.gate()
    held = stage.submit(tasks.hold_here, gate.path, "held")
    gate.arrived()
    for _ in range(100):
        stage.victim(tasks.echo, 1, queue=0.1)
    for victim in stage.victims:
        stage.outcome(victim)
    gate.open()
    check(stage.outcome(held) == ("held", None), "the held task has suffered")


# ---- cancel, terminate ---------------------------------------------------------------------------


@row(ENDING + "cancel before the call begins", needs=("cancel",))
def cancelled_while_it_waits(stage: Stage) -> None:
    stage.start(1)
    gate = stage.gate()
    stage.victim(tasks.hold_here, gate.path, "held", value="held")
    gate.arrived()
    stage.others(10)  # some pools hand out a few ahead
    waiting = [stage.submit(tasks.signed_square, stage.path("cancelled"), i) for i in range(20)]
    cancelled = [handle for handle in waiting if handle.native.cancel()]
    check(len(cancelled) == 20 or not stage.strict and cancelled, "not all could be cancelled")
    gate.open()
    for handle in cancelled:
        _, error = stage.outcome(handle)
        check(isinstance(error, CancelledError), f"ended with {error!r}")
    for handle in waiting:
        stage.outcome(handle)
    check(len(lines(stage.path("cancelled"))) == 20 - len(cancelled), "was called all the same")


@row(ENDING + "cancel before the call begins", needs=("prefork",))
def cancelled_while_it_is_loaded(stage: Stage) -> None:
    """Its worker has claimed it, and is stopped half-way through reading it."""
    size = 48 << 20
    stage.start(1)
    for _ in range(20):
        (pid,) = stage.idle()
        assassin = stage.assassin(pid, "rchar", -size)
        handle = stage.submit(tasks.length, bytes(size))
        while assassin.poll() is None:
            stage.native.poll(0.001)
        if assassin.returncode == 0:
            break
        os.kill(pid, signal.SIGCONT)
        stage.outcome(handle)
    check(assassin.returncode == 0, "the worker was never stopped in time")
    check(handle.native.cancel(), "it could not be cancelled")
    os.kill(pid, signal.SIGCONT)
    _, error = stage.outcome(handle)
    check(isinstance(error, CancelledError), f"ended with {error!r}")
    stage.others()
    check(stage.outcome(stage.submit(tasks.own_pid))[0] == pid, "its worker is another")


@row(
    ENDING + "terminate hits the running task it means, or nothing",
    Expect("WorkerKilled", {"signal": None}, "was terminated by the pool"),
    needs=("prefork",),
)
def one_task_is_terminated(stage: Stage) -> None:
    stage.start()
    gate = stage.gate()
    spared = stage.submit(tasks.hold_here, gate.path, "held")
    gate.arrived()
    victim = stage.victim(tasks.hold_here, gate.path)
    gate.arrived()
    waiting = stage.bystander(tasks.echo, 7, value=7)
    check(not waiting.native.terminate(), "a task that waits was terminated")
    check(victim.native.terminate(signal.SIGKILL), "it was not terminated")
    stage.outcome(victim)
    check(not victim.native.terminate(), "a task that has ended was terminated")
    gate.open()
    check(stage.outcome(spared) == ("held", None), "the other one has suffered")


@row(
    ENDING + "terminate_job hits the running task it means, or nothing",
    Expect("WorkerKilled", {"signal": None}, "was terminated by the pool"),
    needs=("prefork",),
)
def one_job_is_terminated(stage: Stage) -> None:
    stage.start()
    idle = stage.idle()
    for pid in (*idle, os.getpid(), 1, 0, -1):
        check(not stage.native.terminate_job(pid), f"terminate_job({pid}) has hit something")
    gate = stage.gate()
    victim = stage.victim(tasks.hold_here, gate.path)
    (pid,) = gate.arrived()
    check(stage.native.terminate_job(pid, signal.SIGKILL), "it was not terminated")
    _, error = stage.outcome(victim)
    check(error.pid == pid, f"the error names {error.pid}, not {pid}")
    stage.others()
