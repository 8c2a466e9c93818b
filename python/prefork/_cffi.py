"""The binding by cffi: converts, calls, checks, converts. What it says is _binding.pyi.

A signal handler may come between any two lines of Python, and raise. Steps between which none may
come are taken within one call into C, as `_at_once` or `next` of iterators that are in C, too.
What is to be undone when such a call ends, however it does, is the destructor of an object that
nothing but the call's own arguments refers to.
"""

from __future__ import annotations

import contextlib
import errno
import os
import posix
import warnings
from collections import deque
from collections.abc import Callable, Iterator
from functools import partial
from itertools import chain, compress, islice, repeat, starmap
from operator import attrgetter, is_, itemgetter
from typing import TYPE_CHECKING, Any, NoReturn

from ._cffi_core import ffi, lib

if TYPE_CHECKING:
    from ._binding import Event, Notes
    from .delivery import Delivery
    from .task import Task

MOST_WORKERS = 4095

SOFT_SIGNAL: int = lib.PF_SOFT_SIGNAL
STACKS_SIGNAL: int = lib.PF_STACKS_SIGNAL

_at_once = deque[Any](maxlen=0).extend  # takes all that an iterator has, and keeps nothing
_errno: Iterator[int] = map(getattr, repeat(ffi), repeat("errno"))  # what it is when asked

_event_fields = attrgetter(
    "type", "outcome", "task", "slot", "pid", "status", "zygote_lost", "at", "data", "size",
    "peak_rss", "memory", "output", "output_size", "history", "softened",
)  # fmt: skip
_Batch = ffi.typeof(f"pf_event[{lib.BATCH}]")
_info_fields = [name for name, _ in ffi.typeof("pf_pool_info").fields]


def _hear(_: object) -> None:
    """As a function is entered the handlers that are due are called."""


def _failed(error: int) -> OSError:
    return OSError(error, os.strerror(error))


def _in_turn(first: Iterator[Any], *others: Iterator[Any]) -> int:
    """Takes all they have, at once. errno as it was after the first."""
    error: list[int] = []
    _at_once(chain(first, map(error.append, islice(_errno, 1)), *others))
    return error[0]


def _call(function: Callable[..., int], *args: Any) -> int:
    """The one place that turns -1 into an exception; a handler may use the core before that."""
    result, error = next(zip(map(function, *zip(args)), _errno, strict=False))
    if result < 0:
        raise _failed(error)
    return result


def _nanoseconds(timeout: float | None) -> int:
    if timeout is None:
        return -1
    seconds = float(timeout)
    if not seconds > 0:  # nor is "not a number"
        return 0
    return round(seconds * 1e9) if seconds < 9e9 else -1


def _bytes_at(place: Any, size: int) -> bytes:
    found: bytes = ffi.buffer(place, size)[:] if size else b""
    return found


def _notes_of(history: Any) -> Notes:
    notes = [(n.type, n.at * 1e-9, n.value) for n in history.notes[0 : history.count]]
    return history.generation, history.since * 1e-9, history.pid, notes


def _as_tuple(event: Any) -> Event:
    (
        kind, outcome, task, slot, pid, status, zygote_lost, at, data_at, size,
        peak_rss, memory, output_at, output_size, history, softened,
    ) = _event_fields(event)  # fmt: skip
    data = output = None
    if data_at:
        try:
            data = _bytes_at(data_at, size)
        except MemoryError:
            if outcome == lib.PF_OK:
                outcome = lib.PF_ERROR
    if output_at:
        with contextlib.suppress(MemoryError):
            output = _bytes_at(output_at, output_size)
    notes = _notes_of(history) if history else None
    return (
        kind, outcome, task, slot, pid, status, zygote_lost, at * 1e-9, data,
        peak_rss, memory, output, notes, softened,
    )  # fmt: skip


