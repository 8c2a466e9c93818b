"""Where inputs of `prefork map` come from, where records go, and the loop between them.

The pool is the guest of `drive`, which waits for results, for input, for Ctrl-C and for the reader
of our output to go away; no thread is involved.
"""

from __future__ import annotations

import glob
import os
import select
import signal
import sys
from collections import deque
from collections.abc import Sequence
from typing import Any

from .streams import output, tell
from .walk import Job, Walk


class Source:
    """Inputs: given ones, or the lines of a descriptor, read no sooner than they are wanted."""

    def __init__(self, given: Sequence[str] = (), fd: int | None = None) -> None:
        self.fd = fd
        self.exhausted = False
        self._ready: deque[str] = deque(given)
        self._rest: list[bytes] = []  # of a line whose end has not been read

    def next(self) -> str | None:
        """An input, or None if there is none now: `exhausted`, or `fd` is not readable."""
        while not self._ready and not self.exhausted and self._read():
            pass
        return self._ready.popleft() if self._ready else None

    @property
    def left(self) -> int | None:
        """How many there are still, where that is known."""
        return len(self._ready) if self.fd is None or self.exhausted else None

    def _read(self) -> bool:
        if self.fd is None:
            self.exhausted = True
            return False
        poller = select.poll()
        poller.register(self.fd, select.POLLIN)
        if not poller.poll(0):
            return False
        data = os.read(self.fd, 1 << 16)
        lines = data.split(b"\n")
        self._rest.append(lines[0])
        if len(lines) > 1:
            self._ready.append(_text_of(b"".join(self._rest)))
            self._ready.extend(map(_text_of, lines[1:-1]))
            self._rest = [lines[-1]]
        if not data:
            self.exhausted = True
            if last := b"".join(self._rest):
                self._ready.append(_text_of(last))
        return bool(data)


def _text_of(line: bytes) -> str:
    return os.fsdecode(line.removesuffix(b"\r"))


def expand(inputs: Sequence[str]) -> list[str]:
    """Patterns that the shell left alone, expanded; what matches no file stays as it is."""
    found: list[str] = []
    for text in inputs:
        is_pattern = glob.has_magic(text) and not os.path.lexists(text)
        found += (is_pattern and sorted(glob.glob(text, recursive=True))) or [text]
    return found


class Screen:
    """Records to stdout; a bar on stderr where that is a terminal."""

    def __init__(self, total: int | None) -> None:
        self._bar: Any = None
        if os.isatty(2):
            from rich.console import Console
            from rich.progress import MofNCompleteColumn, Progress, TimeElapsedColumn

            columns = (*Progress.get_default_columns()[:-1], MofNCompleteColumn())
            self._bar = Progress(
                *columns,
                TimeElapsedColumn(),
                console=Console(stderr=True),
                transient=True,
                redirect_stdout=False,  # that would send the records to stderr
                redirect_stderr=False,
            )
            self._line = self._bar.add_task("prefork", total=total)
            self._bar.start()
        self._above = self._bar is not None and sys.stdout.isatty()

    def show(self, job: Job) -> None:
        """Print the record of a job that has one. Raises BrokenPipeError and OutputError."""
        with output():
            self._print(job)
        if self._bar is not None:
            self._bar.advance(self._line)

    def flush(self) -> None:
        """Have the records out. Raises as `show` does."""
        with output():
            sys.stdout.flush()

    def _print(self, job: Job) -> None:
        if job.record is not None and self._above:  # by way of the bar, which is in the way
            text = job.record.rstrip("\n")
            self._bar.console.print(text, soft_wrap=True, markup=False, highlight=False)
        elif job.record is not None:
            sys.stdout.write(job.record)

    def close(self) -> None:
        """Take the bar away."""
        if self._bar is not None:
            self._bar.stop()


class Interrupts:
    """Ctrl-C: the first makes `fd` readable, the second raises KeyboardInterrupt, the third ends
    this process there and then (its workers notice)."""

    def __init__(self) -> None:
        self.count = 0
        self.fd, self._writer = os.pipe()
        if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
            signal.signal(signal.SIGINT, self._interrupt)

    def _interrupt(self, *_: object) -> None:
        self.count += 1
        if self.count == 1:
            os.write(self._writer, b"!")
        elif self.count == 2:
            raise KeyboardInterrupt
        else:
            os._exit(130)


def drive(walk: Walk, source: Source, screen: Screen, stop: Interrupts) -> None:
    """Everything from the first input to the last record. Raises InitializerError,
    BrokenPipeError, OutputError and KeyboardInterrupt."""
    while True:
        if stop.count and not walk.draining:
            walk.drain()
            tell("interrupted; finishing what runs (Ctrl-C again: end now)")
        while walk.room and (text := source.next()) is not None:
            walk.submit(text)
        walk.pool.poll()
        taken = 0
        for job in walk.take():
            taken += 1
            screen.show(job)
        screen.flush()
        if not walk.jobs and (walk.draining or source.exhausted):
            return
        if not taken:
            _wait(walk, source, stop)


def _wait(walk: Walk, source: Source, stop: Interrupts) -> None:
    """Until there is something to do."""
    poller = select.poll()
    poller.register(walk.pool.fileno(), select.POLLIN)
    if not stop.count:
        poller.register(stop.fd, select.POLLIN)
    if walk.room and source.fd is not None and not source.exhausted:
        poller.register(source.fd, select.POLLIN)
    output = sys.stdout.fileno()
    poller.register(output, 0)  # errors only: its reader has gone
    for fd, event in poller.poll():
        if fd == output and event & (select.POLLERR | select.POLLHUP):
            raise BrokenPipeError
