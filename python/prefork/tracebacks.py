"""Tracebacks as data: where tblib is installed, in the worker and in the application, an exception
has its remote frames here as well.

It is a help and no more: nothing in here raises, and without it there is still the text. tblib is
imported when the first exception comes by, and its `install`, which would change how the whole
process pickles exceptions, is not called.
"""

from __future__ import annotations

import builtins
import contextlib
import functools
import importlib
import pickle
from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import Any

MOST_FRAMES = 100  # of one exception, the innermost; tblib's data are nested as deep
MOST_EXCEPTIONS = 100  # of which one outcome brings the frames
MOST_BYTES = 1 << 20  # of one that comes only because another had it as its cause or context

_Group: Any = getattr(builtins, "BaseExceptionGroup", ())  # from Python 3.11 on


@functools.cache
def _tblib() -> Any:
    try:
        return importlib.import_module("tblib")
    except Exception:
        return None


# ---- in the worker -------------------------------------------------------------------------------


def encode(error: BaseException) -> bytes | None:
    """The frames of an exception, of its causes and of its members; None if they cannot be had."""
    try:
        return pickle.dumps(_frames_of(error, set())) if _tblib() is not None else None
    except Exception:
        return None


def _frames_of(error: BaseException, seen: set[int]) -> tuple[Any, Any, list[Any]]:
    """Its own as tblib has them, the exception that it came from, those of its members."""
    seen.add(id(error))
    trace = _of_the_task(error.__traceback__)
    own = None if trace is None else _tblib().Traceback(trace).to_dict()
    members = [
        _frames_of(member, seen) if len(seen) < MOST_EXCEPTIONS else (None, None, [])
        for member in _members(error)
    ]
    return own, _origin_of(error, seen), members


def _origin_of(error: BaseException, seen: set[int]) -> tuple[bool, bytes, Any] | None:
    """What is shown above it: whether as its cause, that itself, and its frames."""
    origin = error.__cause__
    if origin is None and not error.__suppress_context__:
        origin = error.__context__
    if origin is None or id(origin) in seen or len(seen) >= MOST_EXCEPTIONS:
        return None
    try:
        pickled = pickle.dumps(origin, pickle.HIGHEST_PROTOCOL)
        if len(pickled) > MOST_BYTES:
            return None
        return origin is error.__cause__, pickled, _frames_of(origin, seen)
    except Exception:
        return None


def _of_the_task(trace: TracebackType | None) -> TracebackType | None:
    """Without the frames that called the task, which are ours."""
    while trace is not None and trace.tb_next is not None and _is_ours(trace):
        trace = trace.tb_next
    last, count = trace, 0
    while last is not None:
        last, count = last.tb_next, count + 1
    while trace is not None and count > MOST_FRAMES:
        trace, count = trace.tb_next, count - 1
    return trace


def _is_ours(trace: TracebackType) -> bool:
    return str(trace.tb_frame.f_globals.get("__name__")).startswith("prefork.")


def _members(error: BaseException) -> Sequence[BaseException]:
    return error.exceptions if isinstance(error, _Group) else ()


# ---- in the application --------------------------------------------------------------------------


def restore(error: BaseException, data: bytes | None) -> None:
    """Give an exception what `encode` said of it. What it came from is its `__cause__` or its
    `__context__` then."""
    if data is not None and _tblib() is not None:
        with contextlib.suppress(Exception):
            _restore(error, pickle.loads(data))


def _restore(error: BaseException, frames: tuple[Any, Any, list[Any]]) -> None:
    own, origin, members = frames
    if own is not None:
        BaseException.with_traceback(error, _traceback(own))
    for member, its_own in zip(_members(error), members, strict=False):
        _restore(member, its_own)
    if origin is not None:
        is_cause, pickled, its_own = origin
        came_from = pickle.loads(pickled)
        _restore(came_from, its_own)
        BaseException.__setattr__(error, "__cause__" if is_cause else "__context__", came_from)


def _traceback(frames: dict[str, Any]) -> TracebackType:
    """A frame refers to the one that called it, and so an exception that somebody keeps would keep
    all that everybody on our stack has in hand. These are made beneath a generator that goes no
    further: there their stack ends. It must last as long as they do (Python 3.12)."""

    def make() -> Iterator[TracebackType]:
        yield _tblib().Traceback.from_dict(frames).as_traceback()

    generator = make()
    made = next(generator)
    made.tb_frame.f_globals["__generator__"] = generator
    return made
