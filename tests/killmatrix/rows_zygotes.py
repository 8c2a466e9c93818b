"""Rows: the zygote, its standby, and signals to the whole process group."""

from __future__ import annotations

import contextlib
import faulthandler
import os
import resource
import signal
import threading
from collections.abc import Iterator

from helpers import alive, asleep, descendants, eventually, kill_both_zygotes

from . import tasks
from .row import VALUE, Expect, exited, killed, row
from .stage import Stage, check

ZYGOTE, GROUP = "zygote: ", "process group: "
RESTARTED = ZYGOTE + "killed together with its standby"
RECOVERED = RESTARTED + ", recovered without restart()"
NEEDS = ("zygote",)
WITH_ZYGOTE = Expect(
    "WorkerKilled", {"zygote_lost": True, "signal": 9}, "went down with its zygote"
)


def both(stage: Stage) -> tuple[int, int]:
    """Zygote and standby, once there are both."""
    eventually(lambda: stage.native.stats["standby"], stage.native)
    return stage.native.stats["zygote"], stage.native.stats["standby"]


def zygote_killed(name: str, expect: Expect, method: str, busy: bool, **environment: str) -> None:
    def scenario(stage: Stage) -> None:
        os.environ.update(environment)
        stage.start(method=method)
        zygote, standby = both(stage)
        if busy:
            gate = stage.gate()
            for _ in range(2):
                stage.victim(tasks.hold_here, gate.path)
            gate.arrived(2)
        else:
            stage.full()
        stage.others()
        stage.kill(zygote)
        stage.settle()
        stage.others()
        eventually(lambda: stage.native.stats["zygotes_lost"] == 1, stage.native)
        check(stage.native.stats["zygote"] == standby, "the standby has not taken over")
        check(both(stage)[1] not in (zygote, standby), "there is no new standby")

    scenario.__name__, scenario.__module__ = name, __name__
    clause = "without pidfds" if environment else "killed"
    row(ZYGOTE + clause, expect, needs=NEEDS)(scenario)


zygote_killed("zygote_killed_while_workers_run", WITH_ZYGOTE, "fork", True)
zygote_killed("fresh_zygote_killed_while_workers_run", WITH_ZYGOTE, "exec", True)
zygote_killed("zygote_killed_without_pidfds", WITH_ZYGOTE, "fork", True, PREFORK_NO_PIDFD="1")


@row(ZYGOTE + "killed", needs=NEEDS)
def zygote_killed_while_idle(stage: Stage) -> None:
    stage.start()
    zygote, standby = both(stage)
    stage.idle()
    stage.kill(zygote)
    eventually(lambda: stage.native.stats["zygote"] == standby, stage.native)
    stage.others()


@row(ZYGOTE + "killed", needs=NEEDS)
def standby_killed(stage: Stage) -> None:
    stage.start()
    zygote, standby = both(stage)
    gate = stage.gate()
    stage.victim(tasks.hold_here, gate.path, "held", value="held")
    gate.arrived()
    stage.kill(standby)
    eventually(lambda: stage.native.stats["standby"] not in (0, standby), stage.native)
    check(stage.native.stats["zygote"] == zygote, "it was the zygote")
    stage.others()
    gate.open()


@row(ZYGOTE + "killed", needs=NEEDS, limit=30)
def zygotes_killed_one_after_the_other(stage: Stage) -> None:
    stage.start()
    for lost in range(1, 21):
        zygote, _ = both(stage)
        old = stage.full()
        stage.kill(zygote)
        eventually(lambda n=lost: stage.native.stats["zygotes_lost"] == n, stage.native)
        eventually(lambda gone=old: not any(map(alive, gone)))  # and what they run is lost
        stage.full()
        stage.others(2)
        stage.settle()


@row(
    ZYGOTE + "stopped",
    Expect("WorkerLostError", {"exitcode": None, "zygote_lost": False}, "how is unknown"),
    needs=NEEDS,
)
def a_worker_dies_while_the_zygote_is_stopped(stage: Stage) -> None:
    stage.start()
    zygote, _ = both(stage)
    gate = stage.gate()
    victim = stage.victim(tasks.hold_here, gate.path)
    (pid,) = gate.arrived()
    os.kill(zygote, signal.SIGSTOP)
    stage.kill(pid)
    stage.others()
    stage.outcome(victim)
    os.kill(zygote, signal.SIGCONT)


