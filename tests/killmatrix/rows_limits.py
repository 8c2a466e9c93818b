"""Rows: limits, cancelling and ending one task, retries, initializers, recycling."""

from __future__ import annotations

import copy
import os
import pickle
import signal
from collections import Counter
from concurrent.futures import CancelledError
from typing import Any

from helpers import alive, eventually, lines

from . import limited, tasks
from .row import VALUE, Expect, killed, raised, row
from .stage import Stage, check

LIMIT, ENDING, RETRY = "limits: ", "ending one task: ", "lost tasks: "
START, RECYCLE, EXPLAIN = "initializer: ", "recycling: ", "errors that explain: "


def over(name: str, clause: str, deed: Any, words: str = "", pool_wide: bool = False,
         **options: Any) -> None:  # fmt: skip
    def scenario(stage: Stage) -> None:
        stage.start(**({"timeout": 0.3} if pool_wide else {}))
        stage.others()
        victim = stage.victim(deed, **({} if pool_wide else {"timeout": 0.3}))
        stage.others()
        _, error = stage.outcome(victim)
        if stage.strict:
            check(words in (error.stack or ""), f"the stack does not say {words!r}: {error.stack}")
            eventually(lambda: not alive(error.pid), stage.native)

    scenario.__name__, scenario.__module__ = name, __name__
    needs = ("timeout", "prefork") if pool_wide else ("timeout",)
    row(LIMIT + clause, Expect("TimeLimitExceeded", {"limit": 0.3}, "limit of 0.3 s"),
        needs=needs, **options)(scenario)  # fmt: skip


over("hard_limit", "hard, per task", limited.spin, "in spin")
over("hard_limit_of_the_pool", "hard, per pool", limited.spin, "in spin", True)
over("hard_limit_while_asleep", "hard, per task", limited.sleep, "in sleep")
over("hard_limit_while_the_gil_is_held", "hard: stacks of all threads, also while the GIL is held",
     limited.hold_the_gil, "in hold_the_gil")  # fmt: skip
over("hard_limit_with_threads", "hard: stacks of all threads, also while the GIL is held",
     limited.spin_in_threads, "in spin_in_threads")  # fmt: skip
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


@row(LIMIT + "soft: raised inside the task", Expect("SoftTimeLimitExceeded", {"limit": 0.2},
     cause="RemoteError"), needs=("soft",))  # fmt: skip
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


@row(LIMIT + "soft: raised inside the task", Expect("TimeLimitExceeded", {"limit": 0.5}),
     needs=("soft", "timeout"))  # fmt: skip
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
        check(set(ends) == {"NoneType", "SoftTimeLimitExceeded"}, f"ends: {ends}")
        check(stage.native.stats["workers_exited"] == 0, "a worker has ended")


@row(LIMIT + "only that task, never its successor", needs=("timeout",), limit=40)
def hard_limit_never_hits_the_next_task(stage: Stage) -> None:
    stage.start(1)
    ends: Counter[str] = Counter()
    for i in range(60 if stage.strict else 10):
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


@row(LIMIT + "queue_timeout", Expect("QueueTimeout", {"limit": 0.1, "pid": None}, "no worker began"),
     needs=("queue",))  # fmt: skip
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


# ---- cancel, terminate -----------------------------------------------------------------------------


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


@row(ENDING + "terminate hits the running task it means, or nothing",
     Expect("WorkerKilled", {"signal": None}, "was terminated by the pool"),
     needs=("prefork",))  # fmt: skip
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


@row(ENDING + "terminate_job hits the running task it means, or nothing",
     Expect("WorkerKilled", {"signal": None}, "was terminated by the pool"),
     needs=("prefork",))  # fmt: skip
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


# ---- lost tasks ------------------------------------------------------------------------------------


@row(RETRY + "retry", needs=("retry",))
def lost_and_called_again(stage: Stage) -> None:
    stage.start()
    stage.others()
    for i in range(5):
        stage.victim(limited.die_at_first, stage.path(f"calls{i}"), 2, value=3,
                     on_lost="retry", retries=2)  # fmt: skip
    stage.others()


@row(RETRY + "quarantine", Expect("QuarantinedTask", {"attempts": 3, "signal": 9}, "3 times"),
     needs=("retry",))  # fmt: skip
def lost_too_often(stage: Stage) -> None:
    stage.start()
    stage.others()
    stage.victim(limited.die_at_first, stage.path("calls"), 99, on_lost="retry", retries=2)
    stage.others()
    stage.settle()
    check(len(lines(stage.path("calls"))) == 3, "was not called three times")


@row(RETRY + "at most once by default", killed(signal.SIGKILL))
def lost_and_not_called_again(stage: Stage) -> None:
    stage.start()
    stage.others()
    stage.victim(limited.die_at_first, stage.path("calls"), 1)
    stage.others()
    stage.settle()
    check(len(lines(stage.path("calls"))) == 1, "was called again")


# ---- initializers, recycling -------------------------------------------------------------------------


@row(START + "fails for good", Expect("InitializerError", {}, "of the initializer"), after="none",
     needs=("initializer",))  # fmt: skip
