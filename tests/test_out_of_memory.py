"""Memory that runs out, in the application or in a worker: the task at hand fails, and says so."""

from __future__ import annotations

import pytest

from helpers import eventually, hold, square
from scripts import run_script

LIMIT = """
    import resource

    def vm_kib():
        with open("/proc/self/status") as status:
            return next(int(line.split()[1]) for line in status if line.startswith("VmSize"))

    def allow(mib):
        most = (vm_kib() << 10) + (mib << 20)
        resource.setrlimit(resource.RLIMIT_AS, (most, resource.RLIM_INFINITY))
"""


def test_a_result_that_does_not_fit_fails_its_task_only(tmp_path):
    done = run_script(
        tmp_path,
        LIMIT
        + """
    from prefork import TaskPool

    def much(mib):
        return b"x" * (mib << 20)

    with TaskPool(1) as pool:
        pool.apply(len, ("up",))
        allow(150)
        behind = None
        for mib in (300, 100):  # it cannot be read; it cannot be copied
            task = pool.apply_async(much, (mib,))
            behind = pool.apply_async(len, ("abc",), waitforslot=False)
            print(repr(task.exception()), behind.get())
        print(pool.stats["workers_exited"], pool.state)
    """,
    )
    error = "MemoryError('there is no room for what much has returned') 3\n"
    assert (done.returncode, done.stdout) == (0, error * 2 + "0 running\n"), done.stderr


def test_arguments_that_do_not_fit_into_the_worker_fail_their_task_only(tmp_path):
    done = run_script(
        tmp_path,
        LIMIT
        + """
    from prefork import TaskPool

    with TaskPool(1, initializer=allow, initargs=(150,)) as pool:
        for mib in (300, 100):
            task = pool.apply_async(len, (b"x" * (mib << 20),))
            behind = pool.apply_async(len, ("abc",), waitforslot=False)
            print(type(task.exception()).__name__, behind.get())
        print(pool.stats["workers_exited"], pool.state)
    """,
    )
    assert (done.returncode, done.stdout) == (
        0,
        "MemoryError 3\nMemoryError 3\n0 running\n",
    ), done.stderr


def test_arguments_are_not_copied_again_when_they_are_sent(tmp_path):
    done = run_script(
        tmp_path,
        LIMIT
        + """
    from prefork import TaskPool

    with TaskPool(1) as pool:
        pool.apply(len, ("up",))
        allow(350)  # for the bytes, their pickle, and the pool's copy
        print(pool.apply(len, (b"x" * (100 << 20),)) >> 20)
    """,
    )
    assert (done.returncode, done.stdout) == (0, "100\n"), done.stderr


@pytest.mark.parametrize("putlocks", [True, False])
def test_where_the_table_of_tasks_cannot_grow_the_call_fails_and_leaves_nothing(tmp_path, putlocks):
    done = run_script(
        tmp_path,
        LIMIT
        + """
    import sys
    from helpers import eventually, square
    from prefork import TaskPool

    def fill(table):
        "Until one more needs megabytes; how many that were."
        count = 0
        while sys.getsizeof(table) < 2 << 20:
            count += 1
            table[-count] = None
        while len(table) < 87_381:  # two thirds of a power of 2
            count += 1
            table[-count] = None
        return count

    with TaskPool(1, putlocks=sys.argv[1] == "True") as pool:
        pool.apply(square, (3,))
        delivery = pool._delivery
        count = fill(delivery.tasks)
        allow(2)
        try:
            pool.apply_async(square, (3,))
        except MemoryError:
            print("MemoryError")
        resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY,) * 2)
        for number in range(1, count + 1):
            del delivery.tasks[-number]
        eventually(lambda: not pool.stats["tasks_unfinished"], pool)
        print(len(delivery.slots.free), pool.apply(square, (3,)))
        print(*delivery.tasks, *delivery.early, *delivery.ended)
    """,
        str(putlocks),
    )
    assert (done.returncode, done.stdout) == (0, "MemoryError\n1 9\n\n"), done.stderr


class Full:
    """A deque that has room for some events, one at a time."""

    def __init__(self, events, room):
        self.events, self.room = events, room

    def append(self, event):
        if self.room == 0:
            raise MemoryError
        self.room -= 1
        self.events.append(event)

    def extend(self, events):
        raise MemoryError


class Poor:
    """The delivery of a pool, with little memory."""

    def __init__(self, delivery, room):
        self.tasks, self.slots = delivery.tasks, delivery.slots
        self.events = Full(delivery.events, room)


@pytest.mark.parametrize("room", [0, 1, 3])
def test_what_cannot_be_delivered_is_delivered_later(pool, gate, room):
    one = pool(1, putlocks=False)
    one.fileno()
    eventually(lambda: one.workers[0].state == "idle", one)
    # From here on nobody takes events but this.
    told = []
    tasks = [one.apply_async(square, (i,), callback=told.append) for i in range(4)]
    behind = one.apply_async(hold, (gate.path,))
    gate.arrived()  # so the others have ended
    core = one._core
    with pytest.raises(MemoryError):
        core.poll(0, core.rouses(), Poor(one._delivery, room))
    assert [task.get(10) for task in tasks] == [0, 1, 4, 9]
    assert told == [0, 1, 4, 9]
    gate.open()
    assert behind.get(10)
