"""How many processes there are, and how many tasks."""

from __future__ import annotations

import os
import signal

import pytest

from helpers import alive, eventually, exit_now, hold, kill_self, lines, square

from .conftest import send, up


def test_shrink_by_more_than_there_are(start, soon):
    """`pool_shrink` by more processes than there are, all idle: the pool is not emptied"""
    one = start()
    one.app.control.pool_shrink(99, reply=True, limit=1, timeout=30)
    with soon(10, "no process is left, and tasks wait for ever"):
        one.tasks.add.delay(2, 3).get(timeout=15)


def test_shrink_right_after_a_task_has_come(driven, gate):
    """`pool_shrink` in the moment in which a task comes: the task runs to its end"""
    one = driven(4)
    for _ in range(4):
        up(one)
        one.said.clear()
        one.submit(hold, gate.path)
        while not gate.is_awaited(0.5):  # its process has it, and the pool has not heard that
            one.poll(0)
            one.poll(0)
        gate.arrived()
        one.pool.shrink(3)
        gate.open()
        one.until(lambda: {"success", "error"} & set(one.names()))
        assert "error" not in one.names(), "it is ended with its process"
        one.pool.grow(3)
        one.pool.maintain_pool()


def test_grow(start, gate, soon):
    """`pool_grow`: tasks that wait are begun"""
    one = start("-c", "1", conf={"worker_pool_putlocks": False})  # a thread that waits is deaf
    for _ in range(2):
        results = [one.tasks.hold.delay(gate.path) for _ in range(3)]
        gate.arrived(1)
        with soon(2.5, "they never are"):
            assert one.app.control.pool_grow(2, reply=True, limit=1, timeout=15)
            gate.arrived(2)
        gate.open(3)
        for result in results:
            result.get(timeout=20)
        one.app.control.pool_shrink(2, reply=True, limit=1, timeout=15)


class Load:
    """Tasks that wait for a slot, as a worker has them."""

    def __init__(self, one):
        self.one = one
        self.submitted = self.most = 0

    def submit(self, *call):
        self.one.semaphore.acquire(self._submit, *call)

    def _submit(self, *call):
        self.submitted += 1
        self.one.submit(*call)

    @property
    def running(self):
        names = self.one.names()
        return self.submitted - names.count("success") - names.count("error")

    def until_done(self, count):
        """Turn the hub until that many have ended; the most that were in the pool at once."""

        def done():
            self.most = max(self.most, self.running)
            return self.submitted - self.running == count

        self.one.until(done)
        return self.most


def test_slots_and_recycled_processes(driven):
    """`max_tasks_per_child`: never more tasks in the pool than processes"""
    one = driven(2, maxtasksperchild=1)
    load = Load(one)
    for i in range(30):
        load.submit(square, i)
    most = load.until_done(30)
    assert most <= 2, f"up to {most} of 2: a slot is given back for each process that ends, too"


def test_slots_and_lost_processes(driven):
    """Processes are killed, others exit: never more tasks in the pool than processes"""
    one = driven(2)
    load = Load(one)
    for i in range(10):
        load.submit(*((kill_self, signal.SIGKILL), (exit_now, 3), (square, i))[i % 3])
    most = load.until_done(10)
    assert most <= 2, f"up to {most} of 2: a slot is given back for each process that ends, too"


def test_slots_and_grow(driven, gate):
    """`pool_grow` while tasks wait: never more tasks in the pool than processes"""
    one = driven(1)
    load = Load(one)
    for _ in range(6):
        load.submit(hold, gate.path)
    one.pool.grow(2)
    for _ in range(2):
        load.submit(hold, gate.path)
    most = load.running
    gate.open(8)
    load.until_done(8)
    assert most <= 3, f"{most} of 3"


@pytest.mark.timeout(120)
def test_max_tasks_per_child(start, soon):
    """`max_tasks_per_child` of 1, one process: 8 tasks"""
    one = start("-c", "1", "--max-tasks-per-child", "1")
    with soon(10, "they stop"):
        results = [one.tasks.pid.delay() for _ in range(8)]
        assert len({result.get(timeout=80) for result in results}) == 8


def test_memory_that_was_given_back(start):
    """`max_memory_per_child`: what `worker_process_init` has used and given back does not count"""
    one = start("-c", "1", "--max-memory-per-child", "250000", CELERY_TEST_SWELL="300")
    pids = {one.tasks.pid.delay().get(timeout=20) for _ in range(4)}
    assert len(pids) == 1, "each process ends after one task"


def test_memory_that_is_the_workers(start):
    """`max_memory_per_child`: what the worker itself has in memory does not count"""
    one = start("-c", "1", "--max-memory-per-child", "250000", CELERY_TEST_BALLAST="300")
    pids = {one.tasks.pid.delay().get(timeout=20) for _ in range(4)}
    assert len(pids) == 1, "each process ends after one task"


def test_pool_restart(start, soon):
    """`pool_restart`: idle processes are replaced"""
    one = start(CELERY_TEST_RESTARTS="1")
    (stats,) = one.stats()
    before = set(stats["pool"]["processes"])
    with soon(10, "they stay until each has done another task"):
        assert one.app.control.pool_restart(reply=True, limit=1, timeout=15)
        eventually(lambda: not any(map(alive, before)), within=15)
    assert one.tasks.add.delay(2, 3).get(timeout=20) == 5


def test_descriptors(start):
    """Descriptors that a worker has open for each process: at most 3"""
    counts = []
    for processes in (2, 10):
        one = start("-c", str(processes))
        assert eventually(lambda one=one, count=processes: len(one.processes()) >= count)
        counts.append(len(os.listdir(f"/proc/{one.program.pid}/fd")))
        one.stop()
    each = (counts[1] - counts[0]) / 8
    assert each <= 3, f"{each:g}"


@pytest.mark.timeout(150)
def test_initializers_that_begin_to_fail(start, tmp_path, soon):
    """Processes begin to end in `worker_process_init` when the worker has run for a while: the
    worker ends, and no processes are forked for ever"""
    one = start("-c", "1")
    (tmp_path / "break").touch()
    for pid in set(map(int, lines(tmp_path / "started"))):
        os.kill(pid, signal.SIGKILL)
    one.tasks.add.delay(2, 3)
    with soon(60, "processes are, and the worker stays as if it were well"):
        one.program.wait(60)
    print(len(lines(tmp_path / "started")), "processes were forked")


def test_initializers_that_are_slow(start, tmp_path, soon):
    """`worker_process_init` of a process that replaces a lost one takes longer than
    `worker_proc_alive_timeout`: tasks run"""
    one = start("-c", "1", conf={"worker_proc_alive_timeout": 1})
    pid = one.tasks.pid.delay().get(timeout=20)
    (tmp_path / "slow").touch()
    with soon(30, "none does: each process is killed before it is up"):
        os.kill(pid, signal.SIGKILL)
        one.tasks.add.delay(2, 3).get(timeout=30)


def test_tasks_have_children(start):
    """A task starts a `multiprocessing.Process`"""
    one = start()
    result = send(one, "have_a_child")
    found = result.get(timeout=20, propagate=False)
    assert found == 0, repr(found)
