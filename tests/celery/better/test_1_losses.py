"""Lost processes."""

from __future__ import annotations

import os
import signal
import time

from celery.exceptions import WorkerLostError
from workers import STOCK, failure_of

from helpers import alive, eventually, lines, memory_group, square
from killmatrix.tasks import count_and_die
from prefork.machine import OomKills

from .conftest import begin_to_give, send, up


def test_a_busy_process_is_killed(start, gate, soon):
    """`kill -9` on a process that runs a task: the task is a FAILURE"""
    one = start()
    for _ in range(5):
        result = one.tasks.hold.delay(gate.path)
        (pid,) = gate.arrived()
        began = time.monotonic()
        with soon(3, "the task never ends"):
            os.kill(pid, signal.SIGKILL)
            assert type(failure_of(result)) is WorkerLostError
            print(f"{(time.monotonic() - began) * 1000:.0f} ms from the kill to FAILURE")


def test_all_busy_processes_are_killed(start, gate, soon):
    """`kill -9` on all processes while they run tasks: each is a FAILURE, and the next ones run"""
    one = start()
    results = [one.tasks.hold.delay(gate.path) for _ in range(2)]
    pids = gate.arrived(2)
    with soon(3, "a task never ends"):
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        for result in results:
            assert type(failure_of(result)) is WorkerLostError
        assert one.tasks.add.delay(2, 3).get(timeout=20) == 5


def test_a_busy_process_is_killed_in_thread_mode(start, gate, soon):
    """The same where Celery has no event loop (thread mode): the task is a FAILURE"""
    one = start(threads=True)
    result = one.tasks.hold.delay(gate.path)
    (pid,) = gate.arrived()
    with soon(3, "the task never ends"):
        os.kill(pid, signal.SIGKILL)
        assert type(failure_of(result)) is WorkerLostError


def test_idle_processes_are_killed_in_thread_mode(start, soon):
    """`kill -9` on idle processes in thread mode: tasks go on"""
    one = start(threads=True)
    for pid in processes(one):
        os.kill(pid, signal.SIGKILL)
    with soon(5, "no task ever runs again"):
        for result in [one.tasks.add.delay(i, i) for i in range(4)]:
            result.get(timeout=15)


def processes(one):
    """The pids of a worker's own processes, by what it says of itself."""
    (stats,) = one.stats()
    return stats["pool"]["processes"]


def test_a_task_calls_sys_exit(start, soon):
    """A task that calls `sys.exit`, with a backend that stores JSON: FAILURE"""
    one = start()
    result = one.tasks.leave.delay(3)
    with soon(5, "the task stays PENDING"):
        failed(result)


def test_a_task_ends_its_process_with_success(start, soon):
    """A task that calls `os._exit(0)`: FAILURE"""
    one = start()
    result = send(one, "exit_at_once", 0)
    with soon(5, "the task stays PENDING"):
        failed(result)


def failed(result):
    assert type(result.get(timeout=15, propagate=False)) is WorkerLostError
    assert result.status == "FAILURE"


def test_the_kernel_kills_for_memory(start, driven, tmp_path):
    """The kernel kills a process for want of memory: WorkerLostError says so"""
    with memory_group(400) as group:
        error = eaten_up(start, group) if group else counted(driven, tmp_path)
    assert type(error) is WorkerLostError
    assert "out of memory" in str(error), "it says signal 9, and no more"


def eaten_up(start, group):
    with _inside(group):
        one = start()
    error = failure_of(send(one, "eat", group))
    one.stop(signal.SIGKILL)
    eventually(lambda: not lines(f"{group}/cgroup.procs"))
    return error


def counted(driven, root):
    """Where no group can be made: the kernel's counter of such kills is a file of ours then, to
    which the job adds one before it dies by SIGKILL."""
    counter = root / "sys/fs/cgroup/memory.events"
    for path, text in ((counter, "oom_kill 0\n"), (root / "proc/self/cgroup", "0::/\n")):
        path.parent.mkdir(parents=True)
        path.write_text(text)
    one = driven(1)
    if not STOCK:
        one.pool._pool.workers._delivery._oom_kills = OomKills(root)
    one.submit(count_and_die, str(counter))
    one.until(lambda: "error" in one.names())
    return one.said[-1][1].exception.exc


class _inside:
    """What is started in the block is in that cgroup."""

    def __init__(self, group):
        self.group = group

    def __enter__(self):
        self._enter(self.group)

    def __exit__(self, *_):
        self._enter(os.path.dirname(self.group))

    @staticmethod
    def _enter(group):
        with open(f"{group}/cgroup.procs", "w") as file:
            file.write(str(os.getpid()))


