"""The binding by cffi: converts, calls, checks, converts. What it says is _binding.pyi.

Here is the pool, in _cffi_worker.py the worker; _cffi_steps.py says how signal handlers are kept
from coming between a step and the next.
"""

from __future__ import annotations

import contextlib
import errno
import weakref
from collections import deque
from collections.abc import Callable
from functools import partial
from itertools import chain
from operator import attrgetter, itemgetter
from typing import TYPE_CHECKING, Any

from . import codec
from ._cffi_core import ffi, lib
from ._cffi_steps import bytes_at, call, call_first, call_once, failed, in_turn, nanoseconds
from ._cffi_task import TaskState
from ._cffi_worker import CoreWorker, run_zygote
from .calls import call_each

if TYPE_CHECKING:
    from ._binding import Event, Notes
    from .delivery import Delivery
    from .submitting import Submitting
    from .task import Task

__all__ = [
    "SOFT_SIGNAL",
    "STACKS_SIGNAL",
    "CorePool",
    "CoreWorker",
    "TaskState",
    "call_each",
    "call_first",
    "call_once",
    "read_history",
    "run_zygote",
]

SOFT_SIGNAL: int = lib.PF_SOFT_SIGNAL
STACKS_SIGNAL: int = lib.PF_STACKS_SIGNAL

_event_fields = attrgetter(
    "type", "outcome", "task", "slot", "pid", "status", "zygote_lost", "at", "data", "size",
    "peak_rss", "memory", "output", "output_size", "history", "softened",
)  # fmt: skip
# The garbage collector calls destructors of what is in a cycle in any order, and a pool that nobody
# holds is ended by its own. Until that has been called the core's is held from outside the cycle.
_kept: dict[weakref.ref[CorePool], Any] = {}

_Batch = ffi.typeof(f"pf_event[{lib.BATCH}]")
_info_fields = [name for name, _ in ffi.typeof("pf_pool_info").fields]


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
            data = bytes_at(data_at, size)
        except MemoryError:
            if outcome == lib.PF_OK:
                outcome = lib.PF_ERROR
    if output_at:
        with contextlib.suppress(MemoryError):
            output = bytes_at(output_at, output_size)
    notes = _notes_of(history) if history else None
    return (
        kind, outcome, task, slot, pid, status, zygote_lost, at * 1e-9, data,
        peak_rss, memory, output, notes, softened,
    )  # fmt: skip


