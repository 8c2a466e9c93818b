"""The pool of Celery 0.3.7: waiting when full, each task passed on once, in its order."""

from __future__ import annotations

import inspect
import multiprocessing
import pickle
import threading
from concurrent.futures import Future

import pytest

from helpers import (
    add,
    alive,
    eventually,
    fail,
    hold,
    in_a_thread,
    kill_both_zygotes,
    pid_of_worker,
    square,
)
from prefork.legacy import TaskPool
from scripts import run_script


@pytest.fixture
def pool(legacy_pool):
    return legacy_pool


# ---- the names -----------------------------------------------------------------------------------


def test_signatures_are_those_of_0_3_7():
    signatures = {
        "__init__": "limit, reap_timeout=None, logger=None",
        "run": "",
        "apply_async": "target, args=None, kwargs=None, callbacks=None, errbacks=None, "
        "on_acknowledge=None, meta=None",
        "add": "result, callbacks, errbacks, tid, meta",
        "full": "",
        "wait_for_result": "",
        "reap": "",
        "on_return": "ret_val, tid, callbacks, errbacks, meta",
        "on_ready": "ret_value, callbacks, errbacks, meta",
        "get_worker_pids": "",
        "terminate": "",
    }
    for name, expected in signatures.items():
        found = inspect.signature(getattr(TaskPool, name))
        bare = [each.replace(annotation=each.empty) for each in found.parameters.values()]
        assert ", ".join(str(each) for each in bare[1:]) == expected, name
        assert name == "__init__" or inspect.getdoc(getattr(TaskPool, name)), name
    public = {name for name in vars(TaskPool) if not name.startswith("_")}
    assert public | {"__init__"} == set(signatures)


def test_a_new_pool_has_its_attributes_and_nothing_started():
    one = TaskPool(3, 0.5)
    assert (one.limit, one.reap_timeout) == (3, 0.5)
    assert one.logger is multiprocessing.get_logger()
    assert not one.full() and one.get_worker_pids() == []
    assert one.reap() == one.wait_for_result() == 0
    one.terminate()
    assert TaskPool(1).reap_timeout is None


@pytest.mark.parametrize(("limit", "error"), [(0, ValueError), (-1, ValueError), ("2", TypeError)])
def test_a_limit_is_a_positive_integer(limit, error):
    with pytest.raises(error):
        TaskPool(limit)


# ---- workers -------------------------------------------------------------------------------------


def test_run_has_every_worker_forked(pool):
    one = pool(2)
    workers = one.get_worker_pids()
    assert len(set(workers)) == 2 and all(alive(pid) for pid in workers)
    assert one.apply_async(pid_of_worker).get() in workers
    one.run()
    assert one.get_worker_pids() == workers


def test_the_first_task_starts_the_pool_and_one_after_terminate_does_again(pool):
    one = pool(1)
    one.terminate()
    assert one.get_worker_pids() == []
    assert one.apply_async(square, [3]).get() == 9
    [pid] = one.get_worker_pids()
    one.terminate()
    assert not alive(pid)
    assert one.apply_async(add, (1, 2), {"c": 3}).get() == 6


def test_threads_that_find_no_pool_start_one(pool):
    one = pool(2)
    one.terminate()
    started = [in_a_thread(one.run) for _ in range(4)]
    for thread, _ in started:
        thread.join()
    assert [found for _, found in started] == [[None]] * 4
    assert len(one.get_worker_pids()) == 2


def test_a_pool_without_zygotes_has_a_new_one_by_the_next_task(pool, calls):
    one = pool(1)
    one.apply_async(square, (2,), **calls.both())  # so it has a thread, and may not fork by itself
    eventually(lambda: calls.entries)
    kill_both_zygotes(one._pool)
    eventually(lambda: one._pool.state == "degraded")
    assert one.apply_async(square, (3,)).get() == 9


def test_a_fork_of_the_application_has_a_pool_of_its_own(tmp_path):
    done = run_script(
        tmp_path,
        """
        import os, warnings
        from helpers import hold, Gate, square
        from pathlib import Path
        from prefork.legacy import TaskPool

        warnings.simplefilter("ignore", DeprecationWarning)  # a fork beside threads, from 3.12 on
        gate = Gate(Path.cwd())
        pool = TaskPool(1)
        say = lambda *args: print(*args, flush=True)
        pool.apply_async(hold, (gate.path, "done"), callbacks=[say])
        gate.arrived()
        child = os.fork()
        if not child:
            assert not pool.full() and pool.wait_for_result() == 0 and pool.get_worker_pids() == []
            assert pool.apply_async(square, (3,)).get() == 9
            pool.terminate()
            os._exit(7)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
        gate.open()
        pool.wait_for_result()
        pool.terminate()
        """,
        cwd=tmp_path,
    )
    assert (done.stdout, done.stderr) == ("7\ndone {}\n", "")


