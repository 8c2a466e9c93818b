"""How long failures take, beside what the kernel alone takes for the same: `make bench-failures`.

Each figure is one run, a round of every side in turn. Exits with 1 if a bound is missed.

tasks.py     what the measured processes share
sides.py     prefork, and a bare fork of a Python process
rival.py     pebble, in its own venv
bare.c       the kernel alone
measured.py  one round of each, from outside: told to begin, killed, timed
figures.py   who is measured beside whom, and what is allowed
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

from figures import Figure, Programs, Times, figures
from measured import HERE

WARM_UP = 3  # rounds that do not count


def measure(figure: Figure, rounds: int) -> dict[str, Times]:
    taken: dict[str, list[int]] = {name: [] for name in figure.sides}
    with ExitStack() as stack:
        sides = {name: stack.enter_context(side) for name, side in figure.sides.items()}
        for count in range(WARM_UP + rounds):
            for name, one in sides.items():
                took = one()
                if count >= WARM_UP:
                    taken[name].append(took)
    return {name: Times(rounds) for name, rounds in taken.items()}


def show(figure: Figure, rounds: int, found: dict[str, Times]) -> bool:
    """Whether all bounds are held."""
    floor = next(iter(found.values()))
    print(f"\n{figure.title} ({figure.name}, {rounds} rounds)")
    print(f"  {'':14} {'median':>11} {'p95':>11} {'median':>9} {'p95':>9}")
    for name, times in found.items():
        print(
            f"  {name:14} {times.median / 1e6:8.3f} ms {times.p95 / 1e6:8.3f} ms "
            f"{times.median / floor.median:7.2f} x {times.p95 / floor.p95:7.2f} x"
        )
    held = True
    for bound in figure.bounds:
        share = bound.measured(found["prefork"]) / bound.allowed(found)
        held = held and (share <= 1 or not bound.judged)
        verdict = "held" if share <= 1 else "MISSED" if bound.judged else "missed, not judged"
        print(f"  {bound.text}: {verdict}, at {share:.0%} of what is allowed", flush=True)
    return held


def main() -> int:
    parser = argparse.ArgumentParser(prog="bench/failures", description="How long failures take.")
    parser.add_argument("figures", nargs="*", help="by name; all, if none is given")
    parser.add_argument("--rivals", default=sys.executable, help="an interpreter that has pebble")
    parser.add_argument("--rounds", type=int, help="of each figure, instead of its own number")
    given = parser.parse_args()
    held = True
    with tempfile.TemporaryDirectory() as directory:
        bare = Path(directory, "bare")
        subprocess.run(["cc", "-O2", "-Wall", "-o", bare, HERE / "bare.c"], check=True)
        for figure in figures(Programs(sys.executable, given.rivals, str(bare))):
            if not given.figures or figure.name in given.figures:
                rounds = given.rounds or figure.rounds
                held = show(figure, rounds, measure(figure, rounds)) and held
    return not held


if __name__ == "__main__":
    sys.exit(main())
