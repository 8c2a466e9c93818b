"""Rows: what a task does to its own process, which its pool has to live with."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from helpers import alive, eventually, lines

from . import deeds, tasks
from .row import VALUE, Expect, deed, exited, killed, row
from .stage import Stage, check

DEED = "task in its own process: "


@row(DEED + "stops itself", VALUE, spares=True)
def stops_itself_and_is_continued(stage: Stage) -> None:
    stage.start()
    victim = stage.victim(deeds.stop_itself, stage.path("pid"), value="went on")
    pid = stopped(stage)
    stage.others()
    for handle in stage.bystanders:
        stage.outcome(handle)
    os.kill(pid, signal.SIGCONT)
    stage.outcome(victim)


@row(DEED + "stops itself", killed(signal.SIGKILL))
def stops_itself_and_is_killed(stage: Stage) -> None:
    stage.start()
    stage.victim(deeds.stop_itself, stage.path("pid"))
    pid = stopped(stage)
    stage.others()
    stage.kill(pid)


def stopped(stage: Stage) -> int:
    (pid,) = map(int, eventually(lambda: lines(stage.path("pid"))))
    eventually(lambda: Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] == "T")
    return pid


@row(DEED + "stops itself", Expect("TimeLimitExceeded", {"limit": 0.3}), needs=("timeout",))
def stops_itself_and_has_a_limit(stage: Stage) -> None:
    stage.start()
    stage.victim(deeds.stop_itself, stage.path("pid"), timeout=0.3)
    stage.others()


@row(DEED + "ignores SIGTERM", killed(signal.SIGKILL))
def ignores_sigterm_and_is_killed(stage: Stage) -> None:
    deaf(stage, deeds.ignore_sigterm)


@row(DEED + "blocks SIGTERM", killed(signal.SIGKILL))
def blocks_every_signal_and_is_killed(stage: Stage) -> None:
    deaf(stage, deeds.block_signals)


def deaf(stage: Stage, deed: object) -> None:
    stage.start()
    gate = stage.gate()
    stage.victim(deed, gate.path)
    (pid,) = gate.arrived()
    os.kill(pid, signal.SIGTERM)
    check(alive(pid), "it was to be deaf")
    stage.others()
    stage.kill(pid)


@row(
    DEED + "ignores SIGTERM",
    Expect("WorkerKilled", {"signal": None}, "terminated by the pool"),
    after="ended",
    needs=("bounded stop",),
)
def ignores_sigterm_when_the_pool_is_terminated(stage: Stage) -> None:
    stage.start()
    stage.others()
    for handle in stage.bystanders:
        stage.outcome(handle)
    gate = stage.gate()
    stage.victim(deeds.ignore_sigterm, gate.path)
    (pid,) = gate.arrived()
    if stage.strict:
        stage.native.terminate(0.05)
    else:
        stage.pool.terminate()
    check(not alive(pid), "it is still there")


deed(
    "closes-all-descriptors",
    DEED + "closes all descriptors",
    "deeds",
    VALUE,
    deeds.close_descriptors,
)
deed(
    "closes-all-descriptors-and-raises",
    DEED + "closes all descriptors",
    "deeds",
    Expect("ValueError", {}, "all closed"),
    deeds.close_descriptors,
    True,
)
deed(
    "writes-garbage-on-every-descriptor",
    DEED + "writes garbage on every descriptor",
    "deeds",
    killed(signal.SIGKILL),
    deeds.write_garbage,
)
deed(
    "child-returns-into-the-workers-loop",
    DEED + "its child returns into the worker's loop",
    "deeds",
    VALUE,
    deeds.fork_and_return,
    spares=True,
)
deed(
    "child-raises-into-the-workers-loop",
    DEED + "its child returns into the worker's loop",
    "deeds",
    VALUE,
    deeds.fork_and_raise_in_the_child,
    spares=True,
)
deed(
    "leaves-threads-behind",
    DEED + "leaves threads behind",
    "deeds",
    VALUE,
    deeds.leave_threads,
    spares=True,
)
deed("closes-stdio", DEED + "closes stdio", "deeds", VALUE, deeds.close_stdio, spares=True)
deed("reads-stdin", DEED + "reads stdin", "deeds", VALUE, deeds.read_stdin, spares=True)
deed(
    "changes-directory",
    DEED + "changes directory",
    "deeds",
    VALUE,
    deeds.change_directory,
    spares=True,
)
deed(
    "removes-its-directory",
    DEED + "changes directory",
    "deeds",
    VALUE,
    deeds.remove_directory,
    spares=True,
)
deed("changes-umask", DEED + "changes umask", "deeds", VALUE, deeds.change_umask, spares=True)
deed("changes-locale", DEED + "changes locale", "deeds", VALUE, deeds.change_locale, spares=True)
deed(
    "changes-signal-masks",
    DEED + "changes signal masks",
    "deeds",
    VALUE,
    deeds.change_masks,
    spares=True,
)
deed(
    "changes-signal-handlers",
    DEED + "changes signal masks",
    "deeds",
    VALUE,
    deeds.change_handlers,
    spares=True,
)
deed(
    "changes-the-environment",
    DEED + "changes directory",
    "deeds",
    VALUE,
    deeds.clear_environment,
    spares=True,
)


@row(DEED + "changes rlimits", spares=True)
def lowers_its_limits(stage: Stage) -> None:
    stage.start(1)
    stage.victim(deeds.lower_limits, True)
    for size in (0, 100, 1 << 16, 1 << 20):
        stage.bystander(tasks.echo, bytes(size), value=bytes(size))
    stage.victim(deeds.lower_limits, False)
    stage.others()


@row(DEED + "its child returns into the worker's loop", spares=True)
def child_in_the_loop_takes_no_task(stage: Stage) -> None:
    stage.start(1)
    child = stage.submit(deeds.fork_and_return)
    born, error = stage.outcome(child)
    check(error is None, f"the parent failed: {error!r}")
    pids = [stage.outcome(stage.submit(tasks.own_pid))[0] for _ in range(30)]
    check(born not in pids and len(set(pids)) == 1, f"the child {born} works, too: {set(pids)}")
    stage.others()
    if stage.strict:
        eventually(lambda: not alive(born), within=10)


@row(DEED + "a grandchild keeps the pipes open", exited(3))
def grandchild_keeps_the_pipes_open(stage: Stage) -> None:
    stage.start()
    gate = stage.gate()
    stage.victim(deeds.leave_a_grandchild, gate.path)
    gate.arrived()
    stage.others()
    for handle in (*stage.victims, *stage.bystanders):
        stage.outcome(handle)
    gate.open()


@row(DEED + "a grandchild keeps the pipes open", exited(3))
def grandchild_writes_on_the_pipes(stage: Stage) -> None:
    stage.start()
    gate = stage.gate()
    stage.victim(deeds.leave_a_writing_grandchild, gate.path)
    gate.arrived()
    stage.others()
    for handle in (*stage.victims, *stage.bystanders):
        stage.outcome(handle)
    gate.open()


@row(DEED + "leaves threads behind", killed(signal.SIGSEGV, "in read_nothing"))
def a_thread_left_behind_crashes(stage: Stage) -> None:
    """Later, while the same worker runs another task: that one is lost."""
    stage.start(1)
    gate, later = stage.gate(), stage.gate()
    left, error = stage.outcome(stage.submit(deeds.leave_a_crashing_thread, gate.path))
    check(error is None, f"{error!r}")
    stage.victim(tasks.hold_here, later.path)
    later.arrived()
    gate.open()
    stage.others()