# ---- results -------------------------------------------------------------------------------------


def test_callbacks_get_result_and_meta_in_their_order(pool, calls):
    one = pool(1)
    meta = {"id": 1}
    names = [calls(name) for name in "abc"]
    task = one.apply_async(square, (3,), None, names, [calls("err")], None, meta)
    eventually(lambda: len(calls.entries) == 3)
    assert calls.entries == [("a", 9, meta), ("b", 9, meta), ("c", 9, meta)]
    assert all(entry[2] is meta for entry in calls.entries)
    assert (task.ready(), task.successful(), task.get()) == (True, True, 9)
    assert not one.full() and one.reap() == 0


def test_meta_is_an_empty_dictionary_unless_given(pool, calls):
    pool(1).apply_async(square, (3,), **calls.both())
    eventually(lambda: calls.entries)
    assert calls.entries == [("back", 9, {})]


def test_tasks_are_passed_on_without_reaping(pool, calls):
    one = pool(2)
    for x in range(20):
        one.apply_async(square, (x,), **calls.both())
    eventually(lambda: len(calls.entries) == 20)
    assert sorted(entry[1] for entry in calls.entries) == [x * x for x in range(20)]
    assert one._processed_total == 20


def test_the_acknowledgement_comes_after_submission_and_before_the_record(pool, gate, calls):
    class Seen(TaskPool):
        def add(self, *args):
            calls("add")()
            super().add(*args)

    one = pool(1, kind=Seen)

    def acknowledge():
        gate.arrived()  # the task runs
        calls("acknowledged")(one.full())

    one.apply_async(hold, (gate.path, 5), on_acknowledge=acknowledge, **calls.both())
    assert one.full()
    gate.open()
    eventually(lambda: len(calls.entries) == 3)
    assert calls.entries == [("acknowledged", False), ("add",), ("back", 5, {})]


def test_a_task_that_ends_before_it_is_recorded_is_passed_on_all_the_same(pool, calls):
    one = pool(1)
    ended = []
    submit = one._pool.apply_async

    def submit_and_wait(*args):
        ended.append(submit(*args))
        ended[0].wait()
        return ended[0]

    one._pool.apply_async = submit_and_wait
    one.apply_async(square, (3,), on_acknowledge=calls("acknowledged"), **calls.both())
    assert calls.entries == [("acknowledged",), ("back", 9, {})]
    assert calls.threads == {threading.get_ident()}
    assert one.wait_for_result() == 0


def test_an_acknowledgement_that_raises_leaves_no_record(pool, calls):
    one = pool(1)
    with pytest.raises(ValueError, match="no"):
        one.apply_async(square, (3,), on_acknowledge=fail, **calls.both())
    assert not one.full()
    assert one.apply_async(square, (4,)).get() == 16
    assert calls.entries == []


def test_arguments_that_do_not_pickle_are_said_at_once(pool):
    one = pool(1)
    with pytest.raises((pickle.PicklingError, AttributeError, TypeError)):
        one.apply_async(square, (threading.Lock(),))
    assert not one.full()


def test_a_task_that_two_threads_have_in_hand_is_passed_on_once(pool, gate, calls):
    both = threading.Barrier(2)

    class Raced(TaskPool):
        def on_return(self, *args):
            both.wait()  # the delivery thread, and who reaps
            super().on_return(*args)

    one = pool(1, kind=Raced)
    task = one.apply_async(hold, (gate.path, 9), **calls.both())
    gate.open()
    task.wait()
    assert one.reap() == 1
    one.terminate()  # waits for the delivery thread
    assert calls.entries == [("back", 9, {})]


def test_on_return_knows_a_task_once(pool, calls):
    one = TaskPool(1)
    one.add(Future(), [], [], "tid", {})
    for _ in range(2):
        one.on_return(5, "tid", [calls("back")], [calls("err")], {})
    one.on_return(5, "never", [calls("back")], [], {})
    assert calls.entries == [("back", 5, {})]
    assert not one.full()


# ---- waiting -------------------------------------------------------------------------------------


