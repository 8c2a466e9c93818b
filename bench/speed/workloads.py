"""The workloads, each a generator: what it needs is made once, and each turn is one round.

A round gives its costs by name: in ns, or as it says. Every round fails if its results are not
those of its tasks, or if one of them was not run, or not in a worker.
"""

from __future__ import annotations

import gc
import os
import pickle
import random
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import tasks
from pools import Make
from processes import Activity, children_cpu, descendants, resident
from tasks import board

Report = dict[str, float]
Rounds = Iterator[Report]

WORKERS = 2
MIX = random.Random(8).sample([1] * 360 + [5] * 36 + [50] * 4, 400)  # ms


class Taken:
    """Time, and CPU of this process and of its children, for so many tasks."""

    def __init__(self, count: int) -> None:
        self.count = count

    def __enter__(self) -> Taken:
        gc.collect()  # what the round before has left
        self._done = board.done()
        self._pids = descendants(os.getpid())
        self._children = children_cpu(self._pids)
        self._parent = time.process_time_ns()
        self._begun = time.monotonic_ns()
        self._wall: int | None = None
        return self

    def stop_clock(self) -> None:
        """What comes until the end is not measured."""
        self._wall = time.monotonic_ns() - self._begun

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is not None:
            return
        if self._wall is None:
            self.stop_clock()
        self._parent = time.process_time_ns() - self._parent
        self._children = children_cpu(self._pids) - self._children
        done = board.done() - self._done
        assert done == self.count, f"{done} of {self.count} tasks were run"
        assert os.getpid() not in board.workers(), "a task was run in the application"

    @property
    def wall(self) -> float:
        assert self._wall is not None
        return self._wall

    def each(self) -> Report:
        """What one task has taken."""
        parent, children = self._parent / self.count, self._children / self.count
        return {
            "wall": self.wall / self.count,
            "cpu": parent + children,
            "parent": parent,
            "children": children,
        }


# ---- what a task costs ---------------------------------------------------------------------------


def _calls(pickled: bool, count: int) -> tuple[Callable[..., Any], list[tuple[Any, ...]]]:
    if pickled:
        return tasks.record, [(i, {"number": i}) for i in range(count)]
    return tasks.number, [(i,) for i in range(count)]


def noop(
    make: Make, count: int, pickled: bool = False, in_order: bool = False, workers: int = WORKERS
) -> Rounds:
    """Submit all, then take all: the last first, which gathers them, or in order."""
    function, calls = _calls(pickled, count)
    expected = [args[-1] for args in calls]
    with closing(make(workers)) as pool:
        submit, take = pool.submit, pool.take
        while True:
            with Taken(count) as taken:
                handles = [submit(function, args) for args in calls]
                if not in_order:
                    take(handles[-1])
                results = [take(handle) for handle in handles]
            assert results == expected
            yield taken.each()


def roundtrip(make: Make, count: int) -> Rounds:
    with closing(make(WORKERS)) as pool:
        submit, take = pool.submit, pool.take
        while True:
            times = []
            with Taken(count):
                for i in range(count):
                    begun = time.perf_counter_ns()
                    result = take(submit(tasks.number, (i,)))
                    times.append(time.perf_counter_ns() - begun)
                    assert result == i
            yield {"p50": statistics.median(times), "p99": statistics.quantiles(times, n=100)[98]}


def mapped(make: Make, item: str, count: int, chunksize: int | None = None) -> Rounds:
    function, items = getattr(tasks, item), list(range(count))
    with closing(make(WORKERS)) as pool:
        while True:
            with Taken(count) as taken:
                results = pool.map(function, items, chunksize)
            assert results == items
            yield taken.each()


# ---- who waits for whom --------------------------------------------------------------------------


def short(make: Make, ahead: int) -> Rounds:
    """Short tasks, a long one among them: until all the short ones are done."""
    with closing(make(WORKERS)) as pool:
        while True:
            with Taken(ahead + 1 + 60) as taken:
                handles = [pool.submit(tasks.nap, (0, 0.001)) for _ in range(ahead)]
                long = pool.submit(tasks.nap, (1, 0.3))
                handles += [pool.submit(tasks.nap, (0, 0.001)) for _ in range(60)]
                results = [pool.take(handle) for handle in handles]
                taken.stop_clock()
                assert pool.take(long) == 1
            assert not any(results)
            yield {"wall": taken.wall}


def skewed(make: Make, by_map: bool) -> Rounds:
    """A mix, most of it short: until all is done."""
    with closing(make(WORKERS)) as pool:
        while True:
            with Taken(len(MIX)) as taken:
                if by_map:
                    results = pool.map(tasks.nap_ms, MIX, None)
                else:
                    handles = [pool.submit(tasks.nap_ms, (ms,)) for ms in MIX]
                    results = [pool.take(handle) for handle in handles]
            assert results == MIX
            yield {"wall": taken.wall}


