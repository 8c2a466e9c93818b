"""What a worker's flags and settings mean to the pool, those too that other tests are not about."""

from __future__ import annotations

import logging
import time

import pytest

from helpers import eventually, lines, note, pid_of_worker, spin, square


@pytest.mark.parametrize("strategy", [None, "default", "fair", "fast", "fcfs"])
def test_a_job_goes_to_a_process_that_has_none_whatever_the_strategy(driven, strategy):
    one = driven(1, sched_strategy=strategy)
    one.submit(square, 2)
    one.until(lambda: len(one.said) == 2)
    assert one.pool.info["writes"]["strategy"] == "fair"


@pytest.mark.parametrize(
    ("option", "error", "words"),
    [
        ({"sched_strategy": "unfair"}, ValueError, "sched_strategy must be one of"),
        ({"synack": True}, TypeError, "synack"),  # it is not for Celery to pass
        ({"lost_worker_timout": 3}, TypeError, "lost_worker_timout"),
    ],
)
def test_what_there_is_not_is_refused(driven, option, error, words):
    with pytest.raises(error, match=words):
        driven(1, **option)


def test_an_inner_pool_has_no_second_answer():
    from prefork.celery.pool import Pool

    with pytest.raises(ValueError, match="synack"):
        Pool(1, synack=True)


def test_all_that_celery_passes_is_taken(driven):
    one = driven(
        1,
        lost_worker_timeout=10.0,
        max_restarts=100,
        allow_restart=False,
        sched_strategy="fair",
        maxtasksperchild=None,
        max_memory_per_child=None,
        timeout=None,
        soft_timeout=None,
    )
    one.submit(square, 2)
    one.until(lambda: len(one.said) == 2)


def test_a_pool_is_restarted_where_that_is_allowed_and_nowhere_else(driven):
    one = driven(1, allow_restart=False)
    one.submit(pid_of_worker)
    one.until(lambda: len(one.said) == 2)
    with pytest.raises(RuntimeError, match="worker_pool_restarts"):
        one.pool.restart()
    one.submit(pid_of_worker)
    one.until(lambda: len(one.said) == 4)
    assert one.said[1] == one.said[3]


def test_limits_may_be_turned_off(driven, monkeypatch):
    from prefork.celery.pool import Pool

    def without(**options):
        return Pool(**(options | {"enable_timeouts": False}))

    monkeypatch.setattr("prefork.celery.prefork.TaskPool.Pool", staticmethod(without))
    one = driven(1, timeout=0.1)
    job = one.submit(spin, timeout=0.1, soft_timeout=0.1)
    one.until(lambda: one.said)
    end = time.monotonic() + 1
    one.until(lambda: time.monotonic() > end)
    assert one.names() == ["accept"]
    job.terminate(9)
    one.until(lambda: len(one.said) == 2)


class Noting(logging.Handler):
    """Writes what is logged into a file, also in workers."""

    def __init__(self, path):
        super().__init__()
        self.path = path

    def emit(self, record):
        note(self.path, record.getMessage())


@pytest.fixture
def mentioned(tmp_path):
    """A file with what processes log about themselves."""
    path = str(tmp_path / "mentioned")
    logger, handler = logging.getLogger("prefork.celery.child"), Noting(path)
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.WARNING)  # whatever an embedded worker has set for all
    yield path
    logger.removeHandler(handler)
    logger.setLevel(level)


def test_a_process_that_starts_slowly_is_mentioned_and_left_alone(
    driven, app, monkeypatch, mentioned
):
    def slow(app, hostname):
        eventually(lambda: lines(mentioned))

    monkeypatch.setattr("celery.concurrency.prefork.process_initializer", slow)
    monkeypatch.setitem(app.conf, "worker_proc_alive_timeout", 0.2)
    one = driven(1)
    one.submit(square, 2)
    one.until(lambda: len(one.said) == 2)
    (line,) = lines(mentioned)
    assert line.startswith(f"ForkPoolWorker-1 (pid {one.said[0][1]}) is not up after 0.2 s")


def test_a_process_that_starts_in_time_is_not_mentioned(driven, app, monkeypatch, mentioned):
    monkeypatch.setitem(app.conf, "worker_proc_alive_timeout", 50)
    one = driven(1)
    one.submit(square, 2)
    one.until(lambda: len(one.said) == 2)
    assert lines(mentioned) == []
