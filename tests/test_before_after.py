"""Before a pool's start, after its end, forgotten, and at the interpreter's exit."""

from __future__ import annotations

import gc
import warnings

import pytest

import prefork
from helpers import CALLS, alive, eventually, hold, square
from prefork import TaskPool
from scripts import run_script

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
    assert f"was collected while it was running, with {open_tasks} open tasks" in texts[0]
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
    assert "was still running at exit, with 5 open tasks" in done.stderr
    assert "Traceback" not in done.stderr
    pids = list(map(int, done.stdout.split()))
    assert len(pids) == 4
    eventually(lambda: not any(map(alive, pids)), within=10)


def test_pools_are_terminated_though_the_warning_is_an_error(tmp_path):
    done = run_script(
        tmp_path,
        """
        import gc, os, warnings
        from helpers import alive, descendants, eventually, spin
        from prefork import TaskPool
        warnings.simplefilter("error")

        class Told(TaskPool):
            def on_terminate(self):
                print("terminated", self.app, flush=True)

        def started(name):
            pool = Told(1, app=name)
            pool.start()
            pool.apply_async(spin)
            return pool

        pool = started("collected")
        del pool
        gc.collect()
        assert not any(map(alive, descendants(os.getpid())))
        pools = [started("first"), started("second")]
        print("exit", flush=True)
        """,
    )
    assert sorted(done.stdout.splitlines()) == [
        "exit", "terminated collected", "terminated first", "terminated second",
    ], done.stderr  # fmt: skip
    assert "was collected while it was running" in done.stderr


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
