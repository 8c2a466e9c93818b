"""How a worker is told to use this pool."""

from __future__ import annotations

import os
import signal

import pytest
from celery import concurrency
from celery.app.defaults import NAMESPACES
from workers import failure_of

import prefork.celery
from helpers import eventually, lines

NAME = "prefork.celery:TaskPool"
WAYS = {
    "setting": ((), {"CELERY_TEST_POOL": NAME}),
    "setting and flag": (("--pool", "prefork"), {"CELERY_TEST_POOL": NAME}),
    "environment": (
        ("--pool", "custom"),
        {"CELERY_TEST_POOL": "prefork", "CELERY_CUSTOM_WORKER_POOL": NAME},
    ),
    "install": ((), {"CELERY_TEST_POOL": "prefork", "CELERY_TEST_INSTALL": "1"}),
}


@pytest.mark.only("redis")
@pytest.mark.parametrize("way", WAYS)
def test_a_worker_is_told_to_use_this_pool(worker, way):
    flags, settings = WAYS[way]
    one = worker(*flags, **settings)
    (stats,) = one.stats()
    assert stats["pool"]["implementation"] == "prefork.celery.prefork:TaskPool"
    assert one.tasks.add.delay(2, 3).get(timeout=30) == 5


if "pool_start_method" in NAMESPACES["worker"]:  # Celery 5.7

    @pytest.mark.smoke
    @pytest.mark.parametrize(("celerys", "ours"), [("fork", "fork"), ("spawn", "exec")])
    def test_the_start_method_is_celerys_choice(worker, celerys, ours, tmp_path):
        notes = str(tmp_path / "notes")
        one = worker(conf={"worker_pool_start_method": celerys}, CELERY_TEST_NOTES=notes)
        assert one.ask("stats")["pool"]["start-method"] == ours
        results = [one.tasks.add.delay(i, i) for i in range(20)]
        assert [result.get(timeout=30) for result in results] == [2 * i for i in range(20)]
        assert repr(failure_of(one.tasks.fail.delay("why"))) == "ValueError('why')"
        pid = one.tasks.pid.delay().get(timeout=30)
        os.kill(pid, signal.SIGKILL)
        eventually(lambda: len(set(one.children()) - {pid}) == 2)
        assert one.tasks.add.delay(2, 3).get(timeout=30) == 5
        executed = one.tasks.environment.delay("FORKED_BY_MULTIPROCESSING").get(timeout=30)
        assert executed == ("1" if ours == "exec" else None)
        assert one.stop() == 0
        assert any(line.startswith("shutdown") for line in lines(notes))


def test_install_stands_in_for_the_aliases(monkeypatch):
    monkeypatch.setattr(concurrency, "ALIASES", dict(concurrency.ALIASES))
    prefork.celery.install()
    for name in ("prefork", "processes"):
        assert concurrency.get_implementation(name) is prefork.celery.TaskPool
    assert prefork.celery.TaskPool.__module__.split(".")[-1] == "prefork"
