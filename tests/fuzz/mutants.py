"""Whether the corpus notices: what fuzz_pool has found, unmended again, one thing at a time.

Each mutant is a textual edit of one file of csrc/. Built with it, fuzz_pool must fail on an input
of the corpus; without any edit it must pass them all. With a number of seconds, it may also search.

    python tests/fuzz/mutants.py [SECONDS]
"""

import os
import pathlib
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).parent
CORE = HERE.parents[1] / "csrc"
MACHINE = HERE.parent / "c" / "simulate"
CORPUS = HERE / "corpus" / "pool"
MACHINES = "fiber kernel descriptors memory output readiness zygote".split()
NOT_SIMULATED = (
    "control output platform_linux platform_macos poll_epoll poll_kqueue process_linux "
    "process_macos signals zygote".split()
)
UNSEAMED = "history"  # it decides nothing: its accesses are no steps
CC = [os.environ.get("CLANG", "clang"), "-std=c11", "-O1", "-g", "-w", "-iquote", MACHINE]
SANITIZE = ["-fsanitize=fuzzer-no-link,address,undefined", "-fno-sanitize-recover=all"]
DEFINED = {"pool_children": ["-DSIM_RESULTS_SIZE=256"], "pool": ["-DSIM_RING_SIZE=16"]}

MUTANTS = {  # what is wrong then: file, old text, new text
    "a worker's own word on its pid stands, and its exit is never accepted": (
        "pool_children.c",
        "int lied = child->pid != 0 && child->pid != pid;",
        "int lied = 0;",
    ),
    "a worker's own word on its pid is as good as its zygote's, and whose it is is killed": (
        "pool_children.c",
        "    pid_t pid = atomic_load(&child->board.segment->pid);\n"
        "    if (pid > 0)\n        watch(pool, child, pid);",
        "    pid_t pid = atomic_load(&child->board.segment->pid);\n"
        "    if (pid > 0)\n        pf__child_spawned(pool, child, pid);",
    ),
    "a start of zero, or in the future, is believed": (
        "pool_traffic.c",
        "    if (!is_sound(pool, page, started)) {",
        "    if (0 && !is_sound(pool, page, started)) {",
    ),
    "a pipe that nobody reads any more is always ready": (
        "pool_traffic.c",
        "    if (errno != EPIPE || child->channel.out < 0)",
        "    if (1)",
    ),
    "one worker holds every slot of the ring": (
        "pool_orders.c",
        "    if (newest != NULL && newest->seq > pf__word_seq(word))",
        "    if (0)",
    ),
    "the slots of a dead worker are its successor's": (
        "pool_children.c",
        "    pf__ring_release(&pool->ring, seat->index);",
        "",
    ),
    "a ring whose every slot is held is gone round without pause": (
        "supervisor.c",
        " &&\n           sup->burned <= sup->slot_count;",
        ";",
    ),
}


def compile_one(source, into, core=CORE):
    command = [*CC, *SANITIZE, "-D__SANITIZE_ADDRESS__", "-iquote", core]
    if source.parent not in (MACHINE, HERE) and source.stem != UNSEAMED:
        command += ["-include", MACHINE / "seam.h", *DEFINED.get(source.stem, [])]
    subprocess.run([*command, "-c", source, "-o", into], check=True)


def link(objects, program):
    command = [CC[0], "-fsanitize=fuzzer,address,undefined", *objects, "-lpthread", "-o", program]
    subprocess.run(command, check=True)


def run(program, seconds):
    """The first input that it fails on, or None."""
    for file in sorted(CORPUS.iterdir()):
        done = subprocess.run([program, file], capture_output=True, timeout=60, check=False)
        if done.returncode != 0:
            return file
    if seconds:
        found, fresh = program.parent / "found", program.parent / "corpus"
        fresh.mkdir()
        options = [f"-max_total_time={seconds}", "-max_len=512", "-len_control=0"]
        options += [f"-exact_artifact_path={found}", "-print_final_stats=0"]
        subprocess.run([program, *options, fresh, CORPUS], capture_output=True, check=False)
        return found if found.exists() else None
    return None


def try_mutant(number, edit, objects, scratch, seconds):
    name, old, new = edit
    text = (CORE / name).read_text()
    assert text.count(old) == 1, f"{old!r} is {text.count(old)} times in {name}"
    place = scratch / str(number)
    place.mkdir()
    source = place / name
    source.write_text(text.replace(old, new))
    compile_one(source, place / "mutated.o")
    others = [path for path in objects if path.stem != f"core_{source.stem}"]
    link([*others, place / "mutated.o"], place / "fuzz_pool")
    return run(place / "fuzz_pool", seconds)


def main():
    seconds = int(sys.argv[1]) if sys.argv[1:] else 0
    caught = 0
    with tempfile.TemporaryDirectory() as directory:
        scratch = pathlib.Path(directory)
        sources = [("core", p) for p in CORE.glob("*.c") if p.stem not in NOT_SIMULATED]
        sources += [("machine", MACHINE / f"{name}.c") for name in MACHINES]
        sources += [
            ("fuzz", HERE / f"{name}.c") for name in ("fuzz_pool", "application", "hostile")
        ]
        for kind, source in sources:
            compile_one(source, scratch / f"{kind}_{source.stem}.o")
        objects = sorted(scratch.glob("*.o"))
        link(objects, scratch / "fuzz_pool")
        failed = run(scratch / "fuzz_pool", 0)
        for number, (breaks, edit) in enumerate(MUTANTS.items()):
            found = try_mutant(number, edit, objects, scratch, seconds)
            print(f"{found.name if found else 'NOT CAUGHT'}: {breaks}", flush=True)
            if found is not None and found.parent != CORPUS:
                (CORPUS / f"found-{number}").write_bytes(found.read_bytes())
            caught += found is not None
    print(f"unmutated: {f'fails on {failed.name}' if failed else 'passed'}")
    print(f"{caught} of {len(MUTANTS)} mutants caught")
    return failed is not None or caught < len(MUTANTS)


if __name__ == "__main__":
    sys.exit(main())
