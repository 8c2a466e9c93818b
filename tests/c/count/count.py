"""What a task costs the core in instructions, and whether that is what it was.

    python tests/c/count/count.py HARNESS [--record | --table]

Each load is run twice, one time longer than the other, so that the start counts for nothing. What
each side takes for a task must be within 2 % of what recorded.txt says: above is a step back, below
is one to be recorded. And with 256 workers and a million tasks that wait a task may cost little
more than with 2 and a thousand, and take little memory while it waits. Counts are the compiler's
and libc's as much as ours, so where they are others than those that were recorded, nothing can be
said, and that is a failure, too.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from subprocess import run

from callgrind import SIDES, instructions

RECORDED = Path(__file__).with_name("recorded.txt")
TOLERANCE = 0.02
MOST_BY_SCALE = 1.15
MOST_BYTES = 220


@dataclass(frozen=True)
class Load:
    name: str
    mode: str
    batch: int
    few: int  # tasks; what is left when they are taken from the others is no start
    many: int
    workers: int = 2
    queued: int = 1000

    def per_task(self, harness: str) -> dict[str, float]:
        few, many = (self._run(harness, tasks) for tasks in (self.few, self.many))
        return {side: (many[side] - few[side]) / (self.many - self.few) for side in SIDES}

    def _run(self, harness: str, tasks: int) -> dict[str, int]:
        if tasks == 0:
            return dict.fromkeys(SIDES, 0)
        words = (self.workers, self.queued, self.batch, tasks // self.queued, self.mode)
        return instructions([harness, *map(str, words)])


LOADS = [
    Load("gathered", "busy", 50, 2000, 12_000),
    Load("alone", "asleep", 1, 2000, 12_000, queued=1),
    Load("guest", "guest", 50, 2000, 12_000),
    Load("guest-alone", "guest", 1, 2000, 12_000, queued=1),
]
# What is queued there is so once: its start, a thousandth of it, is in the count.
LARGE = [
    replace(LOADS[0], workers=256, queued=1_000_000, few=0, many=1_000_000),
    Load("one by one", "asleep", 1, 0, 100_000, workers=256, queued=100_000),
    Load("guest, one by one", "guest", 1, 0, 100_000, workers=256, queued=100_000),
]


def as_small(large: Load) -> Load:
    return replace(large, workers=2, queued=1000, few=2000, many=12_000)


def count_all(harness: str, loads: Iterable[Load]) -> Iterator[dict[str, float]]:
    """In order; two at a time, which changes no count."""
    with ThreadPoolExecutor(2) as pool:
        yield from pool.map(lambda load: load.per_task(harness), loads)


# ---- the record --------------------------------------------------------------------------------


def read_record(built: str) -> dict[str, dict[str, float]]:
    """Of one compiler, machine and libc: load and side. Empty if there is none."""
    record: dict[str, dict[str, float]] = {}
    for line in RECORDED.read_text().splitlines() if RECORDED.exists() else []:
        words = line.split()
        if line.startswith("#") or not line.startswith(built + " "):
            continue
        *_, name, submit, worker, poll = words
        record[name] = dict(zip(SIDES, map(float, (submit, worker, poll)), strict=True))
    return record


def write_record(built: str, counts: dict[str, dict[str, float]]) -> None:
    lines = RECORDED.read_text().splitlines() if RECORDED.exists() else [HEAD]
    lines = [line for line in lines if line and not line.startswith(built + " ")]
    lines += [
        f"{built} {name:<12}" + "".join(f"{count[side]:9.1f}" for side in SIDES)
        for name, count in counts.items()
    ]
    RECORDED.write_text("\n".join(lines) + "\n")


HEAD = "# compiler machine libc load: instructions for a task: submit worker poll (make count)"


def judge(name: str, counted: dict[str, float], recorded: dict[str, float]) -> bool:
    well = True
    for side in SIDES:
        change = counted[side] / recorded[side] - 1
        if abs(change) > TOLERANCE:
            what = "dearer: find out why" if change > 0 else "cheaper: make count RECORD=1"
            print(f"{name}, {side}: {recorded[side]:.1f} were recorded; {abs(change):.1%} {what}")
            well = False
    return well


# ---- what is printed ---------------------------------------------------------------------------


def show(name: str, counted: dict[str, float]) -> None:
    sides = "  ".join(f"{side} {counted[side]:7.1f}" for side in SIDES)
    print(f"{name:<50} {sides}  all {sum(counted.values()):8.1f}", flush=True)


def show_size(load: Load, counted: dict[str, float]) -> None:
    show(f"{load.name}: {load.workers} workers, {load.queued:,} queued", counted)


def check_loads(harness: str, built: str, recording: bool) -> bool:
    counts = {}
    for load, counted in zip(LOADS, count_all(harness, LOADS), strict=True):
        counts[load.name] = counted
        show(load.name, counted)
    if recording:
        write_record(built, counts)
        return True
    record = read_record(built)
    if set(record) != set(counts):
        print(f"no counts are recorded for {built}: on a commit that is to be the measure,")
        print("make count RECORD=1")
        return False
    return all([judge(name, counted, record[name]) for name, counted in counts.items()])


def check_scale(harness: str) -> bool:
    well = True
    loads = [load for large in LARGE for load in (large, as_small(large))]
    counts = count_all(harness, loads)
    for large in LARGE:
        much, little = next(counts), next(counts)
        show_size(as_small(large), little)
        show_size(large, much)
        ratio = sum(much.values()) / sum(little.values())
        print(f"{large.name}: {ratio:.3f} x, bound {MOST_BY_SCALE} x", flush=True)
        well = well and ratio <= MOST_BY_SCALE
    return well


def check_memory(harness: str) -> bool:
    asked = run([harness, "2", "1000000", "50", "1", "busy"], capture_output=True, check=True)
    each = float(asked.stdout)
    print(f"memory of a queued task beyond its body: {each:.1f} bytes, bound {MOST_BYTES}")
    return each <= MOST_BYTES


def print_table(harness: str) -> None:
    loads = []
    for large in LARGE:
        for workers in (2, 64, 256):
            small = replace(as_small(large), workers=workers)
            more = [queued for queued in (100_000, 1_000_000) if queued <= large.queued]
            loads += [small, *(replace(small, queued=q, few=0, many=q) for q in more)]
    for load, counted in zip(loads, count_all(harness, loads), strict=True):
        show_size(load, counted)


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("harness")
    parser.add_argument("--record", action="store_true", help="these are the counts from now on")
    parser.add_argument("--table", action="store_true", help="by workers and queued tasks")
    options = parser.parse_args()
    if options.table:
        print_table(options.harness)
        return 0
    asked = run([options.harness], capture_output=True, text=True, check=True)
    well = check_loads(options.harness, asked.stdout.strip(), options.record)
    return 0 if all([check_scale(options.harness), check_memory(options.harness), well]) else 1


if __name__ == "__main__":
    sys.exit(main())
