"""Rows: arguments, results and exceptions that do not pickle, do not unpickle, are deep or huge."""

from __future__ import annotations

import functools
import sys
import threading
import traceback
from dataclasses import replace
from typing import Any

from . import tasks, values
from .row import Expect, deed, exited, killed, raised, row
from .stage import Stage, check

ARGUMENT, RESULT, ERROR = "arguments: ", "results: ", "exceptions: "
DEEP, HUGE = 100_000, 100 << 20


def argument(name: str, clause: str, expect: Expect, make: Any, fn: Any = tasks.echo) -> None:
    """A task with an argument that is made when the row runs."""

    def scenario(stage: Stage) -> None:
        stage.start()
        stage.others()
        stage.victim(fn, make())
        stage.others()

    scenario.__name__, scenario.__module__ = name, __name__
    row(ARGUMENT + clause, expect, spares="Worker" not in expect.error)(scenario)


argument("lock_as_argument", "unpicklable", Expect("TypeError", at_call=True), threading.Lock)
argument(
    "local_function_as_argument",
    "unpicklable",
    Expect(
        "AttributeError" if sys.version_info < (3, 12, 99) else "PicklingError",
        at_call=True,
        text="AttributeError at the call (PicklingError from Python 3.13 on)",
    ),
    lambda: lambda: 1,
)
argument(
    "argument_raises_in_reduce",
    "raising in __reduce__",
    Expect("ValueError", {}, "of pickling", at_call=True),
    values.RaisesInReduce,
)
for kind in ("ValueError", "MemoryError", "RecursionError"):
    argument(
        f"argument_raises_{kind.lower()}_in_the_worker",
        "raising while unpickled",
        raised(kind, "of unpickling"),
        functools.partial(values.BreaksElsewhere, kind),
    )
for kind in ("SystemExit", "KeyboardInterrupt"):
    argument(
        f"argument_raises_{kind.lower()}_in_the_worker",
        "raising while unpickled",
        Expect("RemoteError", {"type_name": kind}),
        functools.partial(values.BreaksElsewhere, kind),
    )
argument(
    "argument_exits_in_the_worker",
    "exiting while unpickled",
    exited(3),
    functools.partial(values.BreaksElsewhere, "exit"),
)
argument(
    "argument_kills_the_worker",
    "exiting while unpickled",
    killed(9),
    functools.partial(values.BreaksElsewhere, "kill"),
)
argument(
    "argument_is_very_deep",
    "very deep",
    Expect("RecursionError", at_call=True),
    functools.partial(values.nested, DEEP),
    values.depth_of,
)


@row(ARGUMENT + "huge", limit=60, spares=True)
def argument_is_huge(stage: Stage) -> None:
    stage.start()
    stage.others()
    stage.victim(tasks.length, bytes(HUGE), value=HUGE)
    stage.others()


@row(ARGUMENT + "huge", limit=60, spares=True)
def many_large_arguments(stage: Stage) -> None:
    stage.start()
    for _ in range(40):
        stage.victim(tasks.length, bytes(1 << 22), value=1 << 22)
        stage.others(1)


# ---- results -------------------------------------------------------------------------------------

deed(
    "result-is-a-lock",
    RESULT + "unpicklable",
    "values",
    raised("TypeError", "cannot be pickled"),
    values.give_lock,
    spares=True,
)
deed(
    "result-is-a-lambda-and-a-lock",
    RESULT + "unpicklable",
    "values",
    raised("TypeError", "cannot be pickled"),
    values.give_lambda,
    spares=True,
)
deed(
    "result-raises-in-reduce",
    RESULT + "unpicklable",
    "values",
    raised("TypeError", "of pickling"),
    values.give_raising_reduce,
    spares=True,
)
for kind in ("ValueError", "MemoryError", "SystemExit", "KeyboardInterrupt", "RecursionError"):
    deed(
        f"result-raises-{kind.lower()}-in-the-parent",
        RESULT + "raising while unpickled",
        "values",
        Expect("TypeError", {}, "cannot be unpickled", cause=kind),
        values.give_what_breaks,
        kind,
        spares=True,
    )
deed(
    "result-is-very-deep",
    RESULT + "deep",
    "values",
    raised("TypeError", "cannot be pickled"),
    values.nested,
    DEEP,
    spares=True,
)


@row(RESULT + "huge", limit=60, spares=True)
def result_is_huge(stage: Stage) -> None:
    stage.start()
    stage.others()
    stage.victim(bytes, HUGE, value=bytes(HUGE))
    stage.others()


@row(RESULT + "huge", limit=60, spares=True)
def many_large_results(stage: Stage) -> None:
    stage.start()
    for _ in range(40):
        stage.victim(bytes, 1 << 22, value=bytes(1 << 22))
        stage.others(1)


# ---- exceptions ----------------------------------------------------------------------------------

