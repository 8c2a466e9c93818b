"""Whether the simulation would notice: the core made wrong in one place at a time.

Each mutant is a textual edit of one file of csrc/, which must be found there exactly once. The
simulator is built with it and must fail within STEPS steps; without any edit it must pass them.

    python tests/c/simulate/mutants.py [NAME ...]
"""

import concurrent.futures
import os
import pathlib
import re
import subprocess
import sys
import tempfile

import mutations
import mutations_supervisor

MUTANTS = mutations.MUTANTS + mutations_supervisor.MUTANTS
HERE = pathlib.Path(__file__).parent
CORE = HERE.parents[2] / "csrc"
SEEDS = HERE.parent / "seeds.txt"  # tried first
STEPS = 60_000_000
PASSING_STEPS = 10_000_000
SEED = "1"
PATIENCE = 120
# What the simulator has its own of.
NOT_SIMULATED = {
    "control", "output", "platform_linux", "platform_macos", "poll_epoll", "poll_kqueue",
    "process_linux", "process_macos", "signals", "zygote",
}  # fmt: skip
UNSEAMED = "history"  # it decides nothing: its accesses are no steps


def source_names():
    return sorted(p.stem for p in CORE.glob("*.c") if p.stem not in NOT_SIMULATED)


def compile_all(jobs, into):
    """Compiles (name, source, core directory, real core or not) to objects in `into`."""
    for name, source, core, real in jobs:
        command = ["cc", "-std=c11", "-O1", "-w", "-iquote", core, "-iquote", HERE]
        if real:
            command += ["-include", HERE / "seam.h"]
        if source.stem == "pool_children":
            command.append("-DSIM_RESULTS_SIZE=256")
        subprocess.run([*command, "-c", source, "-o", into / f"{name}.o"], check=True)


def link(objects, program):
    subprocess.run(["cc", *objects, "-o", program, "-lpthread"], check=True)


def simulate(program, steps):
    """How it ended (0 is well), the first line that says what is wrong, and the steps taken."""
    command = [program, "--seeds", SEEDS, "--steps", str(steps), "--seed", SEED, "--failures", "1"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
    wrong = re.search(r"^(seed \d+: .*)$", done.stdout, re.M)
    taken = re.search(r"^(\d+) steps", done.stdout, re.M)
    said = wrong[1] if wrong else f"signal {-done.returncode}" if done.returncode < 0 else ""
    return done.returncode, said, int(taken[1]) if taken else 0


def try_mutant(mutant, objects, scratch):
    """A line about it, and whether it was caught."""
    text = (CORE / mutant.file).read_text()
    if text.count(mutant.old) != 1:
        return f"{mutant.name}: old text is {text.count(mutant.old)} times in {mutant.file}", False
    place = scratch / mutant.name
    place.mkdir()
    for header in CORE.glob("*.h"):
        (place / header.name).write_bytes(header.read_bytes())
    source = place / mutant.file
    source.write_text(text.replace(mutant.old, mutant.new))
    compile_all([("mutated", source, place, True)], place)
    others = [path for path in objects if path.stem != f"core_{source.stem}"]
    link([*others, place / "mutated.o"], place / "simulate")
    status, said, steps = simulate(place / "simulate", STEPS)
    if status == 0:
        return f"{mutant.name}: NOT CAUGHT in {steps} steps: {mutant.breaks}", False
    return f"{mutant.name}: {steps} steps: {said}", True


def main():
    wanted = [m for m in MUTANTS if not sys.argv[1:] or m.name in sys.argv[1:]]
    with tempfile.TemporaryDirectory() as directory:
        scratch = pathlib.Path(directory)
        jobs = [(f"core_{n}", CORE / f"{n}.c", CORE, n != UNSEAMED) for n in source_names()]
        jobs += [(f"sim_{p.stem}", p, CORE, False) for p in HERE.glob("*.c")]
        with concurrent.futures.ThreadPoolExecutor(2) as pool:
            list(pool.map(lambda half: compile_all(half, scratch), (jobs[::2], jobs[1::2])))
            objects = sorted(scratch.glob("*.o"))
            link(objects, scratch / "simulate")
            unmutated = pool.submit(simulate, scratch / "simulate", PASSING_STEPS)
            caught = 0
            for line, found in pool.map(lambda m: try_mutant(m, objects, scratch), wanted):
                print(line, flush=True)
                caught += found
            status, said, steps = unmutated.result()
    print(f"unmutated: {steps} steps: {said or 'passed'}")
    print(f"{caught} of {len(wanted)} mutants caught")
    return status != 0 or caught < len(wanted)


if __name__ == "__main__":
    os.environ.pop("CFLAGS", None)
    sys.exit(main())
