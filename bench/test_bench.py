"""What a task costs here and in multiprocessing.Pool: one run, interleaved rounds, medians.

Asserts nothing about time; prints ratios. `make bench`.
"""

import multiprocessing
import statistics
import time

import pytest

from prefork import TaskPool

TASKS = 100_000
ROUNDS = 5


def noop(x):
    return x


@pytest.fixture
def pool():
    with TaskPool(2, putlocks=False) as pool:
        pool.map(noop, range(10))
        yield pool


def test_submit(benchmark, pool):
    benchmark.pedantic(pool.apply_async, (noop, (1,)), rounds=2000, warmup_rounds=100)


def test_round_trip(benchmark, pool):
    assert benchmark.pedantic(pool.apply, (noop, (1,)), rounds=2000, warmup_rounds=100) == 1


def test_spawn(benchmark):
    def up_and_down():
        with TaskPool(2) as pool:
            pool.apply(noop, (1,))

    benchmark.pedantic(up_and_down, rounds=20)


def gather(submit):
    begun = time.perf_counter()
    tasks = [submit(noop, (i,)) for i in range(TASKS)]
    total = sum(task.get() for task in tasks)
    assert total == TASKS * (TASKS - 1) // 2
    return time.perf_counter() - begun


def test_gather_beside_multiprocessing():
    seconds = {"default": [], "putlocks=False": [], "multiprocessing.Pool": []}
    with (
        TaskPool(2) as guarded,
        TaskPool(2, putlocks=False) as free,
        multiprocessing.Pool(2) as other,
    ):
        for _ in range(ROUNDS):
            seconds["default"].append(gather(guarded.apply_async))
            seconds["putlocks=False"].append(gather(free.apply_async))
            seconds["multiprocessing.Pool"].append(gather(other.apply_async))
        before = free.stats
        assert before["tasks_succeeded"] == ROUNDS * TASKS
    print(f"\n{TASKS} no-op tasks gathered, 2 workers, median of {ROUNDS} interleaved rounds")
    floor = statistics.median(seconds["multiprocessing.Pool"])
    for name, rounds in seconds.items():
        median = statistics.median(rounds)
        print(f"{name:22} {median / TASKS * 1e6:7.1f} us a task, {floor / median:5.2f} x")
