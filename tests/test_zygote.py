"""The zygote or its standby, killed in every way; both at once: test_recovery.py."""

from __future__ import annotations

import ctypes
import os
import signal

import pytest

import prefork
from helpers import (
    alive,
    descriptors,
    eventually,
    full,
    hold,
    kill_zygote,
    parent_of,
    pid_of_worker,
    pids,
    square,
)


def standing_by(pool):
    return eventually(lambda: pool.stats["standby"], pool)


@pytest.mark.parametrize("method", ["fork", "exec"])
def test_a_killed_zygote_costs_the_running_tasks_and_no_other(pool, gate, method):
    one = pool(2, putlocks=False, start_method=method)
    held = [one.apply_async(hold, (gate.path,)) for _ in range(2)]
    pids = gate.arrived(2)
    rest = [one.apply_async(square, (i,)) for i in range(100)]
    zygote, standby = one.stats["zygote"], standing_by(one)
    os.kill(zygote, signal.SIGKILL)
    for task in held:
        with pytest.raises(prefork.WorkerLostError, match="zygote") as caught:
            task.get()
        assert caught.value.zygote_lost
        assert caught.value.pid in pids
        assert caught.value.task_id == task.id
    assert [task.get() for task in rest] == [i * i for i in range(100)]
    eventually(lambda: full(one, 2), one)
    stats = one.stats
    assert (stats["zygote"], stats["zygotes_lost"]) == (standby, 1)
    assert stats["application_forks"] == 1
    assert standing_by(one) not in (zygote, standby, 0)
    assert not any(map(alive, pids))
    assert one.state == "running"


def test_an_idle_pools_killed_zygote_is_noticed_by_the_log_only(pool, caplog):
    one = pool(2)
    one.apply(square, (1,))
    standing_by(one)
    first = pids(eventually(lambda: full(one, 2) and one, one))
    with caplog.at_level("ERROR", "prefork"):
        os.kill(one.stats["zygote"], signal.SIGKILL)
        eventually(lambda: not any(map(alive, first)))  # or one might still begin a task
        assert one.map(square, range(50)) == [i * i for i in range(50)]
        eventually(lambda: one.stats["zygotes_lost"] == 1, one)
        eventually(lambda: "has taken over" in caplog.text, one)


def test_a_killed_standby_harms_nobody(pool, gate):
    one = pool(1, putlocks=False)
    held = one.apply_async(hold, (gate.path,))
    (pid,) = gate.arrived()
    zygote, standby = one.stats["zygote"], standing_by(one)
    os.kill(standby, signal.SIGKILL)
    eventually(lambda: not alive(standby))
    gate.open()
    assert held.get() == pid
    assert one.map(square, range(30)) == [i * i for i in range(30)]
    assert one.stats["zygote"] == zygote


def test_a_killed_standby_is_replaced(pool):
    one = pool(1)
    standby = standing_by(one)
    os.kill(standby, signal.SIGKILL)
    eventually(lambda: one.stats["standby"] not in (0, standby), one)
    kill_zygote(one)
    assert one.apply(square, (3,), {}) == 9
    assert one.stats["application_forks"] == 1


def test_zygotes_killed_one_after_the_other(pool):
    one = pool(2, putlocks=False)
    for lost in range(1, 5):
        standing_by(one)
        tasks = [one.apply_async(square, (i,)) for i in range(50)]
        os.kill(one.stats["zygote"], signal.SIGKILL)
        for i, task in enumerate(tasks):
            error = task.exception()
            assert error.zygote_lost if error else task.get() == i * i, repr(error)
        eventually(lambda lost=lost: one.stats["zygotes_lost"] == lost, one)
        eventually(lambda: full(one, 2), one)
    assert one.stats["application_forks"] == 1


@pytest.mark.parametrize("ending", ["stop", "terminate"])
def test_a_zygote_killed_just_before_the_end_delays_nobody(pool, ending):
    one = pool(2)
    one.apply(square, (1,))
    standing_by(one)
    os.kill(one.stats["zygote"], signal.SIGKILL)
    getattr(one, ending)()
    assert one.state == "stopped"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1])
