"""One pool, many threads; many pools."""

from __future__ import annotations

import collections
import concurrent.futures
import signal
import sys
import threading
import types

import pytest

import prefork
from helpers import eventually, hold, in_a_thread, kill_both_zygotes, square
from prefork import codec


def in_threads(count, function):
    raised = []
    begin = threading.Barrier(count)

    def run(index):
        begin.wait()
        try:
            function(index)
        except BaseException as error:
            raised.append(error)

    running = [threading.Thread(target=run, args=(i,)) for i in range(count)]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join()
    assert raised == []


def test_many_threads_submit_and_wait(pool):
    one = pool(2)

    def work(index):
        for i in range(100):
            assert one.apply(square, (index * 1000 + i,)) == (index * 1000 + i) ** 2

    in_threads(8, work)
    assert one.stats["tasks_succeeded"] == 800


def test_many_threads_submit_at_once_with_callbacks_and_one_delivery_thread(pool):
    for _ in range(10):
        one = pool(2, putlocks=False)
        results = []
        in_threads(8, lambda i: one.apply_async(square, (i,), callback=results.append))
        one.stop()
        assert sorted(results) == [i * i for i in range(8)]
        assert [t.name for t in threading.enumerate() if t.name.startswith("prefork")] == []


class SlowToKeep:
    """A core that gives up the GIL where a task is submitted, and not yet in the table: another
    thread has its turn."""

    def __init__(self, core, meanwhile):
        self.core, self.meanwhile = core, meanwhile

    def __getattr__(self, name):
        return getattr(self.core, name)

    def submit_call(self, kind, pool, delivery, target, args, kwargs):
        task = kind(pool, target.__name__, None)
        body = codec.encode_call(target, args, kwargs)
        self.submit(task, delivery, body, False, 0.0, 0.0, 0.0, 0)
        return task

    def submit(self, kept, delivery, *args):
        aside = types.SimpleNamespace(tasks={}, early={}, events=collections.deque())
        self.core.submit(kept, aside, *args)
        thread = threading.Thread(target=self.meanwhile)
        thread.start()
        thread.join()
        delivery.tasks.update(aside.tasks)
        if kept._number in delivery.early:
            delivery.events.append(delivery.early.pop(kept._number))


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("end", ["stop", "terminate"])
def test_a_pool_that_ends_while_a_task_is_submitted_knows_its_end(pool, end, workers):
    one = pool(workers, putlocks=False)
    one._core = SlowToKeep(one._core, lambda: getattr(one, end)(5 if workers else 0))
    called = []
    task = one.apply_async(square, (3,), callback=called.append, error_callback=called.append)
    error = task.exception()
    if end == "stop" and workers:
        assert (error, called) == (None, [9])
    else:
        assert type(error) is prefork.WorkerKilled or task.result() == 9
        assert called == [error or 9]


def test_a_pool_that_is_degraded_while_a_task_is_submitted_fails_it(pool, gate):
    one = pool(1, putlocks=False)
    running = one.apply_async(hold, (gate.path,))
    gate.arrived()

    def degrade():  # by a second thread, so that no zygote may be forked anew
        kill_both_zygotes(one)
        eventually(lambda: one.state == "degraded", one)

    one._core = SlowToKeep(one._core, degrade)
    task = one.apply_async(square, (3,))
    assert "has lost its zygote and its standby" in str(task.exception(30))
    assert running.exception().zygote_lost


def test_only_one_delivery_thread_is_started(pool):
    one = pool(2, putlocks=False)
    in_threads(16, lambda i: [one.apply_async(square, (i,), callback=str) for _ in range(20)])
    names = [thread.name for thread in threading.enumerate()]
    assert names.count("prefork-delivery") == 1


def test_threads_wait_for_the_same_task(pool, gate):
    task = pool(1).apply_async(hold, (gate.path, 6))
    gate.arrived()
    found = []
    waiting = [threading.Thread(target=lambda: found.append(task.get())) for _ in range(6)]
    for thread in waiting:
        thread.start()
    gate.open()
    for thread in waiting:
        thread.join()
    assert found == [6] * 6


def test_a_waiter_is_not_held_up_by_another_that_drives(pool, gate):
    one = pool(2)
    slow = one.apply_async(hold, (gate.path, "slow"))
    gate.arrived()
    found = []
    thread = threading.Thread(target=lambda: found.append(slow.get()))
    thread.start()
    for i in range(100):
        assert one.apply(square, (i,)) == i * i
    assert found == []
    gate.open()
    thread.join()
    assert found == ["slow"]


def test_a_signal_reaches_a_waiter_though_another_thread_drives(pool, gate):
    task = pool(1).apply_async(hold, (gate.path, "held"))
    gate.arrived()
    found = []
    thread = threading.Thread(target=lambda: found.append(task.get()))
    thread.start()
    eventually(lambda: thread_asleep(thread.native_id))

    class Interrupted(Exception):
        pass

    def interrupt(*_):
        raise Interrupted

    previous = signal.signal(signal.SIGALRM, interrupt)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        with pytest.raises(Interrupted):
            task.get()
    finally:
        signal.signal(signal.SIGALRM, previous)
    assert found == []
    gate.open()
    thread.join()
    assert found == ["held"]


def thread_asleep(native):
    with open(f"/proc/self/task/{native}/stat") as stat:
        return stat.read().rsplit(")", 1)[1].split()[0] == "S"


def test_results_are_gathered_though_nobody_drives(pool, gate):
    one = pool(1, putlocks=False)
    for _ in range(300):
        one.apply_async(square, (1,))
    one.apply_async(hold, (gate.path,))
    gate.arrived()  # this test polls nothing: the workers were served all the same
    gate.open()


