"""The edges: before, after, forgotten, forked, at the interpreter's exit; what workers inherit."""

from __future__ import annotations

import gc
import multiprocessing
import os
import signal
import subprocess
import warnings

import pytest

import prefork
from helpers import alive, eventually, hold, run_script, script, script_environment, square
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
        from multiprocessing import shared_memory
        from prefork import TaskPool

        def make():
            memory = shared_memory.SharedMemory(create=True, size=100)
            memory.buf[:5] = b"hello"
            memory.close()
            return memory.name, os.getpid()

        with TaskPool(1, maxtasksperchild=1) as pool:
            name, pid = pool.apply(make)
            assert pool.apply(os.getpid) != pid
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


def random_number():
    import random

    return random.random()


def test_workers_do_not_share_random_numbers(pool):
    one = pool(1, maxtasksperchild=1)
    assert len(set(one.starmap(random_number, [()] * 6))) == 6
