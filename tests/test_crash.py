"""Workers that die, and an application that does."""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import struct
import subprocess
import time

import pytest

import prefork
from helpers import (
    alive,
    asleep,
    eventually,
    exit_now,
    hold,
    kill_self,
    launched,
    pid_of_worker,
    run_script,
    script,
    script_environment,
    square,
)


def full(pool, count):
    workers = pool.workers
    return len(workers) == count and all(w.pid and w.state in ("idle", "running") for w in workers)


def test_a_worker_killed_while_running_fails_its_task_and_no_other(pool, gate):
    one = pool(2, putlocks=False)
    held = [one.apply_async(hold, (gate.path,), correlation_id=f"t{i}") for i in range(2)]
    hit, spared = gate.arrived(2)
    rest = [one.apply_async(square, (i,)) for i in range(100)]
    os.kill(hit, signal.SIGKILL)
    victim = next(task for task in held if task.pid in (hit, None))
    with pytest.raises(prefork.WorkerKilled) as caught:
        victim.get()
    error = caught.value
    assert (error.pid, error.signal, error.exitcode) == (hit, signal.SIGKILL, -signal.SIGKILL)
    assert (error.task_id, error.task_name) == (victim.id, "hold")
    assert error.runtime > 0
    assert not error.zygote_lost
    assert "SIGKILL" in str(error)
    assert str(hit) in str(error)
    gate.open()
    assert [task.get() for task in rest] == [i * i for i in range(100)]
    assert next(task for task in held if task is not victim).get() == spared
    eventually(lambda: full(one, 2), one)
    stats = one.stats
    assert (stats["tasks_lost"], stats["tasks_succeeded"]) == (1, 101)
    assert stats["application_forks"] == 1


@pytest.mark.parametrize(
    "number", [signal.SIGKILL, signal.SIGSEGV, signal.SIGTERM, signal.SIGABRT, signal.SIGFPE]
)
def test_the_error_names_the_signal(pool, number):
    one = pool(1)
    with pytest.raises(prefork.WorkerKilled, match=number.name) as caught:
        one.apply(kill_self, (number,))
    assert caught.value.signal == number
    assert one.apply(square, (2,)) == 4


@pytest.mark.parametrize("code", [0, 1, 77])
def test_a_worker_that_exits_in_a_task_fails_it(pool, code):
    one = pool(1)
    with pytest.raises(prefork.WorkerExited, match=f"code {code}") as caught:
        one.apply(exit_now, (code,))
    assert caught.value.exitcode == code
    assert caught.value.signal is None
    assert one.apply(square, (2,)) == 4


def test_a_worker_killed_while_idle_is_noticed_by_the_log_only(pool, caplog):
    one = pool(2)
    pids = [worker.pid for worker in eventually(lambda: full(one, 2) and one.workers, one)]
    with caplog.at_level("WARNING", "prefork"):
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        assert one.map(square, range(50)) == [i * i for i in range(50)]
        eventually(lambda: one.stats["workers_replaced"] == 2, one)
    eventually(lambda: full(one, 2), one)
    assert not {worker.pid for worker in one.workers} & set(pids)
    assert caplog.text.count("was ended by SIGKILL") == 2
    assert one.stats["tasks_lost"] == 0


def test_workers_killed_again_and_again_lose_only_what_they_ran(pool):
    one = pool(2, putlocks=False)
    tasks = []
    killed = 0
    while killed < 10:
        if all(task.ready() for task in tasks):
            fresh = range(len(tasks), len(tasks) + 200)
            tasks += [one.apply_async(square, (i,)) for i in fresh]
        for worker in one.workers:
            if worker.state in ("idle", "running") and killed < 10:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(worker.pid, signal.SIGKILL)
                    killed += 1
        one.poll(0.002)
    errors = [task.exception() for task in tasks if task.exception()]
    assert len(errors) <= killed
    assert all(isinstance(error, prefork.WorkerKilled) for error in errors)
    assert [t.get() for t in tasks if t.successful()] == [
        i * i for i, t in enumerate(tasks) if t.successful()
    ]
    eventually(lambda: full(one, 2), one)


