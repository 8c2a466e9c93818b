"""An application that is killed, exits or is signalled, and what becomes of its pool."""

from __future__ import annotations

import os
import signal
import subprocess
import time

import pytest

from helpers import alive, asleep, eventually
from scripts import launched, run_script, script, script_environment

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


@pytest.mark.parametrize(
    "meanwhile", ["", "while not behind.ready(): pool.stats"], ids=["waits", "asks"]
)
def test_a_family_that_was_stopped_for_longer_than_a_limit_goes_on(tmp_path, gate, meanwhile):
    """As by Ctrl-Z: the time for which nobody ran is not the task's, whoever looks first then."""
    command = [
        *script(
            tmp_path,
            f"""
            import sys
            from helpers import hold, square
            from prefork import TaskPool
            with TaskPool(1, putlocks=False) as pool:
                assert pool.apply(square, (3,)) == 9
                task = pool.apply_async(hold, (sys.argv[1], "held"), timeout=2)
                behind = pool.apply_async(square, (3,), queue_timeout=3)
                print("ready", flush=True)
                {meanwhile}
                print(type(behind.exception()).__name__, flush=True)
                print(task.get(), flush=True)
            """,
        ),
        gate.path,
    ]
    with launched(command, stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"ready\n"
        gate.arrived()
        eventually(lambda: asleep(process.pid) or meanwhile)
        os.killpg(process.pid, signal.SIGSTOP)
        until = time.monotonic() + 3.5
        eventually(lambda: time.monotonic() > until)
        os.killpg(process.pid, signal.SIGCONT)
        # The pool has looked at the time, and was told of what had waited too long.
        assert process.stdout.readline() == b"QueueTimeout\n"
        gate.open()
        assert process.stdout.read() == b"held\n"
        assert process.wait(30) == 0


def test_sigpipe_at_its_default_does_not_kill_the_application(tmp_path):
    done = run_script(
        tmp_path,
        """
        import contextlib, os, signal
        from helpers import square
        from prefork import TaskPool
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
        with TaskPool(2) as pool:
            for _ in range(20):
                for worker in pool.workers:
                    with contextlib.suppress(ProcessLookupError):  # buried since the list was made
                        if worker.pid:
                            os.kill(worker.pid, signal.SIGKILL)
                assert pool.map(square, range(10)) == [i * i for i in range(10)]
        print("fine")
        """,
    )
    assert (done.returncode, done.stdout) == (0, "fine\n"), done.stderr