@row(ZYGOTE + "stopped", Expect("TimeLimitExceeded", {"limit": 0.3}), needs=NEEDS)
def a_limit_passes_while_the_zygote_is_stopped(stage: Stage) -> None:
    stage.start()
    zygote, _ = both(stage)
    gate = stage.gate()
    victim = stage.victim(tasks.hold_here, gate.path, timeout=0.3)
    (pid,) = gate.arrived()
    os.kill(zygote, signal.SIGSTOP)
    stage.outcome(victim)
    eventually(lambda: not alive(pid), stage.native)
    os.kill(zygote, signal.SIGCONT)


@row(ZYGOTE + "stopped", needs=NEEDS)
def zygote_stopped_and_killed(stage: Stage) -> None:
    """What it was asked for and had not done, the standby does."""
    stage.start()
    zygote, standby = both(stage)
    pids = stage.idle()
    os.kill(zygote, signal.SIGSTOP)
    for pid in pids:
        stage.kill(pid)
    stage.others()
    stage.kill(zygote)
    eventually(lambda: stage.native.stats["zygote"] == standby, stage.native)


@row(ZYGOTE + "out of descriptors", needs=NEEDS)
def zygote_out_of_descriptors(stage: Stage) -> None:
    stage.start()
    zygote, _ = both(stage)
    pids = stage.idle()
    used = len(os.listdir(f"/proc/{zygote}/fd"))
    most = resource.prlimit(zygote, resource.RLIMIT_NOFILE)
    resource.prlimit(zygote, resource.RLIMIT_NOFILE, (used, most[1]))
    stage.kill(min(pids))
    eventually(lambda: stage.native.stats["workers_exited"] == 1, stage.native)
    for i in range(30):
        check(stage.outcome(stage.submit(tasks.echo, i)) == (i, None), "a wrong end")
    resource.prlimit(zygote, resource.RLIMIT_NOFILE, most)
    goes_on_with_its_zygote(stage)


def goes_on_with_its_zygote(stage: Stage) -> None:
    stage.others()
    stage.full()
    check(stage.native.stats["zygotes_lost"] == 0, "the zygote has ended, or was given up")


# ---- both at once --------------------------------------------------------------------------------


def both_killed(name: str, method: str) -> None:
    """The pool has a new zygote by itself: what ran is lost, what waited is done."""

    def scenario(stage: Stage) -> None:
        stage.start(method=method)
        if method == "fork":  # which wants an application with a single thread
            faulthandler.cancel_dump_traceback_later()
            stage.native.fileno()
        gate = stage.gate()
        for _ in range(2):
            stage.victim(tasks.hold_here, gate.path)
        gate.arrived(2, stage.native)
        stage.others()
        kill_both_zygotes(stage.native)
        stage.settle()
        stage.others()
        stage.settle()
        eventually(stage.is_full, stage.native)  # a guest is not driven by anybody else
        one = stage.native
        check(one.state == "running", f"the pool is {one.state}")
        check(one.did_start_ok(), "the pool says that it did not start well")
        check(one.stats["application_forks"] == 2, f"{one.stats['application_forks']} forks")
        check(both(stage), "there is no new standby")
        stage.pool.stop()
        stage.ended()

    scenario.__name__, scenario.__module__ = name, __name__
    row(RECOVERED, WITH_ZYGOTE, after="none", needs=NEEDS)(scenario)


both_killed("both_killed_and_forked_anew", "fork")
both_killed("both_killed_and_executed_anew", "exec")


@row(RECOVERED, after="none", needs=NEEDS)
def both_killed_again_and_again(stage: Stage) -> None:
    """Three times it has a new one; then every call says that restart() is the way out."""
    stage.start(method="exec")
    for forks in range(2, 5):
        kill_both_zygotes(stage.native)
        eventually(lambda n=forks: stage.native.stats["application_forks"] == n, stage.native)
        stage.others()
        stage.settle()
    kill_both_zygotes(stage.native)
    degraded_until_restart(stage)


@row(RESTARTED, after="none", needs=NEEDS)
def both_killed_and_restarted(stage: Stage) -> None:
    """The application has another thread: degraded, every call says so, restart() helps."""
    stage.start()
    with another_thread():
        kill_both_zygotes(stage.native)
        degraded_until_restart(stage)


