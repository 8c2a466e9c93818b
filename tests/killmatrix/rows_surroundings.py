"""Rows: signals, limits and neighbours of the application."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

from helpers import eventually, lines, note

from . import tasks
from .row import Expect, exited, killed, row
from .stage import Stage, check
from .unprivileged import Crowd, become_nobody

APP = "application: "


@row(APP + "SIGCHLD ignored", exited(3))
def sigchld_ignored(stage: Stage) -> None:
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    stage.start()
    stage.others()
    stage.victim(tasks.exit_at_once, 3)
    stage.others()


@row(APP + "SIGCHLD with a handler that reaps everything", exited(3))
def sigchld_handler_reaps_everything(stage: Stage) -> None:
    def reap(*_: Any) -> None:
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            pass

    signal.signal(signal.SIGCHLD, reap)
    stage.start()
    stage.others()
    stage.victim(tasks.exit_at_once, 3)
    stage.others()


@row(APP + "another thread in os.wait()", exited(3))
def another_thread_waits_for_everything(stage: Stage) -> None:
    done = threading.Event()

    def reap() -> None:
        while not done.is_set():
            try:
                os.wait()
            except ChildProcessError:
                done.wait(0.001)

    thread = threading.Thread(target=reap, daemon=True)
    thread.start()
    stage.start()
    stage.others()
    stage.victim(tasks.exit_at_once, 3)
    stage.others()
    stage.settle()
    done.set()


@row(APP + "another thread in os.wait()", needs=("zygote",))
def another_thread_reaps_the_zygote(stage: Stage) -> None:
    done = threading.Event()
    childless = threading.Event()
    reaped: list[int] = []

    def reap() -> None:
        while not done.is_set():
            try:
                reaped.append(os.wait()[0])
            except ChildProcessError:  # the pool was first
                childless.set()
                done.wait(0.001)

    stage.start()
    threading.Thread(target=reap, daemon=True).start()
    eventually(lambda: stage.native.stats["standby"], stage.native)
    zygote = stage.native.stats["zygote"]
    stage.kill(zygote)
    eventually(lambda: zygote in reaped or childless.is_set())
    stage.others()
    stage.settle()
    stage.full()
    done.set()


@row(APP + "Popen beside us", exited(3))
def programs_beside_the_pool(stage: Stage) -> None:
    stage.start()
    for i in range(20):
        program = subprocess.Popen([sys.executable, "-S", "-c", f"raise SystemExit({i})"])
        if i % 5 == 0:
            stage.victim(tasks.exit_at_once, 3)
        stage.others(3)
        check(program.wait() == i, f"the program's exit code is {program.returncode}, not {i}")


@row(APP + "a timer storm")
def timer_storm(stage: Stage) -> None:
    """SIGALRM two thousand times a second, with a handler that does nothing."""
    calls: list[int] = []
    with stage.handling(signal.SIGALRM, lambda *_: calls.append(1)):
        signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.0005)
        try:
            stage.start()
            for _ in range(20):
                stage.others(50)
            stage.victim(bytes, 8 << 20, value=bytes(8 << 20))
            stage.settle()
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
    check(len(calls) > 5, "there was no storm")


@row(APP + "its own SIGTERM handler", killed(signal.SIGTERM))
def own_sigterm_handler_does_not_run_in_workers(stage: Stage) -> None:
    called = stage.path("called")
    signal.signal(signal.SIGTERM, lambda *_: note(called))
    stage.start()
    gate = stage.gate()
    victim = stage.victim(tasks.hold_here, gate.path)
    (pid,) = gate.arrived()
    os.kill(pid, signal.SIGTERM)
    stage.others()
    if stage.strict:
        stage.outcome(victim)
    else:
        eventually(lambda: lines(called) or not os.path.exists(f"/proc/{pid}"))
        gate.open()
    check(not lines(called), "the application's handler ran in a worker")


@row(APP + "its own SIGTERM handler", killed(signal.SIGUSR1))
def own_wakeup_descriptor_hears_no_worker(stage: Stage) -> None:
    reader, writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.signal(signal.SIGUSR1, lambda *_: None)
    signal.set_wakeup_fd(writer)
    stage.start()
    gate = stage.gate()
    stage.victim(tasks.hold_here, gate.path, value="held")
    (pid,) = gate.arrived()
    os.kill(pid, signal.SIGUSR1)
    stage.others()
    if stage.strict:
        stage.outcome(stage.victims[0])
    else:
        gate.open()
    try:
        check(not os.read(reader, 1), "the application's loop was woken by a worker's signal")
    except BlockingIOError:
        pass


# ---- what runs out -------------------------------------------------------------------------------


@row(APP + "out of descriptors")
def out_of_descriptors_while_a_worker_dies(stage: Stage) -> None:
    """Its successor has to wait until there are some again."""
    stage.start()
    pids = stage.idle()
    most = resource.getrlimit(resource.RLIMIT_NOFILE)
    highest = max(map(int, os.listdir("/proc/self/fd")))
    resource.setrlimit(resource.RLIMIT_NOFILE, (highest, most[1]))
    try:
        stage.kill(min(pids))
        if stage.strict:
            for i in range(30):
                check(stage.outcome(stage.submit(tasks.echo, i)) == (i, None), "a wrong end")
            eventually(lambda: stage.native.stats["workers_exited"] == 1, stage.native)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, most)
    stage.others()


@contextlib.contextmanager
def few_descriptors() -> Iterator[None]:
    """Two more than there are, for a while."""
    most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/proc/self/fd")) + 2, most[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, most)


@row(APP + "out of descriptors", Expect("OSError", {"errno": 24}), after="none")
def out_of_descriptors_at_the_start(stage: Stage) -> None:
    """The start is refused whole, and leaves nothing; later it succeeds."""
    error: BaseException | None = None
    try:
        with few_descriptors():
            stage.start()
            if not stage.strict:
                stage.outcome(stage.submit(tasks.echo, 1))
    except OSError as caught:
        error = caught
    stage.hears(error, at_call=True)
    check(error is not None and error.errno == 24, f"start gave {error!r}")
    stage.nothing_is_left()
    if stage.strict:
        started_at_the_second_try()
    stage.start()
    stage.others()
    stage.afterwards()


def started_at_the_second_try() -> None:
    import prefork

    pool = prefork.TaskPool(1)
    with few_descriptors(), contextlib.suppress(OSError):
        pool.start()
    check(pool.state == "new", f"a pool that could not be started is {pool.state}")
    with pool:
        check(pool.apply(tasks.echo, (1,)) == 1, "a wrong value")


@row(APP + "out of processes", limit=30)
def out_of_processes_while_workers_die(stage: Stage) -> None:
    """fork says EAGAIN until others of the same user have ended."""
    become_nobody(room=40, directory=stage.directory)
    stage.start()
    crowd = Crowd(stage.path("crowd"))
    stage.idle()
    crowd.fill()
    for _ in range(50):
        for pid in stage.pool.pids():
            stage.kill(pid)
        if not stage.strict or stage.native.stats["spawn_failures"]:
            break
        stage.native.poll(0.02)
    else:
        check(False, "there was always room for a successor")
    crowd.leave()
    stage.others()


@row(APP + "out of memory in the parent", Expect("MemoryError"))
def out_of_memory_for_a_result(stage: Stage) -> None:
    stage.start()
    stage.others()
    stage.settle()
    with open("/proc/self/statm") as statm:
        used = int(statm.read().split()[0]) * resource.getpagesize()
    most = resource.getrlimit(resource.RLIMIT_AS)
    # Less than the 64 MiB of address space that malloc would reserve for a new thread.
    resource.setrlimit(resource.RLIMIT_AS, (used + (48 << 20), most[1]))
    try:
        stage.outcome(stage.victim(bytes, 256 << 20))
        stage.others()
        stage.settle()
    finally:
        resource.setrlimit(resource.RLIMIT_AS, most)


# ---- descriptors that go -------------------------------------------------------------------------


@row(APP + "descriptors 0 to 2 closed", exited(3))
def stdio_is_closed_before_the_start(stage: Stage) -> None:
    os.closerange(0, 3)
    stage.start()
    stage.others()
    stage.victim(tasks.exit_at_once, 3)
    stage.victim(tasks.echo, bytes(1 << 20), value=bytes(1 << 20)) if not stage.strict else None
    stage.others()


@row(APP + "descriptors 0 to 2 closed", exited(3), needs=("exec",))
def stdio_is_closed_before_the_start_of_a_fresh_interpreter(stage: Stage) -> None:
    os.closerange(0, 3)
    stage.start(method="exec")
    stage.others()
    stage.victim(tasks.exit_at_once, 3)
    stage.others()


@row(APP + "closes all its descriptors under us", Expect("WorkerKilled"), after="none")
def all_descriptors_are_closed_under_the_pool(stage: Stage) -> None:
    """No call hangs: they say EBADF, ending returns, tasks settle, and nothing is left."""
    stage.start()
    stage.idle()
    os.closerange(3, 4096)
    _, error = stage.outcome(stage.victim(tasks.hold_here, "/nowhere"))
    check(not stage.strict or getattr(error, "errno", 0) == 9, f"the wait ended with {error!r}")
    with contextlib.suppress(OSError):
        stage.pool.terminate()
    stage.nothing_is_left()
    if stage.strict:
        stage.settle()


@row(APP + "closes all its descriptors under us", after="none")
def all_descriptors_are_closed_while_tasks_run(stage: Stage) -> None:
    stage.start()
    gate = stage.gate()
    for _ in range(2):
        stage.submit(tasks.hold_here, gate.path)
    gate.arrived(2)
    gate.open(2)
    stage._gates.clear()
    os.closerange(3, 4096)
    with contextlib.suppress(OSError):
        stage.pool.terminate()
    stage.nothing_is_left()
