"""A worker process as Celery expects it: identity, hooks, signals, its beginning and its end."""

from __future__ import annotations

import logging
import multiprocessing
import multiprocessing.util
import os
import signal
import sys

import billiard.process
import pytest
from celery import signals
from celery._state import _task_join_will_block
from celery.utils.log import current_process_index

from helpers import eventually, hold, kill_self, lines, note, square


def call(one, target, *args):
    """The result of one job."""
    one.said.clear()
    one.submit(target, *args)
    one.until(lambda: len(one.said) == 2)
    kind, value = one.said[1]
    assert kind == "success", str(value)
    return value


def identity():
    process = billiard.process.current_process()
    assert process is multiprocessing.current_process()
    assert process is multiprocessing.process.current_process()
    assert process.pid == process.ident == os.getpid()
    assert process.daemon is False
    assert bytes(process.authkey) == bytes(multiprocessing.current_process().authkey)
    assert (process._parent_pid, process._popen) == (os.getppid(), None)
    record = logging.makeLogRecord({})
    name = logging.LogRecord("x", 0, "", 0, "", (), None).processName
    return process.name, process._name, name, process.index, current_process_index(), record.process


def test_a_process_has_billiards_name_and_index(driven):
    one = driven(1)
    name = "ForkPoolWorker-1"
    assert call(one, identity)[:5] == (name, name, name, 0, 1)
    one.submit(kill_self, 9)
    one.until(lambda: len(one.said) == 4)
    again, *_, index, _, _ = call(one, identity)
    assert again.startswith("ForkPoolWorker-")
    assert again != name
    assert index == 0


def have_a_child():
    process = multiprocessing.get_context("fork").Process(target=square, args=(2,))
    process.start()
    process.join()
    return process.name, process.exitcode, billiard.active_children()


def test_a_task_may_have_processes_of_its_own(driven):
    assert call(driven(1), have_a_child) == ("ForkProcess-1:1", 0, [])


class Connection:
    """Something that must not be shared with a forked process."""

    def __init__(self):
        self.pid = os.getpid()
        multiprocessing.util.register_after_fork(self, Connection.after_fork)

    def after_fork(self):
        self.pid = os.getpid()


connection = Connection()


def own_connection():
    return connection.pid == os.getpid()


def test_after_fork_hooks_have_run(driven):
    one = driven(2)
    assert call(one, own_connection)
    assert connection.pid == os.getpid()


def dispositions():
    names = ("INT", "TERM", "HUP", "QUIT", "USR1", "TTIN", "TTOU", "PIPE")
    found = {name: signal.getsignal(getattr(signal, f"SIG{name}")) for name in names}
    return {
        name: how.__name__ if callable(how) and not isinstance(how, int) else int(how)
        for name, how in found.items()
    } | {"stdin": os.readlink("/proc/self/fd/0"), "blocks": _task_join_will_block}


def test_signals_and_stdin(driven):
    found = call(driven(1), dispositions)
    leaves = "_on_exit_signal"
    assert found["INT"] == signal.SIG_IGN
    assert (found["TERM"], found["HUP"], found["QUIT"]) == (leaves, leaves, leaves)
    assert found["USR1"] == "_on_soft_signal"
    assert (found["TTIN"], found["TTOU"], found["PIPE"]) == (0, 0, 1)
    assert found["stdin"] == os.devnull


def title():
    with open("/proc/self/cmdline", "rb") as file:
        return file.read().rstrip(b"\0").decode()


def test_the_title_is_celerys(driven):
    assert call(driven(1), title).startswith("[celeryd: host:ForkPoolWorker-1]")


@pytest.fixture
def told(tmp_path):
    """A file in which processes write what Celery's signals tell them."""
    path = tmp_path / "told"

    def init(**_):
        note(str(path), f"init {os.getpid()}")

    def shutdown(pid, exitcode, **_):
        note(str(path), f"shutdown {pid} {exitcode} {os.getpid()}")

    def create(sender, **_):
        note(str(path), f"create {type(sender).__name__} {os.getpid()}")

    signals.worker_process_init.connect(init, weak=False)
    signals.worker_process_shutdown.connect(shutdown, weak=False)
    signals.worker_before_create_process.connect(create, weak=False)
    yield path
    signals.worker_process_init.disconnect(init)
    signals.worker_process_shutdown.disconnect(shutdown)
    signals.worker_before_create_process.disconnect(create)


