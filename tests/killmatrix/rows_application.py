"""Rows: an application that is killed, forks, ends, forgets its pool; its threads and callbacks."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import threading
import warnings
from typing import Any

from helpers import asleep, eventually

from . import tasks
from .row import VALUE, killed, row
from .stage import Stage, check

APP = "application: "


def ends_busy(name: str, clause: str, number: int, workers: int = 2, **options: Any) -> None:
    def scenario(stage: Stage) -> None:
        gate = stage.gate()
        process = stage.launch("busy", gate.path, str(workers))
        check(process.stdout.readline(), "the application has not come up")
        gate.arrived(workers)
        process.send_signal(number)
        check(process.wait() == -number, f"it ended with {process.returncode}")
        if not stage.strict:
            gate.open(workers)
        stage.nothing_is_left()

    scenario.__name__, scenario.__module__ = name, __name__
    row(APP + clause, after="none", **options)(scenario)


QUEUED = "killed with tasks queued"
ends_busy("killed_with_tasks_queued", QUEUED, signal.SIGKILL)
ends_busy("terminated_with_tasks_queued", QUEUED, signal.SIGTERM)
ends_busy("aborted_with_tasks_queued", QUEUED, signal.SIGABRT)
ends_busy("killed_with_sixteen_busy_workers", QUEUED, signal.SIGKILL, 16)


@row(APP + QUEUED, after="none", needs=("zygote",))
def killed_while_its_zygote_is_stopped(stage: Stage) -> None:
    gate = stage.gate()
    process = stage.launch("busy", gate.path)
    zygote = int(process.stdout.readline())
    gate.arrived(2)
    os.kill(zygote, signal.SIGSTOP)
    process.kill()
    process.wait()
    os.kill(zygote, signal.SIGCONT)
    stage.nothing_is_left()


def leaves_busy(name: str, how: str, status: int) -> None:
    def scenario(stage: Stage) -> None:
        gate = stage.gate()
        process = stage.launch("busy_and_leaves", gate.path, how, stdin=subprocess.PIPE)
        check(process.stdout.readline() == "ready\n", "the application has not come up")
        gate.arrived(2)
        process.stdin.write("\n")
        process.stdin.flush()
        if not stage.strict:
            gate.open(2)
        check(process.wait() == status, f"it ended with {process.returncode}")
        stage.nothing_is_left()

    scenario.__name__, scenario.__module__ = name, __name__
    row(APP + "exit with tasks pending", after="none")(scenario)


leaves_busy("leaves_by_os_exit", "_exit", 0)
leaves_busy("leaves_by_sys_exit", "exit", 7)
leaves_busy("leaves_by_the_end_of_its_program", "end", 0)
leaves_busy("leaves_by_an_exception", "raise", 1)


@row(APP + "pool collected without close", after="none")
def pool_is_collected(stage: Stage) -> None:
    stage.start()
    stage.others()
    stage.settle()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        stage.pool = None
        stage.bystanders.clear()
        gc.collect()

        def warned_of() -> list[Warning | str]:
            gc.collect()  # again: the thread that delivers may have had the pool in hand just then
            return [w.message for w in caught if w.category is ResourceWarning]

        if stage.strict:
            warned = eventually(warned_of)
            stage.hears(warned[0])
            check(len(warned) == 1 and "was collected" in str(warned[0]), f"warned: {warned}")
    stage.nothing_is_left()


# ---- forks ---------------------------------------------------------------------------------------


def in_a_fork(function: Any) -> int:
    """The exit code of a child that calls it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        pid = os.fork()
    if pid == 0:
        status = 1
        try:
            status = function() or 0
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


@row(APP + "forks and exits")
def forks_and_the_child_exits(stage: Stage) -> None:
    stage.start()
    gate = stage.gate()
    stage.victim(tasks.hold_here, gate.path, "held", value="held")
    gate.arrived()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        pid = os.fork()
    if pid == 0:
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115
        gc.collect()
        import atexit

        atexit._run_exitfuncs()
        os._exit(0)
    os.waitpid(pid, 0)
    stage.others()
    gate.open()


@row(APP + "forks and exits")
def forks_and_the_child_forgets_the_pool(stage: Stage) -> None:
    stage.start()
    stage.others()

    def forget() -> None:
        stage.pool = stage.make = None
        stage.victims.clear()
        stage.bystanders.clear()
        gc.collect()

    check(in_a_fork(forget) == 0, "the child failed")
    stage.others()


@row(APP + "forks and uses the pool")
def forks_and_the_child_submits(stage: Stage) -> None:
    """It is not the child's pool: an error there, and nothing here."""
    stage.start()
    stage.others()

    def use() -> int:
        try:
            return 0 if stage.pool.wait(stage.pool.submit(tasks.echo, (3,), None)) == 3 else 4
        except Exception as error:
            stage.hears(error, at_call=True)
            stage.writes_down()
            return 0 if not stage.strict or type(error).__name__ == "PoolClosed" else 5

    check(in_a_fork(use) == 0, "the child had a wrong value, or another error than PoolClosed")
    stage.others()