class CorePool:
    __slots__ = ("_pool", "_taken", "remind", "rouse", "rouse_gatherer", "rouses")

    # Called also where a handler has raised: these are in C, and none can come before they begin.
    rouses: Callable[[], int]
    rouse: Callable[[], None]
    remind: Callable[[], None]
    rouse_gatherer: Callable[[], None]

    def __init__(
        self,
        workers: int,
        tasks: int,
        age: float,
        memory: int,
        memory_limit: int,
        jitter: float,
        term_grace: float,
        capture_output: bool,
        ask_to_spawn: bool,
    ) -> None:
        options = ffi.new("pf_options *")
        options.workers = workers
        options.tasks_per_worker = tasks
        options.age_per_worker = _nanoseconds(min(age, 1e9))
        options.memory_per_worker = memory
        options.memory_limit = memory_limit
        options.jitter = int(jitter * 1000)
        options.term_grace = int(term_grace * 1e9)
        options.capture_output = capture_output
        options.ask_to_spawn = ask_to_spawn
        pools: list[Any] = []
        made = filter(None, map(lib.pf_pool_new, (options,)))
        error = _in_turn(map(pools.append, map(ffi.gc, made, (lib.pf_pool_free,))))
        if not pools:
            raise _failed(error)
        self._pool = pools[0]
        self._taken: dict[Any, int] = {}  # batches of events: how many
        self.rouses = partial(lib.pf_pool_rouses, self._pool)
        self.rouse = partial(lib.pf_pool_rouse, self._pool)
        self.remind = partial(lib.pf_pool_remind, self._pool)
        self.rouse_gatherer = partial(lib.pf_pool_rouse_gatherer, self._pool)

    def zygote_prepare(self, prepared: list[int]) -> None:
        fds = filter((-1).__ne__, map(lib.pf_pool_zygote_prepare, (self._pool,)))
        error = _in_turn(map(prepared.append, fds))
        if not prepared:
            raise _failed(error)

    def zygote_started(self, pid: int) -> None:
        _call(lib.pf_pool_zygote_started, self._pool, pid)

    # Kept where its end is looked for within one call into C, so that no signal handler that raises
    # can come in between. An end that another thread has met already is to be applied again.
    def submit(
        self,
        kept: Task[Any],
        delivery: Delivery,
        body: bytes,
        tell: bool,
        soft_limit: float,
        limit: float,
        queue_limit: float,
        retries: int,
    ) -> None:
        pool, options = self._pool, ffi.NULL
        if tell or soft_limit or limit or queue_limit or retries:
            limits = map(_nanoseconds, (soft_limit, limit, queue_limit))
            options = ffi.new("pf_task_options *", (tell, retries, *limits))
        number: list[int] = []  # or none, and then nothing comes of what follows
        given = map(lib.pf_pool_submit, (pool,), (body,), (len(body),), (options,), (1,))
        early = filter(None, map(delivery.early.pop, number, (None,)))
        error = _in_turn(
            map(number.append, filter(None, given)),
            map(setattr, (kept,), ("_number",), number),
            map(delivery.tasks.__setitem__, number, (kept,)),
            zip(
                map(delivery.events.append, early),
                map(lib.pf_pool_rouse, (pool,)),
                map(lib.pf_pool_rouse_gatherer, (pool,)),
                strict=False,
            ),
        )
        if not number:
            raise _failed(error)

    # What was taken is noted within one call into C. It is converted then, by whoever polls next
    # where a handler has broken that off; nobody waits before it is.
    def poll(self, timeout: float | None, rouses: int, found: deque[Event]) -> int:
        ns = 0 if self._taken else _nanoseconds(timeout)
        events = ffi.gc(ffi.new(_Batch), lib.clear_batch)
        calls = map(lib.pf_pool_poll, (self._pool,), (events,), (lib.BATCH,), (ns,), (rouses,))
        polled: list[int] = []
        error = _in_turn(
            map(polled.append, calls),
            map(self._taken.__setitem__, (events,), filter((0).__lt__, polled)),
        )
        count = 0
        for batch in list(self._taken):
            count += self._pass_on(batch, found)
        if polled[0] < 0 and error != errno.EINTR:
            raise _failed(error)
        return count

    def _pass_on(self, events: Any, found: deque[Event]) -> int:
        """Several may do so at a time, as a handler that has interrupted us: one of them passes it
        on, and who comes last gives up its memory."""
        count = self._taken.get(events, 0)
        tuples = [_as_tuple(events[i]) for i in range(count)]
        taken = zip(map(self._taken.pop, (events,)), (tuples,), strict=False)
        try:
            found.extend(chain.from_iterable(map(itemgetter(1), taken)))
        except KeyError:
            return 0
        return len(tuples)

    def fd(self) -> int:
        return _call(lib.pf_pool_fd, self._pool)

    def drive_in_background(self) -> None:
        _call(lib.pf_pool_drive_in_background, self._pool)

    def wait_gathered(self) -> None:
        with contextlib.suppress(InterruptedError):
            _call(lib.pf_pool_wait_gathered, self._pool)

    def cancel(self, task: int) -> bool:
        return _call(lib.pf_pool_cancel, self._pool, task) == 1

    def kill_task(self, task: int, signal: int) -> bool:
        return _call(lib.pf_pool_kill_task, self._pool, task, signal) == 1

    def kill_job(self, pid: int, signal: int) -> bool:
        return _call(lib.pf_pool_kill_job, self._pool, pid, signal) == 1

    def interrupt_task(self, task: int) -> bool:
        return _call(lib.pf_pool_interrupt_task, self._pool, task) == 1

    def permit_spawn(self) -> None:
        _call(lib.pf_pool_permit_spawn, self._pool)

    def resize(self, workers: int) -> None:
        _call(lib.pf_pool_resize, self._pool, workers)

    def close(self) -> None:
        _call(lib.pf_pool_close, self._pool)

    def retire(self, at_once: bool) -> None:
        _call(lib.pf_pool_retire, self._pool, at_once)

    def terminate(self, signal: int, grace: float) -> None:
        _call(lib.pf_pool_terminate, self._pool, signal, _nanoseconds(min(grace, 1e9)))

    def shut_down(self) -> None:
        lib.pf_pool_shut_down(self._pool)

    def describe(self) -> dict[str, int]:
        info = ffi.new("pf_pool_info *")
        _call(lib.pf_pool_describe, self._pool, info)
        return {name: getattr(info, name) for name in _info_fields}

    def workers(self) -> list[tuple[int, int, int, int, int, float, int]]:
        workers = ffi.new("pf_worker_info[]", MOST_WORKERS)
        count = _call(lib.pf_pool_list_workers, self._pool, workers, MOST_WORKERS)
        return [
            (w.slot, w.state, w.pid, w.generation, w.task, w.since * 1e-9, w.tasks_done)
            for w in workers[0:count]
        ]

    def history(self, slot: int) -> Notes:
        history = ffi.new("pf_history *")
        _call(lib.pf_pool_history, self._pool, slot, history)
        return _notes_of(history)

    def find_task(self, task: int) -> int:
        return _call(lib.pf_pool_find_task, self._pool, task)


