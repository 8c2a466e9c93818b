"""Tasks of tasks, tasks that are tried again, and tasks for later."""

from __future__ import annotations

import time

import celery
import pytest
from workers import failure_of

from helpers import eventually, lines


@pytest.mark.smoke
def test_chains_groups_and_chords(worker):
    one = worker()
    add, total = one.tasks.add, one.tasks.total
    assert celery.chain(add.s(1, 2), add.s(3), add.s(4))().get(timeout=30) == 10
    numbers = celery.group(add.s(i, 1) for i in range(30))
    assert numbers().get(timeout=30) == list(range(1, 31))
    assert celery.chord((add.s(i, 1) for i in range(30)), total.s())().get(timeout=30) == 465
    nested = celery.chain(add.s(1, 1), celery.group(add.s(1), add.s(2)), total.s(), add.s(100))
    assert nested().get(timeout=30) == 107


def test_a_chord_whose_header_loses_a_process_fails(worker):
    one = worker()
    chord = celery.chord([one.tasks.add.s(1, 2), one.tasks.leave.s(3)], one.tasks.total.s())
    error = failure_of(chord())
    assert type(error) is celery.exceptions.ChordError
    assert "WorkerLostError" in str(error)


def test_an_error_of_a_chain_reaches_its_errback_and_ends_it(worker, tmp_path):
    one = worker()
    told = str(tmp_path / "told")
    failing = one.tasks.fail.si("why").on_error(one.tasks.tick.si(told))
    chain = celery.chain(failing, one.tasks.add.si(1, 2))()
    assert repr(failure_of(chain.parent)) == "ValueError('why')"
    eventually(lambda: lines(told) == ["tick"])


@pytest.mark.smoke
def test_a_task_is_tried_again(worker, tmp_path):
    one = worker()
    assert one.tasks.flaky.delay(str(tmp_path / "calls"), 3).get(timeout=30) == 4
    error = failure_of(one.tasks.flaky.delay(str(tmp_path / "more"), 99))
    assert repr(error) == "ValueError('call 6')"
    assert len(lines(tmp_path / "more")) == 6


def test_a_task_for_later_is_not_early(worker):
    one = worker()
    due = time.time() + 1.5
    result = one.tasks.now.apply_async(eta=celery.utils.time.maybe_make_aware(_utc(due)))
    soon = one.tasks.now.apply_async(countdown=0.5)
    assert one.tasks.add.delay(2, 3).get(timeout=30) == 5
    assert soon.get(timeout=30) < result.get(timeout=30)
    assert result.get() >= due


def _utc(seconds):
    from datetime import datetime, timezone

    return datetime.fromtimestamp(seconds, timezone.utc)
