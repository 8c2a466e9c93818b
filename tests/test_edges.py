"""The edges: before, after, forgotten, forked, at the interpreter's exit; what workers inherit."""

from __future__ import annotations

import gc
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import warnings

import pytest

import prefork
from helpers import (
    alive,
    asleep,
    descriptors,
    eventually,
    hold,
    lines,
    note,
    pid_of_worker,
    run_script,
    script,
    script_environment,
    square,
)
from prefork import TaskPool

CALLS = {
    "apply": lambda pool: pool.apply(square, (1,)),
    "apply_async": lambda pool: pool.apply_async(square, (1,)),
    "map": lambda pool: pool.map(square, [1]),
    "starmap": lambda pool: pool.starmap(square, [(1,)]),
    "imap": lambda pool: pool.imap(square, [1]),
    "imap_unordered": lambda pool: pool.imap_unordered(square, [1]),
    "grow": lambda pool: pool.grow(),
    "shrink": lambda pool: pool.shrink(),
    "restart": lambda pool: pool.restart(),
}
OTHERS = ["flush", "poll", "fileno", "maintain_pool", "did_start_ok", "close", "join", "stop",
          "terminate"]  # fmt: skip


@pytest.mark.parametrize("name", [*CALLS, *OTHERS])
def test_before_start_everything_says_how_to_start(name):
    pool = TaskPool(1)
    with pytest.raises(RuntimeError, match=r"start\(\).*with") as caught:
        CALLS.get(name, lambda pool: getattr(pool, name)())(pool)
    assert not isinstance(caught.value, prefork.PoolClosed)


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("ending", ["close", "stop", "terminate"])
def test_after_the_end_everything_is_poolclosed(pool, name, ending):
    one = pool(1)
    getattr(one, ending)()
    with pytest.raises(prefork.PoolClosed):
        CALLS[name](one)


@pytest.mark.parametrize("name", [n for n in OTHERS if n not in ("fileno", "did_start_ok")])
def test_after_the_end_the_rest_does_nothing(pool, name):
    one = pool(1)
    one.stop()
    assert not getattr(one, name)() or name == "join"


@pytest.mark.parametrize("open_tasks", [0, 1, 3])
@pytest.mark.parametrize("with_callback", [False, True])
def test_a_forgotten_pool_is_terminated_with_one_warning(gate, open_tasks, with_callback):
    pool = TaskPool(1)
    pool.start()
    options = {"callback": str} if with_callback else {}
    tasks = [
        pool.apply_async(hold, (gate.path,), waitforslot=False, **options)
        for _ in range(open_tasks)
    ]
    pids = gate.arrived(min(1, open_tasks))
    zygote = pool.stats["zygote"]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        del pool, tasks
        eventually(lambda: gc.collect() < 0 or any(w.category is ResourceWarning for w in caught))
    texts = [str(w.message) for w in caught if w.category is ResourceWarning]
    assert len(texts) == 1
    assert f"{open_tasks} open tasks" in texts[0]
    eventually(lambda: not any(map(alive, [*pids, zygote])))


def test_a_stopped_pool_is_collected_without_a_word():
    with TaskPool(1) as pool:
        pool.apply(square, (1,))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        del pool
        gc.collect()


