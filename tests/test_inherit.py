"""What zygote and workers inherit: descriptors, garbage, frames, threads, orphans."""

from __future__ import annotations

import gc
import multiprocessing
import multiprocessing.util
import os
import subprocess
import sys
import threading

import pytest

from helpers import descriptors, eventually, hold, lines, note, square
from scripts import run_script


def descriptors_of_worker(path):
    hold(path)
    return descriptors()


def test_a_worker_has_two_pipes_and_a_crash_log_and_nothing_else_of_the_pools(pool, gate):
    before = descriptors()
    one = pool(3, putlocks=False)
    tasks = [one.apply_async(descriptors_of_worker, (gate.path,)) for _ in range(3)]
    gate.arrived(3)
    gate.open(3)
    pipes = []
    for task in tasks:
        # By number: libuv, where it is loaded, opens pipes of its own anew in every fork.
        new = {fd: what for fd, what in task.get().items() if fd not in before}
        new = {fd: what for fd, what in new.items() if not what.startswith("/proc/")}
        crash_log = [fd for fd, what in new.items() if "memfd:prefork-crash" in what]
        assert len(new) == 3 and len(crash_log) == 1, (new, before)
        del new[crash_log[0]]
        pipes += new.values()
    assert all(what.startswith("pipe:") for what in pipes)
    assert len(set(pipes)) == 6


def inherited_by_a_program():
    listing = "import os; print(*(os.readlink(f'/proc/self/fd/{n}') for n in range(3, 200) if " \
              "os.path.islink(f'/proc/self/fd/{n}')), sep='\\n')"  # fmt: skip
    command = [sys.executable, "-c", listing]
    done = subprocess.run(command, close_fds=False, capture_output=True, text=True, check=True)
    return {what for what in done.stdout.splitlines() if not what.startswith("/proc/")}


def test_programs_that_are_started_inherit_nothing_of_the_pool(pool):
    before = inherited_by_a_program()
    one = pool(2)
    assert one.apply(square, (1,)) == 1
    assert inherited_by_a_program() == before
    assert one.apply(inherited_by_a_program) == before


def test_files_that_were_open_at_start_are_open_in_workers(pool, tmp_path):
    with open(tmp_path / "log", "ab", buffering=0) as log:
        assert pool(1).apply(os.write, (log.fileno(), b"from a worker")) == 13
    assert (tmp_path / "log").read_bytes() == b"from a worker"


def test_garbage_of_the_application_is_finalized_there_and_only_there(pool, tmp_path):
    path = str(tmp_path / "finalized")

    class Garbage:
        def __init__(self):
            self.itself = self

        def __del__(self):
            note(path)

    gc.collect()
    gc.disable()
    try:
        Garbage()
        one = pool(1)
        assert lines(path) == [str(os.getpid())]
        Garbage()
        one.apply(gc.collect)
        one.restart()
        one.apply(gc.collect)
    finally:
        gc.enable()
    assert lines(path) == [str(os.getpid())] * 2


def test_garbage_that_is_there_at_the_fork_is_left_alone_by_zygote_and_workers(
    pool, tmp_path, monkeypatch
):
    path = str(tmp_path / "finalized")
    plain = os.fork

    class Garbage:
        def __init__(self):
            self.itself = self

        def __del__(self):
            note(path)

    def fork():
        Garbage()
        return plain()

    gc.collect()
    gc.disable()
    try:
        with monkeypatch.context() as patched:
            patched.setattr(os, "fork", fork)
            one = pool(1)
        one.apply(gc.collect)
        assert lines(path) == []
        gc.collect()
    finally:
        gc.enable()
    assert lines(path) == [str(os.getpid())]


def test_what_was_there_at_the_fork_is_left_alone_by_the_workers_collections(pool):
    made = [[i] for i in range(1000)]
    assert pool(1).apply(gc.get_freeze_count) >= gc.get_freeze_count() + len(made)


def test_the_zygote_is_forked_once_and_by_what_os_fork_is_then(pool, monkeypatch):
    """Who patches it (gevent, coverage, a debugger) sees this fork."""
    forked = []
    plain = os.fork

    def fork():
        forked.append(os.getpid())
        return plain()

    monkeypatch.setattr(os, "fork", fork)
    one = pool(2, maxtasksperchild=1)
    assert one.map(square, range(5)) == [0, 1, 4, 9, 16]
    assert forked == [os.getpid()]


def test_nothing_of_the_applications_frames_and_exits_runs_in_the_children(tmp_path):
    done = run_script(
        tmp_path,
        """
        import atexit, os, signal, sys
        from helpers import eventually, fail, square
        from prefork import TaskPool
        atexit.register(lambda: print("exit", flush=True))
        try:
            pool = TaskPool(2, maxtasksperchild=2, putlocks=False)
            pool.start()
            for end in (sys.exit, fail, quit):
                pool.apply_async(end).wait()
            assert pool.map(square, range(5)) == [0, 1, 4, 9, 16]
            eventually(lambda: pool.stats["standby"], pool)
            os.kill(pool.stats["zygote"], signal.SIGKILL)
            eventually(lambda: pool.stats["zygotes_lost"], pool)
            pool.restart()
            assert pool.map(square, range(5)) == [0, 1, 4, 9, 16]
            pool.stop()
        finally:
            print("finally", flush=True)
        """,
    )
    assert (done.returncode, done.stdout) == (0, "finally\nexit\n"), done.stderr


