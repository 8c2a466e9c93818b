"""Maps without a chunksize: which items go together, and what that changes for nobody."""

from __future__ import annotations

import os
import threading
import time

import pytest

import prefork
from helpers import fail_on_odd, hold, square
from pacing import NAMES, call, clock, note, noted, sizes, slow_on_sevens, task_of
from prefork import _core, batch, calls, pace
from test_map_errors import exit_on_three, outcomes

# ---- which items go together ---------------------------------------------------------------------


@pytest.mark.parametrize("name", ["map", *NAMES])
def test_microseconds_go_by_the_thousand(pool, workers_clock, name):
    found = sizes(list(getattr(pool(2), name)(task_of, [1e-6] * 100_000)))
    assert sum(found) == 100_000
    assert max(found) in range(900, 1100)
    assert len(found) < 400


@pytest.mark.parametrize("name", ["map", *NAMES])
@pytest.mark.parametrize("seconds", [1e-3, 10])
def test_what_takes_long_goes_one_by_one(pool, workers_clock, name, seconds):
    assert sizes(list(getattr(pool(2), name)(task_of, [seconds] * 200))) == [1] * 200


def test_the_first_items_go_one_by_one(pool, workers_clock):
    assert set(sizes(pool(2).map(task_of, [1e-6] * 32))) == {1}


def test_batches_become_smaller_when_items_become_dear_and_larger_again(pool, workers_clock):
    items = [1e-6] * 20_000 + [0.5] * 100 + [1e-6] * 20_000
    ids = pool(2).map(task_of, items)
    assert max(sizes(ids[:20_000])) > 500
    assert set(sizes(ids[20_000:20_100])) == {1}
    assert max(sizes(ids[20_100:])) > 500


def test_no_further_item_is_begun_when_the_time_is_up(pool, eights):
    items = [0] * 3 + [1] + [0] * 12
    ids = pool(1).map(task_of, items)
    assert sizes(ids) == [4, 1, 1, 1, 1, 8]


def test_what_stands_behind_a_long_item_goes_to_whoever_is_free(pool, gate, eights):
    """By the gate: two of seven items that came in one batch with a long one hold at a time."""
    results = pool(2).imap(call, [(task_of, 1), *[(hold, gate.path)] * 7])
    found = []
    thread = threading.Thread(target=lambda: found.extend(results))
    thread.start()
    assert len(set(gate.arrived(2))) == 2
    gate.open(7)
    thread.join()
    assert len(found) == 8


@pytest.mark.parametrize("name", ["map", *NAMES])
def test_an_explicit_chunksize_is_honoured(pool, workers_clock, name):
    ids = list(getattr(pool(1), name)(task_of, [1] * 12, 5))
    assert sizes(ids) == [5, 5, 2]
    assert sizes(list(getattr(pool(1), name)(task_of, [1e-9] * 300, 1))) == [1] * 300


LIMITS = [
    ({"timeout": 60}, {}),
    ({"soft_timeout": 60}, {}),
    ({"maxtasksperchild": 1000}, {}),
    ({}, {"timeout": 60}),
]


@pytest.mark.parametrize(("options", "more"), LIMITS)
def test_where_items_are_counted_or_limited_each_is_a_task(pool, workers_clock, options, more):
    assert sizes(pool(2, **options).map(task_of, [1e-9] * 300, **more)) == [1] * 300


def test_the_last_batches_are_smaller(pool, workers_clock):
    found = sizes(pool(2).map(task_of, [1e-6] * 30_000))
    assert found[-1] <= 1000 // pace.FINEST + 1
    assert found[-1] < max(found) / 4


def test_towards_the_end_every_worker_has_a_share():
    found = pace.Pace()
    for _ in range(10):
        found.learn(1e-6 * found.size, found.size, False)
    assert found.size == 1000
    assert found.share(None, 4) == found.share(10_000, 4) == 1000
    assert found.share(4000, 4) == 500
    assert found.share(8, 4) == 125


def test_a_batch_grows_by_no_more_than_four_times():
    found, seen = pace.Pace(), []
    for _ in range(8):
        seen.append(found.size)
        found.learn(0, found.size, False)
    assert seen == [1, 4, 16, 64, 256, 1024, 4096, 4096]


def large(_):
    return prefork.current_task().id, b"x" * pace.MOST_BYTES


def first_and_task(item):
    return item[0], prefork.current_task().id


def test_large_items_go_alone(pool, workers_clock):
    found = pool(2).map(first_and_task, [b"x" * pace.MOST_BYTES] * 100)
    assert sizes([one for _, one in found]) == [1] * 100


def test_large_results_come_a_few_at_a_time(pool, workers_clock):
    found = sizes([one for one, _ in pool(2).map(large, range(200))])
    assert max(found) <= pace.GROWTH
    assert max(sizes([one for one, *_ in pool(2).map(large_odd, range(200))])) <= pace.GROWTH


def large_odd(_):
    return *large(_), large  # which is no plain data


