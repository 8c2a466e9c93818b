"""Rows: calls in every state, twice, from everywhere; none hangs, each is defined."""

from __future__ import annotations

import signal
import threading
import time
from typing import Any

from helpers import eventually

from . import deeds, tasks
from .row import VALUE, Expect, killed, row
from .stage import Stage, check

LIFE = "life cycle: "
NEEDS = ("prefork",)
TERMINATED = Expect("WorkerKilled", {"signal": None}, "terminated")
ENDINGS = ("close", "stop", "terminate", "join", "close", "terminate", "stop", "join")


@row(LIFE + "calls before the start and after the end", after="none", needs=NEEDS)
def calls_before_the_start_and_after_the_end(stage: Stage) -> None:
    import prefork
    from helpers import CALLS

    pool = prefork.TaskPool(1)
    for name, call in CALLS.items():
        check(stage.refused(lambda c=call: c(pool)) == "RuntimeError", f"{name} before start()")
    pool.start()
    check(stage.refused(pool.start) == "RuntimeError", "a second start()")
    for name in ENDINGS:
        getattr(pool, name)()
    check(pool.state == "stopped", pool.state)
    for name, call in CALLS.items():
        check(stage.refused(lambda c=call: c(pool)) == "PoolClosed", f"{name} after the end")
    stage.nothing_is_left()


def ended_from_many_threads(name: str, ending: str, expect: Expect) -> None:
    def scenario(stage: Stage) -> None:
        stage.start()
        gate = stage.gate()
        for _ in range(2):
            stage.victim(tasks.hold_here, gate.path, "held", value="held")
        gate.arrived(2)
        raised: list[str] = []
        threads = [
            threading.Thread(
                target=lambda: raised.append(stage.refused(getattr(stage.native, ending)))
            )
            for _ in range(6)
        ]
        for thread in threads:
            thread.start()
        eventually(lambda: stage.native.state != "running")
        gate.open(2)
        for thread in threads:
            thread.join()
        check(set(raised) == {""}, f"raised: {raised}")

    scenario.__name__, scenario.__module__ = name, __name__
    row(LIFE + "double calls", expect, after="ended", needs=NEEDS)(scenario)


ended_from_many_threads("stopped_from_many_threads", "stop", VALUE)
ended_from_many_threads("terminated_from_many_threads", "terminate", TERMINATED)


@row(LIFE + "calls after the end", after="none")
def stop_does_what_was_submitted(stage: Stage) -> None:
    stage.start()
    stage.others(100)
    for _ in range(50):  # not all begun when it is to stop
        stage.bystander(time.sleep, 0.005, value=None)
    stage.pool.stop()
    stage.settle()
    check(
        stage.refused(lambda: stage.pool.wait(stage.pool.submit(tasks.echo, (1,), None))),
        "a pool that was stopped has done a task",
    )
    stage.nothing_is_left()


@row(LIFE + "no call hangs in any state", TERMINATED, after="ended", needs=("terminate frees",))
def terminated_with_tasks_running_and_queued(stage: Stage) -> None:
    stage.start()
    gate = stage.gate()
    for _ in range(2):
        stage.victim(tasks.hold_here, gate.path)
    gate.arrived(2)
    for _ in range(200):
        stage.victim(tasks.echo, 1)
    stage.pool.terminate()


@row(LIFE + "stop(timeout) and terminate(timeout) climb", TERMINATED, after="ended", needs=NEEDS)
def stopped_with_a_timeout(stage: Stage) -> None:
    stage.start()
    stage.others()
    gate = stage.gate()
    for _ in range(2):
        stage.victim(tasks.hold_here, gate.path)
    gate.arrived(2)
    stage.native.stop(0.1)


@row(LIFE + "stop(timeout) and terminate(timeout) climb", TERMINATED, after="ended", needs=NEEDS)
def terminated_with_a_stopped_and_a_deaf_worker(stage: Stage) -> None:
    stage.start()
    gate = stage.gate()
    stage.victim(deeds.ignore_sigterm, gate.path)
    gate.arrived()
    stage.victim(tasks.hold_here, gate.path)
    (pid,) = gate.arrived()
    stage.kill(pid, signal.SIGSTOP)
    stage.native.terminate(0.05)