def test_celerys_signals_are_sent_in_the_process(driven, told):
    one = driven(1, maxtasksperchild=1)
    pid = call(one, os.getpid)
    one.pool.stop()
    found = lines(told)
    assert found[0] == f"create Pool {os.getpid()}"
    assert found.index(f"init {pid}") < found.index(f"shutdown {pid} 0 {pid}")


def test_each_process_is_announced_once_before_it_is_forked(driven, told):
    one = driven(2)
    pid = call(one, os.getpid)
    os.kill(pid, signal.SIGKILL)

    def processes():
        found = [line.split()[0] for line in lines(told)]
        return found.count("create"), found.count("init")

    eventually(lambda: processes() == (3, 3), one)
    one.pool.grow(2)
    eventually(lambda: processes() == (5, 5), one)
    one.pool.restart()
    eventually(lambda: processes() == (9, 9), one)
    found = [line.split()[0] for line in lines(told)]
    assert all(found[:i].count("create") >= found[:i].count("init") for i in range(len(found)))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGQUIT])
def test_an_idle_process_that_is_signalled_ends_in_good_order(driven, told, number, caplog):
    one = driven(1)
    pid = call(one, os.getpid)
    os.kill(pid, number)
    eventually(lambda: f"shutdown {pid} {number - 256} {pid}" in lines(told), one)
    assert call(one, os.getpid) != pid
    how = "was ended by SIGTERM" if number == signal.SIGTERM else "exited with code 3"
    eventually(lambda: f"worker {pid} (slot 0) {how}" in caplog.text, one)


def test_the_last_word_of_a_task_that_exits(driven, capfd):
    one = driven(1)
    one.submit(sys.exit, "bye")
    one.until(lambda: len(one.said) == 2)
    assert "bye" in capfd.readouterr().err


def test_a_task_that_exits_does_so_in_good_order(driven, told):
    one = driven(1)
    job = one.submit(sys.exit, 3)
    one.until(lambda: len(one.said) == 2)
    assert f"shutdown {job.pid} 3 {job.pid}" in lines(told)


@pytest.fixture
def slow_end(gate, tmp_path):
    """Processes that end wait at the gate, and then write into this file."""
    path = tmp_path / "ended"

    def shutdown(pid, **_):
        hold(gate.path)
        note(str(path), f"{pid}")

    signals.worker_process_shutdown.connect(shutdown, weak=False)
    yield path
    signals.worker_process_shutdown.disconnect(shutdown)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGQUIT, signal.SIGHUP])
@pytest.mark.parametrize("why", ["its share is done", "a signal", "its task"])
def test_a_process_that_ends_in_good_order_does_so_whatever_it_is_sent(
    driven, gate, slow_end, number, why
):
    one = driven(1, maxtasksperchild=1 if why == "its share is done" else None)
    pid = call(one, os.getpid)
    if why == "a signal":
        os.kill(pid, signal.SIGTERM)
    elif why == "its task":
        one.submit(sys.exit)
    gate.arrived(pool=one)
    for _ in range(2):
        os.kill(pid, number)
    gate.open()
    eventually(lambda: lines(slow_end) == [str(pid)], one)
    gate.open(9)  # for those that end with the test


def tidy_up_at(path):
    try:
        hold(path)
    finally:
        hold(path)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGQUIT])
def test_a_second_signal_to_a_task_ends_its_process_at_once(driven, gate, number):
    one = driven(1)
    job = one.submit(tidy_up_at, gate.path)
    (pid,) = gate.arrived(pool=one)
    os.kill(pid, number)
    assert gate.arrived(pool=one) == [pid]  # it tidies up
    os.kill(pid, number)
    one.until(lambda: "error" in one.names())
    assert job.pid == pid
    assert "exitcode 70" in str(one.said[-1][1].exception)


def test_tools_may_wrap_celerys_own_functions(driven, monkeypatch, tmp_path):
    import celery.concurrency.prefork as stock

    path = str(tmp_path / "wrapped")

    def wrap(name):
        inner = getattr(stock, name)

        def wrapped(*args):
            note(path, name)
            return inner(*args)

        monkeypatch.setattr(stock, name, wrapped)

    wrap("process_initializer")
    wrap("process_destructor")
    one = driven(1)
    call(one, square, 2)
    one.pool.stop()
    assert lines(path) == ["process_initializer", "process_destructor"]
