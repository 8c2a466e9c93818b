"""Handlers, masks and wake-ups: the application's signals, and those of its workers."""

from __future__ import annotations

import os
import signal
import subprocess

import pytest

import prefork
from helpers import asleep, eventually, hold, lines, note, pid_of_worker, square
from scripts import run_script, script, script_environment


@pytest.mark.parametrize("what", ["handler", "ignored"])
def test_whatever_the_application_does_with_sigchld(pool, what):
    called = []
    handler = signal.SIG_IGN if what == "ignored" else lambda *_: called.append(1)
    previous = signal.signal(signal.SIGCHLD, handler)
    try:
        one = pool(1, maxtasksperchild=2)
        assert one.map(square, range(10)) == [i * i for i in range(10)]
        with pytest.raises(prefork.WorkerExited):
            one.apply(os._exit, (3,))
        assert one.apply(run_a_program) == 7
        subprocess.run(["true"], check=True)
        one.stop()
    finally:
        signal.signal(signal.SIGCHLD, previous)


def run_a_program():
    return subprocess.run(["sh", "-c", "exit 7"], check=False).returncode


def dispositions():
    return {
        number: str(signal.getsignal(number))
        for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT, signal.SIGHUP)
    }, sorted(signal.pthread_sigmask(signal.SIG_BLOCK, []))


def test_signal_handlers_and_masks_of_the_application_are_not_the_workers(pool):
    def handler(*_):
        raise AssertionError

    numbers = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)
    previous = {number: signal.signal(number, handler) for number in numbers}
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR2])
    try:
        found, blocked = pool(1).apply(dispositions)
        assert signal.SIGUSR2 in signal.pthread_sigmask(signal.SIG_BLOCK, [])
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        for number, was in previous.items():
            signal.signal(number, was)
    assert found[signal.SIGTERM] == found[signal.SIGUSR1] == str(signal.SIG_DFL)
    assert found[signal.SIGINT] == found[signal.SIGHUP] == str(signal.SIG_IGN)
    assert blocked == []


def test_a_signal_to_a_worker_does_not_wake_the_applications_loop(pool, gate):
    reader, writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    previous = signal.signal(signal.SIGTERM, lambda *_: None)
    fd = signal.set_wakeup_fd(writer)
    try:
        one = pool(1)
        task = one.apply_async(hold, (gate.path,))
        (pid,) = gate.arrived()
        os.kill(pid, signal.SIGTERM)
        assert task.exception().signal == signal.SIGTERM
        with pytest.raises(BlockingIOError):
            os.read(reader, 1)
    finally:
        signal.set_wakeup_fd(fd)
        signal.signal(signal.SIGTERM, previous)
        os.close(reader)
        os.close(writer)


def test_the_callers_signal_mask_is_as_it_was(pool):
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [])
    one = pool(1)
    one.apply(square, (1,))
    one.restart()
    one.stop()
    assert signal.pthread_sigmask(signal.SIG_BLOCK, []) == before


SIGNALLED_AT_BIRTH = """
    import os, signal, sys
    from helpers import note, square
    from prefork import TaskPool
    application = os.getpid()
    signal.signal(signal.SIGUSR1, lambda *_: note(sys.argv[1]))

    def signal_the_newborn():
        if os.getppid() == application:  # the zygote, not its workers
            os.kill(os.getpid(), signal.SIGUSR1)

    os.register_at_fork(after_in_child=signal_the_newborn)
    with TaskPool(1) as pool:
        assert pool.apply(square, (3,)) == 9
    os.kill(application, signal.SIGUSR1)
"""


def test_no_handler_of_the_application_runs_in_a_newborn_zygote(tmp_path):
    with subprocess.Popen(
        [*script(tmp_path, SIGNALLED_AT_BIRTH), str(tmp_path / "called")], env=script_environment()
    ) as process:
        assert process.wait(30) == 0
    assert lines(tmp_path / "called") == [str(process.pid)]


