"""The pool of Celery 0.3.7: many threads, callbacks that come back, what ends the program."""

from __future__ import annotations

import os
import signal
import sys
import threading
from concurrent.futures import Future

import pytest

import prefork
from helpers import (
    alive,
    eventually,
    fail_on_odd,
    hold,
    in_a_thread,
    kill_both_zygotes,
    kill_self,
    square,
)
from prefork.legacy import ExceptionInfo, TaskPool
from scripts import run_script


@pytest.fixture
def pool(legacy_pool):
    return legacy_pool


def hold_and_return_exit(path):
    hold(path)
    try:
        sys.exit("enough")
    except SystemExit:
        return ExceptionInfo(sys.exc_info())


EXIT = ExceptionInfo((SystemExit, SystemExit("enough"), None))


# ---- many at once --------------------------------------------------------------------------------


def test_thousands_of_tasks_are_each_passed_on_once(pool):
    """By the delivery thread and by two that reap, to four that submit."""
    one = pool(3)
    heard = []
    over = threading.Event()

    def submit(first):
        for x in range(first, first + 500):
            one.apply_async(
                fail_on_odd,
                (x,),
                callbacks=[lambda result, meta: heard.append((result, meta, "back"))],
                errbacks=[lambda error, meta: heard.append((error.args[0], meta, "err"))],
                meta=x,
            )

    def reap():
        while not over.is_set():
            one.reap()

    reaping = [in_a_thread(reap) for _ in range(2)]
    submitting = [in_a_thread(lambda first=first: submit(first)) for first in range(0, 2000, 500)]
    for thread, _ in submitting:
        thread.join()
    while one.wait_for_result():
        pass
    over.set()
    one.terminate()  # waits for the delivery thread
    for thread, found in reaping + submitting:
        thread.join()
        assert found == [None]
    assert sorted(heard) == [(x, x, "err" if x % 2 else "back") for x in range(2000)]
    assert one._processed_total == 2000


def test_a_pool_is_terminated_and_used_again_while_others_submit(pool):
    one = pool(2)
    heard = []
    submitted = []

    def submit():
        for _ in range(100):
            try:
                one.apply_async(
                    square,
                    (3,),
                    callbacks=[lambda result, _: heard.append(result)],
                    errbacks=[lambda error, _: heard.append(type(error))],
                )
                submitted.append(1)
            except prefork.PoolClosed:
                continue

    submitting = [in_a_thread(submit) for _ in range(3)]
    while any(thread.is_alive() for thread, _ in submitting):
        one.terminate()
    assert [found for _, found in submitting] == [[None]] * 3
    while one.wait_for_result():
        pass
    eventually(lambda: len(heard) == len(submitted))
    assert set(heard) <= {9, prefork.WorkerKilled}
    assert one.apply_async(square, (4,)).get() == 16


def test_a_killed_worker_costs_its_own_task_only(pool, gate, calls):
    one = pool(3)
    for name in "ab":
        one.apply_async(hold, (gate.path, name), meta=name, **calls.both())
    gate.arrived(2)
    one.apply_async(kill_self, (signal.SIGKILL,), meta="c", **calls.both())
    eventually(lambda: calls.entries)
    gate.open(2)
    eventually(lambda: len(calls.entries) == 3)
    [(name, error, meta), *others] = calls.entries
    assert (name, type(error), error.signal, meta) == ("err", prefork.WorkerKilled, 9, "c")
    assert sorted(others) == [("back", "a", "a"), ("back", "b", "b")]


def test_who_waits_for_room_has_a_pool_without_zygotes_start_again(pool, gate, calls):
    class Late(TaskPool):
        def wait_for_result(self):
            found = super().wait_for_result()
            eventually(lambda: self._pool.state == "degraded")
            return found

    one = pool(1, kind=Late)
    one.apply_async(hold, (gate.path,), **calls.both())
    gate.arrived()
    thread, found = in_a_thread(lambda: one.apply_async(square, (3,)))
    eventually(lambda: one._changed._waiters)
    kill_both_zygotes(one._pool)
    thread.join()
    assert found[0].get() == 9
    eventually(lambda: calls.entries)
    assert type(calls.entries[0][1]) is prefork.WorkerKilled


