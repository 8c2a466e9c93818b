"""The pool of Celery 0.3.7: what fails goes to the errbacks, and stops nobody."""

from __future__ import annotations

import copy
import logging
import pickle
import signal
import sys
import threading
from concurrent.futures import CancelledError

import pytest

import prefork
from helpers import (
    eventually,
    exit_now,
    fail,
    hold,
    kill_self,
    square,
)
from prefork.legacy import ExceptionInfo, TaskPool


@pytest.fixture
def pool(legacy_pool):
    return legacy_pool


def jailed(function, *args):
    """As tasks of that time did: a failure is returned."""
    try:
        return function(*args)
    except BaseException:
        return ExceptionInfo(sys.exc_info())


def hold_and_fail(path):
    hold(path)
    raise ValueError


def leave():
    sys.exit("enough")


def hold_and_leave(path):
    hold(path)
    leave()


# ---- failures ------------------------------------------------------------------------------------


def failure_of(one, calls, *call):
    """The exception that an errback gets, and nobody else."""
    one.apply_async(*call, meta="meta", **calls.both())
    eventually(lambda: calls.entries)
    [(name, error, meta)] = calls.entries
    calls.entries.clear()
    assert (name, meta) == ("err", "meta")
    assert error.exception is error and error.exc_info[:2] == (type(error), error)
    assert isinstance(error.traceback, str)
    return error


def test_what_a_task_raises_goes_to_the_errbacks(pool, calls):
    error = failure_of(pool(1), calls, fail, ("this",))
    assert type(error) is ValueError and error.args == ("this",)
    assert "in fail" in error.traceback and error.traceback.rstrip().endswith("ValueError: this")


def test_a_failed_task_leaves_room(pool, calls):
    one = pool(1)
    for _ in range(3):
        failure_of(one, calls, fail)
        assert not one.full()


@pytest.mark.parametrize(
    ("deed", "kind", "facts"),
    [
        ((kill_self, (9,)), prefork.WorkerKilled, {"signal": 9, "exitcode": -9}),
        ((exit_now, (3,)), prefork.WorkerExited, {"exitcode": 3}),
    ],
)
def test_a_lost_worker_goes_to_the_errbacks(pool, calls, deed, kind, facts):
    one = pool(1)
    error = failure_of(one, calls, *deed)
    assert type(error) is kind and isinstance(error, prefork.WorkerLostError)
    assert {name: getattr(error, name) for name in facts} == facts
    assert str(error) in error.traceback
    assert one.apply_async(square, (3,)).get() == 9


def test_tasks_of_a_terminated_pool_go_to_the_errbacks(pool, gate, calls):
    one = pool(2)
    for _ in range(2):
        one.apply_async(hold, (gate.path,), **calls.both())
    gate.arrived(2)
    one.terminate()
    assert [(name, type(error)) for name, error, _ in calls.entries] == [
        ("err", prefork.WorkerKilled)
    ] * 2
    assert not one.full()


def test_an_errback_does_not_start_a_terminated_pool(pool, gate, calls, caplog):
    one = pool(1)
    again = []

    def retry(error, meta):
        with pytest.raises(prefork.PoolClosed) as closed:
            one.apply_async(square, (3,))
        again.append(closed.value)

    one.apply_async(hold, (gate.path,), errbacks=[retry])
    gate.arrived()
    one.terminate()
    assert len(again) == 1 and one.get_worker_pids() == [] and caplog.records == []


def test_a_cancelled_task_goes_to_the_errbacks(pool, gate, calls):
    one = pool(2)
    one.apply_async(hold, (gate.path,))
    one.apply_async(hold, (gate.path,))
    gate.arrived(2)
    one.limit = 3
    task = one.apply_async(square, (3,), **calls.both())
    assert task.cancel()
    eventually(lambda: calls.entries)
    assert type(calls.entries[0][1]) is CancelledError
    gate.open(2)


def test_a_result_that_does_not_pickle_goes_to_the_errbacks(pool, calls):
    assert "cannot be pickled" in str(failure_of(pool(1), calls, threading.Lock))


def test_what_an_errback_gets_pickles_and_copies_and_is_logged(pool, calls, caplog):
    error = failure_of(pool(1), calls, fail, ("this",))
    assert error.exc_info[2] is not None  # by tblib
    logging.getLogger("legacy").error("it failed", exc_info=error.exc_info)
    assert "RemoteError" in caplog.text and "in fail" in caplog.text
    for other in (pickle.loads(pickle.dumps(error)), copy.deepcopy(error)):
        assert (other.args, other.traceback) == (("this",), error.traceback)
        assert other.exception is other and other.exc_info == (ValueError, other, None)