@row(LIFE + "no call hangs in any state", TERMINATED, after="ended", needs=NEEDS)
def terminated_while_it_stops(stage: Stage) -> None:
    stage.start()
    gate = stage.gate()
    stage.victim(tasks.hold_here, gate.path)
    gate.arrived()
    stopping = threading.Thread(target=stage.native.stop)
    stopping.start()
    eventually(lambda: stage.native.state == "closed")
    stage.native.terminate()
    stopping.join()


@row(LIFE + "no call hangs in any state", after="none", needs=NEEDS)
def ended_at_once_after_the_start(stage: Stage) -> None:
    import prefork

    for ending in ("stop", "terminate"):
        for _ in range(10):
            pool = prefork.TaskPool(2)
            pool.start()
            getattr(pool, ending)()
            check(pool.state == "stopped", pool.state)
    stage.nothing_is_left()


def ended_in_a_handler(name: str, ending: str, expect: Expect) -> None:
    def scenario(stage: Stage) -> None:
        stage.start()
        gate = stage.gate()
        victim = stage.victim(tasks.hold_here, gate.path, "held", value="held")
        gate.arrived()

        def end(*_: Any) -> None:
            gate.open()
            getattr(stage.native, ending)()

        with stage.handling(signal.SIGALRM, end):
            signal.setitimer(signal.ITIMER_REAL, 0.05)
            victim.native.wait()

    scenario.__name__, scenario.__module__ = name, __name__
    row(LIFE + "calls from signal handlers", expect, after="ended", needs=NEEDS)(scenario)


ended_in_a_handler("stopped_in_a_signal_handler", "stop", VALUE)


@row(LIFE + "calls from signal handlers", VALUE, needs=NEEDS)
def submits_and_waits_in_a_signal_handler(stage: Stage) -> None:
    stage.start()
    gate = stage.gate()
    victim = stage.victim(tasks.hold_here, gate.path, "held", value="held")
    gate.arrived()

    def submit(*_: Any) -> None:
        stage.others(5)
        stage.outcome(stage.bystanders[-1])
        gate.open()

    with stage.handling(signal.SIGALRM, submit):
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        victim.native.wait()


@row(LIFE + "restart and resize under fire", killed(signal.SIGKILL), needs=NEEDS, after="none")
def restarted_under_fire(stage: Stage) -> None:
    stage.start()
    for _ in range(5):
        stage.victim(tasks.end_by_signal, signal.SIGKILL)
        stage.others(10)
        stage.native.restart()
        stage.others(10)
    stage.settle()
    stage.full()
    check(stage.native.stats["application_forks"] == 6, "not one fork for each restart")
    stage.pool.stop()
    stage.nothing_is_left()


@row(LIFE + "restart and resize under fire", killed(signal.SIGKILL), needs=NEEDS)
def resized_under_fire(stage: Stage) -> None:
    stage.start()
    stage.native.grow(3)
    eventually(lambda: len(stage.pool.pids()) == 5)
    stage.native.shrink(3)
    for _ in range(10):
        stage.native.grow(3)
        stage.victim(tasks.end_by_signal, signal.SIGKILL)
        stage.others(10)
        stage.native.shrink(3)
        stage.others(10)


@row(LIFE + "no call hangs in any state", killed(signal.SIGKILL), needs=NEEDS)
def a_guest_of_a_loop_loses_workers(stage: Stage) -> None:
    """No thread of the pool's: everything happens inside poll()."""
    stage.start()
    stage.native.fileno()
    for _ in range(10):
        stage.victim(tasks.end_by_signal, signal.SIGKILL)
        stage.others(5)
    stage.settle()
    eventually(lambda: stage.native.poll(0.01) >= 0 and stage.is_full())