def test_threads_at_start_are_named_in_one_warning(pool, caplog):
    go_on = threading.Event()
    thread = threading.Thread(target=go_on.wait, name="busy-elsewhere")
    thread.start()
    try:
        one = pool(1)
        assert one.apply(square, (3,)) == 9
    finally:
        go_on.set()
        thread.join()
    (text,) = [r.getMessage() for r in caplog.records if "threads" in r.getMessage()]
    assert "busy-elsewhere" in text
    caplog.clear()
    assert pool(1, start_method="exec").apply(square, (3,)) == 9
    assert "threads" not in caplog.text


def oom_score():
    with open("/proc/self/oom_score_adj") as score:
        return int(score.read())


def test_workers_are_the_first_that_the_kernel_shall_kill(pool):
    one = pool(1)
    worker = one.apply(oom_score)
    with open(f"/proc/{one.stats['zygote']}/oom_score_adj") as zygote:
        assert worker > int(zygote.read()) == oom_score()


def test_pool_processes_stay_in_the_applications_group_and_session(pool):
    one = pool(1)
    eventually(lambda: one.stats["standby"], one)
    for pid in (one.apply(os.getpid), one.stats["zygote"], one.stats["standby"]):
        assert (os.getpgid(pid), os.getsid(pid)) == (os.getpgrp(), os.getsid(0))


AS_INIT = """
    import ctypes, os, signal, sys
    from helpers import descendants, eventually, kill_zygote, square
    from prefork import TaskPool
    assert ctypes.CDLL(None).prctl(36, 1, 0, 0, 0) == 0  # PR_SET_CHILD_SUBREAPER
    mine = os.fork()  # a child of the application's own, which it has not waited for
    if mine == 0:
        os._exit(7)
    pool = TaskPool(2)
    pool.start()
    for lost in range(1, int(sys.argv[1]) + 1):
        eventually(lambda: pool.stats["standby"] and pool.stats["workers_alive"] == 2, pool)
        kill_zygote(pool)
        assert pool.stats["zygotes_lost"] == lost
        assert pool.map(square, range(20)) == [i * i for i in range(20)]
    eventually(lambda: pool.stats["standby"] and pool.stats["workers_alive"] == 2, pool)
    eventually(lambda: len(descendants(os.getpid())) == 5, pool)
    if sys.argv[2] == "stopped":
        os.kill(pool.stats["zygote"], signal.SIGSTOP)
        pool.terminate()
    pool.stop()
    eventually(lambda: descendants(os.getpid()) == {mine})
    assert os.waitpid(mine, 0) == (mine, 7 << 8)
    print("fine")
"""


@pytest.mark.parametrize(
    "zygotes, last", [(0, "running"), (0, "stopped"), (1, "running"), (3, "running")]
)
def test_an_application_that_inherits_orphans_is_left_no_zombies(tmp_path, zygotes, last):
    """As the first process of a container, for one."""
    done = run_script(tmp_path, AS_INIT, str(zygotes), last)
    assert (done.returncode, done.stdout) == (0, "fine\n"), done.stderr


def random_number():
    import random

    return random.random()


def test_workers_do_not_share_random_numbers(pool):
    one = pool(1, maxtasksperchild=1)
    assert len(set(one.starmap(random_number, [()] * 6))) == 6


def test_threads_that_a_fork_hook_starts_in_the_zygote_are_warned_of(tmp_path):
    done = run_script(
        tmp_path,
        """
        import logging, os, threading
        from prefork import TaskPool

        logging.basicConfig()

        def start_one():
            threading.Thread(target=threading.Event().wait, daemon=True).start()

        os.register_at_fork(after_in_child=start_one)
        with TaskPool(1) as pool:
            print(pool.apply(abs, (-1,)))
        """,
    )
    assert (done.returncode, done.stdout) == (0, "1\n"), done.stderr
    assert "the zygote has 2 threads" in done.stderr


def test_a_start_by_a_thread_with_a_small_stack_is_warned_of(pool, caplog):
    made = []
    before = threading.stack_size(512 << 10)
    try:
        thread = threading.Thread(target=lambda: made.append(pool(1)))
        thread.start()
        thread.join()
    finally:
        threading.stack_size(before)
    assert made[0].apply(square, (3,)) == 9
    assert "a stack of 512 KiB" in caplog.text


def identity():
    process = multiprocessing.current_process()
    return process.name, process._parent_pid == os.getppid(), process.daemon


def test_a_worker_has_an_identity_of_its_own_in_multiprocessings_books(pool):
    assert pool(1).apply(identity) == ("prefork-worker-0", True, False)


def test_finalizers_of_the_application_do_not_run_in_workers(pool, tmp_path):
    path = tmp_path / "finalized"
    finalizer = multiprocessing.util.Finalize(None, note, (str(path),), exitpriority=10)
    try:
        one = pool(1, maxtasksperchild=1)
        assert one.map(square, range(3)) == [0, 1, 4]
        one.stop()
        assert not path.exists()
    finally:
        finalizer.cancel()


def test_what_the_application_has_not_flushed_is_written_once(tmp_path):
    done = run_script(
        tmp_path,
        """
        from prefork import TaskPool
        print("once")
        with TaskPool(1, maxtasksperchild=1) as pool:
            pool.map(abs, range(3))
        """,
    )
    assert done.stdout == "once\n"