def test_an_interpreter_that_exits_terminates_its_pools_with_one_warning(tmp_path):
    done = run_script(
        tmp_path,
        """
        import warnings
        from helpers import eventually, spin
        from prefork import TaskPool
        warnings.simplefilter("always", ResourceWarning)
        pool = TaskPool(2, putlocks=False)
        pool.start()
        tasks = [pool.apply_async(spin, error_callback=str) for _ in range(5)]
        eventually(lambda: pool.stats["workers_busy"] == 2 and pool.stats["standby"], pool)
        print(*[w.pid for w in pool.workers], pool.stats["zygote"], pool.stats["standby"])
        """,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("ResourceWarning: <") == 1, done.stderr
    assert "5 open tasks" in done.stderr
    assert "Traceback" not in done.stderr
    pids = list(map(int, done.stdout.split()))
    assert len(pids) == 4
    eventually(lambda: not any(map(alive, pids)), within=10)


def test_an_exit_in_the_middle_of_callbacks_is_quiet(tmp_path):
    done = run_script(
        tmp_path,
        """
        from helpers import square
        from prefork import TaskPool
        with TaskPool(2, putlocks=False) as pool:
            for i in range(500):
                pool.apply_async(square, (i,), callback=str)
        """,
    )
    assert (done.returncode, done.stderr) == (0, "")


# ---- forks of the application --------------------------------------------------------------------


def in_a_fork(function):
    """What `function` gives in a forked child, as text; the child exits as a program would."""
    reader, writer = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        pid = os.fork()
    if pid == 0:
        try:
            try:
                text = repr(function())
            except BaseException as error:
                text = type(error).__name__
            os.write(writer, text.encode())
        finally:
            os._exit(0)
    os.close(writer)
    with open(reader, "rb") as stream:
        text = stream.read().decode()
    assert os.waitpid(pid, 0)[1] == 0
    return text


@pytest.mark.parametrize("name", CALLS)
def test_in_a_forked_child_the_pool_is_not_its_own(pool, name):
    one = pool(1)
    one.apply(square, (1,))
    assert in_a_fork(lambda: CALLS[name](one)) == "PoolClosed"
    assert one.apply(square, (3,)) == 9


def test_a_forked_child_may_end_or_wait_or_ask_without_harm(pool, gate):
    one = pool(1)
    task = one.apply_async(hold, (gate.path, 8))
    gate.arrived()
    assert in_a_fork(lambda: task.get(20)) == "PoolClosed"
    for name in ("close", "stop", "terminate"):
        in_a_fork(getattr(one, name))
    in_a_fork(lambda: (repr(one), one.state, one.workers, task.pid, task.done()))
    in_a_fork(one.__del__)
    assert one.state == "running"
    gate.open()
    assert task.get() == 8
    assert one.map(square, range(20)) == [i * i for i in range(20)]


@pytest.mark.parametrize("name", ["poll", "flush", "maintain_pool"])
def test_driving_the_pool_in_a_forked_child_is_refused_or_nothing(pool, name):
    one = pool(1)
    one.apply(square, (1,))
    assert in_a_fork(getattr(one, name)) in ("PoolClosed", "0", "None")
    assert one.apply(square, (3,)) == 9


def test_a_forked_child_may_have_a_pool_of_its_own(pool):
    one = pool(1)
    one.apply(square, (1,))

    def own():
        with TaskPool(1) as another:
            return another.map(square, range(4))

    assert in_a_fork(own) == "[0, 1, 4, 9]"
    assert one.apply(square, (3,)) == 9


def test_a_forked_child_that_exits_normally_disturbs_nobody(tmp_path):
    done = run_script(
        tmp_path,
        """
        import os, sys
        from helpers import square
        from prefork import TaskPool
        with TaskPool(2) as pool:
            task = pool.apply_async(square, (3,))
            pid = os.fork()
            if pid == 0:
                sys.exit(5)
            assert os.waitpid(pid, 0)[1] == 5 << 8
            assert task.get() == 9
            assert pool.map(square, range(50)) == [i * i for i in range(50)]
        print("fine")
        """,
    )
    assert (done.returncode, done.stdout) == (0, "fine\n"), done.stderr
    assert "Error" not in done.stderr


def test_a_process_of_multiprocessing_beside_the_pool(pool):
    one = pool(1)
    context = multiprocessing.get_context("fork")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        process = context.Process(target=square, args=(2,))
        process.start()
    process.join()
    assert process.exitcode == 0
    process.close()
    assert one.apply(square, (3,)) == 9


# ---- the application's signals -------------------------------------------------------------------


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
    tasks = [one.apply_async(bytes, (16_000,)) for _ in range(8)]
    eventually(lambda: asleep(pid) and not any(task._has_ended() for task in tasks))
    os.kill(pid, signal.SIGUSR1)
    eventually(lambda: lines(path) == [str(pid)])
    assert [task.get() for task in tasks] == [bytes(16_000)] * 8


def leave_thread(gate, path):
    def wait():
        hold(gate)
        note(path)

    threading.Thread(target=wait).start()


def test_a_thread_that_a_task_left_runs_while_the_worker_is_idle(pool, gate, tmp_path):
    path = str(tmp_path / "noted")
    one = pool(1)
    one.apply(leave_thread, (gate.path, path))
    (pid,) = gate.arrived()
    gate.open()
    eventually(lambda: lines(path) == [str(pid)])


# ---- multiprocessing in workers ------------------------------------------------------------------


def use_a_process():
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=sender.send, args=("from the child",))
    process.start()
    process.join(20)
    return receiver.recv(), process.exitcode, multiprocessing.current_process().daemon


@pytest.mark.parametrize("method", ["fork", "exec"])
def test_tasks_may_use_multiprocessing(pool, method):
    one = pool(1, start_method=method)
    for _ in range(2):
        assert one.apply(use_a_process) == ("from the child", 0, False)


def nested_pool():
    with TaskPool(2) as pool:
        return pool.map(square, range(5))


@pytest.mark.parametrize("method", ["fork", "exec"])
def test_tasks_may_have_a_pool_of_their_own(pool, method):
    assert pool(1, start_method=method).apply(nested_pool) == [0, 1, 4, 9, 16]