def test_a_full_pool_has_apply_async_wait(pool, gate, calls):
    one = pool(2)
    for name in "ab":
        one.apply_async(hold, (gate.path, name), **calls.both())
    gate.arrived(2)
    assert one.full() and one.reap() == 0
    acknowledged = threading.Event()
    thread, found = in_a_thread(
        lambda: one.apply_async(hold, (gate.path, "c"), on_acknowledge=acknowledged.set)
    )
    eventually(lambda: one._changed._waiters)  # it waits
    assert one._pool.stats["tasks_submitted"] == 2 and not acknowledged.is_set()
    gate.open()
    thread.join()
    assert acknowledged.is_set() and one.full()
    eventually(lambda: calls.entries)
    assert len(calls.entries) == 1
    gate.open(2)
    assert found[0].get() == "c"


def test_add_waits_when_the_pool_is_full(calls):
    one = TaskPool(1)
    first, second = Future(), Future()
    one.add(first, [calls("first")], [], 1, {})
    thread, _ = in_a_thread(lambda: one.add(second, [calls("second")], [], 2, {"m": 2}))
    eventually(lambda: one._changed._waiters)
    assert list(one._processes) == [1]
    first.set_result("one")
    thread.join()
    assert list(one._processes) == [2]
    second.set_result("two")
    assert calls.entries == [("first", "one", {}), ("second", "two", {"m": 2})]


def test_a_result_can_be_recorded_again(pool, calls):
    one = pool(2)
    task = one.apply_async(square, (3,))
    one.add(task, [calls("again")], [], "again", {})
    eventually(lambda: calls.entries)
    assert calls.entries == [("again", 9, {})]


def test_wait_for_result_says_how_many_have_ended(pool, gate, calls):
    one = pool(2)
    assert one.wait_for_result() == 0
    for name in "ab":
        one.apply_async(hold, (gate.path, name), **calls.both())
    gate.arrived(2)
    for _ in range(2):
        thread, found = in_a_thread(one.wait_for_result)
        eventually(lambda: one._changed._waiters)  # it waits
        gate.open()
        thread.join()
        assert found == [1]
    assert one.wait_for_result() == 0


def test_reap_passes_on_what_has_ended_in_this_thread(calls):
    """Recorded by hand, as if a signal had come between the record and the callback."""
    one = TaskPool(2)
    done = Future()
    one._processes["tid"] = [done, [calls("back")], [], {}]
    assert one.reap() == 0
    done.set_result(3)
    assert one.reap() == 1
    assert calls.entries == [("back", 3, {})] and calls.threads == {threading.get_ident()}


def test_a_callback_may_submit_to_a_full_pool(pool, gate, calls):
    """It does not wait: it may be in the thread that makes room."""
    one = pool(1)
    entered, refilled, submitted = (threading.Event() for _ in range(3))

    def again(result, meta):
        entered.set()
        refilled.wait()
        assert one.full() and one.wait_for_result() == 0
        one.apply_async(square, (result,), **calls.both())
        submitted.set()

    one.apply_async(hold, (gate.path, 4), callbacks=[again])
    gate.open()  # it is recorded, and so it is the delivery thread that calls
    entered.wait()
    one.apply_async(hold, (gate.path, "held"), **calls.both())
    refilled.set()
    submitted.wait()
    gate.open()
    eventually(lambda: len(calls.entries) == 2)
    assert {entry[:2] for entry in calls.entries} == {("back", "held"), ("back", 16)}


def test_many_threads_get_all_their_results(pool, calls):
    one = pool(3)

    def submit(start):
        for x in range(start, start + 50):
            one.apply_async(square, (x,), **calls.both())
            assert len(one._processes) <= 3

    threads = [in_a_thread(lambda start=start: submit(start)) for start in range(0, 200, 50)]
    for thread, _ in threads:
        thread.join()
    assert [found for _, found in threads] == [[None]] * 4
    while one.wait_for_result():
        pass
    eventually(lambda: len(calls.entries) == 200)
    assert sorted(entry[1] for entry in calls.entries) == [x * x for x in range(200)]


def test_it_needs_no_celery(tmp_path):
    done = run_script(
        tmp_path,
        """
        import sys
        from prefork import legacy

        print({"celery", "billiard"} & set(sys.modules), legacy.__all__)
        """,
    )
    assert (done.stdout, done.stderr) == ("set() ['ExceptionInfo', 'TaskPool']\n", "")
