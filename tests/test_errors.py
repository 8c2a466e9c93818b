"""What cannot be pickled, found, or said; and what is large."""

from __future__ import annotations

import contextlib
import copy
import os
import pickle
import re
import threading

import pytest

import prefork
from helpers import fail, pid_of_worker, square
from prefork import HistoryEvent, errors
from prefork.errors import WorkerEnd


def echo(x):
    return x


def length(x):
    return len(x)


def unpicklable():
    return threading.Lock()


class TwoArguments(Exception):
    def __init__(self, first, second):
        super().__init__(f"{first} and {second}")


class Carries(Exception):
    def __init__(self, message, payload):
        super().__init__(message, payload)
        self.payload = payload


def raise_two():
    raise TwoArguments("this", "that")


def raise_carrying(payload):
    raise Carries("with", payload)


def raise_unpicklable():
    raise Carries("with", threading.Lock())


def raise_base(kind):
    raise kind("of a task")


class BreaksInTheParent:
    def __init__(self, how):
        self.how = how

    def __reduce__(self):
        return breaks_in_the_parent, (os.getpid(), self.how)


def breaks_in_the_parent(pid, how):
    if os.getpid() != pid:
        raise how("while unpickling")


class BreaksPickling:
    def __reduce__(self):
        raise MemoryError("while pickling")


def broken_result(how):
    return BreaksInTheParent(how)


def test_arguments_that_do_not_pickle_are_an_error_of_the_call(pool):
    one = pool(1)
    with pytest.raises(Exception, match="pickle"):
        one.apply_async(square, (threading.Lock(),))
    with pytest.raises(Exception, match="pickle|local"):
        one.apply_async(lambda: 1)
    with pytest.raises(MemoryError):
        one.apply_async(square, (BreaksPickling(),))
    assert one.stats["tasks_submitted"] == 0
    assert one.apply(square, (2,)) == 4


class Holder:
    def __init__(self, pool):
        self.pool = pool

    def method(self):
        return 1


def test_a_pool_cannot_be_pickled_and_says_how_it_may_have_come_to_that(pool):
    one = pool(1)
    for sent in (one, Holder(one).method):
        with pytest.raises(TypeError, match="cannot be pickled.*bound method brings"):
            pickle.dumps(sent)
    with pytest.raises(TypeError, match="TaskPool running .* cannot be pickled"):
        one.apply_async(Holder(one).method)
    assert one.apply(square, (2,)) == 4


def test_a_result_that_does_not_pickle_is_an_error_of_the_task(pool):
    one = pool(1)
    pid = one.apply(pid_of_worker)
    with pytest.raises(TypeError, match="lock.*pickle"):
        one.apply(unpicklable)
    with pytest.raises(TypeError, match="while pickling"):
        one.apply(BreaksPickling)
    assert one.apply(pid_of_worker) == pid


@pytest.mark.parametrize("how", [KeyError, SystemExit, KeyboardInterrupt, MemoryError])
def test_a_result_that_does_not_unpickle_is_an_error_of_the_task(pool, how):
    one = pool(1)
    with pytest.raises(TypeError, match=r"broken_result.*while unpickling") as caught:
        one.apply(broken_result, (how,))
    assert isinstance(caught.value.__cause__, how)
    assert one.apply(square, (2,)) == 4


def test_an_exception_has_the_remote_traceback_as_its_cause(pool):
    with pytest.raises(ValueError, match="no") as caught:
        pool(1).apply(fail)
    cause = caught.value.__cause__
    assert isinstance(cause, prefork.RemoteError)
    assert "in fail" in str(cause)
    assert "ValueError: no" in str(cause)


def test_an_exception_keeps_its_attributes(pool):
    with pytest.raises(Carries) as caught:
        pool(1).apply(raise_carrying, ([1, 2],))
    assert caught.value.payload == [1, 2]


class Unspeakable(BaseException):
    def __repr__(self):
        raise KeyboardInterrupt("while shown")


