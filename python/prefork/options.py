"""The options of a TaskPool: what they may be, and what is said of those it does not have."""

from __future__ import annotations

import math
import operator
import sys
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

MAX_WORKERS = 4095
COUNT_BOUND = 1 << 32  # of what the core counts in 32 bits
MOST_RETRIES = 60000
OTHER_NAMES = dict.fromkeys(
    ("processes", "procs", "workers", "max_workers", "concurrency"), "limit"
)


class Recycling(NamedTuple):
    """When a worker is replaced."""

    tasks: int | None = None  #: that it has done
    age: float | None = None  #: seconds
    memory: int | None = None  #: KiB of its own
    memory_limit: int | None = None  #: KiB at which also its task is lost
    jitter: float = 0.0  #: by which share each but the limit may come earlier


def unknown_option(pool: type, name: str) -> str:
    """What to say of an option that no pool has: the one that was meant, or all there are."""
    import difflib
    import inspect

    known = [known for known in inspect.signature(pool).parameters if known != "unknown"]
    near = [OTHER_NAMES[name]] if name in OTHER_NAMES else difflib.get_close_matches(name, known, 1)
    hint = f"; did you mean {near[0]!r}?" if near else f"; it has {', '.join(known)}"
    return f"TaskPool has no option {name!r}{hint}"


def checked_limit(limit: int) -> int:
    """A number of workers. Raises TypeError for what is no integer, ValueError out of range."""
    try:
        limit = operator.index(limit)
    except TypeError:
        raise TypeError(f"limit must be an integer, not {limit!r}") from None
    if not 0 <= limit <= MAX_WORKERS:
        raise ValueError(f"limit must be between 0 and {MAX_WORKERS}, not {limit}")
    return limit


def checked_count(name: str, count: int | None, bound: int = COUNT_BOUND) -> int | None:
    """A positive number below `bound`, or none. Raises ValueError, TypeError for no integer."""
    if count is None:
        return None
    count = operator.index(count)
    if not 1 <= count < bound:
        raise ValueError(f"{name} must be at least 1 and less than {bound}, not {count}")
    return count


def not_negative(count: int) -> int:
    """Raises TypeError for what is no integer, ValueError below 0."""
    count = operator.index(count)
    if count < 0:
        raise ValueError(f"count must be at least 0, not {count}")
    return count


def checked_retries(on_lost: str, retries: int | None) -> int:
    """How often a lost task is called again. Raises ValueError, and TypeError for no integer."""
    if on_lost not in ("fail", "retry"):
        raise ValueError(f'on_lost must be "fail" or "retry", not {on_lost!r}')
    if on_lost == "fail":
        if retries is not None:
            raise ValueError(f'retries={retries} says nothing without on_lost="retry"')
        return 0
    retries = 1 if retries is None else operator.index(retries)
    if not 0 <= retries <= MOST_RETRIES:
        raise ValueError(f"retries must be between 0 and {MOST_RETRIES}, not {retries}")
    return retries


def check_seconds(name: str, seconds: float | None) -> float | None:
    """A positive number of seconds, or None. Raises ValueError, and TypeError for no number."""
    try:
        if seconds is not None:
            if not seconds > 0:  # nor is "not a number"
                raise ValueError(f"{name} must be positive, not {seconds}")
            float(seconds)
    except TypeError:
        raise TypeError(f"{name} must be a number of seconds, not {seconds!r}") from None
    except OverflowError:
        raise ValueError(f"{name} is more seconds than a float can tell") from None
    return seconds


def check_recycling(recycling: Recycling) -> None:
    """Raises ValueError, and TypeError for what is no number."""
    checked_count("maxtasksperchild", recycling.tasks)
    check_seconds("max_age_per_child", recycling.age)
    checked_count("max_memory_per_child", recycling.memory, 1 << 50)
    checked_count("memory_limit", recycling.memory_limit, 1 << 50)
    if not 0 <= recycling.jitter < 1:
        raise ValueError(
            f"recycle_jitter must be at least 0 and less than 1, not {recycling.jitter}"
        )


def checked_chunksize(chunksize: int) -> int:
    """How many items make a task. Raises ValueError, and TypeError for no integer."""
    try:
        chunksize = operator.index(chunksize)
    except TypeError:
        raise TypeError(f"chunksize must be an integer, not {chunksize!r}") from None
    if chunksize < 1:
        raise ValueError(f"chunksize must be at least 1, not {chunksize}")
    return min(chunksize, sys.maxsize)


def check_bool(**given: Any) -> None:
    """Raises TypeError for what is neither True nor False."""
    for name, value in given.items():
        if type(value) is not bool:
            raise TypeError(f"{name} must be True or False, not {value!r}")


def check_kwargs(kwargs: Any) -> None:
    """Raises TypeError for what is no mapping."""
    if type(kwargs) is not dict and not isinstance(kwargs, Mapping):
        raise TypeError(f"kwargs must be a mapping, not {kwargs!r}")


def check_callable(**given: Any) -> None:
    """Raises TypeError for what is neither callable nor None."""
    for name, function in given.items():
        if function is not None and not callable(function):
            raise not_callable(name, function)


def not_callable(name: str, function: Any) -> TypeError:
    """What to raise."""
    return TypeError(f"{name} must be callable, not {function!r}")


def checked_exceptions(given: Sequence[type[BaseException]]) -> tuple[type[BaseException], ...]:
    """What `except` takes. Raises TypeError."""
    classes = tuple(given)
    for one in classes:
        if not (isinstance(one, type) and issubclass(one, BaseException)):
            raise TypeError(f"callbacks_propagate must be exception classes, not {one!r}")
    return classes


def checked_names(given: Sequence[str]) -> tuple[str, ...]:
    """Names of modules. Raises TypeError."""
    names = () if isinstance(given, str) else tuple(given)
    if isinstance(given, str) or not all(isinstance(name, str) for name in names):
        raise TypeError(f"preload must be a sequence of module names, not {given!r}")
    return names


def check_timeout(timeout: float | None) -> None:
    """Seconds to wait at most, or None. Raises TypeError, and ValueError for "not a number"."""
    if timeout is not None and math.isnan(timeout):
        raise ValueError("a timeout cannot be nan")


def check_has(thing: Any, name: str, *methods: str) -> None:
    """Raises TypeError for what is not None and lacks a method."""
    if thing is not None and not all(callable(getattr(thing, m, None)) for m in methods):
        raise TypeError(f"{name} must have {'(), '.join(methods)}(), not be {thing!r}")
