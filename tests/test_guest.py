"""A pool that is the guest of a loop: no thread, everything inside poll()."""

from __future__ import annotations

import asyncio
import os
import select
import signal
import threading

import pytest
import uvloop

import prefork
from helpers import drive, eventually, hold, pid_of_worker, square, threads


async def nothing():
    pass


uvloop.run(nothing())  # libuv makes a pipe for signals once in a process, and keeps it


def test_the_descriptor_is_readable_whenever_there_is_something_to_do(pool):
    one = pool(2, putlocks=False)
    one.fileno()
    done = []
    for i in range(300):
        one.apply_async(square, (i,), callback=done.append)
    drive(one, lambda: len(done) == 300)
    assert sorted(done) == [i * i for i in range(300)]


def test_what_is_met_outside_of_poll_makes_it_readable(pool, gate):
    one = pool(1, putlocks=False)
    one.fileno()
    held = one.apply_async(hold, (gate.path,))
    gate.arrived(1, one)
    done = []
    cancelled = one.apply_async(square, (1,), error_callback=done.append)
    cancelled.add_done_callback(done.append)
    one.poll()
    assert cancelled.cancel()
    assert cancelled.done()  # it was met here
    drive(one, lambda: done)
    assert done[-1] is cancelled
    gate.open()
    drive(one, held.done)


def test_one_task_after_the_other_by_select(pool):
    one = pool(1)
    done = []
    for i in range(200):
        one.apply_async(square, (i,), callback=done.append)
        drive(one, lambda i=i: len(done) == i + 1)
    assert done == [i * i for i in range(200)]


def test_a_guest_has_no_thread(pool):
    before = threads()
    one = pool(2)
    one.fileno()
    done = []
    task = one.apply_async(square, (3,), callback=done.append)
    task.add_done_callback(done.append)
    drive(one, lambda: len(done) == 2)
    assert done == [9, task]
    assert threads() == before


def test_becoming_a_guest_ends_the_threads(pool):
    before = threads()
    one = pool(1)
    called = threading.Event()
    one.apply_async(square, (1,), callback=lambda _: called.set())
    assert called.wait(30)
    assert threads() > before
    one.fileno()
    eventually(lambda: threads() == before, one)
    assert one.apply(square, (2,)) == 4


def test_callbacks_of_a_guest_run_in_poll(pool):
    one = pool(1)
    one.fileno()
    seen = []
    one.apply_async(square, (2,), callback=lambda _: seen.append(threading.get_ident()))
    drive(one, lambda: seen)
    assert seen == [threading.get_ident()]


def test_ctrl_c_out_of_a_callback_comes_out_of_poll_and_skips_no_done_callback(pool):
    one = pool(1)
    one.fileno()
    seen = []

    def interrupted(_):
        raise KeyboardInterrupt

    task = one.apply_async(square, (2,), callback=interrupted)
    task.add_done_callback(seen.append)
    task.add_done_callback(seen.append)
    with pytest.raises(KeyboardInterrupt):
        drive(one, lambda: False)
    one.poll()
    assert seen == [task, task]
    assert one.apply(square, (3,)) == 9


def test_poll_returns_the_number_of_events(pool):
    one = pool(1, putlocks=False)
    one.fileno()
    eventually(lambda: one.workers and one.workers[0].state == "idle", one)
    while one.poll(0.05):
        pass
    assert one.poll() == 0
    tasks = [one.apply_async(square, (i,)) for i in range(5)]
    count = 0
    while not all(task._has_ended() for task in tasks):
        count += one.poll(1)
    assert count == 5


def test_a_guests_apply_async_never_waits_for_a_slot(pool, gate):
    one = pool(1)
    one.fileno()
    tasks = [one.apply_async(hold, (gate.path,)) for _ in range(4)]
    gate.arrived(1, one)
    assert one.stats["tasks_unfinished"] == 4
    gate.open(4)
    drive(one, lambda: all(task._has_ended() for task in tasks))


