"""The command `prefork inspect`: what the workers of another process's pools do, and did last.

It asks nobody: the flight recorder of a pool is memory that the application keeps a descriptor of,
and /proc lets whoever may look at the process open it, too. So it works as well while the
application hangs, is stopped, or has lost its workers. Linux only.
"""

from __future__ import annotations

import argparse
import errno
import json
import os
import sys
import time
from collections.abc import Iterator, Sequence
from typing import Any

from prefork import HistoryEvent, _core
from prefork.history import history_of, last_life, told

from .arguments import number
from .streams import shown, tell

Slot = dict[str, Any]  # what --json prints
SHOWN, NO_POOL, CANNOT = 0, 1, 2
FILE = "/memfd:prefork-history"

EPILOG = """\
exit status: 0 shown, also if the reader of stdout has gone; 1 that process has no pool; 2 wrong
usage, no such process, not ours, or stdout cannot be written to."""


def run(argv: Sequence[str]) -> int:
    """`prefork inspect` with these arguments; the exit status."""
    options = _parser().parse_args(argv)
    if sys.stdout is None:
        tell("stdout is closed, and there is nowhere else to show it")
        return CANNOT
    try:
        pools = [list(_slots(fd)) for fd in _histories(options.pid)]
    except OSError as error:
        tell(f"cannot look at process {options.pid}: {error.strerror}")
        return CANNOT
    if not pools:
        tell(f"process {options.pid} has no running pool")
        return NO_POOL
    return SHOWN if shown(lambda: _print(pools, options)) else CANNOT


def _print(pools: list[list[Slot]], options: argparse.Namespace) -> None:
    now = time.monotonic()
    if options.json:
        print(json.dumps([[_as_json(slot) for slot in pool] for pool in pools]))
        return
    for pool in pools:
        print(f"pool of process {options.pid}, {len(pool)} slots")
        for slot in pool:
            print(_shown(slot, now, options.events))


def _histories(pid: int) -> Iterator[int]:
    """Descriptors of our own for the recorders that the process has open; one at a time."""
    directory = f"/proc/{pid}/fd"
    for name in sorted(os.listdir(directory), key=int):
        try:
            if not os.readlink(f"{directory}/{name}").startswith(FILE):
                continue
            fd = os.open(f"{directory}/{name}", os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:  # closed meanwhile
            continue
        try:
            yield fd
        finally:
            os.close(fd)


def _slots(fd: int) -> Iterator[Slot]:
    """What is known of each slot that ever had a worker."""
    slot = 0
    while True:
        try:
            notes = _core.read_history(fd, slot)
        except OSError as error:
            if error.errno == errno.ERANGE:
                return
            if error.errno == errno.EPROTO:
                error.strerror = "its prefork is of another version"
            raise
        generation, since, pid, _ = notes
        if generation:
            history = history_of(notes)
            state, task, at = _state(last_life(history), since)
            yield {
                "slot": slot,
                "pid": pid or None,
                "generation": generation,
                "state": state,
                "task": task,
                "since": at,
                "history": history,
            }
        slot += 1


def _state(life: tuple[HistoryEvent, ...], since: float) -> tuple[str, int | None, float]:
    """What the slot's newest process does, at which task, and since when."""
    for event in reversed(life):
        if event.what == "exited":
            return "ended", None, event.at
        if event.what in ("claimed", "soft limit", "condemned"):
            return "running", event.value, event.at
        if event.what in ("returned", "raised", "ready"):
            return "idle", None, event.at
    return "starting", None, since


def _as_json(slot: Slot) -> Slot:
    history = [{"at": at, "what": what, "value": value} for at, what, value in slot["history"]]
    return {**slot, "history": history}


def _shown(slot: Slot, now: float, events: int) -> str:
    doing = slot["state"] + (f" task {slot['task']}" if slot["task"] is not None else "")
    line = f"slot {slot['slot']}: pid {slot['pid'] or '-'}, {doing} for {now - slot['since']:.3f} s"
    last = told(slot["history"], now, events) if events else ""
    return f"{line}\n{last}" if last else line


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "prefork inspect",
        description="What the workers of a process's pools do, and did last, by their recorder: "
        "also while the process hangs. Times are seconds before now.",
        epilog=EPILOG,
    )
    add = parser.add_argument
    add("pid", metavar="PID", type=int, help="of the application, which has started the pool")
    add(
        "--events",
        metavar="N",
        type=number(int, 0),
        default=5,
        help="to show of each slot (default 5)",
    )
    add("--json", action="store_true", help="all of it, times as CLOCK_MONOTONIC has them")
    return parser