def test_a_stopped_worker_holds_up_its_task_only(pool, gate):
    one = pool(2, putlocks=False)
    task = one.apply_async(hold, (gate.path,))
    (pid,) = gate.arrived()
    os.kill(pid, signal.SIGSTOP)
    try:
        assert one.map(square, range(500)) == [i * i for i in range(500)]
        assert not task.ready()
    finally:
        os.kill(pid, signal.SIGCONT)
    gate.open()
    assert task.get() == pid


@pytest.mark.parametrize("slot", [0, 1])
def test_a_task_that_a_stopped_worker_was_woken_for_is_done_by_another(pool, slot):
    one = pool(2)
    eventually(lambda: full(one, 2) and all(asleep(w.pid) for w in one.workers), one)
    pid = one.workers[slot].pid
    os.kill(pid, signal.SIGSTOP)
    try:
        for i in range(50):
            assert one.apply(square, (i,)) == i * i
    finally:
        os.kill(pid, signal.SIGCONT)


def test_a_stopped_worker_is_killed_at_its_limit(pool, gate):
    one = pool(1)
    task = one.apply_async(hold, (gate.path,), timeout=0.3)
    (pid,) = gate.arrived()
    os.kill(pid, signal.SIGSTOP)
    with pytest.raises(prefork.TimeLimitExceeded):
        task.get()
    eventually(lambda: not alive(pid), one)


def die_delivering(size):
    import threading

    threading.Timer(0.0, os._exit, (5,)).start()
    return b"x" * size


def test_a_worker_that_dies_around_its_delivery_settles_the_task_once(pool):
    one = pool(2, putlocks=False)
    ends = []
    tasks = [
        one.apply_async(
            die_delivering, (10_000_000,), callback=ends.append, error_callback=ends.append
        )
        for _ in range(10)
    ]
    for task in tasks:
        task.wait()
    one.stop()
    assert len(ends) == 10
    for end in ends:
        assert isinstance(end, prefork.WorkerLostError) or len(end) == 10_000_000


def pipes_of_worker():
    """The worker's ends of its pipes: descriptors for reading, for writing."""
    ends = {os.O_RDONLY: [], os.O_WRONLY: []}
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            flags = fcntl.fcntl(int(name), fcntl.F_GETFL)
            if os.readlink(f"/proc/self/fd/{name}").startswith("pipe:") and flags & os.O_NONBLOCK:
                ends[flags & os.O_ACCMODE].append(int(name))
    return ends[os.O_RDONLY], ends[os.O_WRONLY]


BELLS = struct.pack("=IHHQQQq", 0x70664631, 1, 0, 0, 0, 0, 0) * 1000  # frames that say nothing


def write_for_ever(data):
    (fd,) = pipes_of_worker()[1]
    os.set_blocking(fd, True)
    while True:
        os.write(fd, data)


def test_a_worker_that_never_stops_writing_holds_up_nobody(pool):
    one = pool(2, putlocks=False)
    flood = one.apply_async(write_for_ever, (BELLS,), timeout=0.3)
    assert one.map(square, range(100)) == [i * i for i in range(100)]
    with pytest.raises(prefork.TimeLimitExceeded):
        flood.get()
    assert one.map(square, range(100)) == [i * i for i in range(100)]


def leave_a_writing_grandchild(data):
    if os.fork() == 0:
        try:
            write_for_ever(data)
        finally:
            os._exit(0)  # EPIPE: the pool listens no more
    os._exit(3)


def test_a_grandchild_that_never_stops_writing_holds_up_nobody(pool):
    one = pool(1)
    with pytest.raises(prefork.WorkerExited):
        one.apply(leave_a_writing_grandchild, (BELLS,))
    assert one.apply(square, (3,)) == 9


def write_to_the_pool(data, path):
    os.write(pipes_of_worker()[1][0], data)
    return hold(path)


def a_result(number, seq):
    return struct.pack("=IHHQQQq", 0x70664631, 6, 0, 0, number, seq, 0)


