"""The measured processes from outside: started, told to do a round, and ended if they hang."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from board import Board

HERE = Path(__file__).resolve().parent
END = 15.0  # seconds for a side to end

Report = dict[str, float]


class NoAnswer(Exception):
    """Why a side has no figure."""


@dataclass(frozen=True)
class Bench:
    """Where sides are run, and with what."""

    directory: Path
    python: str  # an interpreter that has all pools
    bare: str  # bare.c, compiled
    loops: int  # of an empty loop, that take a microsecond


@dataclass(frozen=True)
class Spec:
    """A pool at a workload; or else the C program, if there is a `count` for it."""

    pool: str
    workload: str = ""
    params: Mapping[str, Any] = field(default_factory=dict)
    count: int = 0

    def command(self, bench: Bench) -> list[str]:
        if self.count:
            return [bench.bare, str(self.count)]
        spec = {"pool": self.pool, "workload": self.workload, "params": self.params}
        return [bench.python, str(HERE / "side.py"), json.dumps(spec)]


class Side:
    """A process of its own that does a round when it is told to."""

    def __init__(self, bench: Bench, spec: Spec, limit: float) -> None:
        self._limit = limit
        directory = Path(tempfile.mkdtemp(dir=bench.directory))
        board = directory / "board"
        Board.make(board)
        self._log = directory / "log"
        # A group that can be killed as a whole. Not a session of its own: the kernel would share
        # the processors out by sessions.
        with open(self._log, "wb") as log:
            self._process = subprocess.Popen(
                spec.command(bench),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env=os.environ | {"BENCH_BOARD": str(board), "BENCH_LOOPS": str(bench.loops)},
                preexec_fn=os.setpgrp,
                bufsize=0,
            )

    def begin(self) -> None:
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # which the answer tells
            self._process.stdin.write(b"\n")

    def report(self) -> Report:
        """What the round has cost. Raises NoAnswer; then there are no more rounds."""
        report: dict[str, Any] = json.loads(self._line())
        if "why" in report:
            raise NoAnswer(report["why"])
        return report

    def _line(self) -> bytes:
        assert self._process.stdout is not None
        deadline = time.monotonic() + self._limit
        line = b""
        while not line.endswith(b"\n"):
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([self._process.stdout], [], [], left)[0]:
                raise NoAnswer(f"no answer within {self._limit:.0f} s")
            more = self._process.stdout.read(4096)
            if not more:
                raise NoAnswer("it ended: " + self._log.read_text(errors="replace")[-200:])
            line += more
        return line

    def close(self) -> None:
        """End it in good order, if it can; with all its processes, if not."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        try:
            self._process.wait(END)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        self._process.stdout.close()


class Found:
    """The rounds of each side of a figure, and why there are none."""

    def __init__(self, sides: Sequence[str]) -> None:
        self.rounds: dict[str, list[Report]] = {name: [] for name in sides}
        self.missing: dict[str, str] = {}

    def of(self, side: str, key: str) -> list[float]:
        return [report[key] for report in self.rounds[side]]


def rounds_of(
    sides: Mapping[str, Spec], bench: Bench, rounds: int, limit: float, together: bool, fresh: bool
) -> Found:
    """Each side does a round in turn, another one first each time. The first round of all does not
    count. `together`: they do it at the same time. `fresh`: with a new process for each, then all
    count."""
    found = Found(list(sides))
    for spell in range(rounds if fresh else 1):
        with ExitStack() as stack:
            open_sides = {
                name: stack.enter_context(closing(Side(bench, spec, limit)))
                for name, spec in sides.items()
                if name not in found.missing
            }
            for turn in range(1 if fresh else rounds + 1):
                _turn(found, open_sides, turn + spell, together, counts=fresh or turn > 0)
    return found


def _turn(found: Found, sides: Mapping[str, Side], turn: int, together: bool, counts: bool) -> None:
    names = [name for name in sides if name not in found.missing]
    first = turn % max(1, len(names))
    names = names[first:] + names[:first]
    if together:
        for name in names:
            sides[name].begin()
    for name in names:
        try:
            if not together:
                sides[name].begin()
            report = sides[name].report()
        except NoAnswer as reason:
            found.missing[name] = str(reason)
            sides[name].close()  # nobody shall be burdened by it
        else:
            if counts:
                found.rounds[name].append(report)
