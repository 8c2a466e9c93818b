"""FUNC: how it is found, and how a worker of `prefork map` calls it."""

from __future__ import annotations

import importlib
import importlib.util
import json
import operator
import os
import re
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from .streams import prepare_worker

Reply = tuple[bool, Any]  # from the worker: (True, JSON text) or (False, the error as a dict)


class UsageError(Exception):
    """What the user asked for cannot be; one line."""


def load(spec: str) -> Callable[..., Any]:
    """The function that MODULE:FUNCTION or FILE.py:FUNCTION names. Raises UsageError."""
    place, _, name = spec.rpartition(":")
    if not place or not name:
        raise UsageError(f"{spec!r} is neither MODULE:FUNCTION nor FILE.py:FUNCTION")
    try:
        module = _load_file(Path(place)) if place.endswith(".py") else _load_module(place)
        function = operator.attrgetter(name)(module)
    except (Exception, SystemExit) as error:
        why = " ".join(f"{type(error).__name__}: {error}".split())
        raise UsageError(f"{spec} cannot be imported: {why}") from error
    if not callable(function):
        raise UsageError(f"{spec} is not callable")
    found: Callable[..., Any] = function
    return found


def _load_module(name: str) -> ModuleType:
    if "" not in sys.path and os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    return importlib.import_module(name)


def _load_file(path: Path) -> ModuleType:
    """Import a file once, under a name that depends on nothing but its path."""
    path = path.resolve()
    name = re.sub(r"\W", "_", f"prefork_map_{path.stem}_{zlib.crc32(os.fsencode(path)):08x}")
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} is not a Python file")
    if str(path.parent) not in sys.path:
        sys.path.insert(0, str(path.parent))
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


_function: Callable[[str], Any]  # in a worker: FUNC


def begin_worker(function: str, initializer: str | None) -> None:
    """In a new worker. What the function prints goes to stderr, for stdout is for records; stdin is
    empty, for its lines are the inputs."""
    global _function
    prepare_worker()
    _function = load(function)  # by fork it is here already
    if initializer is not None:
        load(initializer)()


class Call:
    """FUNC, called in a worker for one input. Never raises; what goes wrong is in its reply."""

    def __init__(self, function: str, as_repr: bool) -> None:
        self.__qualname__ = function  # what errors and logs name the task by
        self._as_repr = as_repr

    def __call__(self, text: str) -> Reply:
        try:
            result = _function(text)
            return True, json.dumps(repr(result) if self._as_repr else result, allow_nan=False)
        except BaseException as error:
            try:
                message = str(error)
            except Exception:
                message = "(its message cannot be shown)"
            return False, {"type": type(error).__qualname__, "message": message, "pid": os.getpid()}
