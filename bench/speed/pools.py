"""Every pool by its own public API, in the few words that the workloads use.

`prefork`, the standard library's and the rivals. Tasks go in by what each pool has for that, and
where there is a choice, by what costs it least; children are forked wherever a pool can do that.
"""

from __future__ import annotations

import concurrent.futures
import importlib
import multiprocessing
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from operator import methodcaller
from typing import Any

Function = Callable[..., Any]


class Cannot(Exception):
    """A pool has no such thing."""


@dataclass(frozen=True)
class Pool:
    submit: Callable[[Function, tuple[Any, ...]], Any]  #: a task in hand
    take: Callable[[Any], Any]  #: wait for a task's result
    map: Callable[[Function, Sequence[Any], int | None], list[Any]]  #: None: its own chunks
    close: Callable[[], object]
    begin: Callable[[], object] = lambda: None  #: on what was submitted, if it has not begun yet


Make = Callable[..., Pool]  #: of so many workers


def _prefork(
    workers: int,
    maxtasks: int | None = None,
    method: str | None = None,
    putlocks: bool = False,
) -> Pool:
    from prefork import TaskPool

    pool = TaskPool(workers, putlocks, maxtasksperchild=maxtasks, start_method=method)
    pool.start()

    def map(function: Function, items: Sequence[Any], chunksize: int | None) -> list[Any]:
        return pool.map(function, items, **_chunks("chunksize", chunksize))

    return Pool(pool.apply_async, methodcaller("get"), map, pool.stop)


def _multiprocessing(workers: int, maxtasks: int | None = None) -> Pool:
    pool = multiprocessing.get_context("fork").Pool(workers, maxtasksperchild=maxtasks)

    def close() -> None:
        pool.close()
        pool.join()

    return Pool(pool.apply_async, methodcaller("get"), pool.map, close)


def _billiard(workers: int, maxtasks: int | None = None) -> Pool:
    pool: Any = importlib.import_module("billiard").Pool(workers, maxtasksperchild=maxtasks)

    def close() -> None:
        pool.close()
        pool.join()

    return Pool(pool.apply_async, methodcaller("get"), pool.map, close)


def _of_executor(pool: concurrent.futures.Executor) -> Pool:
    submit = pool.submit

    def map(function: Function, items: Sequence[Any], chunksize: int | None) -> list[Any]:
        return list(pool.map(function, items, **_chunks("chunksize", chunksize)))

    return Pool(lambda function, args: submit(function, *args), methodcaller("result"), map,
                pool.shutdown)  # fmt: skip


def _executor(workers: int, maxtasks: int | None = None) -> Pool:
    if maxtasks is not None:
        raise Cannot("does not recycle where it forks")
    context = multiprocessing.get_context("fork")
    return _of_executor(concurrent.futures.ProcessPoolExecutor(workers, context))


def _loky(workers: int, maxtasks: int | None = None) -> Pool:
    if maxtasks is not None:
        raise Cannot("does not recycle")
    loky: Any = importlib.import_module("loky")
    return _of_executor(loky.ProcessPoolExecutor(workers))


def _pebble(workers: int, maxtasks: int = 0) -> Pool:
    pebble: Any = importlib.import_module("pebble")
    context = multiprocessing.get_context("fork")
    pool = pebble.ProcessPool(workers, max_tasks=maxtasks, context=context)
    schedule = pool.schedule

    def map(function: Function, items: Sequence[Any], chunksize: int | None) -> list[Any]:
        return list(pool.map(function, items, **_chunks("chunksize", chunksize)).result())

    def close() -> None:
        pool.close()
        pool.join()

    return Pool(lambda function, args: schedule(function, args=args), methodcaller("result"), map,
                close)  # fmt: skip


def _mpire(workers: int, maxtasks: int | None = None) -> Pool:
    if maxtasks is not None:
        raise Cannot("recycles in its maps only")
    mpire: Any = importlib.import_module("mpire")
    pool = mpire.WorkerPool(workers, start_method="fork", keep_alive=True)

    def map(function: Function, items: Sequence[Any], chunksize: int | None) -> list[Any]:
        found: list[Any] = pool.map(function, items, **_chunks("chunk_size", chunksize))
        return found

    return Pool(pool.apply_async, methodcaller("get"), map, pool.stop_and_join)


def _chunks(name: str, chunksize: int | None) -> dict[str, Any]:
    return {} if chunksize is None else {name: chunksize}


POOLS: dict[str, Make] = {
    "prefork": _prefork,
    "putlocks": partial(_prefork, putlocks=True),
    "mp.Pool": _multiprocessing,
    "PPE": _executor,
    "billiard": _billiard,
    "loky": _loky,
    "pebble": _pebble,
    "mpire": _mpire,
}
