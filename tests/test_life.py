"""Starting, ending, restarting and resizing a pool."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path

import pytest

import prefork
from helpers import (
    alive,
    descriptors,
    eventually,
    hold,
    hold_stubbornly,
    leftovers,
    lines,
    name_of,
    note,
    parent_of,
    pid_of_worker,
    square,
)
from prefork import TaskPool


def pids(pool):
    return {worker.pid for worker in pool.workers}


def full(pool, count):
    """The pool is at strength: every worker has a pid and can take tasks."""
    return (
        len(workers := pool.workers) == count
        and all(w.pid and w.state in ("idle", "running") for w in workers)
        and workers
    )


def test_a_pool_goes_from_new_over_running_and_closed_to_stopped():
    pool = TaskPool(1)
    assert (pool.state, pool.active) == ("new", False)
    pool.start()
    assert (pool.state, pool.active) == ("running", True)
    pool.close()
    assert (pool.state, pool.active) == ("closed", False)
    assert pool.join() is True
    assert (pool.state, pool.active) == ("stopped", False)


def test_leaving_a_with_block_finishes_every_task():
    with TaskPool(2, putlocks=False) as pool:
        tasks = [pool.apply_async(square, (i,)) for i in range(50)]
    assert [task.get() for task in tasks] == [i * i for i in range(50)]
    assert pool.state == "stopped"


def test_leaving_a_with_block_by_an_exception_terminates(gate):
    with pytest.raises(KeyError), TaskPool(1) as pool:
        task = pool.apply_async(hold, (gate.path,))
        gate.arrived()
        raise KeyError
    assert pool.state == "stopped"
    with pytest.raises(prefork.WorkerKilled):
        task.get()


def test_with_starts_a_pool_only_if_it_was_not():
    pool = TaskPool(1).__enter__()
    with pool as same:
        assert same is pool
        assert same.apply(square, (3,)) == 9


def test_a_pool_is_started_once(pool):
    with pytest.raises(RuntimeError, match="started already"):
        pool(1).start()


def test_close_takes_no_more_but_finishes_what_there_is(pool, gate):
    one = pool(1, putlocks=False)
    tasks = [one.apply_async(hold, (gate.path, i)) for i in (1, 2)]
    gate.arrived()
    one.close()
    with pytest.raises(prefork.PoolClosed):
        one.apply_async(square, (1,))
    gate.open(2)
    assert one.join() is True
    assert [task.get() for task in tasks] == [1, 2]


def test_join_gives_up_after_its_timeout_and_may_be_called_again(pool, gate):
    one = pool(1)
    one.apply_async(hold, (gate.path,))
    gate.arrived()
    one.close()
    assert one.join(0.01) is False
    assert one.state == "closed"
    gate.open()
    assert one.join() is True


def test_join_of_an_open_pool_is_an_error(pool):
    with pytest.raises(ValueError, match="closed or terminated"):
        pool(1).join()


def test_stop_terminates_what_is_left_after_its_timeout(pool, gate):
    one = pool(1)
    task = one.apply_async(hold, (gate.path,))
    gate.arrived()
    one.stop(0.01)
    assert one.state == "stopped"
    assert isinstance(task.exception(), prefork.WorkerKilled)


def test_terminate_ends_running_and_queued_tasks(pool, gate):
    one = pool(1, putlocks=False)
    running = one.apply_async(hold, (gate.path,))
    queued = one.apply_async(square, (1,))
    (pid,) = gate.arrived()
    one.terminate()
    for task in (running, queued):
        assert isinstance(task.exception(), prefork.WorkerKilled)
    assert not alive(pid)
    assert running.exception().pid == pid
    assert queued.exception().pid is None


def test_terminate_kills_a_worker_that_is_deaf_to_sigterm(pool, gate):
    one = pool(1)
    task = one.apply_async(hold_stubbornly, (gate.path,))
    (pid,) = gate.arrived()
    one.terminate(0.05)
    assert not alive(pid)
    assert isinstance(task.exception(), prefork.WorkerKilled)


@pytest.mark.parametrize("first", ["stop", "terminate", "close"])
def test_ending_calls_may_be_repeated_in_any_order(pool, first):
    one = pool(2)
    getattr(one, first)()
    for name in ("close", "stop", "terminate", "close", "join", "terminate", "stop", "join"):
        getattr(one, name)()
    assert one.state == "stopped"


def test_ending_calls_may_come_from_many_threads_at_once(pool):
    for _ in range(5):
        one = pool(2, putlocks=False)
        tasks = [one.apply_async(square, (i,), callback=str) for i in range(20)]
        raised = []
        begin = threading.Barrier(6)

        def end(name, one=one, raised=raised, begin=begin):
            begin.wait()
            try:
                getattr(one, name)()
            except BaseException as error:
                raised.append(error)

        threads = [threading.Thread(target=end, args=(n,)) for n in ("stop", "close", "stop") * 2]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert raised == []
        assert one.state == "stopped"
        assert [task.get() for task in tasks] == [i * i for i in range(20)]


@pytest.mark.parametrize("ending", ["stop", "terminate"])
@pytest.mark.parametrize("with_callback", [False, True])
def test_a_callback_may_end_the_pool(pool, ending, with_callback):
    one = pool(2)
    raised = []

    def end(_):
        try:
            getattr(one, ending)()
        except BaseException as error:
            raised.append(error)

    if with_callback:
        one.apply_async(square, (2,), callback=end)
    else:
        one.apply_async(square, (2,)).add_done_callback(end)
    eventually(lambda: one.state == "stopped")
    getattr(one, ending)()
    assert raised == []


@pytest.mark.parametrize("ending", ["stop", "terminate"])
def test_a_signal_handler_that_interrupts_a_waiter_may_end_the_pool(pool, gate, ending):
    one = pool(1)
    task = one.apply_async(hold, (gate.path, 5))
    gate.arrived()

    def end(*_):
        gate.open()
        getattr(one, ending)()

    previous = signal.signal(signal.SIGALRM, end)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        assert task.wait() is True
    finally:
        signal.signal(signal.SIGALRM, previous)
    assert one.state == "stopped"
    if ending == "stop":
        assert task.get() == 5
    else:
        assert isinstance(task.exception(), prefork.WorkerKilled)


@pytest.mark.parametrize("ending", ["stop", "terminate"])
def test_a_signal_handler_that_interrupts_poll_may_end_the_pool(pool, ending):
    one = pool(1)
    one.apply(square, (1,))
    previous = signal.signal(signal.SIGALRM, lambda *_: getattr(one, ending)())
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        while one.state != "stopped":
            one.poll(20)
    finally:
        signal.signal(signal.SIGALRM, previous)
    assert one.poll() == 0


class SignalsWhenUnpickled:
    """A result whose unpickling, in the application, sends it a signal."""

    def __reduce__(self):
        return signal.raise_signal, (signal.SIGUSR1,)


def signalling(x):
    return SignalsWhenUnpickled() if x == 0 else x


@pytest.mark.parametrize("ending", ["stop", "terminate"])
def test_a_signal_handler_in_the_middle_of_a_batch_of_results_may_end_the_pool(pool, gate, ending):
    one = pool(1, putlocks=False)
    one.fileno()
    eventually(lambda: one.workers[0].state == "idle", one)
    tasks = [one.apply_async(signalling, (i,)) for i in range(8)]
    # The only worker is done with them, and nobody has polled since: they will come as one batch.
    tasks.append(one.apply_async(hold, (gate.path,)))
    gate.arrived()

    def end(*_):
        gate.open()
        getattr(one, ending)()

    previous = signal.signal(signal.SIGUSR1, end)
    try:
        eventually(lambda: one.state == "stopped", one)
    finally:
        signal.signal(signal.SIGUSR1, previous)
    assert all(task.done() for task in tasks)


def test_terminate_during_stop_ends_it(pool, gate):
    one = pool(1)
    task = one.apply_async(hold, (gate.path,))
    gate.arrived()
    stopping = threading.Thread(target=one.stop)
    stopping.start()
    eventually(lambda: one.state == "closed")
    one.terminate()
    stopping.join()
    assert isinstance(task.exception(), prefork.WorkerKilled)


def test_restart_gives_workers_that_know_the_application_as_it_is_now(pool, monkeypatch):
    one = pool(2)
    before = {one.apply(pid_of_worker)}
    monkeypatch.setitem(globals(), "later", lambda: None)
    exec("def later():\n    return 'known now'", globals())
    with pytest.raises(AttributeError):
        one.apply(globals()["later"])
    one.restart()
    assert one.apply(globals()["later"]) == "known now"
    assert not before & {one.apply(pid_of_worker) for _ in range(5)}
    assert one.stats["application_forks"] == 2


def test_restart_lets_running_tasks_end_and_queued_ones_wait_for_the_new_workers(pool, gate):
    one = pool(1, putlocks=False)
    running = one.apply_async(hold, (gate.path,))
    queued = one.apply_async(pid_of_worker)
    (old,) = gate.arrived()
    one.restart()
    gate.open()
    assert running.get() == old
    assert queued.get() != old
    eventually(lambda: not alive(old))
    assert full(one, 1) or eventually(lambda: full(one, 1), one)


def test_restart_may_be_repeated_and_done_from_other_threads_and_callbacks(pool):
    one = pool(2)
    one.restart()
    one.restart()
    thread = threading.Thread(target=one.restart)
    thread.start()
    thread.join()
    again = threading.Event()

    def restart(_):
        one.restart()
        again.set()

    one.apply_async(square, (2,), callback=restart)
    assert again.wait(30)
    assert one.apply(square, (3,)) == 9
    assert one.stats["application_forks"] == 5


def test_restart_of_a_closed_pool_is_refused(pool):
    one = pool(1)
    one.stop()
    with pytest.raises(prefork.PoolClosed):
        one.restart()


def test_grow_adds_workers_and_shrink_takes_them_away(pool):
    one = pool(1)
    one.grow(2)
    assert one.num_processes == one.limit == 3
    eventually(lambda: full(one, 3), one)
    one.shrink(2)
    assert one.num_processes == 1
    eventually(lambda: full(one, 1), one)
    assert one.apply(square, (4,)) == 16


def test_shrink_lets_busy_workers_end_their_task(pool, gate):
    one = pool(2)
    tasks = [one.apply_async(hold, (gate.path,)) for _ in range(2)]
    busy = set(gate.arrived(2))
    one.shrink(2)
    gate.open(2)
    assert {task.get() for task in tasks} == busy
    eventually(lambda: one.workers == [], one)


def test_a_pool_cannot_shrink_below_nothing_nor_grow_without_end(pool):
    one = pool(1)
    with pytest.raises(ValueError, match="-1 workers"):
        one.shrink(2)
    with pytest.raises(ValueError, match="workers"):
        one.grow(10_000)
    assert one.limit == 1


def test_a_pool_of_no_workers_queues_until_it_grows(pool):
    one = pool(0, putlocks=False)
    tasks = [one.apply_async(square, (i,)) for i in range(5)]
    assert one.poll(0.05) == 0
    assert [task.ready() for task in tasks] == [False] * 5
    assert one.active
    assert one.workers == []
    one.grow()
    assert [task.get() for task in tasks] == [0, 1, 4, 9, 16]


def test_a_pool_of_no_workers_can_be_terminated(pool):
    one = pool(0, putlocks=False)
    task = one.apply_async(square, (1,))
    one.terminate()
    assert isinstance(task.exception(), prefork.WorkerKilled)


def test_the_default_size_is_what_the_machine_allows(pool):
    allowed = len(os.sched_getaffinity(0))
    one = pool()
    assert 1 <= one.limit <= allowed
    os.sched_setaffinity(0, mask := os.sched_getaffinity(0))
    first = {min(mask)}
    try:
        os.sched_setaffinity(0, first)
        assert TaskPool().limit == 1
    finally:
        os.sched_setaffinity(0, mask)


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"limit": -1}, ValueError),
        ({"limit": 5000}, ValueError),
        ({"maxtasksperchild": 0}, ValueError),
        ({"timeout": 0}, ValueError),
        ({"timeout": -1}, ValueError),
        ({"initializer": 5}, TypeError),
        ({"start_method": "spawn"}, ValueError),
    ],
)
def test_nonsense_is_refused_at_once(options, error):
    with pytest.raises(error):
        TaskPool(**options)


@pytest.mark.parametrize(
    ("wrong", "right"),
    [("max_tasks_per_child", "maxtasksperchild"), ("initialiser", "initializer")],
)
def test_an_unknown_option_is_an_error_that_names_the_nearest(wrong, right):
    with pytest.raises(TypeError, match=f"'{wrong}'.*'{right}'"):
        TaskPool(1, **{wrong: 1})


def test_forking_enable_false_means_exec(pool):
    assert TaskPool(1, forking_enable=False).info["start-method"] == "exec"
    assert TaskPool(1).info["start-method"] == "fork"


# ---- initializer and destructor ------------------------------------------------------------------

STATE: list = []


def remember(*args):
    STATE.extend(args)


def recalled(*_):
    value = STATE[0]
    return value() if callable(value) else value


def test_initargs_are_inherited_and_never_pickled(pool):
    one = pool(1, initializer=remember, initargs=(lambda: "unpicklable", threading.Lock()))
    assert one.apply(recalled) == "unpicklable"


def test_initializer_may_be_a_lambda(pool):
    one = pool(2, initializer=lambda: STATE.append(7))
    assert one.map(recalled, range(4)) == [7] * 4


def test_the_initializer_runs_in_every_worker_and_its_replacements(pool, tmp_path):
    path = tmp_path / "born"
    one = pool(2, initializer=note, initargs=(str(path),), maxtasksperchild=1)
    used = one.map(pid_of_worker, range(5))
    assert len(set(used)) == 5
    assert set(map(str, used)) <= set(lines(path))


def leave(path, pid, code):
    note(path, f"{pid} {os.getpid()} {code}")


@pytest.mark.parametrize("how", ["stop", "maxtasksperchild", "shrink", "restart"])
def test_the_destructor_runs_in_the_worker_at_every_orderly_exit(pool, tmp_path, how):
    path = tmp_path / "gone"
    one = pool(
        1,
        on_process_exit=lambda pid, code: leave(str(path), pid, code),
        maxtasksperchild=1 if how == "maxtasksperchild" else None,
    )
    pid = one.apply(pid_of_worker)
    if how in ("stop", "shrink", "restart"):
        getattr(one, how)()
    eventually(lambda: f"{pid} {pid} 0" in lines(path), one)
    one.stop()
    assert lines(path).count(f"{pid} {pid} 0") == 1


def test_a_failing_destructor_harms_nobody(pool):
    one = pool(1, on_process_exit=lambda *_: 1 / 0, maxtasksperchild=1)
    assert one.map(square, range(5)) == [0, 1, 4, 9, 16]


def broken(*_):
    raise KeyError("broken initializer")


def test_an_initializer_that_always_fails_fails_the_waiting_tasks(pool):
    one = pool(2, initializer=broken, putlocks=False)
    with pytest.raises(prefork.InitializerError, match="initializer") as caught:
        one.apply_async(square, (1,)).get()
    assert isinstance(caught.value.__cause__, KeyError)
    assert one.state == "degraded"
    assert not one.did_start_ok()
    with pytest.raises(prefork.InitializerError):
        one.apply_async(square, (1,))


def exits(*_):
    raise SystemExit(3)


def test_an_initializer_that_raises_systemexit_fails_like_any_other(pool):
    one = pool(1, initializer=exits)
    with pytest.raises(prefork.InitializerError):
        one.apply(square, (1,))


def broken_while(path):
    if Path(path).exists():
        raise KeyError("broken initializer")


def test_a_pool_recovers_when_the_initializer_does(pool, tmp_path):
    flag = tmp_path / "broken"
    flag.touch()
    one = pool(1, initializer=broken_while, initargs=(str(flag),))
    eventually(lambda: one.state == "degraded", one)
    flag.unlink()
    eventually(lambda: one.state == "running", one)
    assert one.apply(square, (3,)) == 9
    assert one.did_start_ok()


def test_restart_recovers_a_pool_whose_initializer_failed(pool):
    broken_now = [True]

    def initialize():
        if broken_now:
            raise KeyError

    one = pool(1, initializer=initialize)
    eventually(lambda: one.state == "degraded", one)
    broken_now.clear()
    one.restart()
    eventually(lambda: one.state == "running", one)
    assert one.apply(square, (3,)) == 9


# ---- maxtasksperchild ----------------------------------------------------------------------------


@pytest.mark.parametrize("share", [1, 3, 7])
def test_a_worker_does_exactly_its_share_and_nothing_is_lost(pool, share):
    one = pool(2, maxtasksperchild=share, putlocks=False)
    used = [task.get() for task in [one.apply_async(pid_of_worker) for _ in range(42)]]
    counts = [used.count(pid) for pid in set(used)]
    assert sum(counts) == 42
    assert max(counts) == share
    assert sorted(counts, reverse=True)[: 42 // share - 1] == [share] * (42 // share - 1)
    eventually(lambda: full(one, 2), one)
    assert one.stats["application_forks"] == 1


# ---- facts ---------------------------------------------------------------------------------------


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


def test_hooks_are_called():
    called = []

    class Hooked(TaskPool):
        def on_start(self):
            called.append("start")

        def on_apply(self, target, args):
            called.append(("apply", target, args))

        def on_stop(self):
            called.append("stop")

        def on_close(self):
            called.append("close")

        def on_terminate(self):
            called.append("terminate")

    with Hooked(1) as pool:
        pool.apply(square, (2,))
    assert called == ["start", ("apply", square, (2,)), "stop", "close"]
    called.clear()
    Hooked(1).__enter__().terminate()
    assert called == ["start", "terminate"]


def test_did_start_ok_and_maintain_pool(pool):
    one = pool(1)
    one.maintain_pool()
    assert one.did_start_ok() is True


def test_the_log_tells_of_a_killed_worker(pool, caplog):
    one = pool(1)
    pid = one.apply(pid_of_worker)
    os.kill(pid, signal.SIGKILL)
    with caplog.at_level("WARNING", "prefork"):
        eventually(lambda: f"worker {pid} (slot 0) was ended by SIGKILL" in caplog.text, one)


def test_a_logger_of_ones_own_is_used(pool):
    import logging

    seen = []

    class Handler(logging.Handler):
        def emit(self, record):
            seen.append(record.getMessage())

    logger = logging.getLogger("mine")
    logger.addHandler(Handler())
    logger.setLevel("INFO")
    one = pool(1, logger=logger)
    pid = one.apply(pid_of_worker)
    os.kill(pid, signal.SIGKILL)
    eventually(lambda: any(f"worker {pid}" in text for text in seen), one)


def test_a_started_pool_has_nothing_but_its_processes():
    before = leftovers()
    with TaskPool(2) as pool:
        eventually(lambda: full(pool, 2) and pool.stats["standby"], pool)
        own = {pool.stats["zygote"], pool.stats["standby"], *pids(pool)}
        assert leftovers() - before == own


@pytest.mark.parametrize("ending", ["stop", "terminate"])
@pytest.mark.parametrize("guest", [False, True])
def test_a_pool_that_has_ended_holds_no_descriptor(pool, ending, guest):
    before = descriptors()
    one = pool(2)
    if guest:
        one.fileno()
    one.apply(square, (1,))
    getattr(one, ending)()
    assert descriptors() == before
    assert one.stats["tasks_succeeded"] == 1


def test_the_package_knows_its_version():
    assert prefork.__version__[0].isdigit()