class RaisesUnspeakable(Exception):
    def __reduce__(self):
        raise Unspeakable


def raise_what_raises_the_unspeakable():
    raise RaisesUnspeakable("no")


def test_whatever_pickling_an_exception_raises_fails_the_task_only(pool):
    one = pool(1)
    pid = one.apply(pid_of_worker)
    with pytest.raises(prefork.RemoteError, match="no") as caught:
        one.apply(raise_what_raises_the_unspeakable)
    assert caught.value.reason == "the original cannot be pickled: Unspeakable"
    assert one.apply(pid_of_worker) == pid


@pytest.mark.parametrize(
    ("target", "reason"),
    [
        (raise_two, "cannot be unpickled: TypeError(.*missing 1 required positional argument"),
        (raise_unpicklable, "cannot be pickled: TypeError(.*lock"),
    ],
)
def test_an_exception_that_does_not_pickle_comes_as_text_and_says_why(pool, target, reason):
    one = pool(1)
    with pytest.raises(prefork.RemoteError) as caught:
        one.apply(target)
    assert caught.value.type_name in ("TwoArguments", "Carries")
    assert target.__name__ in str(caught.value)
    assert re.search(reason.replace("(", r"\("), caught.value.reason)
    assert str(caught.value) == f"{caught.value.reason}\n{caught.value.text}"
    assert one.apply(square, (2,)) == 4


@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt, GeneratorExit])
def test_what_would_end_a_process_fails_the_task_only(pool, kind):
    one = pool(1)
    pid = one.apply(pid_of_worker)
    with pytest.raises(prefork.RemoteError, match="of a task") as caught:
        one.apply(raise_base, (kind,))
    assert caught.value.type_name == kind.__name__
    assert "is no Exception, and might end the process" in caught.value.reason
    assert one.apply(pid_of_worker) == pid


def test_stopiteration_of_a_task_is_an_error(pool):
    with pytest.raises(StopIteration):
        pool(1).apply(next, (iter(()),))


def test_a_function_the_zygote_cannot_know_is_named_with_the_ways_out(pool, monkeypatch):
    one = pool(1)
    exec("def defined_later(): return 1", globals())
    try:
        with pytest.raises(AttributeError, match="defined_later") as caught:
            one.apply(globals()["defined_later"])
    finally:
        del globals()["defined_later"]
    assert "restart()" in str(caught.value)
    assert "start()" in str(caught.value)
    assert one.apply(square, (2,)) == 4


