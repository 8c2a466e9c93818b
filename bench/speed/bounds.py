"""What is allowed: a quotient of two costs of the same round, or a cost alone.

The median of all rounds' quotients is judged; where it says so, the quotient of the best rounds of
both, for the worst that others do to a shared machine.
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median

from measured import Found

Cost = tuple[str, str]  #: of which side, by which name


@dataclass(frozen=True)
class Bound:
    text: str
    over: Cost
    under: Cost | None = None
    at_least: float | None = None
    at_most: float | None = None
    best: bool = False  # round is judged, and not the median
    judged: bool = True  # else only told

    def verdict(self, found: Found) -> Verdict:
        told = [side for side, _ in filter(None, (self.over, self.under))]
        for side in told:
            if not found.rounds.get(side) or side in found.missing:
                missed = side == "prefork" and self.judged
                return Verdict(self, None, None, not missed, f"{side} has no figure")
        middle, best = quotient(found, self.over, self.under)
        value = best if self.best else middle
        held = True
        if self.at_least is not None:
            held = value >= self.at_least
        if self.at_most is not None:
            held = held and value <= self.at_most
        word = "held" if held else "MISSED" if self.judged else "missed, not judged"
        return Verdict(self, middle, best, held or not self.judged, word)


@dataclass(frozen=True)
class Verdict:
    bound: Bound
    median: float | None
    best: float | None
    passes: bool
    word: str

    def __str__(self) -> str:
        if self.median is None or self.best is None:
            return f"{self.bound.text}: {self.word}"
        shown = f"median {self.median:.3g}"
        if self.bound.under is not None:
            best = f"best round {self.best:.3g}"
            shown = f"{best}, {shown}" if self.bound.best else f"{shown}, {best}"
        return f"{self.bound.text}: {self.word} ({shown})"


def quotient(found: Found, over: Cost, under: Cost | None) -> tuple[float, float]:
    """The median of the quotients of each round, and the quotient of the best of all rounds."""
    tops = found.of(*over)
    bottoms = [1.0] * len(tops) if under is None else found.of(*under)
    each = [_divided(top, bottom) for top, bottom in zip(tops, bottoms, strict=False)]
    return median(each), _divided(min(tops), min(bottoms))


def _divided(top: float, bottom: float) -> float:
    if bottom:
        return top / bottom
    return float("inf") if top else 1.0


def faster(
    times: float, than: str, key: str = "wall", best: bool = False, judged: bool = True
) -> Bound:
    """Our cost goes so many times into another's."""
    text = f"{key}: at least {times:g} x better than {than}"
    return Bound(text, (than, key), ("prefork", key), at_least=times, best=best, judged=judged)


def at_most(times: float, beside: str, key: str = "wall", judged: bool = True) -> Bound:
    """Our cost is at most so many times another's."""
    text = f"{key}: at most {times:g} x that of {beside}"
    return Bound(text, ("prefork", key), (beside, key), at_most=times, judged=judged)
