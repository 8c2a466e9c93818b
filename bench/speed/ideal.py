"""What could be reached: two plain forked loops with a shared counter, in a pool's clothes.

The loops are forked ahead. All calls of a round are given to both at once, when they shall begin or
the first result is asked for; a loop takes the next one by the counter, and says what came of it.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
from collections.abc import Sequence
from multiprocessing.connection import Connection, wait
from typing import Any

from pools import Function, Pool

Calls = list[tuple[Function, tuple[Any, ...]]]


def _loop(line: Connection, told: Connection, counter: Any) -> None:
    """Until the application lets go of the line."""
    while True:
        calls: Calls = line.recv()
        while True:
            with counter.get_lock():
                at = counter.value
                counter.value = at + 1
            if at >= len(calls):
                break
            function, args = calls[at]
            told.send((at, function(*args)))
        told.send(None)


class _Loops:
    def __init__(self, count: int) -> None:
        context = multiprocessing.get_context("fork")
        self.counter = context.Value("q", 0)
        self.calls: Calls = []
        self.results: dict[int, Any] = {}
        self.begun = False
        self.running: list[Any] = []
        self.lines: list[Any] = []
        # A round's results have room in a pipe: no loop waits for us.
        self.told: list[Any] = []
        for _ in range(count):
            end, line = context.Pipe(duplex=False)
            result, told = context.Pipe(duplex=False)
            if os.fork() == 0:
                for other in [*self.lines, *self.told, line, result]:
                    other.close()
                with contextlib.suppress(EOFError, OSError):
                    _loop(end, told, self.counter)
                os._exit(0)
            end.close()
            told.close()
            self.lines.append(line)
            self.told.append(result)

    def submit(self, function: Function, args: tuple[Any, ...]) -> int:
        if self.begun:
            while self.running:
                self._hear()
            self.begun, self.calls, self.results = False, [], {}
        self.calls.append((function, args))
        return len(self.calls) - 1

    def begin(self) -> None:
        if not self.begun:
            self.begun, self.counter.value = True, 0
            self.running = list(self.told)
            for line in self.lines:
                line.send(self.calls)

    def take(self, number: int) -> Any:
        self.begin()
        while number not in self.results:
            self._hear()
        return self.results[number]

    def _hear(self) -> None:
        one: Any
        for one in wait(self.running):
            told = one.recv()
            if told is None:
                self.running.remove(one)
            else:
                self.results[told[0]] = told[1]

    def map(self, function: Function, items: Sequence[Any], chunksize: int | None) -> list[Any]:
        return [self.take(each) for each in [self.submit(function, (item,)) for item in items]]

    def close(self) -> None:
        for line in [*self.lines, *self.told]:
            line.close()
        for _ in self.lines:
            os.wait()


def ideal(workers: int) -> Pool:
    loops = _Loops(workers)
    return Pool(loops.submit, loops.take, loops.map, loops.close, loops.begin)