def test_a_process_is_killed_with_a_task_that_it_has_not_begun(driven):
    """A process is killed that has been given a task, and has not begun it: the task runs"""
    one = driven(1)
    (pid,) = up(one)
    os.kill(pid, signal.SIGSTOP)
    one.submit(square, 3)
    for _ in range(20):
        one.poll(0)
    os.kill(pid, signal.SIGKILL)
    one.until(lambda: len(one.said) == 2)
    assert one.said[1] == ("success", 9), "it is lost"


def test_a_process_is_killed_with_half_a_task(driven):
    """A process is killed that has been given half of a task of 8 MB: the task runs"""
    one = driven(1)
    (pid,) = up(one)
    begin_to_give(one, 1)
    os.kill(pid, signal.SIGSTOP)
    for _ in range(20):
        one.poll(0)
    os.kill(pid, signal.SIGKILL)
    one.until(lambda: len(one.said) == 2)
    assert one.said[1] == ("success", 8 << 20), "it is lost"


def test_a_process_stands_still(driven, soon):
    """An idle process stands still (stopped, or waits for a disk): no task waits for it"""
    one = driven(2)
    pid, _ = up(one)
    os.kill(pid, signal.SIGSTOP)
    try:
        with soon(5, "tasks wait for it, though another process is idle"):
            for i in range(6):
                one.submit(square, i)
            deadline = time.monotonic() + 15
            one.until(lambda: len(one.said) == 12 or time.monotonic() > deadline)
            assert len(one.said) == 12
    finally:
        os.kill(pid, signal.SIGCONT)


def test_processes_are_killed_under_load(driven):
    """Random processes are killed while 300 tasks run: each task has one end"""
    one = driven(4)
    pids = up(one)
    ended = []

    def submit():
        one.submit(square, 3, callback=ended.append, error_callback=ended.append)

    for i in range(300):
        one.semaphore.acquire(submit)
        one.poll(0)
        if i % 30 == 10:
            pids = [pid for pid in pids if alive(pid)] or up(one)
            os.kill(pids.pop(), signal.SIGKILL)
    one.until(lambda: len(ended) >= 300)
    assert len(ended) == 300
    assert one.semaphore.value == 4 or STOCK


def test_a_replaced_process_has_no_connection_of_the_workers(start, soon):
    """A process that replaces a lost one has none of the worker's connections to the broker"""
    one = start()
    before = set(processes(one))
    os.kill(min(before), signal.SIGKILL)
    eventually(lambda: len(set(processes(one)) - before) == 1)
    (pid,) = set(processes(one)) - before
    eventually(lambda: sockets(one.program.pid))
    shared = sockets(one.program.pid) & sockets(pid) & _tcp()
    assert not shared, f"it holds {len(shared)}, so that none ends when the worker closes it"


def sockets(pid):
    """The inodes of the sockets that a process has open."""
    found = set()
    for name in os.listdir(f"/proc/{pid}/fd"):
        try:
            found.add(os.readlink(f"/proc/{pid}/fd/{name}"))
        except OSError:
            continue
    return {what for what in found if what.startswith("socket:")}


def _tcp():
    with open("/proc/net/tcp") as table:
        return {f"socket:[{line.split()[9]}]" for line in list(table)[1:]}


def test_a_process_is_lost_in_a_warm_shutdown(start, gate, soon):
    """A process is killed with its task while the worker shuts down: the task is a FAILURE, and the
    worker ends"""
    one = start()
    result = one.tasks.hold.delay(gate.path)
    (pid,) = gate.arrived()
    one.program.send_signal(signal.SIGTERM)
    eventually(lambda: "Warm shutdown" in one.said())
    with soon(10, "the worker does not end"):
        os.kill(pid, signal.SIGKILL)
        one.program.wait(20)
    assert type(result.get(timeout=5, propagate=False)) is WorkerLostError


def test_a_worker_that_has_lost_processes_is_idle(start):
    """Processes were killed, and nothing is to be done: the worker uses no processor"""
    one = start()
    for pid in processes(one):
        os.kill(pid, signal.SIGKILL)
    one.tasks.add.delay(2, 3).get(timeout=20)
    before, began = processor_time(one), time.monotonic()
    time.sleep(3)
    used, took = processor_time(one) - before, time.monotonic() - began
    assert used < took / 4, f"{used / took:.0%}"


def processor_time(one):
    """Seconds that a worker has used of it."""
    with open(f"/proc/{one.program.pid}/stat") as stat:
        fields = stat.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def test_a_task_is_delivered_twice(start, gate):
    """Two messages with the same task_id at the same time: both run, and end"""
    one = start()
    for _ in range(2):
        one.tasks.hold.apply_async((gate.path,), task_id="twin")
    assert len(set(gate.arrived(2))) == 2
    gate.open(2)
    assert one.app.AsyncResult("twin").get(timeout=20)
    assert one.tasks.add.delay(2, 3).get(timeout=20) == 5