def test_callbacks_of_a_guest_may_submit_and_stop(pool):
    one = pool(1)
    one.fileno()
    seen = []

    def chain(result):
        seen.append(result)
        if result < 1000:
            one.apply_async(square, (result,), callback=chain)
        else:
            one.stop()

    one.apply_async(square, (2,), callback=chain)
    eventually(lambda: one.state == "stopped", one)
    assert seen == [4, 16, 256, 65536]


def test_a_limit_makes_the_descriptor_readable(pool, gate):
    one = pool(1)
    one.fileno()
    task = one.apply_async(hold, (gate.path,), timeout=0.2)
    drive(one, task._has_ended)
    assert isinstance(task.exception(), prefork.TimeLimitExceeded)


def test_a_dead_worker_makes_the_descriptor_readable(pool, gate):
    one = pool(1)
    one.fileno()
    task = one.apply_async(hold, (gate.path,))
    (pid,) = gate.arrived(1, one)
    os.kill(pid, signal.SIGKILL)
    drive(one, task._has_ended)
    assert task.exception().pid == pid
    drive(one, lambda: [w.state for w in one.workers] == ["idle"])


@pytest.mark.parametrize("run", [asyncio.run, uvloop.run])
def test_register_with_a_loop(pool, run):
    before = threads()
    one = pool(2)

    async def main():
        loop = asyncio.get_running_loop()
        one.register_with_event_loop(loop)
        tasks = [asyncio.wrap_future(one.apply_async(square, (i,))) for i in range(200)]
        assert await asyncio.gather(*tasks) == [i * i for i in range(200)]
        again = await asyncio.wrap_future(one.apply_async(pid_of_worker))
        os.kill(again, signal.SIGKILL)
        assert await asyncio.wrap_future(one.apply_async(square, (7,))) == 49
        assert threads() == before
        loop.remove_reader(one.fileno())

    run(main())


def test_register_with_anything_that_has_add_reader(pool):
    class Hub:
        def add_reader(self, fd, callback, *args):
            self.fd, self.callback = fd, callback

    hub = Hub()
    one = pool(1)
    one.register_with_event_loop(hub)
    assert hub.fd == one.fileno()
    task = one.apply_async(square, (3,))
    while not task._has_ended():
        assert select.select([hub.fd], [], [], 30)[0]
        hub.callback()
    assert task.get() == 9


def test_an_epoll_that_is_edge_triggered_misses_nothing(pool):
    one = pool(1)
    epoll = select.epoll()
    epoll.register(one.fileno(), select.EPOLLIN | select.EPOLLET)
    done = []
    for i in range(50):
        one.apply_async(square, (i,), callback=done.append)
        while len(done) <= i:
            epoll.poll(30)
            while one.poll():
                pass
    epoll.close()
    assert done == [i * i for i in range(50)]


def test_a_pool_that_ends_takes_its_leave_of_the_loop(pool):
    class Loop:
        def __init__(self):
            self.readers = {}

        def add_reader(self, fd, callback):
            self.readers[fd] = callback

        def remove_reader(self, fd):
            del self.readers[fd]

    loop, gone = Loop(), Loop()
    gone.remove_reader = None  # a loop that cannot be spoken to any more
    one = pool(1)
    one.register_with_event_loop(loop)
    one.register_with_event_loop(gone)
    assert list(loop.readers) == [one.fileno()]
    one.stop()
    assert loop.readers == {}
    with pytest.raises(prefork.PoolClosed):
        one.fileno()


class Forgetful:
    """A loop that forgets its readers when it is reset, as kombu's hub does."""

    def __init__(self):
        self.readers = {}
        self.removed = []

    def add_reader(self, fd, callback):
        self.readers[fd] = callback

    def remove_reader(self, fd):
        self.removed.append(fd)


def test_a_pool_registers_again_with_a_loop_that_was_reset(pool):
    one = pool(1)
    loop = Forgetful()
    for _ in range(3):
        loop.readers.clear()
        one.register_with_event_loop(loop)
        assert loop.readers == {one.fileno(): one.poll}
    fd = one.fileno()
    one.terminate()
    assert loop.removed == [fd]
