"""What a pool tells of itself: names of processes, workers, statistics, info, the log."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

import prefork
from helpers import eventually, full, hold, name_of, parent_of, pid_of_worker, pids, square
from prefork import TaskPool
from scripts import script, script_environment


def test_processes_are_recognisable_by_name(pool):
    one = pool(2)
    eventually(lambda: full(one, 2), one)
    stats = one.stats
    assert name_of(stats["zygote"]) == "prefork-zygote"
    eventually(lambda: one.stats["standby"], one)
    assert name_of(one.stats["standby"]).startswith("prefork-")
    assert {name_of(pid) for pid in pids(one)} == {"prefork-worker"}
    assert {parent_of(pid) for pid in pids(one)} == {stats["zygote"]}


def test_the_standby_has_the_zygotes_name(pool):
    one = pool(1)
    eventually(lambda: one.stats["standby"], one)
    assert name_of(one.stats["standby"]) == "prefork-zygote"


def test_workers_tell_what_they_do(pool, gate):
    one = pool(2)
    eventually(lambda: full(one, 2), one)
    task = one.apply_async(hold, (gate.path,), correlation_id="mine")
    (pid,) = gate.arrived()
    busy = {worker.pid: worker for worker in one.workers}[pid]
    assert (busy.state, busy.task) == ("running", "mine")
    assert busy.rss > 1000
    assert busy.since > 0
    assert {worker.slot for worker in one.workers} == {0, 1}
    gate.open()
    task.get()
    eventually(lambda: {w.state for w in one.workers} == {"idle"}, one)
    assert sum(worker.tasks_done for worker in one.workers) == 1


def test_stats_count(pool, gate):
    one = pool(2, putlocks=False)
    one.map(square, range(10))
    with pytest.raises(ZeroDivisionError):
        one.apply(divmod, (1, 0))
    held = [one.apply_async(hold, (gate.path,)) for _ in range(2)]
    gate.arrived(2)
    queued = [one.apply_async(square, (1,)) for _ in range(3)]
    assert queued[0].cancel()
    stats = one.stats
    assert stats["tasks_submitted"] == 16
    assert stats["tasks_succeeded"] == 10
    assert stats["tasks_failed"] == 1
    assert stats["tasks_cancelled"] == 1
    assert stats["tasks_unfinished"] == 4
    assert stats["tasks_queued"] == 2
    assert stats["workers_alive"] == stats["workers_busy"] == 2
    assert stats["application_forks"] == 1
    assert repr(one) == "<TaskPool running 2/2 workers, 2 busy, 2 queued>"
    gate.open(2)
    assert all(task.get() for task in held)


def test_repr_tells_the_state():
    pool = TaskPool(1)
    assert repr(pool) == "<TaskPool new>"
    with pool:
        assert repr(pool).startswith("<TaskPool running ")
    assert repr(pool) == "<TaskPool stopped>"


def test_info_answers_as_celery_expects(pool):
    one = pool(2, maxtasksperchild=9, timeout=5.0)
    eventually(lambda: full(one, 2), one)
    info = one.info
    assert info["max-concurrency"] == 2
    assert set(info["processes"]) == pids(one)
    assert info["max-tasks-per-child"] == 9
    assert info["timeouts"] == (0, 5.0)


def test_facts_can_be_asked_of_a_pool_that_is_over(pool):
    one = pool(1)
    one.apply(square, (1,))
    one.stop()
    assert one.workers == []
    assert one.stats["tasks_succeeded"] == 1
    assert one.info["processes"] == []


def test_app_is_kept():
    app = object()
    assert TaskPool(1, app=app).app is app


def test_did_start_ok_and_maintain_pool(pool):
    one = pool(1)
    one.maintain_pool()
    assert one.did_start_ok() is True


def test_the_package_knows_its_version():
    assert prefork.__version__[0].isdigit()
    with pytest.raises(AttributeError, match="module 'prefork' has no attribute 'versoin'"):
        _ = prefork.versoin


def test_a_pool_imports_little():
    """Each fork of a worker has to copy the tables of all that was imported."""
    dear = {"difflib", "email", "importlib.metadata", "pathlib", "tempfile", "zipfile"}
    dear |= {"dataclasses", "dis", "inspect"}
    program = (
        "import sys; before = set(sys.modules)\n"
        "from prefork import TaskPool\n"
        "with TaskPool(1) as pool: pool.apply(abs, (-1,))\n"
        "print(*set(sys.modules) - before)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    imported = set(done.stdout.split())
    assert done.returncode == 0 and "prefork.pool" in imported
    assert not imported & dear


# ---- the log -------------------------------------------------------------------------------------


def test_the_log_tells_of_a_killed_worker(pool, caplog):
    one = pool(1)
    pid = one.apply(pid_of_worker)
    os.kill(pid, signal.SIGKILL)
    with caplog.at_level("WARNING", "prefork"):
        eventually(lambda: f"worker {pid} (slot 0) was ended by SIGKILL" in caplog.text, one)


def test_a_logger_of_ones_own_is_used(pool):
    import copy
    import logging

    seen = []
    functions = set()

    class Handler(logging.Handler):
        def emit(self, record):
            seen.append(record.getMessage())
            functions.add(record.funcName)

    logger = logging.getLogger("mine")
    logger.addHandler(Handler())
    logger.setLevel("INFO")
    one = pool(1, logger=logger)
    pid = one.apply(pid_of_worker)
    os.kill(pid, signal.SIGKILL)
    eventually(lambda: any(f"worker {pid}" in text for text in seen), one)
    one.logger.warning("mine %d", 1, stack_info=False, stacklevel=1)
    assert "mine 1" in seen
    assert {"_worker_exited", "test_a_logger_of_ones_own_is_used"} <= functions
    assert copy.copy(one.logger).name == "mine"


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
