"""The worker's side of the binding by cffi, and the zygote's."""

from __future__ import annotations

import errno
import os
import posix
import warnings
from collections.abc import Callable
from functools import partial
from itertools import chain, repeat, starmap
from operator import itemgetter
from typing import Any, NoReturn

from . import codec
from ._cffi_core import ffi, lib
from ._cffi_steps import bytes_at, call, errno_now, failed, hear, nanoseconds


def refused(error: int) -> BaseException:
    """A fork of the worker has nothing more to do."""
    return SystemExit(0) if error == errno.ECHILD else failed(error)


class CoreWorker:
    __slots__ = ("_claim", "_claims", "_current", "_pid", "_worker")

    def __init__(self, worker: Any) -> None:
        self._worker = worker
        self._pid = os.getpid()
        self._current: tuple[Callable[..., Any], Any, int, float, int] | None = None
        self._claim = ffi.new("pf_claim *")
        self._claims = zip(
            map(lib.pf_worker_claim, repeat(worker), repeat(self._claim)), errno_now, strict=False
        )

    @property
    def slot(self) -> int:
        return int(lib.pf_worker_slot(self._worker))

    @property
    def generation(self) -> int:
        return int(lib.pf_worker_generation(self._worker))

    @property
    def crash_log(self) -> int:
        return int(lib.pf_worker_crash_log(self._worker))

    @property
    def captures(self) -> bool:
        return bool(lib.pf_worker_captures(self._worker))

    @property
    def current(self) -> tuple[Callable[..., Any], Any, int, float, int] | None:
        return self._current

    # From pf_worker_call_begins until the destructor has called pf_worker_call_ends no line of
    # Python runs but the target's, and that of a handler that was due before it: only in there may
    # a signal handler of ours raise, and it asks take_soft_limit.
    def _call(
        self,
        target: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any] | None,
        correlation_id: Any,
    ) -> Any:
        claim = self._claim
        self._current = target, correlation_id, claim.id, claim.started * 1e-9, claim.lost
        if kwargs:
            target = partial(target, **kwargs)
        interrupted = filter(None, map(lib.pf_worker_call_begins, (self._worker,)))
        begun = chain(map(hear, interrupted), (None,))
        return next(
            starmap(
                target,
                map(
                    itemgetter(0),
                    zip(
                        (args,),
                        begun,
                        repeat(ffi.gc(self._worker, lib.pf_worker_call_ends)),
                        strict=False,
                    ),
                ),
            )
        )

    def take_soft_limit(self) -> float | None:
        limit: int = lib.pf_worker_take_soft_limit(self._worker)
        return None if limit == lib.PF_INTERRUPTED else limit / 1e9  # 0.3 comes back as 0.3

    def extend(self, seconds: float) -> None:
        call(lib.pf_worker_extend, self._worker, nanoseconds(min(seconds, 1e9)))

    def answer_stacks_signal(self) -> None:
        if lib.pf_worker_answer_stacks_signal() < 0:
            raise failed(ffi.errno)

    def unblock_signals(self) -> None:
        lib.pf_worker_unblock(self._worker)

    def ready(self) -> None:
        call(lib.pf_worker_ready, self._worker)

    def failed(self, data: bytes) -> None:
        call(lib.pf_worker_failed, self._worker, data, len(data))

    def serve_next(self) -> bool:
        while True:
            result, error = next(self._claims)
            if result == 1:
                break
            if result < 0:
                if error == errno.ESHUTDOWN:
                    return False
                raise refused(error)
            self._wait(lib.pf_worker_wait)
        outcome = codec.run_call(self._body, self._call, self._pid)
        self._deliver(*outcome)
        return True

    def _body(self) -> bytes:
        body, size = self._claim.body, self._claim.size
        if not body and size:
            raise MemoryError(f"there is no room for {size} bytes of arguments")
        return bytes_at(body, size)

    # Every handler that is due is called before we sleep: those that come due before signals are
    # held are called with these held. However that ends, the destructor lets them go.
    def _wait(self, until: Callable[[Any], int]) -> None:
        mine = (self._worker,)
        result, error = next(
            map(
                itemgetter(3, 4),
                zip(
                    map(lib.pf_worker_hold_signals, mine),
                    map(ffi.gc, mine, (lib.pf_worker_release_signals,)),
                    map(hear, mine),
                    map(until, mine),
                    errno_now,
                    strict=False,
                ),
            )
        )
        if result < 0 and error != errno.EINTR:
            raise refused(error)

    def _deliver(self, outcome: int, data: bytes) -> None:
        self._current = None
        place = ffi.from_buffer(data)  # which must stay where it is
        try:
            while call(lib.pf_worker_deliver, self._worker, outcome, place, len(data)):
                self._wait(lib.pf_worker_wait_space)
        except ChildProcessError:
            raise SystemExit(0) from None


@ffi.def_extern(error=-1, onerror=lambda *_: None)  # type: ignore[untyped-decorator]
def fork_with_hooks(_context: Any) -> int:
    """-1 with errno where nothing was forked; nothing is raised, and nothing printed."""
    pid = -1
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            pid = posix.fork()
    except BaseException as error:  # of an audit hook, which may raise anything
        if pid == -1:
            ffi.errno = error.errno if isinstance(error, OSError) and error.errno else errno.EPERM
    return pid


def run_zygote(
    control: int, application: int, worker_main: Callable[[CoreWorker], NoReturn]
) -> NoReturn:
    """Serves the application; returns in no process."""
    try:
        worker = ffi.new("pf_worker **")
        fork = lib.fork_with_hooks
        if lib.pf_zygote_run(control, application, fork, ffi.NULL, worker) == 1:
            worker_main(CoreWorker(worker[0]))
    finally:
        os._exit(0)
