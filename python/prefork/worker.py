"""A worker's life in Python, from its birth in the zygote to `os._exit`.

What a worker needs of the standard library is imported with this, and not after the fork: by then
the application may be where it cannot be read (chroot, setuid), and each worker would import it for
itself.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # what `signal` adds are enums: see below
import ast  # noqa: F401  # traceback's, which imports them for the first text that it makes
import contextlib
import errno
import faulthandler
import os
import signal
import sys
import threading
import tokenize  # noqa: F401  # the same
from collections.abc import Callable, Iterable
from logging import DEBUG
from multiprocessing import process, util
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn, TextIO, cast

from . import _core, codec, inside
from .errors import SoftTimeLimitExceeded
from .logs import worker_logger

if TYPE_CHECKING:
    from ._core import CoreWorker


#: (message, seconds; None for Task.interrupt()): what to raise in the task, or nothing
SoftTimeoutError = Callable[[str, "float | None"], "BaseException | None"]


class WorkerSetup(NamedTuple):
    """What every worker of a pool does besides tasks; inherited by fork, pickled by exec."""

    initializer: Callable[..., object] | None = None
    initargs: tuple[Any, ...] = ()
    on_process_exit: Callable[[int, int], object] | None = None
    soft_timeout_error: SoftTimeoutError = SoftTimeLimitExceeded


def forget_application() -> None:
    """In a newborn zygote: what belongs to the application must not be acted on here."""
    signal.set_wakeup_fd(-1)
    for number in range(1, _signal.NSIG):
        if callable(_signal.getsignal(number)):
            _signal.signal(number, _signal.SIG_DFL)
    process._children.clear()  # type: ignore[attr-defined]  # at exit it would end them
    util._finalizer_registry.clear()  # type: ignore[attr-defined]


def prepare_workers() -> None:
    """In a zygote that is ready: what is the same in all its workers, once. Each would have to copy
    the memory that it takes."""
    threading.current_thread().name = "MainThread"
    present: Any = process.current_process()
    identity: Any = process.BaseProcess.__new__(process.BaseProcess)
    identity.__dict__.update(present.__dict__)
    identity._config = {**present._config, "daemon": False}
    process._current_process = identity  # type: ignore[attr-defined]
    process._process_counter = iter(range(1, sys.maxsize))  # type: ignore[attr-defined]
    process._children.clear()  # type: ignore[attr-defined]
    worker_logger.isEnabledFor(DEBUG)  # it remembers what it finds


def _become_process(slot: int) -> None:
    """Take an identity of our own in multiprocessing's books, without being daemonic."""
    identity: Any = process._current_process  # type: ignore[attr-defined]  # prepare_workers made it
    identity._name = f"prefork-worker-{slot}"
    identity._parent_pid = os.getppid()
    if util._afterfork_registry:  # type: ignore[attr-defined]
        util._run_after_forkers()  # type: ignore[attr-defined]
    util._finalizer_registry.clear()  # type: ignore[attr-defined]


def _captured_streams() -> tuple[TextIO, ...]:
    """stdout and stderr, written to descriptors 1 and 2 with each line: also where the application
    had put something else in their place."""
    sys.stdout = _stream_to(1, sys.stdout, sys.__stdout__)
    sys.stderr = _stream_to(2, sys.stderr, sys.__stderr__)
    return sys.stdout, sys.stderr


def _stream_to(number: int, *streams: Any) -> TextIO:
    for stream in streams:
        with contextlib.suppress(Exception):  # it may be anything
            if stream.fileno() == number:
                stream.reconfigure(line_buffering=True)
                return cast("TextIO", stream)
    return open(number, "w", 1, encoding="utf-8", errors="backslashreplace", closefd=False)


def cannot_work(why: bytes, core: CoreWorker) -> NoReturn:
    """The life of a worker whose zygote failed to get ready: it says why."""
    try:
        core.failed(why)
    finally:
        os._exit(1)


