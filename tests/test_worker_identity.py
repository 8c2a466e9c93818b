"""What code in a worker learns of its worker, how it ends it, and what tells it that time is up."""

from __future__ import annotations

import os
import signal
import time

import pytest

import prefork
from helpers import eventually, exit_now, full, lines, note, pids, spin


def identity():
    worker = prefork.current_worker()
    return (worker.slot, worker.generation)


seen_by_initializer = None


def ask_identity():
    global seen_by_initializer
    seen_by_initializer = identity()


def both_identities():
    return seen_by_initializer, identity()


@pytest.mark.parametrize("method", ["fork", "exec"])
def test_a_worker_and_its_initializer_know_slot_and_generation(pool, method):
    one = pool(1, initializer=ask_identity, start_method=method)
    assert one.apply(both_identities) == ((0, 1), (0, 1))
    with pytest.raises(prefork.WorkerExited):
        one.apply(exit_now, (1,))
    before, now = one.apply(both_identities)
    assert before == now
    assert now == (0, one.workers[0].generation) != (0, 1)


def identity_of_a_fork():
    pid = os.fork()
    if pid == 0:
        os._exit(0 if prefork.current_worker() is None else 1)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def test_outside_of_a_worker_there_is_none(pool):
    assert prefork.current_worker() is None
    with pytest.raises(RuntimeError, match="no worker"):
        prefork.exit_worker()
    assert pool(1).apply(identity_of_a_fork) == 0


def leave(code):
    prefork.exit_worker(code)


def write_end(path):
    return lambda pid, code: note(path, f"{pid} {code}")


def test_a_task_may_end_its_worker_in_good_order(pool, tmp_path):
    path = str(tmp_path / "ends")
    one = pool(1, on_process_exit=write_end(path))
    error = one.apply_async(leave, (7,)).exception()
    assert type(error) is prefork.WorkerExited
    assert error.exitcode == 7
    assert lines(path) == [f"{error.pid} 7"]


def exit_by_handler():
    def handler(number, frame):
        raise SystemExit(5)

    signal.signal(signal.SIGTERM, handler)


def test_a_handler_that_raises_systemexit_between_tasks_ends_the_worker_in_good_order(
    pool, tmp_path
):
    path = str(tmp_path / "ends")
    one = pool(1, initializer=exit_by_handler, on_process_exit=write_end(path))
    eventually(lambda: full(one, 1), one)
    (pid,) = pids(one)
    os.kill(pid, signal.SIGTERM)
    eventually(lambda: full(one, 1) and pids(one) != {pid}, one)
    assert lines(path) == [f"{pid} 5"]


class Late(Exception):
    pass


def spin_until_late():
    try:
        spin()
    except Late as error:
        return error.args


@pytest.mark.parametrize("method", ["fork", "exec"])
def test_the_error_of_the_soft_limit_may_be_another(pool, method):
    one = pool(1, soft_timeout_error=Late, start_method=method)
    message, seconds = one.apply_async(spin_until_late, soft_timeout=0.1).get()
    assert seconds == 0.1
    assert "longer than 0.1 s" in message


def no_error(message, seconds):
    return None


def wait_until_told(path):
    """Until the pool has said that the soft limit is up, and for as long again."""
    eventually(lambda: os.path.exists(path))
    end = time.monotonic() + 0.1
    while time.monotonic() < end:
        pass
    return "undisturbed"


def test_there_may_be_no_error_of_the_soft_limit(pool, tmp_path):
    told = tmp_path / "told"
    one = pool(1, soft_timeout_error=no_error)
    task = one.apply_async(
        wait_until_told,
        (str(told),),
        soft_timeout=0.1,
        timeout_callback=lambda soft, seconds: told.touch(),
    )
    assert task.get(timeout=30) == "undisturbed"


def test_it_must_be_callable():
    with pytest.raises(TypeError, match="soft_timeout_error"):
        prefork.TaskPool(1, soft_timeout_error="no")
