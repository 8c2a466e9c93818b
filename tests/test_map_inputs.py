"""The input of a map without a chunksize: how far it is pulled, how it ends, and Ctrl-C."""

from __future__ import annotations

import threading

import pytest

import prefork
import test_interrupts
from helpers import eventually, hold, square
from pacing import NAMES, call, clock, note, noted, slow_on_sevens, task_of
from prefork import chunks, measured, pace
from test_map_errors import outcomes

# ---- the input -----------------------------------------------------------------------------------


class Unsure:
    """What says that it has a length, and then has none."""

    def __init__(self, items):
        self.items = items

    def __iter__(self):
        return iter(self.items)

    def __len__(self):
        raise TypeError("not today")


class Sure(Unsure):
    def __len__(self):
        return 20


def test_an_input_need_not_know_its_length(pool, eights):
    assert pool(2).map(square, Unsure(range(20))) == [i * i for i in range(20)]


@pytest.mark.parametrize("kind", [Sure, Unsure])
@pytest.mark.parametrize("chunksize", [None, 1, 3])
@pytest.mark.parametrize("name", NAMES)
def test_a_slow_input_gives_each_result_before_its_next_item(
    pool, monkeypatch, name, chunksize, kind
):
    for module in (measured, chunks):
        monkeypatch.setattr(module, "time", clock)
        monkeypatch.setattr(module, "PAUSE", 30.0)
    seen, asked = [], []

    def source():
        for i in range(20):
            asked.append(len(seen))
            clock.now += 100
            yield i

    for result in getattr(pool(2), name)(square, kind(source()), chunksize):
        seen.append(result)
    size = chunksize or 1
    assert asked == [i // size * size for i in range(20)]


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
    monkeypatch.setattr(chunks, "AHEAD", 2)  # so that next() pulls, too
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
