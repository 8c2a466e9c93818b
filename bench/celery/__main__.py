"""A Celery worker with this pool beside one with the stock pool: `make bench-celery`.

Each figure is one run, a round of every pool in turn; a ratio is of one round, and the median of
all rounds is held against a bound. Exits with 1 if a bound is missed.

tasks.py     the application; the board on which tasks are counted
nullpool.py  the pool that does nothing, which no pool can exceed
measured.py  redis-server and workers, from outside: CPU, memory, descriptors
alone.py     the pools alone in an event loop, without a broker
counted.py   the same, and a worker, counted in instructions
figures.py   what is measured, and what is allowed
"""

from __future__ import annotations

import argparse
import functools
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import tasks
from counted import instructions, instructions_of_worker
from figures import (
    FIRST,
    MANY,
    Failures,
    Growth,
    Load,
    Ratio,
    Rounds,
    Run,
    alone_ratios,
    failure_ratios,
    failures,
    growth,
    mix_ratios,
    noop_ratios,
    run,
    size_ratios,
)
from measured import HERE, Broker, broker

FIGURES = (
    "noop",
    "alone",
    "counted",
    "counted-worker",
    "skewed",
    "compute",
    "size",
    "kill",
    "kill-thread",
)
BOTH = ["prefork", "stock"]
WARM_UP = 500  # tasks


def in_turn(pools: list[str], rounds: int) -> Iterator[tuple[int, str]]:
    """Every pool in every round, another one first each time."""
    for number in range(rounds):
        for place in range(len(pools)):
            yield number, pools[(number + place) % len(pools)]


