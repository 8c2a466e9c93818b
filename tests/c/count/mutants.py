"""Whether the count would notice: the core made dearer, or cheaper, in one place at a time.

    python tests/c/count/mutants.py LIBRARY

Each mutant is a textual edit of one file of csrc/, which must be found there exactly once; LIBRARY
is the core, of which that file takes the other's place. Without any edit nothing is to be noticed.
"""

from __future__ import annotations

import sys
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from subprocess import run

from count import LOADS, MOST_BY_SCALE, as_small, judge, read_record

HERE = Path(__file__).parent
CORE = HERE.parents[2] / "csrc"
CC = ["cc", "-std=c11", "-O2", "-g", "-DNDEBUG", "-fPIC", "-fvisibility=hidden", "-iquote", CORE]
GATHERED = LOADS[0]
LARGE = replace(GATHERED, workers=256, queued=20_000, few=0, many=20_000)


@dataclass
class Mutant:
    name: str
    file: str
    old: str
    new: str
    by_scale: bool = False


UNMUTATED = Mutant("unmutated", "pool_tasks.c", "", "")
MUTANTS = [
    Mutant(
        "all workers are looked at for each result",
        "pool_traffic.c",
        "    job->result = data;\n",
        "    job->result = data;\n"
        "    for (uint32_t i = 0; i < pool->sup.seat_count; i++)\n"
        "        pool->looked += pool->sup.seats[i]->signal;\n",
        by_scale=True,
    ),
    Mutant(
        "the queue is walked along for each task that is published",
        "supervisor.c",
        "    sup->slot_is_free = false;\n    sup->burned = 0;\n",
        "    sup->slot_is_free = false;\n    sup->burned = 0;\n"
        "    int walked = 0;\n"
        "    for (struct pf__task *one = task; one != NULL && walked < 300; one = one->next)\n"
        "        walked++;\n"
        "    sup->recycling.random += (uint64_t)walked;\n",
        by_scale=True,
    ),
    Mutant(
        "the clock is read twice for each submission",
        "pool_tasks.c",
        "    pool->counts.submitted++;\n",
        "    pool->counts.submitted++;\n    pool->sup.now = pf__now();\n",
    ),
    Mutant(
        "a claim is not noted",
        "worker_tasks.c",
        "    pf__history_note(worker->history, PF_NOTE_CLAIMED, worker->id);\n",
        "",
    ),
]


def build(mutant: Mutant, library: str, directory: Path) -> str:
    text = (CORE / mutant.file).read_text()
    if mutant.old and text.count(mutant.old) != 1:
        raise SystemExit(f"{mutant.name}: old text is {text.count(mutant.old)} times there")
    mutated = directory / mutant.file
    mutated.write_text(text.replace(mutant.old, mutant.new) if mutant.old else text)
    program = directory / "harness"
    run([*CC, "-o", program, HERE / "harness.c", mutated, library, "-lpthread"], check=True)
    return str(program)


def is_well(mutant: Mutant, harness: str) -> bool:
    counted = GATHERED.per_task(harness)
    if mutant.by_scale:
        large = LARGE.per_task(harness)
        small = as_small(LARGE).per_task(harness)
        return sum(large.values()) <= MOST_BY_SCALE * sum(small.values())
    built = run([harness], capture_output=True, text=True, check=True).stdout.strip()
    return judge(GATHERED.name, counted, read_record(built)[GATHERED.name])


def main() -> int:
    noticed = 0
    with tempfile.TemporaryDirectory() as directory:
        for mutant in (UNMUTATED, *MUTANTS, replace(UNMUTATED, by_scale=True)):
            well = is_well(mutant, build(mutant, sys.argv[1], Path(directory)))
            print(f"{mutant.name}: {'nothing to be said' if well else 'noticed'}", flush=True)
            noticed += well == (mutant.name == UNMUTATED.name)
    print(f"{noticed} of {len(MUTANTS) + 2} as it should be")
    return noticed < len(MUTANTS) + 2


if __name__ == "__main__":
    sys.exit(main())
