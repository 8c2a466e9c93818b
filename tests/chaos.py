"""A pool under load, while random signals hit its workers and zygotes.

    python tests/chaos.py [--seconds 120] [--rate 50] [--seed N]

The seed draws the tasks, the victims and the signals; when each of them comes to run is the
machine's to say. At the end: every task has ended exactly once, with a right result or a failure
that it can have; every callback was called once; the pool is at full strength, and nothing is left.
"""

from __future__ import annotations

import argparse
import collections
import concurrent.futures
import contextlib
import faulthandler
import functools
import gc
import logging
import os
import random
import signal
import sys
import threading
import time
import zlib

import prefork
from chaos_killer import Killer
from helpers import alive, descendants, descriptors, eventually, full, leftovers, threads

SEGMENTS = 4  # of load, after each of which everything has ended and memory is looked at
OUTSTANDING = 150  # tasks at once
HANG = 60.0  # seconds without the end of any task
GROWTH = 24 << 10  # KiB by which the application may have grown between the first and the last
WORKERS = 8

Lost = prefork.WorkerLostError


# ---- tasks -----------------------------------------------------------------------------------


def nothing(number):
    return number


def sleep(seconds):
    time.sleep(seconds)
    return seconds


def swallow(data):
    return zlib.crc32(data)


def produce(size, seed):
    return random.Random(seed).randbytes(size)


def fail(number):
    raise LookupError(number)


def ready():
    faulthandler.register(signal.SIGUSR1, all_threads=True)


class Record:
    """What one task is to become, and how often it was said to have become something."""

    def __init__(self, task, right, failures, wants_callback):
        self.task, self.right, self.failures = task, right, failures
        self.wants_callback = wants_callback
        self.done = self.succeeded = self.failed = 0

    def check(self):
        task = self.task
        kind = "cancelled"
        if not task.cancelled():
            error = task.exception(0)
            kind = "ok" if error is None else type(error).__name__
            if error is None:
                assert self.right(task.result(0)), f"a wrong result of {task}"
            else:
                assert isinstance(error, self.failures), repr(error)
        assert self.done == 1, f"{task} was said {self.done} times to be done"
        expected = (
            (kind == "ok", kind not in ("ok", "cancelled")) if self.wants_callback else (0, 0)
        )
        assert (self.succeeded, self.failed) == expected, f"callbacks of {task}, which is {kind}"
        return kind


