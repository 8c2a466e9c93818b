"""The command `prefork map`: xargs -P for Python functions, a thin user of TaskPool.

What a task fails with is made into text in the worker (call.py), so that nothing of the function's
has to be pickled, and whatever exception arrives here is the pool's own.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import os
import sys
import time
from collections.abc import Sequence

from prefork import InitializerError, TaskPool
from prefork.options import COUNT_BOUND, MAX_WORKERS

from .arguments import number
from .call import Call, UsageError, begin_worker, load
from .loop import Interrupts, Screen, Source, drive, expand
from .streams import OutputError, give_up_stdout, tell
from .walk import Walk

ALL_DONE, SOME_FAILED, USAGE, INITIALIZER_FAILED, INTERRUPTED = 0, 1, 2, 3, 130

EPILOG = """\
exit status: 0 every input was done, or the reader of stdout has gone (`| head`): that ends it,
whatever has failed; 1 some failed, or were left out by --fail-fast or Ctrl-C, or stdout is full;
2 wrong usage, FUNC cannot be imported, stdout is closed, or the pool cannot be started; 3 the
initializer failed; 130 after a second Ctrl-C.
The first Ctrl-C lets the running calls finish and begins no others."""


def run(argv: Sequence[str]) -> int:
    """`prefork map` with these arguments; the exit status."""
    options = _parser().parse_intermixed_args(argv)
    if importlib.util.find_spec("rich") is None:
        return _fail(USAGE, "the command needs rich: pip install 'prefork[cli]'")
    try:
        if sys.stdout is None:
            return _fail(USAGE, "stdout is closed, and records go there")
        with contextlib.redirect_stdout(sys.stderr):  # what an import prints is no record
            load(options.func)
            if options.initializer is not None:
                load(options.initializer)
        source, total = _source(options)
    except (UsageError, OSError) as error:
        return _fail(USAGE, str(error))
    return _map(options, source, total)


def _map(options: argparse.Namespace, source: Source, total: int | None) -> int:
    began = time.monotonic()
    try:
        try:
            stop = Interrupts()
            pool = _started(options)
        except (ValueError, OSError) as error:
            return _fail(USAGE, f"the pool cannot be started: {error}")
        window = 16 * pool.limit + 64
        call = Call(options.func, options.repr)
        ordered = not options.unordered
        walk = Walk(pool, call, window, options.retries, ordered, options.fail_fast)
        with pool, contextlib.closing(Screen(total)) as screen:
            pool.fileno()  # from here on the pool is our guest
            drive(walk, source, screen, stop)
            replaced = pool.stats["workers_replaced"]
            pool.stop()  # in here, so that a second Ctrl-C terminates it
    except InitializerError as error:
        return _fail(INITIALIZER_FAILED, " ".join(str(error).split()))
    except BrokenPipeError:
        give_up_stdout()
        return ALL_DONE
    except OutputError as error:
        give_up_stdout()
        return _fail(SOME_FAILED, f"records cannot be written: {error}")
    except KeyboardInterrupt:
        return _fail(INTERRUPTED, "interrupted")
    left_out = _left_out(walk, source)
    _summarize(walk, left_out, replaced, time.monotonic() - began)
    return SOME_FAILED if walk.failed or left_out else ALL_DONE


def _started(options: argparse.Namespace) -> TaskPool:
    """The pool. Raises ValueError and OSError where it cannot be had."""
    pool = TaskPool(
        options.workers,
        putlocks=False,
        initializer=begin_worker,
        initargs=(options.func, options.initializer),
        timeout=options.timeout,
        maxtasksperchild=options.max_tasks_per_child,
    )
    pool.start()
    return pool


def _left_out(walk: Walk, source: Source) -> str:
    """Of the inputs that were never begun, in words; nothing if there is none."""
    if not walk.draining:
        return ""
    if source.exhausted or source.left is not None:
        count = walk.dropped + (source.left or 0)
        return f"{count} left out, " if count else ""
    return f"{walk.dropped} and the unread input left out, "


def _summarize(walk: Walk, left_out: str, replaced: int, seconds: float) -> None:
    rate = (walk.done + walk.failed) / max(seconds, 1e-9)
    tell(
        f"{walk.done} done, {walk.failed} failed, {left_out}{walk.retried} retried, "
        f"{replaced} workers replaced, {rate:.1f} tasks/s"
    )


def _fail(status: int, why: str) -> int:
    tell(why)
    return status


def _source(options: argparse.Namespace) -> tuple[Source, int | None]:
    """The inputs, and how many they are where that is known."""
    if options.input and options.lines is not None:
        raise UsageError("either INPUT or --lines, not both")
    if options.input:
        given = expand(options.input)
        return Source(given), len(given)
    if options.lines in (None, "-"):
        if sys.stdin is None:
            raise UsageError("stdin is closed, and inputs are read from there")
        return Source(fd=0), None
    with open(options.lines, "rb") as stream:
        total = None
        if os.isatty(2) and stream.seekable():
            total = sum(1 for _ in stream)
    return Source(fd=os.open(options.lines, os.O_RDONLY | os.O_CLOEXEC)), total


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "prefork map",
        description="Call FUNC for each INPUT, in parallel; one JSON record per input on stdout.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("func", metavar="FUNC", help="MODULE:FUNCTION or FILE.py:FUNCTION; it is given a str")
    add("input", metavar="INPUT", nargs="*", help="an argument, or a glob pattern; default: stdin")
    add("--lines", metavar="FILE", help="each line of FILE is an input, without its LF or CRLF")
    add("--unordered", action="store_true", help="print records as they come")
    add("--repr", action="store_true", help="print the repr() of results")
    add(
        "--workers",
        type=number(int, 1, MAX_WORKERS),
        metavar="N",
        help="default: one per usable CPU",
    )
    add("--timeout", type=number(float, 1e-3, 1e9), metavar="SECONDS", help="limit of one call")
    tasks = number(int, 1, COUNT_BOUND - 1)
    add("--max-tasks-per-child", type=tasks, metavar="N", help="then a new worker")
    add("--initializer", metavar="FUNC", help="called in each new worker, without arguments")
    add("--retries", type=number(int, 0), default=1, metavar="N", help="of lost calls (default 1)")
    add("--fail-fast", action="store_true", help="begin no call after the first failure")
    return parser
