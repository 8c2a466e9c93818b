"""Stdin, stdout and stderr of the command, whatever they are: closed, full, or a pipe that nobody
reads. What stderr cannot take is dropped; of stdout the command says what became of it."""

from __future__ import annotations

import contextlib
import io
import os
import sys
from collections.abc import Callable, Iterator
from typing import Any, TextIO


class OutputError(Exception):
    """Stdout takes no more."""


class _Lossy(io.FileIO):
    """A descriptor that seems to take everything; what it cannot take is lost."""

    def write(self, data: Any, /) -> int:
        with contextlib.suppress(OSError):
            return super().write(data) or len(data)  # nothing: it would have to be waited for
        return len(data)


def prepare() -> None:
    """For the command, before anything else: `sys.stderr` can be written to and never fails.

    Of the standard descriptors none is free, for what is opened next would become it, and be taken
    for it by whoever writes there.
    """
    for fd in (0, 1, 2):
        try:
            os.fstat(fd)
        except OSError:  # the lowest free one is this one
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
    if sys.stderr is sys.__stderr__:  # None, where it was closed
        sys.stderr = _lossy(2)


def prepare_worker() -> None:
    """In a new worker: stdin is empty, and what is printed goes to stderr, if that takes it."""
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    os.dup2(2, 1)
    if sys.stdout is sys.__stdout__:  # else FUNC's module has put something in its place
        sys.stdout = _lossy(1)
    if sys.stderr is sys.__stderr__:
        sys.stderr = _lossy(2)


def _lossy(fd: int) -> TextIO:
    encoding = getattr(sys.__stderr__, "encoding", "utf-8")
    raw = io.BufferedWriter(_Lossy(fd, "w", closefd=False))
    return io.TextIOWrapper(raw, encoding, "backslashreplace", line_buffering=True)


def tell(text: str) -> None:
    """A line to stderr, if it takes one."""
    if sys.stderr is not None:  # print() would take stdout
        with contextlib.suppress(OSError, ValueError):
            print(f"prefork: {text}", file=sys.stderr, flush=True)


@contextlib.contextmanager
def output() -> Iterator[None]:
    """Around what writes to stdout: raises BrokenPipeError if its reader has gone, and OutputError
    for what else goes wrong."""
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        raise OutputError(str(error)) from error


def give_up_stdout() -> None:
    """What is still to be written goes nowhere, so that the interpreter's end has no trouble."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, sys.stdout.fileno())
    os.close(null)


def shown(write: Callable[[], object] = lambda: None) -> bool:
    """Have it write to stdout, and all of that out. Whether it is, or nobody wants it any more; if
    not, stderr has been told why."""
    try:
        with output():
            write()
            sys.stdout.flush()
    except BrokenPipeError:
        give_up_stdout()
    except OutputError as error:
        give_up_stdout()
        tell(f"it cannot be shown: {error}")
        return False
    return True