def test_a_large_argument_and_result(pool, calls):
    one = pool(1)
    data = os.urandom(8 << 20)
    one.apply_async(bytes, (data,), **calls.both())
    assert one.wait_for_result() in (0, 1)  # the delivery thread may have passed it on
    eventually(lambda: calls.entries)
    assert calls.entries[0][1] == data


# ---- callbacks that come back --------------------------------------------------------------------


def test_a_done_callback_of_the_task_itself_may_submit_to_a_full_pool(pool, gate, calls):
    """It runs in the thread that makes room, just as the pool's own callbacks do."""
    one = pool(1)
    entered, refilled = threading.Event(), threading.Event()

    def again(task):
        entered.set()
        refilled.wait()
        one.apply_async(square, (task.result(),), **calls.both())

    task = one.apply_async(hold, (gate.path, 4))
    task.add_done_callback(again)
    gate.open()
    entered.wait()
    one.apply_async(hold, (gate.path, "held"))
    assert one.full()
    refilled.set()
    gate.open()
    eventually(lambda: calls.entries)
    assert calls.entries == [("back", 16, {})]


def test_a_callback_may_terminate_the_pool(pool, gate, calls):
    one = pool(2)
    for _ in range(3):
        one.apply_async(hold, (gate.path,), meta="held", **calls.both())
        gate.arrived()
        one.apply_async(
            square, (2,), callbacks=[lambda *_: one.terminate(), calls("next")], meta="ended"
        )
        eventually(lambda: len(calls.entries) == 2)
        (_, error, _) = calls.entries.pop(0 if calls.entries[0][0] == "err" else 1)
        assert type(error) is prefork.WorkerKilled
        assert calls.entries == [("next", 4, "ended")]
        calls.entries.clear()
        assert one.apply_async(square, (3,)).get() == 9


def test_a_callback_may_reap(calls):
    """What it finds is passed on there, before the callback goes on."""
    one = TaskPool(2)
    first, second = Future(), Future()
    found = []
    one.add(first, [lambda *_: found.append(one.reap()), calls("first")], [], 1, {})
    one._processes[2] = [second, [calls("second")], [], {}]
    second.set_result("b")
    first.set_result("a")
    assert found == [1] and one.reap() == 0
    assert calls.entries == [("second", "b", {}), ("first", "a", {})]


def test_an_acknowledgement_may_terminate_the_pool(pool, gate, calls):
    one = pool(1)
    one.apply_async(hold, (gate.path,), on_acknowledge=one.terminate, **calls.both())
    eventually(lambda: calls.entries)
    assert [(name, type(error)) for name, error, _ in calls.entries] == [
        ("err", prefork.WorkerKilled)
    ]


def test_an_acknowledgement_may_submit(pool, calls):
    one = pool(1)
    one.apply_async(
        square,
        (2,),
        on_acknowledge=lambda: one.apply_async(square, (3,), **calls.both()),
        **calls.both(),
    )
    eventually(lambda: len(calls.entries) == 2)
    assert {entry[1] for entry in calls.entries} == {4, 9}


def test_a_task_that_is_passed_on_by_hand_is_not_again(pool, gate, calls):
    one = pool(1)
    task = one.apply_async(hold, (gate.path,), **calls.both())
    [(tid, _)] = one._processes.items()
    one.on_return("mine", tid, [calls("mine")], [], {})
    gate.open()
    task.wait()
    assert one.wait_for_result() == 0
    one.terminate()
    assert calls.entries == [("mine", "mine", {})]


# ---- what ends the program -----------------------------------------------------------------------