@pytest.mark.parametrize(
    "data",
    [b"\xff" * 100, b"\0" * 100, BELLS[:40] + b"garbage" * 20, a_result(1 << 32 | 1, 77),
     a_result(5, 2), a_result(1 << 32, 1)],
    ids=["ones", "zeros", "after a frame", "another sequence", "no task", "another's task"],
)  # fmt: skip
def test_a_worker_that_breaks_the_protocol_is_killed_and_its_task_lost(pool, gate, caplog, data):
    one = pool(2, putlocks=False)
    spared = one.apply_async(hold, (gate.path, "spared"))
    gate.arrived()
    task = one.apply_async(write_to_the_pool, (data, gate.path))
    with pytest.raises(prefork.WorkerKilled) as caught:
        task.get()
    assert f"worker {caught.value.pid} wrote nonsense" in caplog.text
    assert not spared.done()
    gate.open(2)
    assert spared.get() == "spared"
    assert one.map(square, range(20)) == [i * i for i in range(20)]
    assert one.stats["tasks_lost"] == 1


def close_pipes(path):
    for fds in pipes_of_worker():
        for fd in fds:
            os.close(fd)
    return hold(path)


def test_a_worker_that_lost_its_pipes_is_not_taken_for_dead(pool, gate):
    one = pool(1)
    task = one.apply_async(close_pipes, (gate.path,))
    (pid,) = gate.arrived()
    for _ in range(10):
        one.poll(0.01)  # the end of the pipe is seen now
    assert not task.done()
    gate.open()
    assert task.get() == pid  # it delivered, and ended then
    assert one.apply(pid_of_worker) != pid


def leave_grandchild(path):
    pid = os.fork()
    if pid == 0:
        with open(path, "rb") as gate:
            gate.read(1)
        os._exit(0)
    os._exit(3)


def test_a_grandchild_that_outlives_its_worker_disturbs_nobody(pool, gate):
    one = pool(1)
    with pytest.raises(prefork.WorkerExited):
        one.apply(leave_grandchild, (f"{gate.path}.go",))
    assert one.map(square, range(20)) == [i * i for i in range(20)]
    gate.open()


def fork_and_return():
    """A task whose child returns out of it, into the worker's loop."""
    return os.fork()


def test_a_forked_copy_of_a_worker_takes_no_tasks(pool):
    one = pool(1)
    child = one.apply(fork_and_return)
    assert child > 0
    pid = one.apply(pid_of_worker)
    assert {one.apply(pid_of_worker) for _ in range(50)} == {pid}
    eventually(lambda: not alive(child))
    # It knew what it was: it did not run into memory that is not there.
    assert os.WIFEXITED(one.apply(os.waitpid, (child, 0))[1])


# ---- the application -----------------------------------------------------------------------------

BUSY = """
    import sys
    from helpers import hold, eventually
    from prefork import TaskPool

    if __name__ == "__main__":
        pool = TaskPool(3, start_method=sys.argv[2]).start() or None
        pool = TaskPool(3, start_method=sys.argv[2])
        pool.start()
        tasks = [pool.apply_async(hold, (sys.argv[1],)) for _ in range(3)]
        eventually(lambda: pool.stats["standby"], pool)
        print(pool.stats["zygote"], pool.stats["standby"], flush=True)
        tasks[0].get()
""".replace("        pool = TaskPool(3, start_method=sys.argv[2]).start() or None\n", "")


@pytest.mark.parametrize("method", ["fork", "exec"])
@pytest.mark.parametrize("how", ["alone", "with a stopped zygote", "without pidfds"])
def test_nothing_survives_an_application_that_is_killed(tmp_path, gate, method, how):
    command = [*script(tmp_path, BUSY), gate.path, method]
    environment = {**script_environment(), "PREFORK_NO_PIDFD": "1" if how[:8] == "without " else ""}
    with launched(command, stdout=subprocess.PIPE, env=environment) as process:
        pids = [*map(int, process.stdout.readline().split()), *gate.arrived(3)]
        assert all(map(alive, pids))
        if how == "with a stopped zygote":
            os.kill(pids[0], signal.SIGSTOP)
        process.kill()
    if how == "with a stopped zygote":
        os.kill(pids[0], signal.SIGCONT)
    eventually(lambda: not any(map(alive, pids)), within=10)


