"""The figures: which workload, for whom, and what is allowed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bounds import Bound, at_most, faster
from measured import Spec

POOLS = ("prefork", "mp.Pool", "PPE", "billiard", "loky", "pebble", "mpire")
US, MS = ("us", 1e3), ("ms", 1e6)
COSTS = {"wall": US, "cpu": US, "parent": US, "children": US}
EACH = {"wall": US}
WALL = {"wall": MS}


@dataclass(frozen=True)
class Figure:
    name: str
    title: str
    sides: Mapping[str, Spec]
    costs: Mapping[str, tuple[str, float]]  # the unit and how many ns it has; the first is compared
    bounds: Sequence[Bound] = ()
    compared: bool = True  # with the others' costs
    limit: float = 60  # seconds for a round
    together: bool = False
    fresh: bool = False


def _sides(workload: str, pools: Sequence[str] = POOLS, **params: Any) -> dict[str, Spec]:
    return {pool: Spec(pool, workload, params) for pool in pools}


# ---- what a task costs ---------------------------------------------------------------------------


def noops(count: int) -> list[Figure]:
    return [
        Figure(
            "noop",
            "no-op tasks, pickled arguments, gathered",
            _sides("noop", count=count, pickled=True),
            COSTS,
            (
                faster(7, "mp.Pool", "cpu"),
                faster(10, "mp.Pool", best=True),
                faster(20, "PPE", best=True),
            ),
        ),
        Figure(
            "noop",
            "no-op tasks, a number for argument, gathered",
            _sides("noop", (*POOLS, "putlocks"), count=count),
            COSTS,
            (
                faster(14, "mp.Pool", "cpu"),
                faster(10, "mp.Pool", best=True),
                faster(20, "PPE", best=True),
                faster(20, "mp.Pool", best=True, judged=False),
                faster(40, "PPE", best=True, judged=False),
            ),
        ),
    ]


def in_order(count: int) -> list[Figure]:
    bounds = (faster(6, "mp.Pool", best=True), faster(12, "PPE", best=True))
    return [
        Figure(
            "inorder",
            f"no-op tasks, {what}, taken in order",
            _sides("noop", count=count, pickled=pickled, in_order=True),
            COSTS,
            bounds,
        )
        for what, pickled in (("pickled arguments", True), ("a number for argument", False))
    ]


def round_trips(count: int) -> list[Figure]:
    floor = {"C pipes": Spec("C pipes", count=count)}
    return [
        Figure(
            "roundtrip",
            "a task at a time, there and back",
            _sides("roundtrip", count=count) | floor,
            {"p50": US, "p99": US},
            (
                at_most(2, "C pipes", "p50"),
                faster(5, "mp.Pool", "p50"),
                at_most(3, "C pipes", "p99"),
            ),
        )
    ]


def maps(count: int) -> list[Figure]:
    chunked = ("prefork", "mp.Pool", "billiard", "mpire")  # the others' default is 1
    found = [
        Figure(
            "map",
            "map, items of 1 us",
            _sides("mapped", chunked, item="item_1us", count=10 * count),
            EACH,
            (faster(0.9, "mp.Pool"), faster(0.9, "billiard")),
        ),
        Figure(
            "map",
            "map, items of 1 us, chunksize=1",
            _sides("mapped", item="item_1us", count=count, chunksize=1),
            EACH,
            (faster(8, "mp.Pool"),),
        ),
        Figure(
            "map",
            "map, items of 100 us",
            _sides("mapped", chunked, item="item_100us", count=count // 4),
            EACH,
        ),
        Figure(
            "map",
            "map, items of 100 us, chunksize=1",
            _sides("mapped", item="item_100us", count=count // 4, chunksize=1),
            EACH,
        ),
    ]
    for title, pools, chunksize in (
        ("map, items of 10 ms", chunked, None),
        ("map, items of 10 ms, chunksize=1", POOLS, 1),
    ):
        # An item more in one worker than in the other is a hundredth: three are the bound.
        params = {"item": "item_10ms", "count": max(2, count // 100)}
        sides = _sides("mapped", (*pools, "ideal"), chunksize=chunksize, **params)
        found.append(Figure("map", title, sides, EACH, (at_most(1.03, "ideal"),)))
    return found


# ---- who waits for whom --------------------------------------------------------------------------


def shorts() -> list[Figure]:
    return [
        Figure(
            "short",
            f"sixty tasks of 1 ms behind one of 300 ms, {ahead} of 1 ms ahead of it",
            _sides("short", (*POOLS, "ideal"), ahead=ahead),
            WALL,
            (at_most(1.05, "mp.Pool"),),
        )
        for ahead in (0, 1, 64)
    ]


def skews() -> list[Figure]:
    return [
        Figure(
            "skewed",
            f"400 tasks of 1, 5 and 50 ms, {how}",
            _sides("skewed", (*POOLS, "ideal"), by_map=by_map),
            WALL,
            (at_most(1.05, "mp.Pool"),),
        )
        for how, by_map in (("each submitted", False), ("by map", True))
    ]


def busy(count: int) -> list[Figure]:
    own = Bound(
        "burning: at least 0.95 of our own rate while it waits",
        ("prefork", "waiting"),
        ("prefork", "burning"),
        at_least=0.95,
    )
    return [
        Figure(
            "busy",
            "tasks of 1 ms while the main thread burns Python",
            _sides("busy", (*POOLS, "ideal"), count=count),
            {"burning": US, "waiting": US},
            (own, faster(1.05, "mp.Pool", "burning")),
        )
    ]


# ---- processes that come and go ------------------------------------------------------------------


def startups() -> list[Figure]:
    return [
        Figure(
            "startup",
            f"{workers} workers up and answering",
            _sides("startup", workers=workers),
            {"wall": MS, "close": MS},
            (faster(1.2, "mp.Pool", judged=workers == 16),),
        )
        for workers in (2, 16, 64)
    ]


def recyclings(count: int, megabytes: int) -> list[Figure]:
    both = ("prefork", "mp.Pool")

    def figure(what: str, sides: Mapping[str, Spec], bound: Bound, fresh: bool = True) -> Figure:
        title = f"maxtasksperchild=1, {what}"
        return Figure("recycle", title, sides, {"wall": MS}, (bound,), fresh=fresh)

    after = _sides("recycle", both, count=count, after=megabytes)
    by_exec = Spec("prefork", "recycle", {"count": count, "after": megabytes, "method": "exec"})
    return [
        figure(
            "a small application", _sides("recycle", count=count), faster(1.2, "mp.Pool"), False
        ),
        figure(f"{megabytes} MB allocated after start()", after, faster(5, "mp.Pool")),
        figure(
            f"{megabytes} MB allocated after start(), start_method='exec'",
            after | {"prefork": by_exec},
            faster(5, "mp.Pool"),
        ),
        figure(
            f"{megabytes} MB allocated before start()",
            _sides("recycle", both, count=count, before=megabytes),
            faster(1, "mp.Pool"),
        ),
    ]


def idles(workers: int, seconds: float) -> list[Figure]:
    one = ("", 1.0)
    bound = Bound("ticks and switches: at most 5", ("prefork", "both"), at_most=5)
    return [
        Figure(
            "idle",
            f"{workers} idle workers for {seconds:g} s: CPU ticks and context switches of all",
            _sides("idle", workers=workers, seconds=seconds),
            {"both": one, "ticks": one, "switches": one},
            (bound,),
            limit=60 + seconds,
            together=True,
        )
    ]


# ---- memory and scale ----------------------------------------------------------------------------


def memories(count: int) -> list[Figure]:
    flat = Bound("growth: at most 1024 KiB", ("prefork", "growth"), at_most=1024)
    return [
        Figure(
            "memory",
            f"resident memory of all processes over {count:,} tasks",
            _sides("memory", ("prefork", "mp.Pool"), count=count, wave=min(count, 10_000)),
            {"growth": ("KiB", 1.0)},
            (flat,),
            compared=False,
            limit=300,
        )
    ]


def scales(workers: int, queued: int) -> list[Figure]:
    few = {"workers": 2, "queued": 1000, "times": max(1, queued // 10_000)}
    cost = "that of 2 workers and 1,000 queued"
    return [
        Figure(
            "scale",
            f"{workers} workers, {queued:,} tasks queued",
            {
                "prefork": Spec("prefork", "scale", {"workers": workers, "queued": queued}),
                "2, 1000": Spec("prefork", "scale", few),
            },
            COSTS | {"bytes": ("B", 1.0), "pickle": ("B", 1.0)},
            (
                Bound(
                    f"cpu: at most 1.5 x {cost}",
                    ("prefork", "cpu"),
                    ("2, 1000", "cpu"),
                    at_most=1.5,
                ),
                Bound(
                    f"wall: at most 1.5 x {cost}",
                    ("prefork", "wall"),
                    ("2, 1000", "wall"),
                    at_most=1.5,
                    judged=False,
                ),
                Bound("bytes beyond the pickle: at most 600", ("prefork", "bytes"), at_most=600),
            ),
            compared=False,
            limit=300,
            fresh=True,
        )
    ]


def numbers_of_workers(count: int) -> list[Figure]:
    return [
        Figure(
            "workers",
            f"no-op tasks, {workers} worker{'s' * (workers > 1)}",
            _sides("noop", count=count, workers=workers),
            COSTS,
        )
        for workers in (1, 2, 4, 8, 16, 64)
    ]


def figures(scale: float) -> list[Figure]:
    """All of them; with a `scale` of less than 1 smaller ones, to try the program itself."""

    def scaled(count: int) -> int:
        return max(1, round(count * scale))

    found: list[Figure] = []
    makers: tuple[Callable[[], list[Figure]], ...] = (
        lambda: noops(scaled(20_000)),
        lambda: in_order(scaled(20_000)),
        lambda: round_trips(scaled(3000)),
        lambda: maps(scaled(20_000)),
        shorts,
        skews,
        lambda: busy(scaled(1000)),
        startups,
        lambda: recyclings(scaled(100), scaled(500)),
        lambda: idles(scaled(64), 10 * scale),
        lambda: memories(scaled(500_000)),
        lambda: scales(scaled(256), scaled(1_000_000)),
        lambda: numbers_of_workers(scaled(5000)),
    )
    for make in makers:
        found += make()
    return found


NAMES = tuple(dict.fromkeys(figure.name for figure in figures(1)))
