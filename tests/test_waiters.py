"""Waiters that are not the pool's own: concurrent.futures, asyncio."""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading

import pytest

from helpers import eventually, fail, hold, square


def test_as_completed_and_wait(pool):
    one = pool(2, putlocks=False)
    tasks = [one.apply_async(square, (i,)) for i in range(100)]
    found = [task.result() for task in concurrent.futures.as_completed(tasks, 30)]
    assert sorted(found) == [i * i for i in range(100)]
    tasks = [one.apply_async(square, (i,)) for i in range(100)]
    done, rest = concurrent.futures.wait(tasks, 30)
    assert (len(done), len(rest)) == (100, 0)


def test_wait_returns_at_the_first_exception(pool, gate):
    one = pool(2)
    tasks = [one.apply_async(hold, (gate.path,)), one.apply_async(fail)]
    done, rest = concurrent.futures.wait(tasks, 30, return_when=concurrent.futures.FIRST_EXCEPTION)
    assert (done, rest) == ({tasks[1]}, {tasks[0]})
    gate.open()


def test_wait_gives_up_after_its_timeout(pool, gate):
    one = pool(1)
    task = one.apply_async(hold, (gate.path, 1))
    assert concurrent.futures.wait([task], 0.05).not_done == {task}
    with pytest.raises(concurrent.futures.TimeoutError):
        next(concurrent.futures.as_completed([task], 0.05))
    gate.open()
    assert task.get() == 1


def test_a_cancelled_task_wakes_strangers(pool, gate):
    one = pool(1, putlocks=False)
    one.apply_async(hold, (gate.path,))
    gate.arrived()
    task = one.apply_async(square, (1,))
    waited = []
    thread = threading.Thread(target=lambda: waited.append(concurrent.futures.wait([task], 30)))
    thread.start()
    assert task.cancel()
    thread.join()
    assert waited[0].done == {task}
    gate.open()


def test_wrap_future(pool):
    one = pool(2, putlocks=False)

    async def main():
        tasks = [one.apply_async(square, (i,)) for i in range(50)]
        found = await asyncio.gather(*map(asyncio.wrap_future, tasks))
        with pytest.raises(ValueError, match="no"):
            await asyncio.wrap_future(one.apply_async(fail))
        return found

    assert asyncio.run(main()) == [i * i for i in range(50)]


def test_cancelling_a_wrapped_future_cancels_the_task(pool, gate):
    one = pool(1, putlocks=False)
    one.apply_async(hold, (gate.path,))
    gate.arrived()
    task = one.apply_async(square, (1,))

    async def main():
        wrapped = asyncio.wrap_future(task)
        wrapped.cancel()
        with pytest.raises(asyncio.CancelledError):
            await wrapped

    asyncio.run(main())
    eventually(task.cancelled)
    gate.open()


def brief(pool):
    """So many tasks that each is known to take no time."""
    for _ in range(3):
        assert pool.map(square, range(500)) == [i * i for i in range(500)]


@pytest.mark.parametrize("count", [1, 2])
def test_the_last_tasks_of_many_brief_ones_begin_though_nobody_waits(pool, gate, count):
    """Their workers are not called at once, but by the driver."""
    one = pool(2, putlocks=False)
    for _ in range(20):
        brief(one)
        tasks = [one.apply_async(hold, (gate.path,)) for _ in range(count)]
        gate.arrived(count)
        gate.open(count)
        for task in tasks:
            task.get()


def test_tasks_after_many_brief_ones_begin_while_another_thread_waits(pool, gate):
    one = pool(3, putlocks=False)
    for _ in range(20):
        brief(one)
        first = one.apply_async(hold, (gate.path,))
        gate.arrived()
        thread = threading.Thread(target=first.get)
        thread.start()
        more = [one.apply_async(hold, (gate.path,)) for _ in range(2)]
        gate.arrived(2)
        gate.open(3)
        thread.join()
        for task in more:
            task.get()
