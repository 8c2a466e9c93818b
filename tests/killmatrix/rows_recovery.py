"""Rows: retries, initializers that fail, recycling, and what errors explain."""

from __future__ import annotations

import contextlib
import copy
import io
import os
import pickle
import signal
import subprocess
import sys

from helpers import eventually, lines

from . import limited, tasks
from .row import Expect, killed, row
from .stage import Stage, check

RETRY, START = "lost tasks: ", "initializer: "
RECYCLE, EXPLAIN = "recycling: ", "errors that explain: "
RECORDER = "flight recorder: "


@row(RETRY + "retry", needs=("retry",))
def lost_and_called_again(stage: Stage) -> None:
    stage.start()
    stage.others()
    for i in range(5):
        stage.victim(
            limited.die_at_first, stage.path(f"calls{i}"), 2, value=3, on_lost="retry", retries=2
        )
    stage.others()


@row(
    RETRY + "quarantine",
    Expect("QuarantinedTask", {"attempts": 3, "signal": 9}, "3 times"),
    needs=("retry",),
)
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


# ---- initializers, recycling ---------------------------------------------------------------------


@row(
    START + "fails for good",
    Expect("InitializerError", {}, "of the initializer"),
    after="none",
    needs=("initializer",),
)
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
    stage.settle()
    if stage.strict:
        spawned = stage.native.stats["workers_spawned"]
        check(spawned > 30, f"{spawned} workers were spawned for 100 tasks")


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


@row(RECYCLE + "by memory", Expect("OutOfMemory", {"memory_limit": 250 << 10}), needs=("prefork",))
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


# ---- errors that explain -------------------------------------------------------------------------


@row(
    EXPLAIN + "they pickle and copy", killed(signal.SIGSEGV, "in read_nothing"), needs=("prefork",)
)
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


@row(
    EXPLAIN + "the last events of the worker",
    killed(signal.SIGKILL, "born with"),
    needs=("prefork",),
)
def the_last_events_are_told(stage: Stage) -> None:
    stage.start(1)
    for _ in range(2):
        task = stage.victim(tasks.end_by_signal, signal.SIGKILL)
        _, error = stage.outcome(task)
        what = [event.what for event in error.history]
        check(what == ["spawned", "born", "ready", "claimed", "exited"], f"{error.history}")
        check(error.history[1].value == error.pid, f"{error.history[1]}, {error.pid}")


# ---- flight recorder -----------------------------------------------------------------------------


@row(
    RECORDER + "history of a slot, its dead workers' too",
    killed(signal.SIGKILL),
    needs=("prefork",),
)
def a_slot_shows_what_happened_to_its_dead(stage: Stage) -> None:
    stage.start(1)
    _, error = stage.outcome(stage.victim(tasks.end_by_signal, signal.SIGKILL))
    stage.full()
    (worker,) = stage.native.workers
    told = [(event.what, event.value) for event in worker.history]
    check(told.index(("born", error.pid)) < told.index(("exited", 9)), f"{told}")
    check(told.index(("exited", 9)) < told.index(("born", worker.pid)), f"{told}")


@row(RECORDER + "prefork inspect, while the application is stopped", needs=("prefork",))
def inspected_while_the_application_is_stopped(stage: Stage) -> None:
    stage.start(1)
    gate = stage.gate()
    stage.victim(tasks.hold_here, gate.path, "held", value="held")
    (pid,) = gate.arrived()
    # A child that stops us, looks, and lets us go on; it must not be stopped with us.
    code = (
        "import os, signal, sys; from prefork.cli import main; pid = int(sys.argv[1]);"
        "os.kill(pid, signal.SIGSTOP); status = main(['inspect', str(pid)]);"
        "os.kill(pid, signal.SIGCONT); sys.exit(status)"
    )
    shown = subprocess.run(
        [sys.executable, "-c", code, str(os.getpid())], capture_output=True, text=True, check=False
    )
    check(f"pid {pid}, running task " in shown.stdout, f"{shown.stdout}{shown.stderr}")
    gate.open()
    stage.others()


# ---- errors that explain: what was written last --------------------------------------------------

WRITTEN = EXPLAIN + "the last lines the task wrote to stderr if capture_output=True"
SAID = "written by C\nprinted\nsaid by a program"


@row(WRITTEN, killed(signal.SIGKILL, SAID, output=SAID), needs=("prefork",))
def the_last_lines_are_told(stage: Stage) -> None:
    """Also where the application's own stdout is something else."""
    with contextlib.redirect_stdout(io.StringIO()):
        stage.start(capture_output=True)
    stage.others()
    stage.victim(limited.say_it_and, "die")
    stage.others()


@row(
    WRITTEN,
    Expect("TimeLimitExceeded", {"output": "about to spin", "limit": 1.0}, "about to spin"),
    needs=("prefork",),
)
def the_last_lines_of_what_ran_too_long(stage: Stage) -> None:
    stage.start(capture_output=True)
    stage.others()
    stage.victim(limited.say_and_spin, "about to spin", timeout=1.0)
    stage.others()


@row(WRITTEN, killed(signal.SIGABRT, "file.c:7"), needs=("prefork",))
def the_last_words_of_c(stage: Stage) -> None:
    stage.start(capture_output=True)
    stage.victim(limited.fail_an_assertion_in_c)
    stage.others()


@row(WRITTEN, killed(signal.SIGKILL, "mine", output="mine"), needs=("prefork",))
def the_last_lines_are_its_own(stage: Stage) -> None:
    """Those before it on the same worker have written, and one has closed both descriptors."""
    stage.start(1, capture_output=True)
    stage.bystander(limited.say_it_and, "return", value=None)
    stage.bystander(limited.say_it_and, "close", value=None)
    stage.victim(limited.say_and_die, "mine")
    stage.others()


@row(WRITTEN, killed(signal.SIGKILL, "the end"), needs=("prefork",))
def a_talkative_task_does_not_fill_memory(stage: Stage) -> None:
    stage.start(1, capture_output=True)
    gate = stage.gate()
    victim = stage.victim(limited.talk, 20, gate.path)
    (pid,) = gate.arrived()
    most = (64 << 10) + os.sysconf("SC_PAGESIZE")
    eventually(lambda: os.stat(f"/proc/{pid}/fd/2").st_blocks * 512 <= most, stage.native)
    gate.open()
    _, error = stage.outcome(victim)
    check(len(error.output) <= 8192, f"{len(error.output)} characters are told")


@row(WRITTEN, Expect("InitializerError", {}, "no licence"), after="none", needs=("prefork",))
def the_last_lines_of_a_worker_that_is_not_up(stage: Stage) -> None:
    stage.start(1, capture_output=True, initializer=limited.say_and_exit, initargs=("no licence",))
    stage.judge(stage.victim(tasks.echo, 1), stage.row.expect)
    stage.pool.terminate()
    stage.nothing_is_left()