def test_who_waits_for_room_is_told_of_a_returned_exit(pool, gate, calls):
    """Nobody takes the room of the task before the pool has been terminated."""
    ending, may_end = threading.Event(), threading.Event()

    class Held(TaskPool):
        def on_ready(self, *args):
            ending.set()
            may_end.wait()
            super().on_ready(*args)

    one = pool(1, kind=Held)
    one.apply_async(hold_and_return_exit, (gate.path,), **calls.both())
    waiting = [in_a_thread(lambda: one.apply_async(square, (3,))) for _ in range(3)]
    eventually(lambda: len(one._changed._waiters) == 3)
    gate.open()
    ending.wait()
    assert len(one._changed._waiters) == 3
    may_end.set()
    for thread, _ in waiting:
        thread.join()
    told = [type(found[0]) for _, found in waiting]
    assert sorted(told, key=str) == [SystemExit, prefork.PoolClosed, prefork.PoolClosed]
    assert calls.entries == [] and one.get_worker_pids() == []


def test_others_that_ran_go_to_their_errbacks(pool, gate, calls):
    one = pool(2)
    one.apply_async(hold, (gate.path,), **calls.both())
    gate.arrived()
    one.apply_async(hold_and_return_exit, (gate.path,))
    gate.arrived()
    gate.open(2)
    with pytest.raises(SystemExit, match="enough"):
        while not one._interrupt:
            one.wait_for_result()
        one.reap()
    eventually(lambda: calls.entries)
    assert len(calls.entries) == 1  # it may have come to its own end


def test_an_exit_that_a_callback_comes_upon_is_kept(calls):
    one = TaskPool(2)
    first, second = Future(), Future()
    one.add(first, [lambda *_: one.reap(), calls("first")], [], 1, {})
    one._processes[2] = [second, [], [], {}]
    second.set_result(EXIT)
    first.set_result("a")
    assert calls.entries == [("first", "a", {})]
    with pytest.raises(SystemExit, match="enough"):
        one.wait_for_result()
    assert one.wait_for_result() == 0


def test_an_exit_is_raised_by_the_call_that_passes_it_on(calls):
    one = TaskPool(1)
    ended = Future()
    ended.set_result(EXIT)
    with pytest.raises(SystemExit, match="enough"):
        one.add(ended, [], [], 1, {})
    assert one.reap() == 0 and not one.full()


def test_ctrl_c_ends_a_wait_and_nothing_else(pool, gate, calls):
    one = pool(1)
    one.apply_async(hold, (gate.path, 5), **calls.both())
    gate.arrived()

    def interrupt():
        eventually(lambda: one._changed._waiters)
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)

    for wait in (one.wait_for_result, lambda: one.apply_async(square, (3,))):
        thread, _ = in_a_thread(interrupt)
        with pytest.raises(KeyboardInterrupt):
            wait()
        thread.join()
    assert one.full() and calls.entries == []
    gate.open()
    assert one.wait_for_result() in (0, 1)
    eventually(lambda: calls.entries)
    assert calls.entries == [("back", 5, {})]


def test_a_pool_that_nobody_holds_ends_and_says_so(gate, calls):
    import gc

    one = TaskPool(1)
    one.apply_async(hold, (gate.path,), **calls.both())
    [pid] = gate.arrived()
    with pytest.warns(ResourceWarning, match="collected while it was running, with 1 open tasks"):
        del one
        gc.collect()
    eventually(lambda: calls.entries)
    assert [(name, type(error)) for name, error, _ in calls.entries] == [
        ("err", prefork.WorkerKilled)
    ]
    assert not alive(pid)


def test_a_program_that_ends_ends_its_pool(tmp_path):
    done = run_script(
        tmp_path,
        """
        from helpers import Gate, hold
        from pathlib import Path
        from prefork.legacy import TaskPool

        gate = Gate(Path.cwd())
        pool = TaskPool(2)
        say = lambda error, meta: print(type(error).__name__, meta, flush=True)
        for number in range(2):
            pool.apply_async(hold, (gate.path,), errbacks=[say], meta=number)
        gate.arrived(2)
        print(*pool.get_worker_pids(), flush=True)
        """,
        cwd=tmp_path,
    )
    workers, *heard = done.stdout.splitlines()
    assert sorted(heard) == ["WorkerKilled 0", "WorkerKilled 1"]
    assert (done.returncode, done.stderr) == (0, "")
    assert not any(alive(int(pid)) for pid in workers.split())