def note_signals(path):
    signal.signal(signal.SIGUSR1, lambda *_: note(path))


def test_a_signal_that_a_worker_handles_does_not_wake_the_applications_loop(pool):
    reader, writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    previous = signal.signal(signal.SIGUSR1, lambda *_: None)
    fd = signal.set_wakeup_fd(writer)
    try:
        one = pool(1, initializer=note_signals, initargs=(os.devnull,))
        one.apply(signal.raise_signal, (signal.SIGUSR1,))
        with pytest.raises(BlockingIOError):
            os.read(reader, 1)
    finally:
        signal.set_wakeup_fd(fd)
        signal.signal(signal.SIGUSR1, previous)
        os.close(reader)
        os.close(writer)


def test_an_idle_worker_runs_its_signal_handlers_at_once(pool, tmp_path):
    path = str(tmp_path / "called")
    one = pool(1, initializer=note_signals, initargs=(path,))
    pid = one.apply(pid_of_worker)
    eventually(lambda: asleep(pid), one)
    os.kill(pid, signal.SIGUSR1)
    eventually(lambda: lines(path) == [str(pid)], one)
    assert one.apply(pid_of_worker) == pid


def test_a_worker_whose_result_nobody_takes_runs_its_signal_handlers_at_once(pool, tmp_path):
    path = str(tmp_path / "called")
    one = pool(1, initializer=note_signals, initargs=(path,), putlocks=False)
    pid = one.apply(pid_of_worker)
    one.fileno()  # nobody drives now but us
    eventually(lambda: one.workers[0].state == "idle", one)
    tasks = [one.apply_async(bytes, (16_000,)) for _ in range(8)]
    eventually(lambda: asleep(pid) and not any(task._has_ended() for task in tasks))
    os.kill(pid, signal.SIGUSR1)
    eventually(lambda: lines(path) == [str(pid)])
    assert [task.get() for task in tasks] == [bytes(16_000)] * 8


DROPS_PRIVILEGES = """
import os, time, prefork
from helpers import alive, eventually, pid_of_worker, spin
with prefork.TaskPool(2) as pool:
    pool.map(abs, range(4))
    os.setgid(65534)
    os.setuid(65534)
    late = pool.apply_async(spin, timeout=0.2)
    soft = pool.apply_async(spin, soft_timeout=0.2)
    print(type(late.exception()).__name__, type(soft.exception()).__name__)
    running = pool.apply_async(spin, waitforslot=False)
    pid = eventually(lambda: running.pid, pool)
    print(running.terminate(), type(running.exception()).__name__)
    eventually(lambda: not alive(pid), pool)
    last = pool.apply(pid_of_worker)
    pool.apply_async(spin, waitforslot=False)
    pool.apply_async(spin, waitforslot=False)
    eventually(lambda: pool.stats["workers_busy"] == 2, pool)
    pool.terminate()
    eventually(lambda: not alive(last))
    print(pool.state)
"""


if os.geteuid() == 0:  # nobody else can give anything up

    def test_an_application_that_has_given_up_its_rights_ends_its_workers_all_the_same(tmp_path):
        tmp_path.chmod(0o755)
        done = run_script(tmp_path, DROPS_PRIVILEGES)
        assert done.stdout.split("\n")[:3] == [
            "TimeLimitExceeded SoftTimeLimitExceeded",
            "True WorkerKilled",
            "stopped",
        ], done.stderr


def interrupt_a_program():
    program = subprocess.Popen(["sleep", "60"])
    os.kill(os.getpid(), signal.SIGINT)
    program.send_signal(signal.SIGINT)
    return program.wait(20)


def test_an_initializer_can_let_sigint_into_the_programs_of_tasks(pool):
    """As docs/reliability.md says."""
    one = pool(1, initializer=hear_sigint)
    assert one.apply(interrupt_a_program) == -signal.SIGINT
    assert one.apply(square, (2,)) == 4


def hear_sigint():
    signal.signal(signal.SIGINT, lambda *_: None)