def call_once(
    called: dict[str, Any], name: str, function: Callable[..., object], *args: object
) -> None:
    """Notes that it is called, and calls, or does nothing if that is noted: no handler comes in
    between."""
    mine = object()
    is_first = map(is_, map(called.setdefault, (name,), (mine,)), (mine,))
    try:
        next(starmap(function, compress((args,), is_first)))
    except StopIteration:
        if called.get(name) is mine:  # then it is the function's own
            raise


def call_first(functions: list[Callable[[Any], object]], arg: object) -> None:
    """Takes the first of them and calls it: no handler comes in between."""
    taken: list[None] = []
    remove = map(functions.__delitem__, (0,))
    first = zip(islice(functions, 1), remove, map(taken.append, (None,)), strict=False)
    try:
        next(map(partial.__call__, map(partial, map(itemgetter(0), first)), (arg,)))
    except StopIteration:
        if taken:
            raise


def read_history(fd: int, slot: int) -> Notes:
    history = ffi.new("pf_history *")
    _call(lib.pf_history_read, fd, slot, history)
    return _notes_of(history)


class CoreWorker:
    __slots__ = ("_claim", "_claims", "_worker")

    def __init__(self, worker: Any) -> None:
        self._worker = worker
        self._claim = ffi.new("pf_claim *")
        self._claims = zip(
            map(lib.pf_worker_claim, repeat(worker), repeat(self._claim)), _errno, strict=False
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
    def task(self) -> int:
        return int(self._claim.id)

    @property
    def lost(self) -> int:
        return int(self._claim.lost)

    # From pf_worker_call_begins until the destructor has called pf_worker_call_ends no line of
    # Python runs but the target's, and that of a handler that was due before it: only in there may
    # a signal handler of ours raise, and it asks take_soft_limit.
    def call(
        self, target: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any] | None
    ) -> Any:
        if kwargs:
            target = partial(target, **kwargs)
        interrupted = filter(None, map(lib.pf_worker_call_begins, (self._worker,)))
        begun = chain(map(_hear, interrupted), (None,))
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
        _call(lib.pf_worker_extend, self._worker, _nanoseconds(min(seconds, 1e9)))

    def answer_stacks_signal(self) -> None:
        if lib.pf_worker_answer_stacks_signal() < 0:
            raise _failed(ffi.errno)

    def unblock_signals(self) -> None:
        lib.pf_worker_unblock(self._worker)

    def ready(self) -> None:
        _call(lib.pf_worker_ready, self._worker)

    def failed(self, data: bytes) -> None:
        _call(lib.pf_worker_failed, self._worker, data, len(data))

    def claim(self) -> bytes | None:
        while True:
            result, error = next(self._claims)
            if result == 1:
                body, size = self._claim.body, self._claim.size
                if not body and size > 0:
                    raise MemoryError(f"there is no room for {size} bytes of arguments")
                return _bytes_at(body, size)
            if result < 0:
                if error == errno.ESHUTDOWN:
                    return None
                raise _failed(error)
            self._wait(lib.pf_worker_wait)

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
                    map(_hear, mine),
                    map(until, mine),
                    _errno,
                    strict=False,
                ),
            )
        )
        if result < 0 and error != errno.EINTR:
            raise _failed(error)

    def deliver(self, outcome: int, data: bytes) -> None:
        place = ffi.from_buffer(data)  # which must stay where it is
        while _call(lib.pf_worker_deliver, self._worker, outcome, place, len(data)):
            self._wait(lib.pf_worker_wait_space)


@ffi.def_extern()  # type: ignore[untyped-decorator]
def fork_with_hooks(_context: Any) -> int:
    """-1 with errno where nothing was forked; nothing is raised."""
    pid = -1
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            pid = posix.fork()
    except BaseException as error:  # an audit hook's may be any
        if pid == -1:
            ffi.errno = getattr(error, "errno", None) or errno.EPERM
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