def work(setup: WorkerSetup, core: CoreWorker) -> NoReturn:
    """The whole life. It always ends in `os._exit`, never in the application's frames."""
    exitcode = 1
    pid = os.getpid()
    try:
        _signal.signal(_signal.SIGINT, _signal.SIG_IGN)
        _signal.signal(_signal.SIGHUP, _signal.SIG_IGN)
        _become_process(core.slot)
        streams = _captured_streams() if core.captures else ()
        # What a crash has to say goes to the pool, and never to stderr. It may be enabled already,
        # and would not see that the fork has taken its signal handlers away.
        faulthandler.disable()
        faulthandler.enable(core.crash_log, all_threads=True)
        core.answer_stacks_signal()
        faulthandler.register(_core.STACKS_SIGNAL, core.crash_log, all_threads=True, chain=True)
        present = inside.become(core, setup, _finish)
        core.unblock_signals()
        if _initialize(core, setup):
            exitcode = _serve(core, present, streams)
            present.end(exitcode)
    except BaseException as error:  # the application is gone, or a task's signal handler raised
        number = error.errno if isinstance(error, OSError) else 0
        if os.getpid() != pid:
            exitcode = _end_of_copy(error)
        elif number == errno.ECANCELED:
            os.kill(pid, signal.SIGKILL)  # as the pool is about to
        elif isinstance(error, SystemExit) and not inside.is_ending():
            exitcode = inside.exit_code_of(error)  # by a signal handler, between tasks
            present.end(exitcode)
            present.leave(exitcode)
        worker_logger.debug("worker %d ends", os.getpid(), exc_info=True)
    finally:
        os._exit(exitcode & 0xFF)


def _end_of_copy(error: BaseException) -> int:
    """The end of a process that a task has forked, and that came back from it: as the interpreter
    would end it. Its exit code."""
    code = 1
    if isinstance(error, SystemExit):
        code = inside.exit_code_of(error)
    else:
        sys.excepthook(type(error), error, error.__traceback__)
    flush_stdio()
    return code & 0xFF


def _initialize(core: CoreWorker, setup: WorkerSetup) -> bool:
    pid = os.getpid()
    try:
        if setup.initializer is not None:
            setup.initializer(*setup.initargs)
    except BaseException as error:
        if os.getpid() != pid:
            raise
        core.failed(codec.encode_exception(error))
        return False
    try:
        core.ready()
    except ChildProcessError:  # this is a fork of the worker
        raise SystemExit(0) from None
    worker_logger.debug("worker %d is up in slot %d", os.getpid(), core.slot)
    return True


# Those of `signal` look for an enum's member in whatever they are given and find; for a function
# they raise and catch an error. That takes as long as the rest of a short task, and a tenth of the
# memory that a newborn worker must have copied for itself.


def _serve(core: CoreWorker, present: inside.Present, streams: Iterable[TextIO]) -> int:
    """Claim, call, deliver, until there is nothing more for us to do."""
    on_soft_limit = present.on_soft_limit
    _take_soft_signal(present, _signal.SIG_DFL)
    while True:
        if streams:
            _flush(streams)  # what the task before has left of a line is not the next one's
        if not core.serve_next():
            return 0
        if _signal.getsignal(_core.SOFT_SIGNAL) != on_soft_limit:
            _take_soft_signal(present, on_soft_limit)


def _take_soft_signal(present: inside.Present, expected: Any) -> None:
    """An initializer or a task that has a handler of its own for the soft signal loses it, and may
    read that in the log."""
    found = _signal.getsignal(_core.SOFT_SIGNAL)
    if found != expected:
        worker_logger.warning(
            "signal %d tells of soft limits: what worker %d found for it, %r, is replaced",
            _core.SOFT_SIGNAL, os.getpid(), found,
        )  # fmt: skip
    if found != present.on_soft_limit:
        _signal.signal(_core.SOFT_SIGNAL, present.on_soft_limit)


def _finish(setup: WorkerSetup, exitcode: int) -> None:
    """An orderly exit: the destructor, then what multiprocessing registered, then the files."""
    if setup.on_process_exit is not None:
        try:
            setup.on_process_exit(os.getpid(), exitcode)
        except BaseException:
            worker_logger.exception("on_process_exit failed in worker %d", os.getpid())
    util._exit_function()  # type: ignore[attr-defined]
    flush_stdio()


def flush_stdio() -> None:
    """Flush stdout and stderr, whatever has become of them."""
    _flush((sys.stdout, sys.stderr))


def _flush(streams: Iterable[Any]) -> None:
    for stream in streams:
        try:  # each worker does so: suppress() costs it memory
            stream.flush()
        except (OSError, ValueError, AttributeError):
            continue