class Guarded(Exception):
    """Does not let itself be told."""

    @property
    def traceback(self):
        return 5


def test_an_exception_with_such_a_name_of_its_own_keeps_it(pool, calls):
    one = TaskPool(1)
    error = Guarded()
    one.on_ready(ExceptionInfo((Guarded, error, None)), [calls("back")], [calls("err")], {})
    assert calls.entries == [("err", error, {})]
    assert error.traceback == 5 and error.exception is error


# ---- failures that are returned ------------------------------------------------------------------


def test_a_returned_exception_info_is_a_failure(pool, calls):
    error = failure_of(pool(1), calls, jailed, (fail, "this"))
    assert type(error) is ValueError and "in jailed" in error.traceback


def test_a_returned_exception_is_a_result(pool, calls):
    pool(1).apply_async(ValueError, ("this",), **calls.both())
    eventually(lambda: calls.entries)
    assert (calls.entries[0][0], calls.entries[0][1].args) == ("back", ("this",))


def test_others_exception_infos_are_known_by_their_name(calls):
    class ExceptionInfo:
        exception = ValueError("theirs")
        traceback = "their text"

    one = TaskPool(1)
    one.on_ready(ExceptionInfo(), [calls("back")], [calls("err")], {})
    [(name, error, _)] = calls.entries
    assert (name, error, error.traceback) == ("err", ExceptionInfo.exception, "their text")
    ExceptionInfo.traceback = None
    one.on_ready(ExceptionInfo(), [calls("result")], [], {})
    assert calls.entries[1][0] == "result"
    del error.exception, error.exc_info


def test_an_exception_info_is_made_of_an_exception_and_pickles():
    with pytest.raises(TypeError, match="of an exception"):
        ExceptionInfo((None, None, None))
    info = jailed(fail, "this")
    assert info.exc_info == (ValueError, info.exception, info.exception.__traceback__)
    assert repr(info) == "<ExceptionInfo ValueError('this')>"
    other = pickle.loads(pickle.dumps(info))
    assert other.traceback == info.traceback and other.exc_info[2] is None


def test_a_returned_exit_ends_the_pool_and_is_raised_where_tasks_are_submitted(pool, gate, calls):
    one = pool(1)
    one.apply_async(jailed, (hold_and_leave, gate.path), **calls.both())
    gate.open()
    eventually(lambda: one._interrupt)  # met by the delivery thread
    assert one.get_worker_pids() == []
    with pytest.raises(SystemExit, match="enough"):
        one.apply_async(square, (3,))
    assert calls.entries == []
    assert one.apply_async(square, (3,)).get() == 9


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
def test_on_ready_raises_what_ends_a_program(pool, calls, kind):
    one = pool(1)
    with pytest.raises(kind):
        one.on_ready(ExceptionInfo((kind, kind(), None)), [], [calls("err")], {})
    assert one.get_worker_pids() == [] and calls.entries == []


def test_an_exit_that_is_raised_is_its_tasks_own_failure(pool, calls):
    one = pool(1)
    error = failure_of(one, calls, leave)
    assert type(error) is prefork.RemoteError and error.type_name == "SystemExit"
    assert one.apply_async(square, (3,)).get() == 9


# ---- callbacks that fail -------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [ValueError, SystemExit, KeyboardInterrupt])
@pytest.mark.parametrize("target", [hold, hold_and_fail])
def test_a_callback_that_raises_stops_nobody(pool, gate, calls, caplog, target, kind):
    one = pool(1)

    def broken(value, meta):
        raise kind("broken")

    functions = [calls("first"), broken, calls("last")]
    one.apply_async(target, (gate.path,), None, functions, functions)
    gate.open()  # it is recorded, and so it is the delivery thread that calls
    eventually(lambda: len(calls.entries) == 2)
    assert [entry[0] for entry in calls.entries] == ["first", "last"]
    assert [record.exc_info[0] for record in caplog.records] == [kind]
    assert one.apply_async(square, (3,)).get() == 9


def test_ctrl_c_in_a_callback_of_the_main_thread_is_the_programs(calls):
    one = TaskPool(1)
    with pytest.raises(KeyboardInterrupt):
        one.on_ready(5, [lambda *_: signal.raise_signal(signal.SIGINT)], [], {})


def test_a_logger_that_raises_stops_nobody(pool, calls):
    class Full(logging.Logger):
        def debug(self, *args, **options):
            raise OSError("no space left")

        exception = debug

    one = pool(1, logger=Full("full"))
    one.apply_async(square, (3,), callbacks=[lambda *_: fail(), calls("back")])
    eventually(lambda: calls.entries)
    assert one.reap() == 0
