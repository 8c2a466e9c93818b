"""What a scenario has in hand, and the judgement at its end.

A scenario starts a pool, submits victims (tasks that the row is about) and others (which shall not
notice), does its worst, and returns. Then everything is waited for: victims against the row's
expectation, the others by value and by a ledger that each of them signs when it is called. Of
prefork everything is asked; of another pool that a victim has *some* error, or the right value.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from helpers import Gate, alive, asleep, descendants, descriptors, eventually, lines

from . import tasks
from .heard import Heard
from .pools import Adapter
from .row import Expect, Row
from .runner import MARK, arguments_of, command_of, marked

WHATEVER = object()  # a value that is right as long as it comes


class Failure(AssertionError):
    """The row has failed, and this is how."""


def check(right: Any, why: str) -> None:
    if not right:
        raise Failure(why)


def shown(value: Any) -> str:
    """A value, as short as a report wants it."""
    if isinstance(value, (bytes, list)):
        return f"{type(value).__name__} of {len(value)}"
    return f"{value!r:.80}"


class Handle:
    """A task of a scenario, with the value it shall have and the ends it has told of."""

    def __init__(self, name: str, value: Any) -> None:
        self.name = name
        self.value = value
        self.native: Any = None
        self.refused: BaseException | None = None  # what the call raised
        self.told: list[tuple[bool, Any]] = []

    def tell(self, good: bool, what: Any) -> None:
        self.told.append((good, what))


class Stage:
    def __init__(self, row: Row, make: type[Adapter], directory: Path) -> None:
        self.row = row
        self.make = make
        self.strict = make.strict
        self.directory = directory
        self.heard = Heard(directory) if self.strict else None
        self.pool: Any = None
        self.victims: list[Handle] = []
        self.bystanders: list[Handle] = []
        self.ledger = str(directory / "ledger")
        self.seen_pids: set[int] = set()
        self.ignored_descriptors: set[int] = set()
        self._gates: list[Gate] = []
        self._programs: list[subprocess.Popen[Any]] = []
        self._before: dict[int, str] = {}
        self._threads: set[threading.Thread] = set()

    # ---- the pool ----------------------------------------------------------------------------

    def start(self, workers: int | None = None, **options: Any) -> Any:
        """Start the row's pool."""
        self._before = descriptors()
        self._threads = set(threading.enumerate())
        self.workers = self.row.workers if workers is None else workers
        self.pool = self.make(self.workers, **options)
        return self.pool

    @property
    def native(self) -> Any:
        """The pool itself, for rows that need one of its own features."""
        return self.pool.pool

    def is_full(self) -> Any:
        found = self.pool.pids()
        self.seen_pids |= found
        return len(found) == self.workers and all(map(alive, found)) and found

    def full(self) -> set[int]:
        """Wait until every worker is there; their pids."""
        try:
            found: set[int] = eventually(self.is_full, within=10)
        except AssertionError:
            raise Failure(f"not at full strength: {self.pool.describe()}") from None
        return found

    def idle(self) -> set[int]:
        """Wait until every worker is there and waits for work; their pids."""
        if not self.strict:  # which may fork none before the first task
            self.others(4)
            for handle in self.bystanders:
                self.outcome(handle)
        found: set[int] = eventually(
            lambda: (pids := self.is_full()) and all(map(asleep, pids)) and pids
        )
        return found

    # ---- tasks -------------------------------------------------------------------------------

    def submit(self, fn: Any, *args: Any, value: Any = WHATEVER, **limits: Any) -> Handle:
        handle = Handle(fn.__name__, value)
        handle.native = self.pool.submit(fn, args, handle.tell, **limits)
        return handle

    def victim(self, fn: Any, *args: Any, value: Any = WHATEVER, **limits: Any) -> Handle:
        """A task that the row is about."""
        try:
            handle = self.submit(fn, *args, value=value, **limits)
        except Exception as error:
            handle = Handle(fn.__name__, value)
            handle.refused = error
        self.victims.append(handle)
        return handle

    def bystander(self, fn: Any, *args: Any, value: Any, **limits: Any) -> Handle:
        """A task that shall not notice."""
        handle = self.submit(fn, *args, value=value, **limits)
        self.bystanders.append(handle)
        return handle

    def others(self, count: int = 20) -> None:
        """More of them, which sign the ledger."""
        for _ in range(count):
            number = len(self.bystanders)
            self.bystander(tasks.signed_square, self.ledger, number, value=number * number)

    def outcome(self, handle: Handle) -> tuple[Any, BaseException | None]:
        """Wait for a task; its value and its error."""
        if handle.refused is not None:
            self.hears(handle.refused, at_call=True)
            return None, handle.refused
        try:
            return self.pool.wait(handle.native), None
        except BaseException as error:
            self.hears(error)
            return None, error

    def hears(self, error: BaseException | None, at_call: bool = False) -> None:
        """An error that docs/failures.md shall show."""
        if self.heard is not None and error is not None:
            self.heard.error(error, at_call)

    def refused(self, call: Callable[[], Any]) -> str:
        """The name of what a call raises; "" for nothing."""
        try:
            call()
        except Exception as error:
            self.hears(error, at_call=True)
            return type(error).__name__
        return ""

    def writes_down(self) -> None:
        """What this process of the row has heard."""
        if self.heard is not None:
            self.heard.write()

    def accepted(self, handle: Handle) -> int:
        """Wait until prefork has a worker that runs the task; its pid."""
        pid: int = eventually(lambda: handle.native.pid)
        return pid

    # ---- what scenarios do it with -----------------------------------------------------------

    def gate(self) -> Gate:
        """A place for tasks to wait at."""
        gate = Gate(self.directory, f"gate{len(self._gates)}")
        self._gates.append(gate)
        return gate

    def path(self, name: str) -> str:
        return str(self.directory / name)

    def kill(self, pid: int, number: int = signal.SIGKILL) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)

    def launch(self, program: str, *args: str, **options: Any) -> subprocess.Popen[str]:
        """Another application with a pool: a function of killmatrix.programs."""
        command = [sys.executable, "-X", "faulthandler", "-m", "killmatrix.perform", "--program"]
        command += [program, self.row.name, self.make.name, str(self.directory), *args]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, **options)
        self._programs.append(process)
        return process

    def assassin(self, pid: int, counter: str, size: int) -> subprocess.Popen[str]:
        """A process that kills `pid` half-way through reading or writing so many bytes."""
        process = subprocess.Popen(
            [sys.executable, "-m", "killmatrix.assassin", str(pid), counter, str(size)],
            stdout=subprocess.PIPE,
            text=True,
        )
        self._programs.append(process)
        assert process.stdout is not None
        check(process.stdout.readline() == "ready\n", "the assassin is not ready")
        return process

    def nothing_is_left(self) -> None:
        """Wait until nothing is there that has come of this row, but for us."""
        try:
            eventually(lambda: not self._left(), within=5)
        except AssertionError:
            left = sorted(command_of(pid) for pid in self._left())
            raise Failure(f"left: {', '.join(left)}") from None

    def _left(self) -> set[int]:
        left = marked(os.environ[MARK]) - {os.getpid()}
        if self.strict:
            return left
        return {
            pid for pid in left if "resource_tracker" not in arguments_of(pid)
        }  # its own affair

    def end_others(self) -> None:
        """End whatever has come of this row, but for us."""
        mark = os.environ[MARK]
        while left := marked(mark) - {os.getpid()}:
            for pid in left:
                self.kill(pid)

    @contextlib.contextmanager
    def handling(self, number: int, handler: Any) -> Iterator[None]:
        """The application's handler of a signal, for a while."""
        previous = signal.signal(number, handler)
        try:
            yield
        finally:
            signal.signal(number, previous)

    # ---- judgement ---------------------------------------------------------------------------

    def judge(self, handle: Handle, expect: Expect) -> None:
        """Wait for a victim, and hold its end against what was to be expected."""
        value, error = self.outcome(handle)
        who = handle.name
        if error is None:
            right = handle.value is WHATEVER or value == handle.value
            check(right, f"{who} gave {shown(value)}, not {shown(handle.value)}")
            check(not self.strict or not expect.error, f"{who} gave {shown(value)}, not {expect}")
            return
        if self.strict:
            self._judge_strictly(handle, error, expect)

    def _judge_strictly(self, handle: Handle, error: BaseException, expect: Expect) -> None:
        who, kind = handle.name, type(error)
        try:
            text = str(error)
        except Exception as unspeakable:
            text = f"unspeakable: {unspeakable!r}"
        names = [parent.__name__ for parent in kind.__mro__ if parent is not BaseException]
        check(
            expect.error == kind.__name__
            or (not kind.__module__.startswith("prefork") and expect.error in names),
            f"{who} ended with {kind.__name__}({text:.200}), not with {expect}",
        )
        check((handle.refused is not None) == expect.at_call, f"{who}: raised at the wrong place")
        for name, value in expect.attributes.items():
            found = getattr(error, name, "missing")
            check(found == value, f"{who}: {kind.__name__}.{name} is {found!r}, not {value!r}")
        check(expect.words in text, f"{who}: {text!r} does not say {expect.words!r}")
        cause = type(error.__cause__).__name__
        check(not expect.cause or cause == expect.cause, f"{who}: its cause is {cause}")
        if hasattr(error, "task_id"):
            self._judge_facts(handle, error)

    def _judge_facts(self, handle: Handle, error: Any) -> None:
        """What every error of a task that did not end by itself tells."""
        check(error.task_id == handle.native.id, f"{handle.name}: task_id is {error.task_id}")
        check(error.task_name == handle.name, f"{handle.name}: task_name is {error.task_name}")
        if type(error).__name__ == "QueueTimeout":
            return
        begun = "had not begun" not in str(error)
        check(bool(error.pid) == begun, f"{handle.name}: pid is {error.pid}")
        check(not begun or str(error.pid) in str(error), f"{handle.name}: {error} names no pid")
        check(error.pid not in (os.getpid(), 0), f"{handle.name}: pid is our own")
        check((error.runtime is not None) == begun, f"{handle.name}: runtime is {error.runtime}")

    def settle(self) -> None:
        """Wait for everything that was submitted."""
        for handle in self.victims:
            self.judge(handle, self.row.expect)
        for handle in self.bystanders:
            value, error = self.outcome(handle)
            check(error is None, f"another task failed: {error!r:.200}")
            right = handle.value is WHATEVER or value == handle.value
            check(right, f"another task gave {shown(value)}, not {shown(handle.value)}")
        signed = Counter(lines(self.ledger))
        count = sum(handle.name == "signed_square" for handle in self.bystanders)
        check(len(signed) == count, f"{len(signed)} of {count} other tasks were called")
        check(set(signed.values()) <= {1}, f"called more than once: {signed.most_common(3)}")

    def afterwards(self) -> None:
        """The pool goes on, and ends with nothing left."""
        self.settle()
        self.others(10)
        self.settle()
        if self.strict:
            self._at_strength()
            self.pool.stop()
            self._ended()

    def ended(self) -> None:
        """The scenario has ended the pool: nothing is left."""
        self.settle()
        if self.strict:
            self._ended()

    def _at_strength(self) -> None:
        self.full()
        if self.row.spares:  # one that is about to end is not idle yet
            self.idle()
        pool = self.native
        check(pool.state == "running", f"the pool is {pool.state}")
        check(pool.did_start_ok(), "the pool says that it did not start well")
        stats = pool.stats
        check(stats["application_forks"] == 1, "the application has forked again")
        spared = not self.row.spares or not stats["workers_exited"]
        check(spared, f"{stats['workers_exited']} workers have ended")
        check(not stats["tasks_unfinished"] and not stats["tasks_queued"], f"left over: {stats}")

    def _ended(self) -> None:
        pool = self.native
        check(pool.state == "stopped", f"the pool is {pool.state}")
        stats = pool.stats
        ends = ("succeeded", "failed", "lost", "timed_out", "cancelled")
        total = sum(stats[f"tasks_{end}"] for end in ends)
        check(total == stats["tasks_submitted"] == self.pool.submitted, f"miscounted: {stats}")
        check(self.pool.slots.count == total, f"{self.pool.slots.count} slots for {total} tasks")
        for handle in self.victims + self.bystanders:
            if handle.refused is None:
                wanted = 0 if handle.native.cancelled() else 1
                eventually(lambda h=handle, n=wanted: len(h.told) >= n)
                check(len(handle.told) == wanted, f"{handle.name} told of {len(handle.told)} ends")
        self._nothing_left()

    def _nothing_left(self) -> None:
        for gate in self._gates:
            gate.close()
        self._gates.clear()
        for process in self._programs:
            process.kill()
            process.communicate()
        eventually(lambda: not descendants(os.getpid()), within=10)
        check(not set(threading.enumerate()) - self._threads, f"threads: {threading.enumerate()}")
        after = descriptors()
        left = {
            fd: what
            for fd, what in after.items()
            if self._before.get(fd) != what and fd not in self.ignored_descriptors
        }
        check(not left, f"descriptors left: {left}")


Scenario = Callable[[Stage], None]