def test_maps_in_many_threads(pool):
    one = pool(2)
    expected = [i * i for i in range(100)]

    def work(index):
        assert one.map(square, range(100)) == expected
        assert sorted(one.imap_unordered(square, range(100), 7)) == expected

    in_threads(6, work)


def test_two_pools_at_once(pool):
    first, second = pool(2), pool(2)
    pairs = [
        (first.apply_async(square, (i,)), second.apply_async(square, (-i,))) for i in range(99)
    ]
    assert [(a.get(), b.get()) for a, b in pairs] == [(i * i, i * i) for i in range(99)]
    first.terminate()
    assert second.apply(square, (5,)) == 25
    third = pool(1)
    second.stop()
    assert third.apply(square, (6,)) == 36


def test_resize_while_others_submit(pool):
    one = pool(2)

    def work(index):
        if index == 0:
            for _ in range(10):
                one.grow()
                one.apply(square, (1,))
                one.shrink()
        for i in range(100):
            assert one.apply(square, (i,)) == i * i

    in_threads(4, work)
    assert one.limit == 2
    eventually(lambda: len(one.workers) == 2, one)


def test_a_pool_started_in_a_thread(pool):
    made = []
    thread = threading.Thread(target=lambda: made.append(pool(1)))
    thread.start()
    thread.join()
    assert made[0].apply(square, (3,)) == 9
    assert made[0].apply(name_of_main_thread) == "MainThread"


def name_of_main_thread():
    return threading.main_thread().name


# ---- the delivery thread -------------------------------------------------------------------------


def delivery_begins_with(monkeypatch, function):
    """Have it called when the delivery thread is about to be started."""
    start = threading.Thread.start

    def late(thread):
        if thread.name == "prefork-delivery":
            function()
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", late)


def test_a_pool_may_end_while_its_delivery_thread_begins(pool, gate, monkeypatch):
    one = pool(1)
    begins, may_begin = threading.Event(), threading.Event()
    called = []
    delivery_begins_with(monkeypatch, lambda: (begins.set(), may_begin.wait()))
    submitting, _ = in_a_thread(
        lambda: one.apply_async(hold, (gate.path,), error_callback=called.append)
    )
    begins.wait()
    stopping = one._serving["delivery"][1]
    ending, ended = in_a_thread(one.terminate)
    eventually(stopping.is_set)
    may_begin.set()
    for thread in (submitting, ending):
        thread.join()
    assert ended == [None]
    assert [type(error) for error in called] == [prefork.WorkerKilled]


def test_a_signal_handler_may_end_a_pool_whose_delivery_thread_begins(pool, gate, monkeypatch):
    one = pool(1)
    called = []
    delivery_begins_with(monkeypatch, one.terminate)
    one.apply_async(hold, (gate.path,), error_callback=called.append)
    assert [type(error) for error in called] == [prefork.WorkerKilled]


def test_a_delivery_thread_that_cannot_be_started_is_by_the_next_task(pool, monkeypatch):
    one = pool(1)
    called = []
    errors = [RuntimeError("can't start new thread")]

    def fail_once():
        if errors:
            raise errors.pop()

    delivery_begins_with(monkeypatch, fail_once)
    with pytest.raises(RuntimeError, match="can't start"):
        one.apply_async(square, (2,), callback=called.append)
    one.apply_async(square, (3,), callback=called.append)
    eventually(lambda: called == [4, 9])


class Alarm(Exception):
    pass


def raise_alarm():
    raise Alarm


def dies_at_birth(monkeypatch):
    """What start() raises after the thread was born makes it take back what that relies upon."""
    name = "_start_joinable_thread" if sys.version_info >= (3, 13) else "_start_new_thread"
    born = getattr(threading, name)

    def late(*args, **kwargs):
        monkeypatch.setattr(threading, name, born)
        born(*args, **kwargs)
        raise Alarm

    monkeypatch.setattr(threading, name, late)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("where", ["before", "birth", "after"])
@pytest.mark.parametrize("who", ["callback", "wait"])
def test_callbacks_come_though_a_handler_raises_while_their_thread_begins(
    pool, gate, monkeypatch, where, who
):
    one = pool(1)
    start, raised = threading.Thread.start, []

    def late(thread):
        if thread.name != "prefork-delivery" or raised:
            return start(thread)
        raised.append(True)
        if where == "birth":
            dies_at_birth(monkeypatch)
        if where != "before":
            start(thread)
        raise_alarm()

    monkeypatch.setattr(threading.Thread, "start", late)
    called = []
    if who == "callback":
        with pytest.raises(Alarm):
            one.apply_async(square, (3,), callback=called.append)
    else:
        task = one.apply_async(hold, (gate.path, 9))
        with pytest.raises(Alarm):
            concurrent.futures.wait([task])
        gate.open()
        assert concurrent.futures.wait([task], 30).done == {task}
        called.append(task.result())
    eventually(lambda: called == [9])
    one.apply_async(square, (4,), callback=called.append)
    eventually(lambda: called == [9, 16])
    serving = [thread for thread in threading.enumerate() if thread is one._thread]
    assert serving == [one._serving["delivery"][0]]


def test_no_thread_is_taken_for_a_delivery_thread_that_has_ended(pool):
    """Threads have numbers, and the next one gets that of one that is over."""
    one = pool(1)
    called = []
    one.apply_async(square, (3,), callback=lambda _: called.append(one.in_callback()))
    eventually(lambda: called)
    one.terminate()
    assert called == [True] and not one.in_callback()
    assert one._calling_back == set()