def loads(count: int) -> dict[str, Load]:
    def warm_up() -> None:
        for _ in range(WARM_UP):
            tasks.noop.delay()

    def noops() -> None:
        warm_up()
        for _ in range(count):
            tasks.noop.delay()

    def skewed() -> None:
        """A nap of a quarter of a second in every 250 tasks that take none."""
        warm_up()
        for number in range(count // 2):
            tasks.nap.delay(0.25) if number % 250 == 100 else tasks.noop.delay()

    def computing() -> None:
        warm_up()
        for _ in range(count // 25):
            tasks.compute.delay(100_000)

    return {
        "noop": Load("noop", WARM_UP, noops),
        "skewed": Load("skewed", WARM_UP, skewed),
        "compute": Load("compute", WARM_UP, computing),
    }


def measure(load: Load, pools: list[str], rounds: int, broker: Broker, directory: Path) -> bool:
    """Whether all bounds are held."""
    count = broker.prepare(load.name, load.submit)
    found: list[dict[str, Run]] = [{} for _ in range(rounds)]
    for number, pool in in_turn(pools, rounds):
        found[number][pool] = run(load, count, pool, broker, directory)
    print(f"\n{load.name}: {count - load.warm_up} tasks, -c 2, {rounds} rounds; medians, per task")
    print(f"  {'':8}{'time':>12}{'CPU: main':>14}{'others':>12}")
    for pool in pools:
        figures = [(one[pool].seconds, one[pool].cpu, one[pool].cpu_others) for one in found]
        seconds, cpu, others = (statistics.median(of) * 1e6 for of in zip(*figures, strict=True))
        print(f"  {pool:8}{seconds:9.0f} us{cpu:11.0f} us{others:9.0f} us")
    return judge(noop_ratios() if load.name == "noop" else mix_ratios(), found)


def measure_alone(count: int, rounds: int) -> bool:
    """Whether all bounds are held."""
    pools = ["null", *BOTH]
    found: list[dict[str, float]] = [{} for _ in range(rounds)]
    for number, pool in in_turn(pools, rounds):
        command = [sys.executable, str(HERE / "alone.py"), pool, str(count)]
        found[number][pool] = float(subprocess.check_output(command, cwd=HERE))
    print(f"\nalone: {count} no-op jobs, the pool alone in an event loop, {rounds} rounds; medians")
    for pool in pools:
        median = statistics.median(one[pool] for one in found)
        print(f"  {pool:8}{median:9.1f} us of CPU in the main process for a job")
    return judge(alone_ratios("CPU"), found)


def measure_counts(what: str, count: Callable[[str], float]) -> bool:
    """Whether all bounds are held. `count`: instructions for a job, of a pool."""
    found = {pool: count(pool) for pool in ["null", *BOTH]}
    print(f"\n{what}, in user space alone; one round")
    for pool, each in found.items():
        print(f"  {pool:8}{each / 1000:9.1f} thousand instructions of the main process for a job")
    return judge(alone_ratios("instructions"), [found])


def measure_sizes(rounds: int, broker: Broker, directory: Path) -> bool:
    """Whether all bounds are held."""
    found: list[dict[str, Growth]] = [{} for _ in range(rounds)]
    for number, pool in in_turn(BOTH, rounds):
        found[number][pool] = growth(pool, broker, directory)
    print(f"\nsize: workers that have done {FIRST} tasks, {rounds} rounds; medians at -c {MANY}")
    print(f"  {'':8}{'private: main':>16}{'child':>11}{'PSS: child':>15}{'all':>11}", end="")
    print(f"{'descriptors: main':>20}{'child':>8}")
    for pool in BOTH:
        figures = [
            (
                many.main.private / 1024,
                many.child.private / 1024,
                many.child.pss / 1024,
                many.pss / 1024,
                many.main.descriptors,
                many.child.descriptors,
            )
            for many in (one[pool].many for one in found)
        ]
        main, child, pss, everything, fds, child_fds = map(
            statistics.median, zip(*figures, strict=True)
        )
        print(f"  {pool:8}{main:12.1f} MiB{child:7.1f} MiB{pss:11.1f} MiB", end="")
        print(f"{everything:7.1f} MiB{fds:20.0f}{child_fds:8.0f}")
    return judge(size_ratios(), found)


def measure_failures(rounds: int, broker: Broker, directory: Path, looped: bool) -> bool:
    """Whether all bounds are held."""
    found: list[dict[str, Failures]] = [{} for _ in range(rounds)]
    for number, pool in in_turn(BOTH, rounds):
        found[number][pool] = failures(pool, broker, directory, looped)
    print(
        f"\nkill: kill -9 of a busy process, {rounds} rounds; medians in ms until FAILURE is seen"
    )
    print(
        f"  {'':8}{'call of a failing task':>24}{'its raise':>12}{'kill':>12}{'slowest kill':>15}"
    )
    for pool in BOTH:
        call, error, loss = (
            statistics.median(getattr(one[pool], name) for one in found) * 1e3
            for name in ("call", "error", "loss")
        )
        slowest = max(one[pool].loss for one in found) * 1e3
        print(f"  {pool:8}{call:21.2f} ms{error:9.2f} ms{loss:9.2f} ms{slowest:12.2f} ms")
    return judge(failure_ratios(), found)


def judge(ratios: list[Ratio], rounds: Rounds) -> bool:
    told = [ratio.told(rounds) for ratio in ratios]
    print("\n".join(line for line, _ in told), flush=True)
    return all(held for _, held in told)


def main() -> int:
    parser = argparse.ArgumentParser(prog="bench/celery", description=__doc__)
    parser.add_argument("figures", nargs="*", metavar="FIGURE", help=f"of {', '.join(FIGURES)}")
    parser.add_argument("--rounds", type=int, default=9, help="of each figure (9)")
    parser.add_argument("--tasks", type=int, default=10_000, help="no-op tasks of a round (10000)")
    given = parser.parse_args()
    chosen = given.figures or FIGURES
    if unknown := set(chosen) - set(FIGURES):
        parser.error(f"no figure is called {', '.join(sorted(unknown))}")
    held = True
    with tempfile.TemporaryDirectory() as name, broker(Path(name)) as server:
        tasks.configure(server.url)
        for figure, load in loads(given.tasks).items():
            if figure in chosen:
                pools = ["null", *BOTH] if figure == "noop" else BOTH
                held = measure(load, pools, given.rounds, server, Path(name)) and held
        if "alone" in chosen:
            held = measure_alone(given.tasks, given.rounds) and held
        if "counted" in chosen:
            alone = functools.partial(instructions, directory=Path(name))
            held = measure_counts("counted: the pool alone in an event loop", alone) and held
        if "counted-worker" in chosen:
            whole = functools.partial(instructions_of_worker, broker=server, directory=Path(name))
            held = measure_counts("counted-worker: a worker over redis", whole) and held
        if "size" in chosen:
            held = measure_sizes(given.rounds, server, Path(name)) and held
        for figure, looped in (("kill", True), ("kill-thread", False)):
            if figure in chosen:
                held = measure_failures(given.rounds, server, Path(name), looped) and held
    return not held


if __name__ == "__main__":
    sys.exit(main())