def test_a_module_the_zygote_cannot_find_is_named(pool, tmp_path, monkeypatch):
    one = pool(1)
    (tmp_path / "made_later.py").write_text("def function():\n    return 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    import made_later

    with pytest.raises(AttributeError, match=r"made_later"):
        one.apply(made_later.function)


def nested(depth):
    found: list = []
    for _ in range(depth):
        found = [found]
    return found


def test_a_recursion_error_of_pickling_is_the_tasks(pool):
    one = pool(1)
    with pytest.raises((TypeError, RecursionError)):
        one.apply(nested, (100_000,))
    assert one.apply(square, (2,)) == 4


@pytest.mark.parametrize("size", [0, 1, 100, 1 << 12, (1 << 16) - 1, 1 << 16, 1 << 20, 1 << 24])
@pytest.mark.parametrize("method", ["fork", "exec"])
def test_arguments_and_results_of_every_size(pool, size, method):
    one = pool(2, start_method=method)
    data = os.urandom(size)
    tasks = [one.apply_async(echo, (data,)) for _ in range(3)]
    assert all(task.get() == data for task in tasks)


def test_large_and_small_mixed(pool):
    one = pool(2, putlocks=False)
    sizes = [0, 1 << 22, 10, 1 << 17, 1000, 1 << 23] * 6
    tasks = [(size, one.apply_async(echo, (bytes(size),))) for size in sizes]
    assert all(len(task.get()) == size for size, task in tasks)
    tasks = [(size, one.apply_async(length, (bytes(size),))) for size in sizes]
    assert all(task.get() == size for size, task in tasks)


def test_a_worker_killed_in_a_large_transfer_loses_at_most_its_task(pool):
    import signal

    one = pool(2, putlocks=False)
    data = bytes(1 << 24)
    tasks = [one.apply_async(echo, (data,)) for _ in range(8)]
    for _ in range(6):
        one.poll(0.01)
        for worker in one.workers[:1]:
            if worker.pid and any(not task.ready() for task in tasks):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(worker.pid, signal.SIGKILL)
    for task in tasks:
        error = task.exception()
        assert isinstance(error, prefork.WorkerKilled) if error else task.get() == data
    assert one.apply(square, (3,)) == 9


# ---- the exceptions themselves -------------------------------------------------------------------


def examples():
    lost = errors.lost_error("f", WorkerEnd(pid=12, status=9, runtime=1.5))
    lost.task_id, lost.task_name = 7, "f"
    limit = prefork.TimeLimitExceeded("too long")
    limit.limit = 2.5
    return [
        lost,
        errors.lost_error("f", WorkerEnd(pid=12, status=3 << 8)),
        errors.lost_error("f", WorkerEnd(pid=12, status=-1, zygote_lost=True)),
        errors.lost_error("f", WorkerEnd(pid=12, status=-1, runtime=0.5)),
        errors.lost_error("f", WorkerEnd(pid=12, status=0, runtime=0.5, terminated=True)),
        errors.lost_error("f", WorkerEnd(pid=12, status=9, out_of_memory=True, peak_rss=123)),
        errors.lost_error("f", WorkerEnd(pid=12, status=11 | 0x80, stack="line")),
        limit,
        prefork.PoolClosed("closed"),
        prefork.TimeoutError("late"),
        prefork.InitializerError("broken"),
        prefork.RemoteError("text", "KeyError"),
        prefork.RemoteError("text", "KeyError", "the original cannot be pickled"),
        prefork.WorkerLostError(),
        prefork.WorkerKilled(),
        prefork.WorkerExited(),
        prefork.OutOfMemory(),
        errors.lost_error("f", WorkerEnd(pid=12, status=9), retries=2),
        errors.queue_timeout(7, "f", 1.5),
        errors.time_limit(
            7, "f", 1.5, 12, 1.6, "stack", "output", (HistoryEvent(1.0, "ready", 0),)
        ),
        prefork.SoftTimeLimitExceeded("late", 2.5),
        prefork.RemoteError(),
    ]


@pytest.mark.parametrize("error", examples(), ids=lambda e: f"{type(e).__name__}-{e}"[:40])
@pytest.mark.parametrize(
    "duplicate",
    [
        copy.copy,
        copy.deepcopy,
        *(lambda e, p=p: pickle.loads(pickle.dumps(e, p)) for p in range(6)),
    ],
    ids=["copy", "deepcopy", *(f"pickle{p}" for p in range(6))],
)
def test_every_exception_pickles_and_copies(error, duplicate):
    twin = duplicate(error)
    assert type(twin) is type(error)
    assert twin.args == error.args
    assert str(twin) == str(error)
    assert vars(twin) == vars(error)


def test_every_exception_is_tried_above():
    public = {getattr(prefork, name) for name in prefork.__all__}
    kinds = {kind for kind in public if isinstance(kind, type) and issubclass(kind, Exception)}
    assert kinds <= {type(error) for error in examples()}


def test_the_family_of_exceptions():
    assert issubclass(prefork.PoolClosed, RuntimeError)
    assert issubclass(prefork.PoolClosed, ValueError)
    assert issubclass(prefork.WorkerKilled, prefork.WorkerLostError)
    assert issubclass(prefork.WorkerExited, prefork.WorkerLostError)
    assert not issubclass(prefork.TimeLimitExceeded, prefork.WorkerLostError)
