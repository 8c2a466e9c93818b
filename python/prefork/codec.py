"""How calls and outcomes become bytes, and what is done when they cannot.

Arguments are pickled where the task is submitted, so their errors are raised there. Whatever goes
wrong with a result or an exception becomes the outcome of that one task.
"""

from __future__ import annotations

import functools
import io
import os
import pickle
import traceback
from collections.abc import Callable
from types import FunctionType
from typing import Any, NoReturn

from . import plain, tracebacks
from .errors import RemoteError, shown
from .threads import is_main_thread

Call = tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any] | None, Any]
Caller = Callable[[Callable[..., Any], tuple[Any, ...], "dict[str, Any] | None", Any], Any]

Outcome = tuple[int, Any]  # of one item, and what it is: one of these

OK = 0  # its result
ERROR = 1  # what it raised, encoded
PICKLED = 2  # its result, which may not unpickle: by itself, so that it fails alone

TRIES = 3  # at unpickling, before what was raised is held to be the data's own doing

_PROTOCOL = pickle.HIGHEST_PROTOCOL


class Late:
    """A result that is pickled in its own way, and after its call: a soft limit is no concern any
    more then."""

    def encode(self) -> bytes:
        """The pickle."""
        raise NotImplementedError


class _OfPlainData(pickle.Pickler):
    """Of numbers, texts, bytes and containers of them, which unpickle wherever they come. Raises
    PicklingError for anything else."""

    def reducer_override(self, found: Any) -> NoReturn:
        raise pickle.PicklingError(type(found).__name__)


def name_of(target: Callable[..., Any]) -> str:
    """What errors and logs call a function. Never its repr: a partial's may be of any length."""
    while isinstance(target, functools.partial):
        target = target.func
    name = getattr(target, "__qualname__", None)
    return name if isinstance(name, str) else type(target).__qualname__


class Encoded:
    """A callable for many calls, pickled once, and unpickled once in each worker, so that all calls
    there share it: it is a target for `encode_call` as the callable itself is. Raises whatever
    pickling raises."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.data = pickle.dumps(function, _PROTOCOL)
        self.__qualname__ = name_of(function)  #: for errors and logs
        self._function = function

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._function(*args, **kwargs)


def encode_call(
    target: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any] | None,
    correlation_id: str | None = None,
) -> bytes:
    """Raises whatever pickling raises. A function goes by its name, which is pickled once here and
    looked up once in each worker."""
    what: Any = target
    if type(target) is FunctionType:
        if not kwargs and correlation_id is None:
            data = plain.encode_call(target, args)
            if data is not None:
                return data
        what = plain.reference_to(target)
    elif type(target) is Encoded:
        what = target.data
    return pickle.dumps((what, args, kwargs, correlation_id), _PROTOCOL)


def decode_call(data: bytes) -> Call:
    """In the worker. A function that the zygote cannot know is an error that says what to do."""
    if plain.is_call(data):
        return *plain.decode_call(data), None, None
    try:
        target, args, kwargs, correlation_id = pickle.loads(data)
    except (AttributeError, ModuleNotFoundError) as error:
        raise plain.cannot_find(error) from error
    if type(target) is bytes:
        target = plain.find(target)
    return target, args, kwargs, correlation_id


def run_call(body: Callable[[], bytes], call: Caller, worker: int) -> tuple[int, bytes]:
    """Decodes a call, has `call` make it, and encodes its outcome: never raises, but in a process
    that the call has forked; `worker` is the pid."""
    try:
        result = call(*decode_call(body()))
    except BaseException as error:
        return outcome_of(error, worker)
    return encode_result(result)


def outcome_of(error: BaseException, worker: int) -> tuple[int, bytes]:
    """Of a call that has raised."""
    if os.getpid() != worker:
        raise error
    return ERROR, encode_exception(error)


def encode_result(result: Any) -> tuple[int, bytes]:
    """A result, or the error that it cannot be pickled: never raises."""
    try:  # also for the short form: there may be no memory, or its type may have no hash
        data = plain.encode_result(result)
        if data is not None:
            return OK, data
        if isinstance(result, Late):
            return OK, result.encode()
        return OK, pickle.dumps(result, _PROTOCOL)
    except BaseException as error:
        explained = TypeError(f"the result ({type(result).__name__}) cannot be pickled: {error}")
        explained.__cause__ = error
        return ERROR, encode_exception(explained)


def encode_plain(found: Any) -> bytes | None:
    """None if it is not plain data, all of it: such as unpickles wherever it comes."""
    together = io.BytesIO()
    try:
        _OfPlainData(together, _PROTOCOL).dump(found)
        return together.getvalue()
    except BaseException:  # as of a result
        return None


def by_itself(kind: int, value: Any) -> Outcome:
    """An item's outcome, that fails alone if it cannot be brought over."""
    if kind == ERROR:
        return kind, value
    status, data = encode_result(value)
    return PICKLED if status == OK else ERROR, data