class CorePool:
    __slots__ = ("__weakref__", "_pool", "_taken", "remind", "rouse", "rouse_gatherer", "rouses")

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
        options.age_per_worker = nanoseconds(min(age, 1e9))
        options.memory_per_worker = memory
        options.memory_limit = memory_limit
        options.jitter = int(jitter * 1000)
        options.term_grace = int(term_grace * 1e9)
        options.capture_output = capture_output
        options.ask_to_spawn = ask_to_spawn
        pools: list[Any] = []
        made = filter(None, map(lib.pf_pool_new, (options,)))
        error = in_turn(map(pools.append, map(ffi.gc, made, (lib.pf_pool_free,))))
        if not pools:
            raise failed(error)
        self._pool = pools[0]
        self._taken: dict[Any, int] = {}  # batches of events: how many
        _kept[weakref.ref(self, _kept.pop)] = self._pool, self._taken
        self.rouses = partial(lib.pf_pool_rouses, self._pool)
        self.rouse = partial(lib.pf_pool_rouse, self._pool)
        self.remind = partial(lib.pf_pool_remind, self._pool)
        self.rouse_gatherer = partial(lib.pf_pool_rouse_gatherer, self._pool)

    def zygote_prepare(self, prepared: list[int]) -> None:
        fds = filter((-1).__ne__, map(lib.pf_pool_zygote_prepare, (self._pool,)))
        error = in_turn(map(prepared.append, fds))
        if not prepared:
            raise failed(error)

    def zygote_started(self, pid: int) -> None:
        call(lib.pf_pool_zygote_started, self._pool, pid)

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
            limits = map(nanoseconds, (soft_limit, limit, queue_limit))
            options = ffi.new("pf_task_options *", (tell, retries, *limits))
        number: list[int] = []  # or none, and then nothing comes of what follows
        given = map(lib.pf_pool_submit, (pool,), (body,), (len(body),), (options,), (1,))
        early = filter(None, map(delivery.early.pop, number, (None,)))
        try:
            error = in_turn(
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
        except MemoryError:  # the table grows at times, by as much as all of it has
            if number and number[0] not in delivery.tasks:
                kept._number = 0
                delivery.ended.add(number[0])
                self.cancel(number[0])
            raise
        if not number:
            raise failed(error)

    def submit_call(
        self,
        kind: type[Task[Any]],
        pool: Submitting,
        delivery: Delivery,
        target: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any] | None,
    ) -> Task[Any] | None:
        body = codec.encode_call(target, args, kwargs)
        task = kind(pool, codec.name_of(target), None)
        try:
            self.submit(task, delivery, body, False, 0.0, 0.0, 0.0, 0)
        except OSError as error:
            if error.errno not in (errno.ECHILD, errno.ESHUTDOWN):
                raise
            return None
        return task

    # What was taken is noted within one call into C. It is converted then, by whoever polls next
    # where a handler has broken that off; nobody waits before it is.
    def poll(self, timeout: float | None, rouses: int, delivery: Delivery) -> int:
        ns = 0 if self._taken else nanoseconds(timeout)
        events = ffi.gc(ffi.new(_Batch), lib.clear_batch)
        calls = map(lib.pf_pool_poll, (self._pool,), (events,), (lib.BATCH,), (ns,), (rouses,))
        polled: list[int] = []
        error = in_turn(
            map(polled.append, calls),
            map(self._taken.__setitem__, (events,), filter((0).__lt__, polled)),
        )
        count = 0
        for batch in list(self._taken):
            count += self._pass_on(batch, delivery.events)
        if polled[0] < 0 and error != errno.EINTR:
            raise failed(error)
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
        return call(lib.pf_pool_fd, self._pool)

    def drive_in_background(self) -> None:
        call(lib.pf_pool_drive_in_background, self._pool)

    def wait_gathered(self) -> None:
        with contextlib.suppress(InterruptedError):
            call(lib.pf_pool_wait_gathered, self._pool)

    def cancel(self, task: int) -> bool:
        return call(lib.pf_pool_cancel, self._pool, task) == 1

    def kill_task(self, task: int, signal: int) -> bool:
        return call(lib.pf_pool_kill_task, self._pool, task, signal) == 1

    def kill_job(self, pid: int, signal: int) -> bool:
        return call(lib.pf_pool_kill_job, self._pool, pid, signal) == 1

    def interrupt_task(self, task: int) -> bool:
        return call(lib.pf_pool_interrupt_task, self._pool, task) == 1

    def permit_spawn(self) -> None:
        call(lib.pf_pool_permit_spawn, self._pool)

    def resize(self, workers: int) -> None:
        call(lib.pf_pool_resize, self._pool, workers)

    def close(self) -> None:
        call(lib.pf_pool_close, self._pool)

    def retire(self, at_once: bool) -> None:
        call(lib.pf_pool_retire, self._pool, at_once)

    def terminate(self, signal: int, grace: float) -> None:
        call(lib.pf_pool_terminate, self._pool, signal, nanoseconds(min(grace, 1e9)))

    def shut_down(self) -> None:
        lib.pf_pool_shut_down(self._pool)

    def describe(self) -> dict[str, int]:
        info = ffi.new("pf_pool_info *")
        call(lib.pf_pool_describe, self._pool, info)
        return {name: getattr(info, name) for name in _info_fields}

    def workers(self) -> list[tuple[int, int, int, int, int, float, int]]:
        workers = ffi.new("pf_worker_info[]", lib.PF_MOST_WORKERS)
        count = call(lib.pf_pool_list_workers, self._pool, workers, lib.PF_MOST_WORKERS)
        return [
            (w.slot, w.state, w.pid, w.generation, w.task, w.since * 1e-9, w.tasks_done)
            for w in workers[0:count]
        ]

    def history(self, slot: int) -> Notes:
        history = ffi.new("pf_history *")
        call(lib.pf_pool_history, self._pool, slot, history)
        return _notes_of(history)

    def find_task(self, task: int) -> int:
        return call(lib.pf_pool_find_task, self._pool, task)


def read_history(fd: int, slot: int) -> Notes:
    history = ffi.new("pf_history *")
    call(lib.pf_history_read, fd, slot, history)
    return _notes_of(history)
