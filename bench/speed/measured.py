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
    count. `together`: they do it at the same time. `fresh`: each round has a process of its own,
    and no other side's beside it, for who has much memory has other pages if he comes first; then
    all count."""
    found = Found(list(sides))
    if fresh:
        for turn in range(rounds):
            for name in _in_turn(found, turn):
                with closing(Side(bench, sides[name], limit)) as side:
                    _round(found, {name: side}, together=False, counts=True)
        return found
    with ExitStack() as stack:
        open_sides = {
            name: stack.enter_context(closing(Side(bench, spec, limit)))
            for name, spec in sides.items()
        }
        for turn in range(rounds + 1):
            names = _in_turn(found, turn)
            _round(found, {name: open_sides[name] for name in names}, together, counts=turn > 0)
    return found


def _in_turn(found: Found, turn: int) -> list[str]:
    names = [name for name in found.rounds if name not in found.missing]
    first = turn % max(1, len(names))
    return names[first:] + names[:first]


def _round(found: Found, sides: Mapping[str, Side], together: bool, counts: bool) -> None:
    if together:
        for side in sides.values():
            side.begin()
    for name, side in sides.items():
        try:
            if not together:
                side.begin()
            report = side.report()
        except NoAnswer as reason:
            found.missing[name] = str(reason)
            side.close()  # nobody shall be burdened by it
        else:
            if counts:
                found.rounds[name].append(report)