def test_the_applications_own_processes_survive_the_workers(tmp_path):
    done = run_script(
        tmp_path,
        """
        import multiprocessing, signal
        from helpers import square
        from prefork import TaskPool
        process = multiprocessing.get_context("fork").Process(target=signal.pause, daemon=True)
        process.start()
        with TaskPool(2, maxtasksperchild=1) as pool:
            assert pool.map(square, range(10)) == [i * i for i in range(10)]
        print(process.is_alive())
        """,
    )
    assert done.stdout == "True\n", done.stderr


def test_shared_memory_made_in_a_worker_survives_it(tmp_path):
    done = run_script(
        tmp_path,
        """
        import os
        from multiprocessing import resource_tracker, shared_memory
        from prefork import TaskPool

        def make():
            memory = shared_memory.SharedMemory(create=True, size=100)
            memory.buf[:5] = b"hello"
            memory.close()
            return memory.name, os.getpid(), tracker()

        def tracker():  # the pipe to it: one of the worker's own would unlink what it made
            return os.readlink(f"/proc/self/fd/{resource_tracker.getfd()}")

        with TaskPool(1, maxtasksperchild=1) as pool:
            name, pid, tracked_by = pool.apply(make)
            assert pool.apply(os.getpid) != pid
            assert tracked_by == tracker()
            memory = shared_memory.SharedMemory(name)
            print(bytes(memory.buf[:5]))
            memory.close()
            memory.unlink()
        """,
    )
    assert (done.returncode, done.stdout) == (0, "b'hello'\n"), done.stderr


def test_what_workers_print_is_written_when_they_end(tmp_path):
    done = run_script(
        tmp_path,
        """
        from prefork import TaskPool
        print("before", end=" ")
        with TaskPool(1) as pool:
            pool.apply(print, ("worker",))
        print("after")
        """,
    )
    assert done.stdout == "before worker\nafter\n", done.stderr


def test_the_log_is_shown_by_an_environment_variable(tmp_path):
    path = script(
        tmp_path,
        """
        from prefork import TaskPool
        with TaskPool(1) as pool:
            pool.apply(abs, (1,))
        """,
    )
    environment = {**script_environment(), "PREFORK_LOG": "debug"}
    done = subprocess.run(path, env=environment, capture_output=True, text=True, check=True)
    assert " is up in slot 0" in done.stderr
    assert "prefork.worker" in done.stderr


# ---- what workers inherit ------------------------------------------------------------------------


def descriptors_of_worker(path):
    hold(path)
    return descriptors()


def test_a_worker_has_its_own_two_pipes_and_nothing_else_of_the_pools(pool, gate):
    before = set(descriptors().values())
    one = pool(3, putlocks=False)
    tasks = [one.apply_async(descriptors_of_worker, (gate.path,)) for _ in range(3)]
    gate.arrived(3)
    gate.open(3)
    pipes = []
    for task in tasks:
        new = {fd: what for fd, what in task.get().items() if what not in before}
        new = {fd: what for fd, what in new.items() if not what.startswith("/proc/")}
        assert len(new) == 2, (new, sorted(before))
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


def test_what_was_there_at_the_fork_is_left_alone_by_the_workers_collections(pool):
    assert pool(1).apply(gc.get_freeze_count) > 1000


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
    from helpers import descendants, eventually, hold, square
    from prefork import TaskPool
    assert ctypes.CDLL(None).prctl(36, 1, 0, 0, 0) == 0  # PR_SET_CHILD_SUBREAPER
    mine = os.fork()  # a child of the application's own, which it has not waited for
    if mine == 0:
        os._exit(7)
    pool = TaskPool(2)
    pool.start()
    for lost in range(1, int(sys.argv[1]) + 1):
        eventually(lambda: pool.stats["standby"] and pool.stats["workers_alive"] == 2, pool)
        os.kill(pool.stats["zygote"], signal.SIGKILL)
        eventually(lambda: pool.stats["zygotes_lost"] == lost, pool)
        assert pool.map(square, range(20)) == [i * i for i in range(20)]
    eventually(lambda: pool.stats["standby"] and pool.stats["workers_alive"] == 2, pool)
    eventually(lambda: len(descendants(os.getpid())) == 5, pool)
    pool.stop()
    eventually(lambda: descendants(os.getpid()) == {mine})
    assert os.waitpid(mine, 0) == (mine, 7 << 8)
    print("fine")
"""


@pytest.mark.parametrize("zygotes", [0, 1, 3])
def test_an_application_that_inherits_orphans_is_left_no_zombies(tmp_path, zygotes):
    """As the first process of a container, for one."""
    done = run_script(tmp_path, AS_INIT, str(zygotes))
    assert (done.returncode, done.stdout) == (0, "fine\n"), done.stderr


def random_number():
    import random

    return random.random()


def test_workers_do_not_share_random_numbers(pool):
    one = pool(1, maxtasksperchild=1)
    assert len(set(one.starmap(random_number, [()] * 6))) == 6
