"""Our errors as billiard's, which are Celery's API: clients look them up by class and by name."""

from __future__ import annotations

from typing import Any

from billiard.einfo import ExceptionInfo
from billiard.exceptions import Terminated, TimeLimitExceeded, WorkerLostError

import prefork
from prefork.history import signal_name

_PLAIN = (bool, int, float, str)  # what any backend can store, and read where there is no prefork


def translated(error: BaseException, number: int) -> BaseException:
    """What Celery knows for an error of the pool, for job `number`: billiard's own class, the facts
    of ours as its attributes. Any other error is returned as it is."""
    found: BaseException
    if isinstance(error, prefork.TimeLimitExceeded):
        found = TimeLimitExceeded(error.limit)
    elif isinstance(error, prefork.WorkerLostError):
        how = _how_it_ended(error.exitcode)
        found = WorkerLostError(f"Worker exited prematurely{how} Job: {number}. {error}")
    elif isinstance(error, prefork.RemoteError):  # by a signal, before the call or after it
        found = WorkerLostError(f"Worker exited prematurely: {error.type_name} Job: {number}.")
    else:
        return error
    for name, value in vars(error).items():
        if value is not None and isinstance(value, _PLAIN):
            setattr(found, name, value)
    return found


def _how_it_ended(exitcode: int | None) -> str:
    """In billiard's words, but for its names of signals: to it SIGINT is SIG_SETMASK."""
    if exitcode is None:
        return ""
    if exitcode < 0:
        return f": signal {-exitcode} ({signal_name(-exitcode)})"
    return f": exitcode {exitcode}"


def terminated(signum: int) -> BaseException:
    """That of a job which was ended by name; `signum` is positive."""
    found: BaseException = Terminated(int(signum))
    return found


def info_of(error: BaseException) -> Any:
    """A billiard.einfo.ExceptionInfo of an exception that has not been raised here."""
    context = error.__context__
    try:
        raise error
    except BaseException:
        error.__context__ = context  # not what was just being handled here
        return ExceptionInfo()
    finally:
        error.__traceback__ = None  # it would hold this frame, and so itself
        del error