def busy(make: Make, count: int) -> Rounds:
    """Tasks of a millisecond, while the main thread waits for them; while it has no time for us."""
    with closing(make(WORKERS)) as pool:
        while True:
            report = {}
            for what in ("waiting", "burning"):
                with Taken(count) as taken:
                    goal = board.done() + count
                    handles = [pool.submit(tasks.nap, (i, 0.001)) for i in range(count)]
                    pool.begin()
                    if what == "burning":
                        while board.done() < goal:
                            _burn()
                        taken.stop_clock()
                    results = [pool.take(handle) for handle in handles]
                assert results == list(range(count))
                report[what] = taken.wall / count
            yield report


def _burn() -> None:
    total = 0
    for number in range(2000):
        total += number


# ---- processes that come and go ------------------------------------------------------------------


def startup(make: Make, workers: int) -> Rounds:
    """Until each of so many workers has run a task."""
    while True:
        before = len(board.workers())
        with Taken(workers) as taken:
            pool = make(workers)
            handles = [pool.submit(tasks.meet, (i, workers)) for i in range(workers)]
            results = [pool.take(handle) for handle in handles]
            taken.stop_clock()
            begun = time.monotonic_ns()
            pool.close()
            close = time.monotonic_ns() - begun
        assert results == list(range(workers))
        assert len(board.workers()) == before + workers
        yield {"wall": taken.wall, "close": close}


def _ballast(megabytes: int) -> list[bytes]:
    """In small pieces, as the memory of Python programs is."""
    return [bytes(1000) for _ in range(megabytes * 1000)]


def recycle(make: Make, count: int, before: int = 0, after: int = 0, **options: Any) -> Rounds:
    """A worker for each task; memory (MB) that the application has before its pool, or after."""
    ballast = [_ballast(before)]
    with closing(make(WORKERS, maxtasks=1, **options)) as pool:
        pool.take(pool.submit(tasks.number, (0,)))
        ballast.append(_ballast(after))
        while True:
            used = len(board.workers())
            with Taken(count) as taken:
                handles = [pool.submit(tasks.number, (i,)) for i in range(count)]
                results = [pool.take(handle) for handle in handles]
            assert results == list(range(count))
            assert len(board.workers()) == used + count
            yield {"wall": taken.wall / count}


def idle(make: Make, workers: int, seconds: float) -> Rounds:
    """CPU ticks and context switches of all processes, while nothing is to be done."""
    with closing(make(workers)) as pool:
        handles = [pool.submit(tasks.meet, (i, workers)) for i in range(workers)]
        assert [pool.take(handle) for handle in handles] == list(range(workers))
        while True:
            time.sleep(1)
            others = descendants(os.getpid())
            before = Activity.of([*others, os.getpid()])  # we are the last
            time.sleep(seconds)
            after = Activity.of([os.getpid(), *others])  # and the first: looking is no rest
            ticks, switches = after.ticks - before.ticks, after.switches - before.switches
            yield {"both": ticks + switches, "ticks": ticks, "switches": switches}


# ---- memory and scale ----------------------------------------------------------------------------


def memory(make: Make, count: int, wave: int) -> Rounds:
    """Resident memory of all processes together, KiB more by so many tasks."""
    waves = noop(make, wave, pickled=True)
    while True:
        before = _resident()
        for _ in range(count // wave):
            next(waves)
        yield {"growth": (_resident() - before) / 1024}


def _resident() -> int:
    gc.collect()
    pids = descendants(os.getpid())
    return resident(os.getpid()) + sum(map(resident, pids))


def scale(make: Make, workers: int, queued: int, times: int = 1) -> Rounds:
    """So many tasks queued while all workers are held, then done. Of a single time also memory in
    bytes for each, beyond its pickle: of the application, with what it has in hand."""
    function, calls = _calls(True, queued)
    expected = [args[-1] for args in calls]
    pickles = (pickle.dumps((function, args), pickle.HIGHEST_PROTOCOL) for args in calls)
    size = sum(map(len, pickles)) / queued
    with closing(make(workers)) as pool:
        while True:
            each: list[Report] = []
            for _ in range(times):
                before = resident(os.getpid())
                held = [pool.submit(tasks.hold, (i,)) for i in range(workers)]
                while board.at_the_gate() < workers:
                    time.sleep(0.001)
                with Taken(queued) as taken:
                    handles = [pool.submit(function, args) for args in calls]
                    grown = resident(os.getpid()) - before
                    board.open_gate(workers)
                    pool.take(handles[-1])
                    results = [pool.take(handle) for handle in handles]
                    assert [pool.take(handle) for handle in held] == list(range(workers))
                assert results == expected
                del handles, results
                each.append(taken.each())
            mean = {key: statistics.fmean(one[key] for one in each) for key in each[0]}
            if times == 1:
                mean |= {"bytes": grown / queued - size, "pickle": size}
            yield mean


WORKLOADS: dict[str, Callable[..., Rounds]] = {
    one.__name__: one
    for one in (noop, roundtrip, mapped, short, skewed, busy, startup, recycle, idle, memory, scale)
}
