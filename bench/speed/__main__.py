"""How fast the pool is beside others, and beside what the machine can do: `make bench`.

Each figure is one run, a round of every side in turn, each side in a process of its own. Costs are
compared within a round. Exits with 1 if a bound is missed.

board.py      the page on which workers count their tasks
tasks.py      what workers run
pools.py      every pool by its own API, in the same few words
ideal.py      two forked loops with a shared counter
workloads.py  one round of each workload, and the proof that it was done
processes.py  what processes have used
side.py       a measured process
bare.c        the kernel alone, for the round trip
measured.py   the measured processes from outside
bounds.py     what is allowed
figures.py    which workload, for whom, within which bounds
results.py    a run as ratios, as JSON and as tables
plot.py       the same as a picture
"""

from __future__ import annotations

import argparse
import math
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

from bounds import Verdict, quotient
from figures import NAMES, Figure, figures
from measured import HERE, Bench, Found, rounds_of
from results import Results

ROUNDS = 7


def loops_of_a_microsecond() -> int:
    """Of an empty loop."""
    times = []
    for _ in range(10):
        begun = time.perf_counter_ns()
        for _ in range(1_000_000):
            pass
        times.append(time.perf_counter_ns() - begun)
    return round(1e9 / min(times))


def show(figure: Figure, rounds: int, found: Found, verdicts: list[Verdict]) -> None:
    compared = next(iter(figure.costs)) if figure.compared else ""
    print(f"\n{figure.title} ({figure.name}, {rounds} rounds; medians)")
    print(f"  {'':10}" + "".join(f"{key:>14}" for key in figure.costs), end="")
    print(f"{compared:>16}: prefork is better by" if compared else "")
    for side, reports in found.rounds.items():
        if side in found.missing:
            print(f"  {side:10}  {found.missing[side]}")
            continue
        print(f"  {side:10}", end="")
        for key, (unit, size) in figure.costs.items():
            values = [report[key] / size for report in reports if key in report]
            print(f"{_short(median(values)):>11} {unit:2}" if values else " " * 14, end="")
        if compared and side != "prefork" and "prefork" not in found.missing:
            middle, best = quotient(found, (side, compared), ("prefork", compared))
            print(f"{middle:16.2f} x, best rounds {best:.2f} x", end="")
        print()
    for verdict in verdicts:
        print(f"  {verdict}", flush=True)


def _short(value: float) -> str:
    digits = 3 - math.floor(math.log10(abs(value))) - 1 if value else 0
    return f"{value:,.{max(0, digits)}f}"


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="bench/speed", description="How fast the pool is beside others."
    )
    parser.add_argument("figures", nargs="*", metavar="FIGURE", help=f"of {', '.join(NAMES)}")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help=f"of each figure ({ROUNDS})")
    parser.add_argument(
        "--rivals", default=sys.executable, help="an interpreter that has all pools, prefork too"
    )
    parser.add_argument("--sides", nargs="+", metavar="SIDE", help="only these")
    parser.add_argument("--json", type=Path, help="where ratios are kept, beside those of before")
    parser.add_argument("--svg", type=Path, help="a picture of them")
    parser.add_argument("--scale", type=float, default=1, help="of all counts: 0.01 to try it (1)")
    given = parser.parse_args()
    if unknown := set(given.figures) - set(NAMES):
        parser.error(f"no figure is called {', '.join(sorted(unknown))}")
    if given.rounds < 1:
        parser.error("--rounds: at least one")
    results = Results(given.json)
    passes = True
    # In memory: no disk shall have a part in what processes write on their boards.
    shared = "/dev/shm" if Path("/dev/shm").is_dir() else None
    with tempfile.TemporaryDirectory(dir=shared) as name:
        bare = Path(name, "bare")
        subprocess.run(["cc", "-O2", "-Wall", "-o", bare, HERE / "bare.c"], check=True)
        bench = Bench(Path(name), given.rivals, str(bare), loops_of_a_microsecond())
        for figure in figures(given.scale):
            if given.figures and figure.name not in given.figures:
                continue
            sides = {
                side: spec
                for side, spec in figure.sides.items()
                if given.sides is None or side in given.sides
            }
            found = rounds_of(
                sides, bench, given.rounds, figure.limit, figure.together, figure.fresh
            )
            verdicts = [bound.verdict(found) for bound in figure.bounds]
            show(figure, given.rounds, found, verdicts)
            results.add(figure, given.rounds, found, verdicts)
            results.save()
            passes = passes and all(verdict.passes for verdict in verdicts)
    if given.svg is not None:
        import plot

        plot.draw(results, given.svg)
    return not passes


if __name__ == "__main__":
    sys.exit(main())