@row(APP + "forks and uses the pool")
def forks_and_the_child_ends_the_pool(stage: Stage) -> None:
    stage.start()
    gate = stage.gate()
    stage.victim(tasks.hold_here, gate.path, "held", value="held")
    gate.arrived()
    status = in_a_fork(stage.pool.terminate)
    check(not stage.strict or status == 0, "the call in the child failed")
    stage.others()
    gate.open()


@row(APP + "forks and uses the pool")
def forks_and_the_child_has_a_pool_of_its_own(stage: Stage) -> None:
    stage.start()
    stage.others()

    def own() -> int:
        pool = stage.make(1)
        right = pool.wait(pool.submit(tasks.echo, (3,), None)) == 3
        pool.terminate()
        return 0 if right else 4

    check(in_a_fork(own) == 0, "the child's own pool failed")
    stage.others()


# ---- threads -------------------------------------------------------------------------------------


@row(APP + "pool made in a thread that ends", killed(signal.SIGKILL))
def made_in_a_thread_that_ends(stage: Stage) -> None:
    maker = threading.Thread(target=stage.start)
    maker.start()
    maker.join()
    stage._threads.discard(maker)
    stage.others()
    stage.victim(tasks.end_by_signal, signal.SIGKILL)
    stage.others()


@row(APP + "submit and terminate racing from many threads", after="none")
def submits_and_terminate_race(stage: Stage) -> None:
    """Every task settles, one way or the other; every later call is refused."""
    stage.start()
    handles: list[Any] = []
    refused = threading.Semaphore(0)
    begun = threading.Barrier(5)

    def submit_on_and_on() -> None:
        begun.wait()
        try:
            while len(handles) < 200_000:
                handles.append(stage.submit(tasks.echo, 5, value=5))
        except Exception as error:
            stage.hears(error, at_call=True)
            refused.release()

    threads = [threading.Thread(target=submit_on_and_on, daemon=True) for _ in range(4)]
    for thread in threads:
        thread.start()
    begun.wait()
    eventually(lambda: len(handles) > 100)
    stage.pool.terminate()
    for thread in threads:
        thread.join()
    for _ in threads:
        check(refused.acquire(blocking=False), "a submit was neither refused nor done")
    for handle in handles:
        value, error = stage.outcome(handle)
        check(error is not None or value == 5, f"gave {value}")
        kind = type(error).__name__
        check(not stage.strict or error is None or kind == "WorkerKilled", f"ended with {kind}")
    stage.nothing_is_left()


@row(APP + "submit and terminate racing from many threads")
def many_threads_submit_and_wait(stage: Stage) -> None:
    stage.start()
    wrong: list[Any] = []

    def work() -> None:
        for i in range(100):
            handle = stage.submit(tasks.echo, i, value=i)
            if stage.outcome(handle) != (i, None):
                wrong.append(stage.outcome(handle))

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    check(not wrong, f"wrong: {wrong[:3]}")


# ---- Ctrl-C --------------------------------------------------------------------------------------


@row(APP + "Ctrl-C in get", VALUE)
def interrupted_in_get(stage: Stage) -> None:
    stage.start()
    gate = stage.gate()
    held = stage.victim(tasks.hold_here, gate.path, "held", value="held")
    gate.arrived()
    main = os.getpid()

    def interrupt() -> None:
        eventually(lambda: waits.is_set() and asleep(main))
        os.kill(main, signal.SIGINT)

    waits = threading.Event()
    with stage.handling(signal.SIGINT, signal.default_int_handler):
        thread = threading.Thread(target=interrupt)
        thread.start()
        try:
            waits.set()
            stage.pool.wait(held.native)
        except KeyboardInterrupt:
            pass
        else:
            check(False, "nothing was interrupted")
        thread.join()
    stage.others()
    gate.open()


@row(APP + "Ctrl-C in get", after="none")
def interrupted_by_the_terminal_in_get(stage: Stage) -> None:
    """The whole process group has the signal, and nothing but the wait is interrupted."""
    gate = stage.gate()
    process = stage.launch("interrupted", gate.path)
    pid = int(process.stdout.readline())
    gate.arrived()
    eventually(lambda: asleep(pid))
    os.killpg(pid, signal.SIGINT)
    check(process.stdout.readline() == "interrupted\n", "the wait was not interrupted")
    gate.open()
    check(process.stdout.read() == "passed\n", "the task or the pool has suffered")
    stage.nothing_is_left()


@row(APP + "Ctrl-C when idle")
def interrupted_when_idle(stage: Stage) -> None:
    stage.start()
    stage.idle()
    interrupted = False
    with stage.handling(signal.SIGINT, signal.default_int_handler):
        try:
            os.kill(os.getpid(), signal.SIGINT)
            for _ in range(100):
                os.sched_yield()
        except KeyboardInterrupt:
            interrupted = True
    check(interrupted, "no KeyboardInterrupt")
    stage.others()