deed(
    "exception-of-two-arguments",
    ERROR + "two-argument __init__",
    "values",
    Expect("RemoteError", {"type_name": "TwoArguments"}, "this and that"),
    values.raise_two,
    spares=True,
)
deed(
    "exception-holds-a-lock",
    ERROR + "unpicklable",
    "values",
    Expect("RemoteError", {"type_name": "Unpicklable"}, "in raise_unpicklable"),
    values.raise_unpicklable,
    spares=True,
)
deed(
    "exception-raises-in-reduce",
    ERROR + "unpicklable",
    "values",
    Expect("RemoteError", {"type_name": "RaisesInReduceError"}),
    values.raise_that_raises_in_reduce,
    spares=True,
)
deed(
    "exception-of-a-local-class",
    ERROR + "unpicklable",
    "values",
    Expect("RemoteError", {"type_name": "raise_local.<locals>.Local"}),
    values.raise_local,
    spares=True,
)
deed(
    "exception-shows-nothing",
    ERROR + "unpicklable",
    "values",
    Expect("ShowsNothing", cause="RemoteError"),
    values.raise_that_shows_nothing,
    spares=True,
)
for kind in ("ValueError", "MemoryError"):
    deed(
        f"exception-raises-{kind.lower()}-in-the-parent",
        ERROR + "unpicklable",
        "values",
        Expect("RemoteError", {"type_name": "BreaksElsewhereError"}),
        values.raise_that_breaks_elsewhere,
        kind,
        spares=True,
    )
for kind in ("SystemExit", "KeyboardInterrupt"):
    deed(
        f"exception-raises-{kind.lower()}-in-the-parent",
        ERROR + "unpicklable",
        "values",
        Expect("TypeError", {}, "cannot be unpickled"),
        values.raise_that_breaks_elsewhere,
        kind,
        spares=True,
    )
deed(
    "exception-is-frozen",
    ERROR + "frozen",
    "values",
    Expect("RemoteError", {"type_name": "Frozen"}),
    values.raise_frozen,
    spares=True,
)
deed(
    "exception-is-frozen-and-pickles",
    ERROR + "frozen",
    "values",
    raised("FrozenPickles", code=7),
    values.raise_frozen_that_pickles,
    spares=True,
)
deed(
    "exception-has-cause-and-notes",
    ERROR + "with __cause__ and notes",
    "values",
    replace(
        raised(
            "ValueError",
            "the effect",
            **({"__notes__": ["a note"]} if sys.version_info >= (3, 11) else {}),
        ),
        text="ValueError says 'the effect' from RemoteError (from 3.11 on: __notes__=['a note'])",
    ),
    values.raise_with_cause_and_notes,
    spares=True,
)
deed(
    "exception-is-a-group",
    ERROR + "groups",
    "values",
    replace(
        raised("ExceptionGroup" if sys.version_info >= (3, 11) else "ValueError", "a group"),
        text="ExceptionGroup says 'a group' from RemoteError (ValueError in Python 3.10)",
    ),
    values.raise_group,
    spares=True,
)
deed(
    "exception-is-huge",
    ERROR + "huge",
    "values",
    raised("ValueError"),
    values.raise_huge,
    spares=True,
)
deed(
    "exception-is-a-long-chain",
    ERROR + "huge",
    "values",
    raised("ValueError", "2999"),
    values.raise_deep,
    spares=True,
)
deed(
    "exception-is-stopiteration",
    ERROR + "groups",
    "values",
    raised("StopIteration"),
    values.raise_stopiteration,
    spares=True,
)


@row(
    ERROR + "the remote traceback as text in __cause__",
    raised("ValueError", "the effect"),
    needs=("prefork",),
    spares=True,
)
def the_remote_traceback_is_the_cause(stage: Stage) -> None:
    stage.start()
    victim = stage.victim(values.raise_with_cause_and_notes)
    _, error = stage.outcome(victim)
    text = str(error.__cause__) if error is not None else ""
    for words in (
        "in raise_with_cause_and_notes",
        "KeyError: 'the cause'",
        "direct cause",
        *(["a note"] if sys.version_info >= (3, 11) else []),
    ):
        check(words in text, f"the remote traceback does not say {words!r}: {text}")
    stage.others()


@row(
    ERROR + "real traceback objects where tblib is installed",
    raised("ValueError", "the effect"),
    needs=("prefork",),
    spares=True,
)
def the_remote_frames_are_a_traceback(stage: Stage) -> None:
    stage.start()
    _, error = stage.outcome(stage.victim(values.raise_with_cause_and_notes))
    for one in (error, error.__context__):
        found = [frame.name for frame in traceback.extract_tb(one.__traceback__)]
        check(found[-1:] == ["raise_with_cause_and_notes"], f"the frames of {one!r} are {found}")
    stage.others()
