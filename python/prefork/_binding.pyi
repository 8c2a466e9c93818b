"""The contract of both bindings, _cython.pyx and _cffi.py: what a CorePool and a CoreWorker can do,
in Python's types. tests/test_bindings.py compares.

Errors of the core are raised as OSError with its errno (prefork.h names them).
"""

from collections.abc import Callable
from typing import Any, NoReturn

from .delivery import Delivery
from .submitting import Submitting
from .task import Task

Notes = tuple[int, float, int, list[tuple[int, float, int]]]
"""generation, since, pid, and for each note: type, at (monotonic seconds), value"""

Event = tuple[
    int, int, int, int, int, int, int, float,
    bytes | None, int, int, bytes | None, Notes | None, int,
]  # fmt: skip
"""type, outcome, task id, slot, pid, status, zygote_lost, at (monotonic seconds), data, peak_rss,
memory, output, the worker's notes, how often the task was told of its soft limit"""

SOFT_SIGNAL: int
STACKS_SIGNAL: int

class TaskState:
    """What every task has; the rest of it is in task.py."""

    _pool: Submitting
    _name: str
    _correlation_id: str | None
    _limit: float | None
    _state: str  # in the words of concurrent.futures
    _is_plain: bool  # nobody wants to be told of its end: the binding may settle it
    _data: bytes | None  # the result of such a one, for whoever asks first
    _result: Any
    _exception: BaseException | None
    _slot: list[bool] | None  # of the pool's own, where tasks take one
    _number: int  # the core's
    _accepted_by: int  # the worker's pid
    def __init__(
        self, pool: Submitting, name: str, correlation_id: str | None, limit: float | None = None
    ) -> None: ...
    def has_value(self) -> bool:
        """Whether it has ended with one that is in _result; a plain one is unpickled now."""

class CorePool:
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
    ) -> None: ...
    def zygote_prepare(self, prepared: list[int]) -> None:
        """Into a list of the caller's: no signal handler finds every signal blocked, and nobody who
        knows of it."""
    def zygote_started(self, pid: int) -> None: ...
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
    ) -> None: ...
    def submit_call(
        self,
        kind: type[Task[Any]],
        pool: Submitting,
        delivery: Delivery,
        target: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any] | None,
    ) -> Task[Any] | None:
        """A new task for a call, without limits or callbacks; None if the pool takes no more. Also
        raises what pickling raises."""
    def poll(self, timeout: float | None, rouses: int, delivery: Delivery) -> int: ...
    def rouses(self) -> int: ...
    def rouse(self) -> None: ...
    def remind(self) -> None: ...
    def fd(self) -> int: ...
    def drive_in_background(self) -> None: ...
    def wait_gathered(self) -> None: ...
    def rouse_gatherer(self) -> None: ...
    def cancel(self, task: int) -> bool: ...
    def kill_task(self, task: int, signal: int) -> bool: ...
    def kill_job(self, pid: int, signal: int) -> bool: ...
    def interrupt_task(self, task: int) -> bool: ...
    def permit_spawn(self) -> None: ...
    def resize(self, workers: int) -> None: ...
    def close(self) -> None: ...
    def retire(self, at_once: bool) -> None: ...
    def terminate(self, signal: int, grace: float) -> None: ...
    def shut_down(self) -> None: ...
    def describe(self) -> dict[str, int]: ...
    def workers(self) -> list[tuple[int, int, int, int, int, float, int]]: ...
    def history(self, slot: int) -> Notes: ...
    def find_task(self, task: int) -> int: ...

class CoreWorker:
    @property
    def slot(self) -> int: ...
    @property
    def generation(self) -> int: ...
    @property
    def crash_log(self) -> int: ...
    @property
    def captures(self) -> bool: ...
    @property
    def current(self) -> tuple[Callable[..., Any], Any, int, float, int] | None:
        """The call that is made now: its function, correlation id and task, when it began
        (monotonic seconds), and how often a worker was lost in it."""
    def take_soft_limit(self) -> float | None:
        """The seconds that are up, 0 if none are, None if the task is interrupted."""
    def extend(self, seconds: float) -> None: ...
    def answer_stacks_signal(self) -> None: ...
    def unblock_signals(self) -> None: ...
    def ready(self) -> None: ...
    def failed(self, data: bytes) -> None: ...
    def serve_next(self) -> bool:
        """Claims a call, makes it, and delivers its outcome. False: there is nothing more to do.
        Raises SystemExit in a fork of the worker, which has nothing more to do, and what a signal
        handler raises outside of the call."""

def call_once(
    called: dict[str, Any], name: str, function: Callable[..., object], *args: object
) -> None: ...
def call_first(functions: list[Callable[[Any], object]], arg: object) -> None: ...
def call_each(
    target: Callable[..., Any],
    star: bool,
    items: list[Any],
    results: list[Any],
    until: float,
) -> None: ...
def read_history(fd: int, slot: int) -> Notes: ...
def run_zygote(
    control: int, application: int, worker_main: Callable[[CoreWorker], NoReturn]
) -> NoReturn: ...