def initializer_fails_for_good(stage: Stage) -> None:
    """Every waiter hears of it, with its traceback, and no worker is spawned in a storm."""
    stage.start(initializer=limited.fail)
    for _ in range(5):
        stage.victim(tasks.echo, 1)
    for victim in stage.victims:
        if victim.refused is None:
            stage.judge(victim, stage.row.expect)
    if stage.strict:
        check(stage.native.state == "degraded", f"the pool is {stage.native.state}")
        check(not stage.native.did_start_ok(), "it says that it did start")
        causes, error = [], stage.outcome(stage.victims[0])[1]
        while error is not None:
            causes.append(str(error))
            error = error.__cause__
        check(any("in fail" in text for text in causes), f"no traceback in {causes}")
    stage.pool.terminate()
    stage.nothing_is_left()


@row(START + "recovers by itself", needs=("prefork",))
def initializer_works_again(stage: Stage) -> None:
    stage.start(initializer=limited.fail_unless, initargs=(stage.path("fine"),))
    one = stage.native
    eventually(lambda: one.state == "degraded", one)
    open(stage.path("fine"), "w").close()
    eventually(lambda: one.state == "running", one)
    stage.others()


@row(RECYCLE + "after N tasks; none lost or repeated", needs=("recycle",))
def recycled_again_and_again(stage: Stage) -> None:
    stage.start(recycle=3)
    stage.others(100)


@row(RECYCLE + "after N tasks; none lost or repeated", killed(signal.SIGKILL), needs=("recycle",))
def recycled_and_killed(stage: Stage) -> None:
    stage.start(recycle=2)
    for _ in range(10):
        stage.victim(tasks.end_by_signal, signal.SIGKILL)
        stage.others(5)


@row(RECYCLE + "by memory", needs=("prefork",))
def replaced_when_it_has_grown(stage: Stage) -> None:
    stage.start(max_memory_per_child=150 << 10)
    before = stage.full()
    gate = stage.gate()
    stage.victim(limited.grow_and_hold, 200, gate.path, value="held")
    (grown,) = gate.arrived()
    stage.others()
    eventually(lambda: "spare" in [worker.state for worker in stage.native.workers], stage.native)
    gate.open()
    eventually(lambda: grown not in stage.pool.pids(), stage.native)
    check(grown in before and stage.native.stats["tasks_lost"] == 0, "a task was lost")


@row(RECYCLE + "by memory", Expect("OutOfMemory", {"memory_limit": 250 << 10}),
     needs=("prefork",))  # fmt: skip
def killed_when_it_takes_far_too_much(stage: Stage) -> None:
    stage.start(memory_limit=250 << 10)
    stage.others()
    gate = stage.gate()
    stage.victim(limited.grow_and_hold, 300, gate.path)
    stage.others()


@row(RECYCLE + "by age", needs=("prefork",))
def replaced_when_it_is_old(stage: Stage) -> None:
    stage.start(max_age_per_child=0.2, recycle_jitter=0.0)
    before = stage.full()
    while stage.pool.pids() & before:
        stage.others(5)
        stage.settle()
    check(stage.native.stats["tasks_lost"] == 0, "a task was lost")


@row(RECYCLE + "a successor forked ahead", killed(signal.SIGKILL), needs=("prefork",))
def a_successor_forked_ahead_is_killed(stage: Stage) -> None:
    """The spare dies, then the worker that it was to succeed."""
    stage.start(1, recycle=1)
    gate = stage.gate()
    stage.victim(tasks.hold_here, gate.path)
    (pid,) = gate.arrived()
    workers = eventually(
        lambda: [w for w in stage.native.workers if w.state == "spare" and w.pid], stage.native
    )
    stage.kill(workers[0].pid)
    stage.others()
    stage.kill(pid)


# ---- errors that explain ---------------------------------------------------------------------------


@row(EXPLAIN + "they pickle and copy", killed(signal.SIGSEGV, "in read_nothing"),
     needs=("prefork",))  # fmt: skip
def errors_pickle_and_copy(stage: Stage) -> None:
    stage.start()
    _, error = stage.outcome(stage.victim(tasks.read_nothing))
    for twin in (copy.copy(error), copy.deepcopy(error), pickle.loads(pickle.dumps(error))):
        check(type(twin) is type(error) and vars(twin) == vars(error), f"{vars(twin)}")


@row(EXPLAIN + "one log line", killed(signal.SIGKILL), needs=("prefork",))
def a_lost_worker_is_one_line_in_the_log(stage: Stage) -> None:
    import logging

    said: list[str] = []

    class Listener(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            said.append(record.getMessage())

    listener = Listener(logging.INFO)
    logging.getLogger("prefork").addHandler(listener)
    stage.start()
    stage.others()
    _, error = stage.outcome(stage.victim(tasks.end_by_signal, signal.SIGKILL))
    stage.full()
    about = eventually(lambda: [line for line in said if str(error.pid) in line])
    check(len(about) == 1 and "SIGKILL" in about[0], f"the log says {said}")


@row(EXPLAIN + "peak of memory", killed(signal.SIGKILL), needs=("prefork",))
def the_peak_of_memory_is_told(stage: Stage) -> None:
    stage.start()
    _, error = stage.outcome(stage.victim(limited.allocate_and_die, 150))
    check(error.peak_rss > 150 << 10, f"peak_rss is {error.peak_rss} KiB")
