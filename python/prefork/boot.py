"""How a zygote comes into the world: forked from the application, or as a fresh interpreter."""

from __future__ import annotations

import contextlib
import errno
import functools
import gc
import importlib
import os
import pickle
import sys
import threading
import warnings
from collections.abc import Callable, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any, NoReturn

from . import _core, codec
from .logs import pool_logger
from .machine import thread_count
from .worker import (
    WorkerSetup,
    cannot_work,
    flush_stdio,
    forget_application,
    prepare_workers,
    work,
)

if TYPE_CHECKING:
    from ._core import CorePool, CoreWorker

START_METHODS = ("fork", "exec")
SMALL_STACK = 1 << 20  # bytes; a few thousand levels of pickle want more


def default_start_method() -> str:
    """`fork` on Linux, `exec` elsewhere."""
    return "fork" if sys.platform == "linux" else "exec"


def start_zygote(core: CorePool, method: str, setup: WorkerSetup, preload: Sequence[str]) -> None:
    """Give the pool a zygote. Raises OSError if it cannot be forked, and for `exec` whatever
    pickling the initializer, its arguments and the destructor raises."""
    if method == "fork":
        _fork(core, setup, preload)
    else:
        _exec(core, setup, preload)


def _be_zygote(control: int, application: int, get_ready: Callable[[], WorkerSetup]) -> NoReturn:
    """Serve until the application lets go of us. What `get_ready` raises is said by every worker,
    as if its initializer had, so that it reaches who waits for a task."""
    main: Callable[[CoreWorker], NoReturn]
    try:
        main = functools.partial(work, get_ready())
        prepare_workers()
        _warn_of_own_threads()
    except BaseException as error:
        main = functools.partial(cannot_work, codec.encode_exception(error))
    # What exists now is the workers' for good: frozen, no collection touches its pages. Nothing is
    # collected here, for a finalizer would act on what is the application's.
    gc.freeze()
    _core.run_zygote(control, application, main)


def _warn_of_own_threads() -> None:
    count = thread_count()
    if count is not None and count > 1:
        pool_logger.warning(
            "the zygote has %d threads, started by a fork hook or an import: a lock that one of "
            "them holds when a worker is forked stays locked in that worker",
            count,
        )


def _preloaded(setup: WorkerSetup, preload: Sequence[str]) -> WorkerSetup:
    for name in preload:
        importlib.import_module(name)
    return setup


# ---- fork --------------------------------------------------------------------------------------


def _warn_of_threads() -> None:
    others = [t.name for t in threading.enumerate() if t is not threading.current_thread()]
    others = [name for name in others if not name.startswith("prefork-")]
    if others:
        pool_logger.warning(
            "the zygote is forked from a process with threads (%s): a lock that one of them holds "
            "now stays locked in every worker. Start the pool before them, or use "
            'start_method="exec".',
            ", ".join(others),
        )


def _warn_of_stack() -> None:
    size = threading.stack_size()
    if threading.current_thread() is not threading.main_thread() and 0 < size < SMALL_STACK:
        pool_logger.warning(
            "the pool is started by a thread with a stack of %d KiB, and its workers will have no "
            "more: start it in the main thread",
            size >> 10,
        )


def _fork(core: CorePool, setup: WorkerSetup, preload: Sequence[str]) -> None:
    _warn_of_threads()
    _warn_of_stack()
    # Garbage is finalized where it belongs: what is young now, before the fork; of what is older
    # there is never much, and it is frozen in the zygote with all else.
    gc.collect(1 if gc.isenabled() else 2)
    tracker = sys.modules.get("multiprocessing.resource_tracker")
    if tracker is not None:  # shared by all workers, so that it outlives each of them
        tracker.ensure_running()
    flush_stdio()
    application = os.getpid()
    # Both come within one call into C, so that what a signal handler raises finds them known.
    prepared: list[int] = []
    pids: list[int] = []
    try:
        core.zygote_prepare(prepared)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            pids.extend(islice(iter(os.fork, None), 1))
    finally:
        if prepared and pids != [0]:
            core.zygote_started(pids[0] if pids else -1)
    if pids == [0]:
        # From here no frame of the application is ever returned to.
        try:
            forget_application()
            _be_zygote(prepared[0], application, lambda: _preloaded(setup, preload))
        except BaseException:
            sys.excepthook(*sys.exc_info())
            flush_stdio()
        finally:
            os._exit(1)


# ---- exec --------------------------------------------------------------------------------------


def _exec(core: CorePool, setup: WorkerSetup, preload: Sequence[str]) -> None:
    from multiprocessing import spawn, util

    # multiprocessing's own preparation of path, argv and main module (but for a __main__.py, which
    # has no guard), and its own check that we are not inside the import of the main module of such
    # a zygote.
    try:
        preparation = spawn.get_preparation_data("prefork-zygote")
    except FileNotFoundError as error:
        raise FileNotFoundError(
            errno.ENOENT,
            "the working directory of this process has been removed, and start_method='exec' "
            "starts an interpreter there: os.chdir() first",
        ) from error
    if not os.path.exists(preparation.get("init_main_from_path", os.curdir)):
        del preparation["init_main_from_path"]  # the program came by stdin: as with `python -c`
    preparation["authkey"] = bytes(preparation["authkey"])  # goes through a pipe of our own
    data = pickle.dumps((os.getpid(), preparation, list(preload)))
    data += pickle.dumps(setup)
    pipes: list[tuple[int, int]] = []  # as by fork
    prepared: list[int] = []
    pid = -1
    try:
        pipes.extend(islice(iter(os.pipe, None), 1))
        reader = pipes[0][0]
        try:
            core.zygote_prepare(prepared)
            code = f"from prefork.boot import exec_main; exec_main({prepared[0]}, {reader})"
            flags: list[str] = util._args_from_interpreter_flags()  # type: ignore[attr-defined]
            command = [os.fsencode(part) for part in (spawn.get_executable(), *flags, "-c", code)]
            pid = util.spawnv_passfds(command[0], command, [prepared[0], reader])
        finally:
            if prepared:
                core.zygote_started(pid)
    finally:
        for reader, writer in pipes:
            try:
                os.close(reader)
                if pid > 0:
                    _write_all(writer, data)
            finally:
                os.close(writer)


def _write_all(fd: int, data: bytes) -> None:
    view = memoryview(data)
    with contextlib.suppress(BrokenPipeError):  # it has died already; the pool will see that
        while view:
            view = view[os.write(fd, view) :]


def exec_main(control: int, reader: int) -> None:
    """The main function of a zygote in a fresh interpreter."""
    from multiprocessing import process, spawn

    os.set_inheritable(control, False)
    try:
        with open(reader, "rb") as stream:
            application, preparation, preload = pickle.load(stream)
            rest = stream.read()

        def get_ready() -> WorkerSetup:
            current: Any = process.current_process()
            current._inheriting = True  # a pool started by the import of main is an error
            try:
                spawn.prepare(preparation)
                setup: WorkerSetup = pickle.loads(rest)
            finally:
                del current._inheriting
            return _preloaded(setup, preload)

        _be_zygote(control, application, get_ready)
    except BaseException:
        sys.excepthook(*sys.exc_info())
        flush_stdio()
    finally:
        os._exit(1)