class Load:
    """Submits tasks of every kind, a bounded number at once."""

    def __init__(self, pool, seed):
        self.pool, self.draw = pool, random.Random(seed)
        self.records = []
        self.outcomes = collections.Counter()

    def submit(self):
        draw, number = self.draw, self.draw.randrange(1 << 30)
        options, failures = {}, [Lost, prefork.InitializerError]
        kind = draw.choices(
            ["nothing", "sleep", "swallow", "produce", "fail", "limit", "soft", "queue"],
            [40, 20, 8, 8, 5, 3, 3, 3],
        )[0]
        size = draw.choice([0, 100, 5000, 70_000, 1 << 20, 4 << 20])
        if kind == "nothing":
            call, right = (nothing, (number,)), number.__eq__
        elif kind == "sleep":
            seconds = draw.random() / 20
            call, right = (sleep, (seconds,)), seconds.__eq__
        elif kind == "swallow":
            data = random.Random(number).randbytes(size)
            call, right = (swallow, (data,)), zlib.crc32(data).__eq__
        elif kind == "produce":
            call = (produce, (size, number))
            right = functools.partial(lambda size, n, got: got == produce(size, n), size, number)
        elif kind == "fail":
            call, right = (fail, (number,)), lambda got: False
            failures.append(LookupError)
        else:
            call, right = (sleep, (0.3,)), (0.3).__eq__
            option, error = {
                "limit": ("timeout", prefork.TimeLimitExceeded),
                "soft": ("soft_timeout", prefork.SoftTimeLimitExceeded),
                "queue": ("queue_timeout", prefork.QueueTimeout),
            }[kind]
            options[option] = 0.05
            failures.append(error)
        if draw.random() < 0.3:
            options.update(on_lost="retry", retries=draw.randint(1, 4))
        record = Record(None, right, tuple(failures), draw.random() < 0.5)
        if record.wants_callback:
            options["callback"] = functools.partial(self._count, record, "succeeded")
            options["error_callback"] = functools.partial(self._count, record, "failed")
        if draw.random() < 0.2:
            options["accept_callback"] = lambda pid, at: None
        try:
            record.task = self.pool.apply_async(*call, **options)
        except prefork.InitializerError:  # three in a row were killed before they were up
            self.outcomes["refused"] += 1
            self.pool.poll(0.01)
            return
        record.task.add_done_callback(functools.partial(self._count, record, "done"))
        self.records.append(record)

    @staticmethod
    def _count(record, what, _):
        setattr(record, what, getattr(record, what) + 1)

    def meddle(self):
        draw = self.draw.random()
        if draw < 0.05 and self.records:
            self.draw.choice(self.records).task.cancel()
        elif draw < 0.07:
            born = [worker.pid for worker in self.pool.workers if worker.pid]
            if born:
                number = self.draw.choice([signal.SIGTERM, signal.SIGKILL])
                self.pool.terminate_job(self.draw.choice(born), number)
        elif draw < 0.075 and self.pool.limit < WORKERS + 4:
            self.pool.grow(self.draw.randint(1, 2))
        elif draw < 0.08 and self.pool.limit > WORKERS - 4:
            self.pool.shrink(self.draw.randint(1, 2))

    def settle(self, down_to):
        """Until no more than so many tasks are unfinished; those that have ended are judged."""
        last = time.monotonic()
        while True:
            over = [r for r in self.records if r.task.done() and self._was_told(r)]
            for record in over:
                self.outcomes[record.check()] += 1
            if over:
                last = time.monotonic()
                judged = set(map(id, over))
                self.records = [r for r in self.records if id(r) not in judged]
            if len(self.records) <= down_to:
                return
            if time.monotonic() - last > HANG:
                raise TimeoutError(f"{len(self.records)} tasks do not end")
            pending = [r.task for r in self.records if not r.task.done()]
            concurrent.futures.wait(pending[:1], 0.02)

    @staticmethod
    def _was_told(record):
        """Callbacks come after the end, from another thread."""
        told = record.succeeded + record.failed >= record.wants_callback
        return record.done > 0 and (told or record.task.cancelled())

    def run(self, until):
        while time.monotonic() < until:
            self.submit()
            self.meddle()
            if len(self.records) >= OUTSTANDING:
                self.settle(OUTSTANDING * 2 // 3)


# ---- the whole -------------------------------------------------------------------------------


def resident():
    """KiB of this process, after all that can be given back was."""
    gc.collect()
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") // 1024


def show_stacks():
    """Of every process: Python's where there is Python, the kernel's word on the others."""
    faulthandler.dump_traceback(all_threads=True)
    for pid in sorted(descendants(os.getpid())):
        with contextlib.suppress(OSError):
            words = {}
            for name in ("comm", "wchan", "syscall", "stat"):
                with contextlib.suppress(OSError), open(f"/proc/{pid}/{name}") as file:
                    words[name] = file.read().strip()
            print(f"pid {pid}: {words}", file=sys.stderr)
            if words.get("comm") == "prefork-worker":
                os.kill(pid, signal.SIGCONT)
                os.kill(pid, signal.SIGUSR1)
    time.sleep(2)  # for their answers, before we end


def chaos(seconds, rate, seed):
    pool = prefork.TaskPool(WORKERS, putlocks=False, initializer=ready)
    pool.start()
    load, killer = Load(pool, seed), Killer(pool, rate, seed)
    killer.start()
    try:
        sizes, begin = [], time.monotonic()
        for segment in range(SEGMENTS):
            load.run(begin + seconds * (segment + 1) / SEGMENTS)
            load.settle(0)
            sizes.append(resident())
        killer.stop()
        eventually(lambda: full(pool, pool.limit) and pool.did_start_ok(), pool)
        assert pool.map(nothing, range(200)) == list(range(200))
        eventually(lambda: pool.stats["standby"], pool)
        stats = pool.stats
    except BaseException:
        killer.stop()
        show_stacks()
        raise
    pids = descendants(os.getpid())
    pool.stop()
    eventually(lambda: not any(map(alive, pids)))
    assert stats["tasks_unfinished"] == 0 and stats["application_forks"] == 1, stats
    assert sizes[-1] - sizes[0] < GROWTH, f"resident memory after each part, KiB: {sizes}"
    print(f"signals: {dict(killer.sent)}")
    print(f"tasks: {dict(load.outcomes)}")
    print(f"workers spawned: {stats['workers_spawned']}, zygotes lost: {stats['zygotes_lost']}")
    print(f"resident memory, KiB: {sizes}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=120)
    parser.add_argument("--rate", type=float, default=50, help="signals per second")
    parser.add_argument("--seed", type=int, default=int(time.time()))
    options = parser.parse_args()
    print(f"seed {options.seed}", flush=True)
    logging.getLogger("prefork").setLevel("CRITICAL")
    before, count = descriptors(), threads()
    watchdog = options.seconds + 4 * HANG
    faulthandler.dump_traceback_later(watchdog, exit=True)
    chaos(options.seconds, options.rate, options.seed)
    gc.collect()
    eventually(lambda: not leftovers())
    eventually(lambda: threads() <= count + 1)  # the watchdog is one
    assert descriptors() == before
    assert set(threading.enumerate()) == {threading.main_thread()}
    print("nothing is left")


if __name__ == "__main__":
    main()
