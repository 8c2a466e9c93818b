"""on_lost: a task whose worker died is called again, a bounded number of times."""

import os
import signal
import threading
from pathlib import Path

import pytest

import prefork
from helpers import eventually, hold, square


def die_at_first(path, times, how="kill"):
    """Ends its worker as often as wanted; the file counts its calls."""
    calls = len(Path(path).read_bytes()) if Path(path).exists() else 0
    with open(path, "ab") as count:
        count.write(b"x")
    if calls < times:
        if how == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        os._exit(3)
    return calls, prefork.current_task().losses


def fail(path):
    with open(path, "ab") as count:
        count.write(b"x")
    raise KeyError("no")


@pytest.mark.parametrize("how", ["kill", "exit"])
def test_a_lost_task_is_called_again(pool, tmp_path, how):
    one = pool(2)
    task = one.apply_async(
        die_at_first, (str(tmp_path / "calls"), 2, how), on_lost="retry", retries=2
    )
    assert task.get() == (2, 2)
    assert one.stats["tasks_lost"] == 0 and one.stats["workers_exited"] == 2


def test_once_more_and_it_is_quarantined(pool, tmp_path):
    calls = tmp_path / "calls"
    one = pool(2)
    error = one.apply_async(die_at_first, (str(calls), 99), on_lost="retry", retries=2).exception()
    assert type(error) is prefork.QuarantinedTask and isinstance(error, prefork.WorkerLostError)
    assert (error.attempts, error.signal, error.task_name) == (3, signal.SIGKILL, "die_at_first")
    assert error.pid and "3 times" in str(error) and "SIGKILL" in str(error)
    assert len(calls.read_bytes()) == 3
    assert one.apply(square, (3,)) == 9


def test_the_default_is_at_most_once(pool, tmp_path):
    calls = tmp_path / "calls"
    one = pool(1)
    assert type(one.apply_async(die_at_first, (str(calls), 1)).exception()) is prefork.WorkerKilled
    assert len(calls.read_bytes()) == 1


def test_what_a_task_raises_is_no_loss(pool, tmp_path):
    calls = tmp_path / "calls"
    with pytest.raises(KeyError):
        pool(1).apply_async(fail, (str(calls),), on_lost="retry", retries=5).get()
    assert len(calls.read_bytes()) == 1


def test_a_time_limit_is_no_loss(pool, gate):
    task = pool(1).apply_async(hold, (gate.path,), on_lost="retry", retries=5, timeout=0.2)
    gate.arrived()
    assert type(task.exception()) is prefork.TimeLimitExceeded


def test_a_task_that_was_terminated_is_not_called_again(pool, gate):
    one = pool(1)
    task = one.apply_async(hold, (gate.path,), on_lost="retry", retries=5)
    gate.arrived()
    assert task.terminate()
    assert type(task.exception()) is prefork.WorkerKilled


def test_it_is_announced_once(pool, tmp_path):
    accepted = []
    one = pool(1)
    task = one.apply_async(
        die_at_first, (str(tmp_path / "calls"), 3), on_lost="retry", retries=3,
        accept_callback=lambda *args: accepted.append(args),
    )  # fmt: skip
    assert task.get() == (3, 3)
    one.stop()
    assert len(accepted) == 1


def test_it_survives_its_zygote(pool, gate):
    one = pool(1)
    eventually(lambda: one.stats["standby"], one)
    task = one.apply_async(hold, (gate.path, 7), on_lost="retry", retries=1)
    gate.arrived()
    os.kill(one.stats["zygote"], signal.SIGKILL)
    gate.arrived()  # of the new worker
    gate.open(2)
    assert task.get() == 7


@pytest.mark.parametrize("how", ["cancel", "flush", "terminate"])
def test_one_that_waits_for_its_next_call_counts_as_not_begun(pool, tmp_path, how):
    calls = tmp_path / "calls"
    allowed, one = threading.Event(), None

    def before_spawn():
        if one is not None:
            allowed.wait()

    one = pool(1, before_spawn=before_spawn)
    task = one.apply_async(die_at_first, (str(calls), 1), on_lost="retry")
    eventually(lambda: one.stats["workers_exited"] == 1 and one.stats["tasks_queued"] == 1, one)
    assert len(calls.read_bytes()) == 1
    if how == "cancel":
        assert task.cancel()
    elif how == "flush":
        assert one.flush() == 1
    else:
        one.terminate(0)
    allowed.set()
    if how == "terminate":
        assert "had not begun" in str(task.exception())
    else:
        assert task.cancelled()
    assert len(calls.read_bytes()) == 1


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"on_lost": "ignore"}, ValueError),
        ({"retries": 5}, ValueError),
        ({"on_lost": "fail", "retries": 1}, ValueError),
        ({"on_lost": "retry", "retries": -1}, ValueError),
        ({"on_lost": "retry", "retries": 1.5}, TypeError),
    ],
)
def test_options_that_cannot_be(pool, options, error):
    with pytest.raises(error):
        pool(1).apply_async(square, (1,), **options)