def test_zygotes_ignore_whatever_can_be_ignored(pool, number):
    one = pool(1)
    pid = one.apply(pid_of_worker)
    both = one.stats["zygote"], standing_by(one)
    for zygote in both:
        os.kill(zygote, number)
    assert one.apply(pid_of_worker) == pid
    one.grow()
    eventually(lambda: full(one, 2), one)
    assert (one.stats["zygote"], one.stats["standby"]) == both


def outlive_the_zygote(path):
    """A task that has the kernel not kill it when its zygote ends."""
    libc = ctypes.CDLL(None)
    assert libc.prctl(1, 0, 0, 0, 0) == 0  # PR_SET_PDEATHSIG
    return hold(path)


def test_a_dead_zygotes_worker_is_not_dead_before_it_is(pool, gate):
    one = pool(1, putlocks=False)
    task = one.apply_async(outlive_the_zygote, (gate.path,))
    (pid,) = gate.arrived()
    eventually(lambda: full(one, 1), one)  # the zygote has said so, and not only the worker itself
    standby = standing_by(one)
    os.kill(one.stats["zygote"], signal.SIGKILL)
    eventually(lambda: one.stats["zygotes_lost"] == 1, one)
    eventually(lambda: one.stats["standby"] not in (0, standby), one)
    assert not task.done()
    gate.open()
    assert task.get() == pid
    assert one.apply(pid_of_worker) == pid  # it serves on
    os.kill(pid, signal.SIGKILL)
    assert one.apply(pid_of_worker) != pid


def test_a_worker_that_dies_while_the_zygote_is_stopped_fails_its_task_at_once(pool, gate):
    one = pool(1, putlocks=False)
    task = one.apply_async(hold, (gate.path,))
    (pid,) = gate.arrived()
    zygote = one.stats["zygote"]
    os.kill(zygote, signal.SIGSTOP)
    try:
        os.kill(pid, signal.SIGKILL)
        with pytest.raises(prefork.WorkerLostError, match="how is unknown") as caught:
            task.get()
    finally:
        os.kill(zygote, signal.SIGCONT)
    assert (caught.value.pid, caught.value.exitcode, caught.value.zygote_lost) == (pid, None, False)
    assert one.apply(square, (3,)) == 9
    assert one.stats["zygotes_lost"] == 0


def test_what_a_zygote_was_asked_and_did_not_do_the_standby_does(pool):
    one = pool(1)
    one.apply(square, (1,))
    standby, zygote = standing_by(one), one.stats["zygote"]
    os.kill(zygote, signal.SIGSTOP)
    one.grow(2)
    assert sorted(w.state for w in one.workers)[1:] == ["spawning"] * 2
    os.kill(zygote, signal.SIGKILL)
    eventually(lambda: full(one, 3), one)
    assert one.stats["zygote"] == standby
    assert {parent_of(worker.pid) for worker in one.workers} == {standby}


def test_a_zygote_that_does_not_answer_is_replaced_and_kills_nobody(pool, gate, caplog):
    one = pool(2, putlocks=False)
    held = one.apply_async(hold, (gate.path,))
    (pid,) = gate.arrived()
    eventually(lambda: full(one, 2), one)
    standby, zygote = standing_by(one), one.stats["zygote"]
    os.kill(zygote, signal.SIGSTOP)
    (idle,) = pids(one) - {pid}
    os.kill(idle, signal.SIGKILL)
    tasks = [one.apply_async(pid_of_worker) for _ in range(5)]
    (successor,) = {task.get() for task in tasks}
    assert parent_of(successor) == standby
    assert parent_of(pid) == zygote
    assert (one.stats["zygote"], one.stats["zygotes_lost"]) == (standby, 1)
    assert f"zygote {zygote} does not answer; zygote {standby} has taken over" in caplog.text
    gate.open()
    assert held.get() == pid
    standing_by(one)
    one.restart()
    eventually(lambda: not alive(zygote) and full(one, 2), one)
    assert one.stats["tasks_lost"] == 0


