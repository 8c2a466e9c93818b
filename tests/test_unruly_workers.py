"""Workers that flood, close or garble their pipes, or leave forked children behind."""

from __future__ import annotations

import contextlib
import fcntl
import os
import struct
import sys

import pytest

import prefork
from helpers import alive, eventually, hold, pid_of_worker, square


def pipes_of_worker():
    """The worker's ends of its pipes: descriptors for reading, for writing."""
    ends = {os.O_RDONLY: [], os.O_WRONLY: []}
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            flags = fcntl.fcntl(int(name), fcntl.F_GETFL)
            if os.readlink(f"/proc/self/fd/{name}").startswith("pipe:") and flags & os.O_NONBLOCK:
                ends[flags & os.O_ACCMODE].append(int(name))
    return ends[os.O_RDONLY], ends[os.O_WRONLY]


BELLS = struct.pack("=IHHQQQq", 0x70664631, 1, 0, 0, 0, 0, 0) * 1000  # frames that say nothing


def write_for_ever(data):
    (fd,) = pipes_of_worker()[1]
    os.set_blocking(fd, True)
    while True:
        os.write(fd, data)


def test_a_worker_that_never_stops_writing_holds_up_nobody(pool):
    one = pool(2, putlocks=False)
    flood = one.apply_async(write_for_ever, (BELLS,), timeout=0.3)
    assert one.map(square, range(100)) == [i * i for i in range(100)]
    with pytest.raises(prefork.TimeLimitExceeded):
        flood.get()
    assert one.map(square, range(100)) == [i * i for i in range(100)]


def leave_a_writing_grandchild(data):
    if os.fork() == 0:
        try:
            write_for_ever(data)
        finally:
            os._exit(0)  # EPIPE: the pool listens no more
    os._exit(3)


def test_a_grandchild_that_never_stops_writing_holds_up_nobody(pool):
    one = pool(1)
    with pytest.raises(prefork.WorkerExited):
        one.apply(leave_a_writing_grandchild, (BELLS,))
    assert one.apply(square, (3,)) == 9


def write_to_the_pool(data, path):
    os.write(pipes_of_worker()[1][0], data)
    return hold(path)


def a_result(number, seq):
    return struct.pack("=IHHQQQq", 0x70664631, 6, 0, 0, number, seq, 0)


@pytest.mark.parametrize(
    "data",
    [b"\xff" * 100, b"\0" * 100, BELLS[:40] + b"garbage" * 20, a_result(1 << 32 | 1, 77),
     a_result(5, 2), a_result(1 << 32, 1)],
    ids=["ones", "zeros", "after a frame", "another sequence", "no task", "another's task"],
)  # fmt: skip
def test_a_worker_that_breaks_the_protocol_is_killed_and_its_task_lost(pool, gate, caplog, data):
    one = pool(2, putlocks=False)
    spared = one.apply_async(hold, (gate.path, "spared"))
    gate.arrived()
    task = one.apply_async(write_to_the_pool, (data, gate.path))
    with pytest.raises(prefork.WorkerKilled) as caught:
        task.get()
    assert f"worker {caught.value.pid} wrote nonsense" in caplog.text
    assert not spared.done()
    gate.open(2)
    assert spared.get() == "spared"
    assert one.map(square, range(20)) == [i * i for i in range(20)]
    assert one.stats["tasks_lost"] == 1


def close_pipes(path):
    for fds in pipes_of_worker():
        for fd in fds:
            os.close(fd)
    return hold(path)


def test_a_worker_that_lost_its_pipes_is_not_taken_for_dead(pool, gate):
    one = pool(1)
    task = one.apply_async(close_pipes, (gate.path,))
    (pid,) = gate.arrived()
    for _ in range(10):
        one.poll(0.01)  # the end of the pipe is seen now
    assert not task.done()
    gate.open()
    assert task.get() == pid  # it delivered, and ended then
    assert one.apply(pid_of_worker) != pid


def leave_grandchild(path):
    pid = os.fork()
    if pid == 0:
        with open(path, "rb") as gate:
            gate.read(1)
        os._exit(0)
    os._exit(3)


def test_a_grandchild_that_outlives_its_worker_disturbs_nobody(pool, gate):
    one = pool(1)
    with pytest.raises(prefork.WorkerExited):
        one.apply(leave_grandchild, (f"{gate.path}.go",))
    assert one.map(square, range(20)) == [i * i for i in range(20)]
    gate.open()


def fork_and_return():
    """A task whose child returns out of it, into the worker's loop."""
    return os.fork()


def test_a_forked_copy_of_a_worker_takes_no_tasks(pool):
    one = pool(1)
    child = one.apply(fork_and_return)
    assert child > 0
    pid = one.apply(pid_of_worker)
    assert {one.apply(pid_of_worker) for _ in range(50)} == {pid}
    eventually(lambda: not alive(child))
    # It knew what it was: it did not run into memory that is not there.
    assert os.WIFEXITED(one.apply(os.waitpid, (child, 0))[1])


def exit_code_of_a_fork(how):
    child = os.fork()
    if child == 0:
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115
        if how == "raise":
            raise KeyError(how)
        if how != "return":
            sys.exit(how)
        return None
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@pytest.mark.parametrize(
    ("how", "code"), [(0, 0), (5, 5), (None, 0), ("no", 1), ("raise", 1), ("return", 0)]
)
def test_a_fork_of_a_worker_ends_as_any_program_does(pool, how, code):
    one = pool(1)
    assert one.apply(exit_code_of_a_fork, (how,)) == code
    assert one.map(exit_code_of_a_fork, [how] * 4, chunksize=2) == [code] * 4