def degraded_until_restart(stage: Stage) -> None:
    import prefork

    one = stage.native
    eventually(lambda: one.state == "degraded", one)
    for call in (lambda: one.apply_async(abs, (1,)), lambda: one.map(abs, [1])):
        try:
            call()
        except RuntimeError as error:
            stage.hears(error, at_call=True)
            check("restart()" in str(error), f"says nothing of restart(): {error}")
            check(not isinstance(error, prefork.PoolClosed), "is a PoolClosed")
        else:
            check(False, "a degraded pool took a task")
    one.restart()
    stage.others()
    stage.settle()
    stage.full()
    check(one.state == "running", f"the pool is {one.state}")
    stage.pool.stop()
    stage.nothing_is_left()


@row(RESTARTED, after="none", needs=NEEDS)
def both_killed_with_tasks_running_and_queued(stage: Stage) -> None:
    stage.start()
    gate = stage.gate()
    running = [stage.submit(tasks.hold_here, gate.path) for _ in range(2)]
    gate.arrived(2)
    queued = [stage.submit(tasks.echo, 1) for _ in range(20)]
    with another_thread():
        kill_both_zygotes(stage.native)
        for handle in running:
            stage.judge(handle, WITH_ZYGOTE)
        for handle in queued:
            _, error = stage.outcome(handle)
            check("restart()" in str(error), f"a queued task ended with {error!r}")
        stage.pool.stop()
        stage.nothing_is_left()


@contextlib.contextmanager
def another_thread() -> Iterator[None]:
    over = threading.Event()
    thread = threading.Thread(target=over.wait)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


@row(ZYGOTE + "without pidfds", killed(signal.SIGKILL), needs=NEEDS)
def worker_killed_without_pidfds(stage: Stage) -> None:
    os.environ["PREFORK_NO_PIDFD"] = "1"
    stage.start()
    stage.others()
    stage.victim(tasks.end_by_signal, signal.SIGKILL)
    stage.others()


@row(ZYGOTE + "without pidfds", exited(3), needs=NEEDS, limit=30)
def many_exits_without_pidfds(stage: Stage) -> None:
    os.environ["PREFORK_NO_PIDFD"] = "1"
    stage.start()
    for _ in range(200):
        stage.victim(tasks.exit_at_once, 3)
    stage.others()


@row(ZYGOTE + "failing to fork", limit=30, needs=NEEDS)
def zygote_fails_to_fork(stage: Stage) -> None:
    """Its limit of processes alone is lowered: it may fork no more, then again."""
    from .unprivileged import become_nobody

    become_nobody(room=200, directory=stage.directory)
    stage.start()
    zygote, _ = both(stage)
    pids = stage.idle()
    most = resource.prlimit(zygote, resource.RLIMIT_NPROC)
    resource.prlimit(zygote, resource.RLIMIT_NPROC, (1, most[1]))
    stage.kill(min(pids))
    eventually(lambda: stage.native.stats["spawn_failures"], stage.native)
    for i in range(30):
        check(stage.outcome(stage.submit(tasks.echo, i)) == (i, None), "a wrong end")
    resource.prlimit(zygote, resource.RLIMIT_NPROC, most)
    goes_on_with_its_zygote(stage)


# ---- the group -----------------------------------------------------------------------------------


def group_signalled(number: signal.Signals, expect: Expect) -> None:
    def scenario(stage: Stage) -> None:
        gate = stage.gate()
        process = stage.launch("in_a_group", gate.path, number.name)
        pid = int(process.stdout.readline())
        holders = gate.arrived(2)
        os.killpg(pid, number)
        if number == signal.SIGTSTP:
            eventually(lambda: all(stopped(one) for one in (pid, *holders)))
            eventually(lambda: all(stopped(one) or asleep(one) for one in descendants(pid)))
            os.killpg(pid, signal.SIGCONT)
        gate.open(2)
        said = process.stdout.read()
        check(said == "passed\n", f"{said.strip() or 'it failed'}")
        stage.nothing_is_left()

    scenario.__name__ = f"group_gets_{number.name.lower()}"
    scenario.__module__ = __name__
    row(GROUP + number.name, expect, after="none")(scenario)


def stopped(pid: int) -> bool:
    with open(f"/proc/{pid}/stat") as stat:
        return stat.read().rpartition(") ")[2][0] == "T"


group_signalled(signal.SIGTERM, killed(signal.SIGTERM))
group_signalled(signal.SIGINT, VALUE)
group_signalled(signal.SIGHUP, VALUE)
group_signalled(signal.SIGTSTP, VALUE)
