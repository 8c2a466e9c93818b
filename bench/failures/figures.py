"""The figures: who is measured beside whom, and what is allowed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from statistics import median, quantiles

from measured import HERE, Round, family_killed, killed, timed

ROUNDS = 60
FAMILY_ROUNDS = 20
LIMIT = "50"  # ms that a task may run
FAMILY = 64  # busy workers of an application that is killed


class Times:
    """What the rounds of one side took, in ns."""

    def __init__(self, rounds: list[int]) -> None:
        self.median = median(rounds)
        self.p95 = quantiles(rounds, n=20, method="inclusive")[18]


@dataclass(frozen=True)
class Bound:
    text: str
    measured: Callable[[Times], float]  # of prefork
    allowed: Callable[[dict[str, Times]], float]  # by the others
    judged: bool = True  # else only told


@dataclass(frozen=True)
class Figure:
    """The first side is the floor, what the kernel alone takes; "prefork" is what is judged."""

    name: str
    title: str
    sides: Mapping[str, AbstractContextManager[Round]]
    bounds: tuple[Bound, ...]
    rounds: int = ROUNDS


@dataclass(frozen=True)
class Programs:
    python: str
    rivals: str  # an interpreter that has pebble
    bare: str  # bare.c, compiled


def p95(times: Times) -> float:
    return times.p95


def p95_at_most(times: int, floor: str, and_ms: int = 0, judged: bool = True) -> Bound:
    text = f"p95 at most {times} x that of {floor}" + (f" + {and_ms} ms" if and_ms else "")
    return Bound(text, p95, lambda sides: times * sides[floor].p95 + and_ms * 1e6, judged)


def median_at_most(times: int, floor: str) -> Bound:
    text = f"median at most {times} x that of {floor}"
    return Bound(text, lambda own: own.median, lambda sides: times * sides[floor].median)


def figures(programs: Programs) -> list[Figure]:
    own = (programs.python, str(HERE / "sides.py"))
    rival = (programs.rivals, str(HERE / "rival.py"))
    bare = programs.bare
    found = [
        Figure(
            "loss",
            "a worker is killed at its task: until get() raises",
            {
                "bare child": killed(bare, "loss"),
                "prefork": killed(*own, "loss"),
                "pebble": killed(*rival),
            },
            (
                p95_at_most(10, "bare child"),
                Bound("p95 below pebble's median", p95, lambda sides: sides["pebble"].median),
            ),
        ),
        Figure(
            "strength",
            "a worker is killed: until its replacement has answered",
            {
                "bare fork": timed(*own, "fork"),
                "prefork": killed(*own, "strength"),
            },
            (median_at_most(3, "bare fork"), p95_at_most(3, "bare fork")),
        ),
    ]
    for deed, title in (
        ("overrun", "a task is over its limit: how late get() raises"),
        ("overrun-deaf", "a task that blocks all signals is over its limit"),
    ):
        sides = {"bare timer": timed(bare, "overrun", LIMIT), "prefork": timed(*own, deed, LIMIT)}
        found.append(Figure(deed, title, sides, (p95_at_most(3, "bare timer", 10),)))
    for deed, title in (
        ("spin", f"the application is killed, {FAMILY} workers compute: until nobody is left"),
        ("sleep", f"the application is killed, {FAMILY} workers sleep in a call"),
    ):
        command = (*own, f"family-{deed}", str(FAMILY))
        sides = {
            "bare forks": timed(*own, f"forks-{deed}", str(FAMILY)),
            "prefork": family_killed(*command, least=FAMILY),
            "bare children": timed(bare, "family", str(FAMILY), deed),
        }
        # A bare loop over processes as large as a worker misses four times that of C's, too.
        bounds = (p95_at_most(4, "bare forks"), p95_at_most(4, "bare children", judged=False))
        found.append(Figure(f"family-{deed}", title, sides, bounds, FAMILY_ROUNDS))
    return found