def encode_exception(error: BaseException) -> bytes:
    """The exception if it survives pickling, and in any case its type and traceback as text; where
    tblib is installed the frames, too."""
    try:
        text = "".join(traceback.format_exception(type(error), error, error.__traceback__))
    except BaseException:
        text = f"{type(error).__name__} (its traceback cannot be shown)"
    original: bytes | str  # or why it cannot be had
    if isinstance(error, Exception):
        try:
            original = pickle.dumps(error, _PROTOCOL)
        except BaseException as failure:  # as of a result
            original = f"the original cannot be pickled: {_in_words(failure)}"
    else:
        original = "the original is no Exception, and might end the process that it is raised in"
    frames = tracebacks.encode(error)
    return pickle.dumps((original, type(error).__qualname__, text, frames), _PROTOCOL)


def _in_words(failure: BaseException) -> str:
    """In the worker, where nothing that it raises there may come through."""
    try:
        return shown(failure)
    except BaseException:
        return type(failure).__qualname__


def decode_exception(data: bytes) -> Exception:
    """In the application: the original with a RemoteError as its cause, or a RemoteError."""
    original, type_name, text, frames = pickle.loads(data)
    error, reason = _unpickled(original)
    remote = RemoteError(text, type_name, reason)
    if error is None:
        error = remote
    tracebacks.restore(error, frames)
    # What it came from is shown by the text, and so it is kept where it is not shown again.
    origin = error.__context__ if error.__cause__ is None else error.__cause__
    BaseException.__setattr__(error, "__context__", origin)  # it may be a frozen one
    BaseException.__setattr__(error, "__cause__", None if error is remote else remote)
    return error


def _unpickled(original: bytes | str) -> tuple[Exception | None, str]:
    """An exception, or why there is none."""
    if isinstance(original, str):
        return None, original
    try:
        error = pickle.loads(original)
    except Exception as failure:
        return None, f"the original cannot be unpickled: {shown(failure)}"
    if isinstance(error, Exception):
        return error, ""
    return None, f"the original unpickles as {type(error).__qualname__}, which is no exception"


def decode_result(data: bytes) -> Any:
    """In the application. Raises whatever unpickling raises."""
    return plain.decode_result(data) if plain.is_result(data) else pickle.loads(data)


def no_result(name: str, failure: BaseException) -> TypeError:
    """Why task `name` has none, though it has returned one."""
    found = TypeError(f"the result of {name} cannot be unpickled: {shown(failure)}")
    found.__cause__ = failure
    return found


def decode(
    how: Callable[[Any], Any], data: bytes, failure: BaseException | None = None
) -> tuple[Any, BaseException | None, BaseException | None]:
    """In the application: a value, or why there is none, and what is to be raised in any case. What
    a signal handler raises while we unpickle, as for Ctrl-C, is meant for the program and not for
    this task; the task's own data raises again when it is tried again. `failure`: what it raised
    at a first try."""
    if failure is not None and not is_main_thread():
        return None, failure, None
    for _ in range(TRIES):
        try:
            return how(data), None, failure
        except BaseException as error:
            failure = error
            if not is_main_thread():
                break  # handlers run in the main thread only
    return None, failure, None