# ---- what that changes for nobody ----------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("count", [1, 7, 8, 33, 1000])
@pytest.mark.parametrize("kind", [list, iter])
def test_every_item_has_its_result(pool, eights, name, count, kind):
    found = list(getattr(pool(2), name)(square, kind(range(count))))
    expected = [i * i for i in range(count)]
    assert (found if name == "imap" else sorted(found)) == expected


def test_starmap_unpacks_in_batches_and_alone(pool, eights):
    one = pool(2)
    assert one.starmap(pow, [(i, 2) for i in range(30)]) == [i * i for i in range(30)]
    items = [(task_of, 1e9)] * 9 + [(square, 3)] * 9
    assert one.starmap(apply, items)[9:] == [9] * 9


def apply(function, arg):
    return function(arg)


@pytest.mark.parametrize("name", NAMES)
def test_items_of_a_batch_have_errors_of_their_own(pool, eights, name):
    seen = outcomes(getattr(pool(2), name)(fail_on_odd, range(40)))
    failed = sorted(one.args[0] for one in seen if isinstance(one, ValueError))
    assert failed == list(range(1, 40, 2))
    assert sorted(one for one in seen if isinstance(one, int)) == list(range(0, 40, 2))
    if name == "imap":
        assert seen[::2] == list(range(0, 40, 2))


def test_no_item_is_called_twice(pool, eights, tmp_path):
    path = tmp_path / "notes"
    calls = [(path, slow_on_sevens, i) for i in range(200)]
    assert pool(2).map(note, calls) == list(range(200))
    assert noted(path) == list(range(200))


def test_a_lost_worker_fails_its_batch_and_nothing_else(pool, eights, tmp_path):
    path = tmp_path / "notes"
    calls = [(path, exit_on_three, i) for i in range(64)]
    seen = outcomes(pool(1).imap(note, calls))
    assert [type(one) for one in seen[:8]] == [prefork.WorkerExited] * 8
    assert seen[8:] == list(range(8, 64))
    assert noted(path) == [0, 1, 2, 3, *range(8, 64)]


def test_after_a_loss_items_go_one_by_one_until_more_is_known(pool, workers_clock):
    found = pace.Pace()
    found.learn(1e-6, 1, False)
    found.forget()
    assert (found.size, found.cost) == (1, None)


def test_what_forks_and_comes_back_in_the_child_calls_no_other_item_there(pool, eights, tmp_path):
    path = tmp_path / "notes"
    calls = [(path, fork_on_two, i) for i in range(8)]
    assert pool(1).map(note, calls) == list(range(8))
    assert noted(path) == list(range(8))


def fork_on_two(x):
    if x == 2:
        pid = os.fork()
        if pid:
            os.waitpid(pid, 0)
    return x


def test_a_call_goes_by_the_name_of_its_function(pool, eights):
    assert set(pool(1).map(name_of_task, range(8))) == {"name_of_task"}


def name_of_task(_):
    return prefork.current_task().name


def test_long_items_of_plain_calls_fail_as_others_do(pool, workers_clock):
    """They are not timed, all but one in eight: the call is the task's own."""
    seen = outcomes(pool(1).imap(fail_at_last, range(60)))
    assert [type(one) for one in seen] == [int] * 59 + [ValueError]


def fail_at_last(x):
    clock.now += 1
    if x == 59:
        raise ValueError(x)
    return x


# ---- a batch in itself ---------------------------------------------------------------------------


def fail_on_five_and_nine(number: int, other: int = 0) -> int:
    if number in (5, 9, 600, 1023):
        raise ValueError(number)
    return number + other


@pytest.mark.parametrize("star", [False, True])
@pytest.mark.parametrize("count", [1, 5, 6, 10, 601, 1024, 1030])
def test_each_item_of_a_batch_has_its_result_whatever_others_raise(count, star):
    items = [(number, 1) if star else number for number in range(count)]
    measured = batch.Batch(fail_on_five_and_nine, star)(items, 60.0)
    odd = [number for number in (5, 9, 600, 1023) if number < count]
    expected = [None if number in odd else number + star for number in range(count)]
    assert measured.results == expected
    assert sorted(measured.odd or {}) == odd


@pytest.mark.parametrize("call_each", [_core.call_each, calls.call_each])
@pytest.mark.parametrize("star", [False, True])
def test_after_each_call_there_is_a_look_at_the_clock(call_each, star):
    """Cython's may be a tick of the kernel's late, 10 ms at most."""
    until = time.monotonic() + 0.001

    def target(number: int) -> int:
        while number == 700 and time.monotonic() < until + 0.02:
            pass
        return number

    items = [(number,) if star else number for number in range(1000)]
    results: list[int] = []
    call_each(target, star, items, results, float("inf"))
    assert results == list(range(1000))
    results = list(range(700))  # which were there before
    call_each(target, star, items, results, until)
    assert results == list(range(701))


@pytest.mark.parametrize("star", [False, True])
def test_a_batch_whose_time_is_up_has_made_one_call(star):
    measured = batch.Batch(abs, star)([(1,)] * 100 if star else [1] * 100, -1.0)
    assert measured.results == [1]
