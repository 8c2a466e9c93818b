"""The short form of calls and results: what `marshal` brings over exactly as it is.

In a third of pickle's time, and in one step that runs nobody's code but that of audit hooks; only
of a few types. Nothing of it is one object with anything else afterwards.
"""

from __future__ import annotations

import marshal
import pickle
from collections.abc import Callable
from types import FunctionType
from typing import Any

#: Of these types and of no other, for marshal takes a subclass for its base.
TYPES = frozenset((bool, bytes, float, int, str, type(None)))

VERSION = 2  # the one that says nothing of what is one object
CALL = b"("  # what a plain call begins with,
RESULTS = frozenset(b"FNTgilsu")  # and plain results; no pickle does

#: Functions that are kept in mind, here by what they are, in a worker by what they are called.
MOST_KNOWN = 4096
references: dict[FunctionType, bytes] = {}
known: dict[bytes, Callable[..., Any]] = {}


def reference_to(function: FunctionType) -> bytes:
    """How a worker finds it, pickled once. Raises whatever pickling raises."""
    found = references.get(function)
    if found is None:
        if len(references) >= MOST_KNOWN:
            references.clear()
        found = references[function] = pickle.dumps(function, pickle.HIGHEST_PROTOCOL)
    return found


def find(reference: bytes) -> Callable[..., Any]:
    """In the worker: the function, looked up once. Raises AttributeError that says what to do if
    the zygote cannot know it, and whatever importing its module raises."""
    found = known.get(reference)
    if found is None:
        if len(known) >= MOST_KNOWN:
            known.clear()
        try:
            found = pickle.loads(reference)
        except (AttributeError, ModuleNotFoundError) as error:
            raise cannot_find(error) from error
        known[reference] = found
    return found


def cannot_find(error: Exception) -> AttributeError:
    """What to do where unpickling a call in a worker has raised that."""
    return AttributeError(
        f"a worker cannot find what the task names: {error}. Workers are forked from a process "
        "that was started by the pool's start(): what was defined or became importable "
        "after that is unknown to them, and to start_method='exec' so is whatever a main "
        "module defines that is not run again for them (python -c, stdin, a notebook, the "
        "__main__.py of a package, a directory or a zipapp). Define it before start(), put it "
        "into a module, or call the pool's restart()."
    )


def encode_call(function: FunctionType, args: tuple[Any, ...]) -> bytes | None:
    """None if they are not plain. Raises whatever pickling the function raises."""
    if not TYPES.issuperset(map(type, args)):
        return None
    return _dump((reference_to(function), args))


def is_call(data: bytes) -> bool:
    """Whether `encode_call` has made that."""
    return data.startswith(CALL)


def decode_call(data: bytes) -> tuple[Callable[..., Any], tuple[Any, ...]]:
    """In the worker. Raises as `find` does."""
    reference, args = marshal.loads(data)
    return find(reference), args


def encode_result(result: Any) -> bytes | None:
    """None if it is not plain."""
    return _dump(result) if type(result) in TYPES else None


def is_result(data: bytes) -> bool:
    """Whether `encode_result` has made that."""
    return bool(data) and data[0] in RESULTS


def decode_result(data: bytes) -> Any:
    """In the application. Raises EOFError or ValueError if it is none."""
    return marshal.loads(data)


def _dump(what: Any) -> bytes | None:
    try:
        return marshal.dumps(what, VERSION)
    except ValueError:  # of 2 GiB and more
        return None
