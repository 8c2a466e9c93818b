"""What must stay flat: a pool whose every task is a worker's last, for a long time.

    python tests/soak.py [--recycles 100000] [--gib 3]

Descriptors, zombies, and the resident memory of application and zygote are looked at from the
first tenth on; then one argument and one result of `--gib` GiB. Where the machine has not the
memory for that, it is a failure: `--gib 0` leaves it out.
"""

from __future__ import annotations

import argparse
import faulthandler
import gc
import os
import resource
import sys
import time
import zlib
from pathlib import Path

import prefork
from helpers import descendants, descriptors, eventually, full, leftovers, threads

WORKERS = 4
PARTS = 10
GROWTH = 4 << 10  # KiB by which application and zygote may grow from the first tenth to the last
COPIES = 6.5
PATIENCE = 600  # seconds for one tenth


def nothing(number):
    return number


PIECE = bytes(range(256)) * (1 << 12)


def make(size):
    return PIECE * (size // len(PIECE))


def weigh(data):
    return len(data), zlib.crc32(data)


def weigh_of(size):
    crc = 0
    for _ in range(size // len(PIECE)):
        crc = zlib.crc32(PIECE, crc)
    return size, crc


def resident(pid):
    words = Path(f"/proc/{pid}/statm").read_text().split()
    return int(words[1]) * resource.getpagesize() // 1024


def zombies():
    return [pid for pid in descendants(os.getpid()) if state_of(pid) == "Z"]


def state_of(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][:1]
    except OSError:
        return ""


def look(pool):
    """At a moment in which nothing is being replaced."""
    eventually(lambda: full(pool, WORKERS) and pool.stats["standby"] and not zombies(), pool)
    gc.collect()
    stats = pool.stats
    return {
        "descriptors": len(descriptors()),
        "threads": threads(),
        "processes": len(descendants(os.getpid())),
        "application": resident(os.getpid()),
        "zygote": resident(stats["zygote"]),
    }


def recycle(count):
    """Every task in a worker of its own."""
    begin = time.monotonic()
    with prefork.TaskPool(WORKERS, maxtasksperchild=1, putlocks=False) as pool:
        seen = []
        for part in range(PARTS):
            faulthandler.dump_traceback_later(PATIENCE, exit=True)
            numbers = range(count * part // PARTS, count * (part + 1) // PARTS)
            for number, result in zip(numbers, pool.imap(nothing, numbers), strict=True):
                assert number == result
            seen.append(look(pool))
            print(f"{numbers.stop} recycles: {seen[-1]}", flush=True)
        stats = pool.stats
        assert stats["tasks_succeeded"] == count and stats["workers_replaced"] >= count, stats
    faulthandler.cancel_dump_traceback_later()
    first, last = seen[0], seen[-1]
    for what in ("descriptors", "threads", "processes"):
        assert len({one[what] for one in seen}) == 1, f"{what}: {[one[what] for one in seen]}"
    for what in ("application", "zygote"):
        assert last[what] - first[what] < GROWTH, f"{what}: {[one[what] for one in seen]} KiB"
    print(f"{count / (time.monotonic() - begin):.0f} recycles per second")


def available():
    """Bytes that can still be used: the machine's, or what the container leaves of them."""
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            free = int(line.split()[1]) * 1024
    limit, used = Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory.current")
    if limit.exists() and (text := limit.read_text().strip()) != "max":
        free = min(free, int(text) - int(used.read_text()))
    return free


def carry(gib):
    """One argument of that size, then one result. Each is there up to COPIES times at once, in the
    application and in the worker: the object, its pickle, the core's, what waits for the pipe."""
    need = int(COPIES * gib * (1 << 30))
    if available() < need:
        sys.exit(f"{gib} GiB want {need >> 30} GiB free, {available() >> 30} are to be had")
    size = int(gib * (1 << 30))
    with prefork.TaskPool(1) as pool:
        for what, call in ("there", (weigh, (make(size),))), ("back", (make, (size,))):
            faulthandler.dump_traceback_later(PATIENCE, exit=True)
            begin = time.monotonic()
            result = pool.apply(*call)
            took = time.monotonic() - begin
            del call
            assert (weigh(result) if what == "back" else result) == weigh_of(size)
            print(f"{gib} GiB {what} in {took:.0f} s", flush=True)
            result = None
    faulthandler.cancel_dump_traceback_later()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--recycles", type=int, default=100_000)
    parser.add_argument("--gib", type=float, default=3)
    options = parser.parse_args()
    before, count = descriptors(), threads()
    recycle(options.recycles)
    if options.gib:
        carry(options.gib)
    gc.collect()
    eventually(lambda: not leftovers() and threads() <= count)
    assert descriptors() == before
    print("nothing is left")


if __name__ == "__main__":
    main()