@pytest.mark.parametrize("method", ["fork", "exec"])
def test_restart_is_the_way_out_when_an_import_hangs(pool, gate, tmp_path, monkeypatch, method):
    stuck = tmp_path / "stuck_when_told.py"
    now = tmp_path / "stuck_when_told.py.now"
    stuck.write_text(
        "import os\n"
        "if os.path.exists(__file__ + '.now'):\n"
        f"    open({gate.path + '.here'!r}, 'w').write(f'{{os.getpid()}}\\n')\n"
        f"    open({gate.path + '.go'!r}).read(1)\n"
    )
    now.touch()
    monkeypatch.syspath_prepend(tmp_path)
    one = pool(2, start_method=method, preload=["stuck_when_told"], putlocks=False)
    (zygote,) = gate.arrived(pool=one)
    tasks = [one.apply_async(square, (i,)) for i in range(5)]
    now.unlink()
    one.restart()
    assert [task.get() for task in tasks] == [i * i for i in range(5)]
    eventually(lambda: full(one, 2), one)
    assert not alive(zygote)
    assert one.stats["zygotes_lost"] == 0


def test_restart_is_the_way_out_when_a_zygote_is_stopped(pool, gate):
    one = pool(2, putlocks=False)
    held = one.apply_async(hold, (gate.path,))
    (pid,) = gate.arrived()
    eventually(lambda: full(one, 2), one)
    zygote = one.stats["zygote"]
    os.kill(zygote, signal.SIGSTOP)
    (idle,) = pids(one) - {pid}
    os.kill(idle, signal.SIGKILL)
    eventually(lambda: "spawning" in [worker.state for worker in one.workers], one)
    one.restart()
    fresh = one.stats["zygote"]
    assert parent_of(one.apply(pid_of_worker)) == fresh
    assert alive(zygote)
    os.kill(zygote, signal.SIGCONT)  # whom it bears now finds that nobody waits
    assert not held.done()
    gate.open()
    assert held.get() == pid
    eventually(lambda: not alive(zygote) and full(one, 2), one)
    assert {parent_of(worker.pid) for worker in one.workers} == {fresh}
    assert one.stats["tasks_lost"] == 0
    assert one.stats["zygotes_lost"] == 0


def test_a_stopped_zygote_does_not_keep_a_limit_from_killing(pool, gate):
    one = pool(1)
    task = one.apply_async(hold, (gate.path,), timeout=0.3)
    (pid,) = gate.arrived()
    zygote = one.stats["zygote"]
    os.kill(zygote, signal.SIGSTOP)
    try:
        with pytest.raises(prefork.TimeLimitExceeded):
            task.get()
        eventually(lambda: not alive(pid), one)
    finally:
        os.kill(zygote, signal.SIGCONT)
    assert one.apply(square, (2,)) == 4


# ---- where the system has no descriptor for a process, or refuses it -----------------------------


@pytest.fixture
def no_pidfd(monkeypatch):
    monkeypatch.setenv("PREFORK_NO_PIDFD", "1")


def pidfds():
    return [w for w in descriptors().values() if w.startswith(("anon_inode:[pidfd]", "pidfd:"))]


@pytest.mark.usefixtures("no_pidfd")
@pytest.mark.parametrize("who", ["worker", "zygote"])
def test_without_pidfds_deaths_are_noticed_all_the_same(pool, gate, who):
    one = pool(2, putlocks=False)
    held = one.apply_async(hold, (gate.path,))
    (pid,) = gate.arrived()
    standing_by(one)
    assert pidfds() == []
    os.kill(pid if who == "worker" else one.stats["zygote"], signal.SIGKILL)
    with pytest.raises(prefork.WorkerLostError) as caught:
        held.get()
    assert (caught.value.pid, caught.value.zygote_lost) == (pid, who == "zygote")
    eventually(lambda: full(one, 2), one)
    assert one.map(square, range(50)) == [i * i for i in range(50)]


@pytest.mark.usefixtures("no_pidfd")
def test_without_pidfds_a_limit_kills(pool, gate):
    one = pool(1)
    task = one.apply_async(hold, (gate.path,), timeout=0.2)
    (pid,) = gate.arrived()
    with pytest.raises(prefork.TimeLimitExceeded):
        task.get()
    eventually(lambda: not alive(pid), one)
    assert one.apply(square, (3,)) == 9
