"""What single steps cost, by pytest-benchmark. Asserts nothing about time. `make bench`."""

import pytest

from prefork import Task, TaskPool


def noop(x):
    return x


@pytest.fixture
def pool():
    with TaskPool(2, putlocks=False) as pool:
        pool.map(noop, range(10))
        yield pool


@pytest.fixture
def idle_pool():
    """Without workers: nothing is done beside what is measured."""
    pool = TaskPool(0, putlocks=False)
    pool.start()
    yield pool
    pool.terminate()


def test_task_creation(benchmark, idle_pool):
    benchmark.pedantic(Task, (idle_pool, "noop", None), rounds=50, iterations=1000)


def test_submit_alone(benchmark, idle_pool):
    benchmark.pedantic(idle_pool.apply_async, (noop, (1,)), rounds=50, iterations=1000)


def test_submit_beside_workers(benchmark, pool):
    benchmark.pedantic(pool.apply_async, (noop, (1,)), rounds=2000, warmup_rounds=100)


def test_get_of_a_finished_task(benchmark, pool):
    task = pool.apply_async(noop, (1,))
    assert task.get() == 1
    assert benchmark.pedantic(task.get, rounds=50, iterations=1000) == 1


def test_first_get_of_a_finished_task(benchmark, pool):
    tasks = [pool.apply_async(noop, (i,)) for i in range(2100)]
    tasks[-1].get()
    assert all(task.done() for task in tasks)
    left = iter(tasks)
    benchmark.pedantic(lambda: next(left).get(), rounds=2000, warmup_rounds=100)


def test_round_trip(benchmark, pool):
    assert benchmark.pedantic(pool.apply, (noop, (1,)), rounds=2000, warmup_rounds=100) == 1


def test_map_of_1000_items(benchmark, pool):
    items = list(range(1000))
    assert benchmark.pedantic(pool.map, (noop, items), rounds=50, warmup_rounds=5) == items


def test_spawn(benchmark):
    def up_and_down():
        with TaskPool(2) as pool:
            pool.apply(noop, (1,))

    benchmark.pedantic(up_and_down, rounds=20)