def test_nothing_survives_an_application_that_leaves_by_os_exit(tmp_path):
    done = run_script(
        tmp_path,
        """
        import os
        from helpers import eventually, spin
        from prefork import TaskPool
        pool = TaskPool(2)
        pool.start()
        tasks = [pool.apply_async(spin) for _ in range(2)]
        eventually(lambda: all(t.pid for t in tasks) and pool.stats["standby"], pool)
        print(*[t.pid for t in tasks], pool.stats["zygote"], pool.stats["standby"], flush=True)
        os._exit(0)
        """,
    )
    pids = list(map(int, done.stdout.split()))
    assert len(pids) == 4
    eventually(lambda: not any(map(alive, pids)), within=10)


def test_sigterm_to_the_whole_group_leaves_no_process(tmp_path, gate):
    command = [*script(tmp_path, BUSY), gate.path, "fork"]
    with launched(command, stdout=subprocess.PIPE) as process:
        pids = [*map(int, process.stdout.readline().split()), *gate.arrived(3)]
        os.killpg(process.pid, signal.SIGTERM)
        assert process.wait(30) == -signal.SIGTERM
    eventually(lambda: not any(map(alive, pids)), within=10)


def test_a_warm_stop_survives_sigterm_to_the_whole_group(tmp_path, gate):
    """The zygote ignores it, and so do workers that do: no task is lost by the signal."""
    command = [
        *script(
            tmp_path,
            """
            import signal, sys
            from helpers import hold_stubbornly
            from prefork import TaskPool
            pool = TaskPool(1)
            pool.start()
            signal.signal(signal.SIGTERM, lambda *_: pool.close())
            task = pool.apply_async(hold_stubbornly, (sys.argv[1],))
            task.wait()
            pool.stop()
            print(task.get(), pool.stats["zygotes_lost"], flush=True)
            """,
        ),
        gate.path,
    ]
    with launched(command, stdout=subprocess.PIPE) as process:
        (pid,) = gate.arrived()
        os.killpg(process.pid, signal.SIGTERM)
        gate.open()
        assert process.communicate(timeout=30)[0].split() == [str(pid).encode(), b"0"]
        assert process.returncode == 0


def test_interrupts_of_the_group_reach_get_and_no_worker(tmp_path, gate):
    command = [
        *script(
            tmp_path,
            """
            import sys
            from helpers import hold
            from prefork import TaskPool
            with TaskPool(1) as pool:
                task = pool.apply_async(hold, (sys.argv[1],))
                print("ready", flush=True)
                try:
                    task.get()
                except KeyboardInterrupt:
                    print("interrupted", flush=True)
                print(task.get() > 0, flush=True)
            """,
        ),
        gate.path,
    ]
    with launched(command, stdout=subprocess.PIPE) as process:
        (pid,) = gate.arrived()
        assert process.stdout.readline() == b"ready\n"
        eventually(lambda: asleep(process.pid))
        os.killpg(process.pid, signal.SIGINT)
        assert process.stdout.readline() == b"interrupted\n"
        assert alive(pid)
        gate.open()
        assert process.stdout.read() == b"True\n"
        assert process.wait(30) == 0


def test_ctrl_c_ends_a_program_that_waits(tmp_path, gate):
    command = [*script(tmp_path, BUSY), gate.path, "fork"]
    with launched(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        pids = [*map(int, process.stdout.readline().split()), *gate.arrived(3)]
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=30)
    assert process.returncode == -signal.SIGINT
    assert b"KeyboardInterrupt" in errors
    eventually(lambda: not any(map(alive, pids)), within=10)


def test_sigpipe_at_its_default_does_not_kill_the_application(tmp_path):
    done = run_script(
        tmp_path,
        """
        import os, signal
        from helpers import eventually, square
        from prefork import TaskPool
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
        with TaskPool(2) as pool:
            for _ in range(20):
                for worker in pool.workers:
                    if worker.pid:
                        os.kill(worker.pid, signal.SIGKILL)
                assert pool.map(square, range(10)) == [i * i for i in range(10)]
        print("fine")
        """,
    )
    assert (done.returncode, done.stdout) == (0, "fine\n"), done.stderr


def test_times_of_a_lost_task_are_its_own(pool):
    one = pool(1)
    begun = time.monotonic()
    task = one.apply_async(kill_self, (signal.SIGKILL,))
    runtime = task.exception().runtime
    assert 0 < runtime <= time.monotonic() - begun
