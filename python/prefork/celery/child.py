"""The worker's side: who it is in billiard's books, its signals, and the calls that it makes."""

from __future__ import annotations

import contextlib
import enum
import itertools
import multiprocessing.process
import os
import pickle
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any, NoReturn

import billiard.process
from billiard.common import REMAP_SIGTERM
from billiard.context import ForkProcess
from billiard.einfo import ExceptionInfo
from billiard.exceptions import SoftTimeLimitExceeded
from billiard.pool import MaybeEncodingError
from celery.utils.log import get_logger

import prefork
from prefork import codec, inside

#: A task may use `finally` when its worker is to end by one of these.
EXIT_SIGNALS = (signal.SIGHUP, signal.SIGQUIT, signal.SIGTERM)

_exiting = False


class Phase(enum.Enum):
    """Of the present call, for the handlers of soft limits."""

    BEFORE = enum.auto()  #: not begun; or there is no call
    OVERDUE = enum.auto()  #: not begun, and its soft limit is over: it is told as it begins
    DURING = enum.auto()  #: its function runs, and can be told
    AFTER = enum.auto()  #: it has returned, and cannot be told any more


# Names of our own: on Python 3.10 a member is looked up by a call, in which a handler may run.
BEFORE, OVERDUE, DURING, AFTER = Phase
_phase = BEFORE


def begin(
    patience: float | None, initializer: Callable[..., object] | None, *initargs: Any
) -> None:
    """The initializer of every worker: an identity first, then Celery's own, then signals. When
    that has taken `patience` seconds the log says so, once."""
    _become_process()
    _have_no_stdin()
    if initializer is not None:
        with _watched(patience):
            initializer(*initargs)
    _take_signals()


@contextlib.contextmanager
def _watched(patience: float | None) -> Iterator[None]:
    """Another thread has an eye on the clock. It has ended when the block has: whoever forks in a
    task shall have but one."""
    if not patience:
        yield
        return
    watcher = threading.Timer(patience, _is_slow, (patience,))
    watcher.daemon = True
    watcher.start()
    try:
        yield
    finally:
        watcher.cancel()
        watcher.join()


def _is_slow(patience: float) -> None:
    get_logger(__name__).warning(
        "%s (pid %d) is not up after %g s (worker_proc_alive_timeout); it is left alone. What it "
        "waits for is in a handler of worker_process_init, or in the application's loader",
        billiard.process.current_process().name,
        os.getpid(),
        patience,
    )


def soft_timeout_error(_message: str, _seconds: float | None) -> BaseException | None:
    """How a task is told that its soft limit is over, as billiard does: without arguments. One that
    has returned is not told any more, and one that has not begun is told as it does."""
    global _phase
    if _phase is DURING:
        error: BaseException = SoftTimeLimitExceeded()
        return error
    if _phase is BEFORE:
        _phase = OVERDUE
    return None


def _become_process() -> None:
    """One object is the current process of multiprocessing and of billiard: ForkPoolWorker-N, the
    N-th of its pool, with its slot as `index`. It is not daemonic: a task may have children."""
    worker = prefork.current_worker()
    assert worker is not None
    identity = ForkProcess.__new__(ForkProcess)
    identity.__dict__.update(multiprocessing.process.current_process().__dict__)
    identity.__dict__.update(
        _name=f"ForkPoolWorker-{worker.generation}",
        _identity=(worker.generation,),
        _controlled_termination=False,
        index=worker.slot,
    )
    billiard.process._set_current_process(identity)
    billiard.process._children = set()
    billiard.process._process_counter = itertools.count(1)


def _have_no_stdin() -> None:
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)


def _take_signals() -> None:
    global _exiting
    _exiting = False
    remapped = (getattr(signal, REMAP_SIGTERM),) if REMAP_SIGTERM else ()
    for number in (*EXIT_SIGNALS, *remapped):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _on_exit_signal)
    signal.signal(signal.SIGUSR1, _on_soft_signal)


def _on_exit_signal(number: int, _frame: FrameType | None) -> None:
    """The first time what runs may tidy up; the second time there is no more patience. A process
    that is ending in good order has nothing else to tidy up, and is left to it."""
    global _exiting
    if inside.is_ending():
        return
    if _exiting:
        os._exit(os.EX_SOFTWARE)
    _exiting = True
    if number in (signal.SIGTERM, signal.SIGHUP):  # by SIGQUIT there would be a core, too
        inside.end_by(number)
    raise SystemExit(number - 256)  # what billiard's workers exit with


def _on_soft_signal(_number: int, _frame: FrameType | None) -> None:
    """`revoke(terminate=True, signal="SIGUSR1")`; one that comes late finds no call."""
    if _phase is DURING:
        raise SoftTimeLimitExceeded


class Call:
    """What goes to a worker in the place of a target: makes the call, and has its outcome, which is
    (True, value) or (False, ExceptionInfo), pickled."""

    def __init__(self, target: Callable[..., Any], name: str) -> None:
        self.target = target
        self.__qualname__ = name  #: for errors and logs

    def __reduce__(self) -> tuple[Any, ...]:
        return Call, (self.target, self.__qualname__)

    def __call__(self, *args: Any, **kwargs: Any) -> Outcome:
        pid = os.getpid()
        try:
            outcome = True, self._call(args, kwargs)
        except BaseException as error:
            if os.getpid() != pid:  # a fork of the task's own
                raise
            if isinstance(error, (SystemExit, KeyboardInterrupt)):
                _leave(error)
            outcome = False, ExceptionInfo()
        return Outcome(outcome)

    def _call(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        # Handlers run at calls and jumps only: none comes between what stands in one line here.
        global _phase
        was, _phase = _phase, DURING
        try:
            if was is OVERDUE:
                raise SoftTimeLimitExceeded
            return self.target(*args, **kwargs)
        finally:
            _phase = AFTER


class Outcome(codec.Late):
    """What comes of a call."""

    def __init__(self, outcome: tuple[bool, Any]) -> None:
        self.outcome = outcome

    def encode(self) -> bytes:
        """Pickled. The call is over, and what comes now is for the next."""
        global _phase
        _phase = BEFORE
        return _encode(self.outcome)


def _leave(error: BaseException) -> NoReturn:
    """A task that wants to end its process ends it. It is lost, which every backend can store;
    SystemExit as a result it could not."""
    if isinstance(error, SystemExit):
        prefork.exit_worker(inside.exit_code_of(error))
    inside.end_by(signal.SIGINT)  # as the interpreter does
    prefork.exit_worker(1)


def _encode(outcome: tuple[bool, Any]) -> bytes:
    try:
        return pickle.dumps(outcome, pickle.HIGHEST_PROTOCOL)
    except Exception as error:
        try:
            raise MaybeEncodingError(error, outcome[1]) from error
        except MaybeEncodingError:
            return pickle.dumps((False, ExceptionInfo()), pickle.HIGHEST_PROTOCOL)
