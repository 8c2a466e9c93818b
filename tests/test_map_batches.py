"""Maps without a chunksize: which items go together, and what that changes for nobody."""

from __future__ import annotations

import os
import threading

import pytest

import prefork
import test_interrupts
from helpers import eventually, fail_on_odd, hold, square
from prefork import batch, measured, pace
from test_map_errors import exit_on_three, outcomes

NAMES = ["imap", "imap_unordered"]


class Clock:
    """Time that passes only where somebody says so."""

    def __init__(self):
        self.now = 1000.0

    def monotonic(self):
        return self.now


clock = Clock()


@pytest.fixture
def workers_clock(monkeypatch):
    """That of the batches; workers are forked with it."""
    monkeypatch.setattr(clock, "now", 1000.0)
    monkeypatch.setattr(batch, "time", clock)


@pytest.fixture
def eights(monkeypatch, workers_clock):
    """Batches are of eight items until one of them takes too long, or a worker is lost."""

    class Eights(pace.Pace):
        def __init__(self):
            super().__init__()
            self.size = 8

        def learn(self, seconds, count, is_cut):
            if is_cut:
                self.size = 1

        def share(self, left, workers):
            return self.size

    monkeypatch.setattr(measured, "Pace", Eights)


def task_of(seconds):
    """A call that takes so long; the number of the task that made it."""
    clock.now += seconds
    return prefork.current_task().id


def sizes(ids):
    """Of the batches, in their order."""
    return [ids.count(one) for one in dict.fromkeys(ids)]


def note(call):
    """Write what is called into a file, then do it."""
    path, function, arg = call
    with open(path, "a") as notes:
        notes.write(f"{arg}\n")
    return function(arg)


def noted(path):
    return sorted(map(int, path.read_text().split()))


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
    assert max(sizes(ids[20_000:20_100])) <= batch.STRIDE
    assert len(set(ids[20_000:20_100])) > 50
    assert max(sizes(ids[20_100:])) > 500


def test_no_further_item_is_begun_when_the_time_is_up(pool, eights):
    items = [0] * 3 + [1] + [0] * 12
    ids = pool(1).map(task_of, items)
    assert sizes(ids) == [4, 8, *[1] * 4] or sizes(ids) == [4, 1, 1, 1, 1, 8]


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


def call(what):
    function, arg = what
    return function(arg)


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


def slow_on_sevens(x):
    clock.now += x % 7 == 0
    if x % 20 == 3:
        return [x][0]
    return x


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


# ---- the input -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_a_slow_input_gives_each_result_before_its_next_item(pool, monkeypatch, name):
    monkeypatch.setattr(measured, "time", clock)
    monkeypatch.setattr(measured, "PAUSE", 30.0)
    seen, asked = [], []

    def source():
        for i in range(20):
            asked.append(len(seen))
            clock.now += 100
            yield i

    seen.extend(())
    for result in getattr(pool(2), name)(square, source()):
        seen.append(result)
    assert asked == list(range(20))


def test_an_input_that_may_pause_holds_back_a_quarter_of_what_it_has_given(pool, workers_clock):
    held = []

    def source():
        for i in range(20_000):
            held.append((i, len(results._filling.items) if i > 40 else 0))
            yield i * 1e-12

    results = pool(2).imap(task_of, source())
    assert len(list(results)) == 20_000
    assert all(count <= max(1, i // 4) for i, count in held)
    assert max(count for _, count in held) > 100


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("seconds", "bound"), [(1, 16), (1e-9, 5 * pace.MOST)])
def test_an_endless_input_is_pulled_no_further_than_the_bound(
    pool, workers_clock, name, seconds, bound
):
    one = pool(2)
    pulled = 0

    def source():
        nonlocal pulled
        while True:
            pulled += 1
            yield seconds

    results = getattr(one, name)(task_of, source())
    assert pulled <= 32
    for taken in range(1, 200 if seconds == 1 else 100_000):
        next(results)
        assert pulled <= taken + 2 * bound + pace.MOST * (seconds < 1)
    one.flush()


def breaks_after(count):
    yield from range(count)
    raise OSError("broken")


@pytest.mark.parametrize("count", [0, 5, 8, 100])
def test_what_the_input_raises_comes_last(pool, eights, count):
    results = pool(2).imap(square, breaks_after(count))
    assert [next(results) for _ in range(count)] == [i * i for i in range(count)]
    with pytest.raises(OSError, match="broken"):
        next(results)
    with pytest.raises(StopIteration):
        next(results)


@pytest.mark.parametrize("name", NAMES)
def test_an_item_of_a_batch_that_cannot_be_pickled_fails_alone(pool, eights, name):
    items = [*range(11), threading.Lock(), *range(11), threading.Lock()]
    seen = outcomes(getattr(pool(2), name)(str, items))
    failed = [at for at, one in enumerate(seen) if isinstance(one, TypeError)]
    assert len(failed) == 2 and len(seen) == 24
    if name == "imap":
        assert failed == [11, 23]


def test_a_function_that_cannot_be_pickled_ends_the_input(pool, eights):
    (error,) = outcomes(pool(1).imap(lambda x: x, range(9)))
    assert "pickle" in str(error)


def test_the_rest_of_a_batch_fails_if_the_pool_is_closed_meanwhile(pool, gate, eights):
    one = pool(1)
    results = one.imap(call, [(hold_long, gate.path), *[(square, 2)] * 6])
    gate.arrived()
    one.close()
    gate.open()
    seen = outcomes(results)
    assert [type(error) for error in seen[1:]] == [prefork.PoolClosed] * 7  # the input, too


def hold_long(path):
    clock.now += 1
    return hold(path)


@pytest.mark.parametrize("chunksize", [None, 1])
def test_a_long_item_holds_no_others_of_a_map_back(pool, gate, chunksize):
    one = pool(2)
    found, given = [], []

    def items():
        yield hold, gate.path
        for i in range(3000):
            yield square, i
        given.append(True)

    thread = threading.Thread(target=lambda: found.extend(one.map(call, items(), chunksize)))
    thread.start()
    gate.arrived()
    eventually(lambda: given and one.stats["tasks_unfinished"] == 1)
    gate.open()
    thread.join()
    assert found[1:] == [i * i for i in range(3000)]


# ---- Ctrl-C --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("long", [0, 1])
@pytest.mark.parametrize("chunksize", [None, 1, 3])
def test_a_handler_that_raises_anywhere_loses_no_item_that_was_not_on_its_way_out(
    pool, eights, monkeypatch, name, chunksize, long, tmp_path
):
    monkeypatch.setattr(test_interrupts, "Alarm", KeyboardInterrupt)
    one = pool(2)
    line, lost = 1, 0
    while True:
        path = tmp_path / str(line)
        calls = [(path, slow_on_sevens if long else abs, i) for i in range(30)]
        results = getattr(one, name)(note, iter(calls), chunksize)
        found = []
        if not test_interrupts.raised_at(line, lambda: found.append(next(results))):  # noqa: B023
            break
        found.extend(results)
        assert noted(path) == list(range(30))
        assert len(found) == len(set(found))
        assert len(found) in (29, 30)
        lost += len(found) == 29
        line += 1
    assert line > 20
    assert lost <= 6, (line, lost)
