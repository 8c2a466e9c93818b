"""What is measured, and what is allowed. Every figure is a ratio within one round."""

from __future__ import annotations

import os
import random
import signal
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import tasks
from celery.result import AsyncResult
from measured import PATIENCE, Broker, Footprint, Worker, until, worker

Submit = Callable[[], None]

FEW, MANY = 2, 10  # processes
PHASE = (
    5.0  # seconds; how often the stock pool looks for what is lost, so no kill is in step with it
)
FIRST = 200  # tasks, so that what is made at the first of them is there


@dataclass(frozen=True)
class Size:
    """What a worker takes."""

    main: Footprint
    child: Footprint  # the mean of the processes that do tasks
    pss: int  # KiB, of all its processes

    @staticmethod
    def of(one: Worker) -> Size:
        return Size(
            Footprint.of(one.program.pid),
            Footprint.mean([Footprint.of(pid) for pid in one.children()]),
            sum(Footprint.of(pid).pss for pid in (one.program.pid, *one.others())),
        )


@dataclass(frozen=True)
class Run:
    """One load, done by one worker."""

    seconds: float  # for a task, from the end of the warm-up to the last task's end
    cpu: float  # seconds on processors for a task: of the main process
    cpu_others: float  # of all others
    size: Size


@dataclass(frozen=True)
class Load:
    """Messages in a queue; the first so many are for warming up."""

    name: str
    warm_up: int
    submit: Submit


def run(load: Load, count: int, pool: str, broker: Broker, directory: Path) -> Run:
    """Start a worker on a full queue, and watch it do `count` tasks."""
    broker.fill(pool, load.name)
    with worker(pool, broker, directory) as one:
        one.until_done(load.warm_up)
        began, before, done_before = time.monotonic(), one.cpu(), one.board.done
        one.until_done(count)
        seconds, after = time.monotonic() - began, one.cpu()
        _check(one, count, broker)
        counted = count - done_before
        return Run(
            seconds / counted,
            (after[0] - before[0]) / counted,
            (after[1] - before[1]) / counted,
            Size.of(one),
        )


def _check(one: Worker, count: int, broker: Broker) -> None:
    """Each task was done once, where it should be, and the broker has nothing more."""
    until(lambda: broker.left(one.pool) == 0, "messages are left")
    total = sum(one.stats()["total"].values())
    if (total, one.board.done) != (count, count):
        raise RuntimeError(f"{count} tasks: the worker knows of {total}, done are {one.board.done}")
    if one.pool in ("prefork", "stock"):
        # Not that each process did some: one that is quick enough may do them all.
        processes = len(one.children())
        if processes != FEW or one.board.done_in_main:
            raise RuntimeError(
                f"{FEW} processes were to do the tasks, not {processes}; "
                f"{one.board.done_in_main} were done in the main one"
            )


@dataclass(frozen=True)
class Growth:
    """Of a worker that has done a few tasks: with `FEW` processes, and with `MANY`."""

    few: Size
    many: Size

    @property
    def descriptors(self) -> float:
        """Of the main process, for each process more."""
        return (self.many.main.descriptors - self.few.main.descriptors) / (MANY - FEW)

    @property
    def pss(self) -> float:
        """KiB of all processes together, for each process more."""
        return (self.many.pss - self.few.pss) / (MANY - FEW)


def growth(pool: str, broker: Broker, directory: Path) -> Growth:
    sizes = []
    for processes in (FEW, MANY):
        with worker(pool, broker, directory, processes) as one:
            for _ in range(FIRST):
                one.send(tasks.noop)
            one.until_done(FIRST)
            sizes.append(Size.of(one))
    return Growth(*sizes)


# ---- how long failures take ----------------------------------------------------------------------


@dataclass(frozen=True)
class Failures:
    """Seconds until the caller sees FAILURE."""

    call: float  # of a task that raises: since it was sent
    error: float  # since it raised
    loss: float  # of a task whose process is killed: since the kill


def failures(pool: str, broker: Broker, directory: Path, looped: bool) -> Failures:
    with worker(pool, broker, directory, looped=looped) as one:
        _fails(one.send(tasks.fail), "ValueError")  # what is made at the first is there then
        sent = time.monotonic_ns()
        _fails(one.send(tasks.fail), "ValueError")
        seen = time.monotonic_ns()
        raised = one.board.at
        return Failures((seen - sent) / 1e9, (seen - raised) / 1e9, _loss(one))


def _loss(one: Worker) -> float:
    busy = one.send(tasks.spin)
    pid = until(lambda: one.board.pid, "the task does not begin")
    time.sleep(random.uniform(0, PHASE))
    killed = time.monotonic_ns()
    os.kill(pid, signal.SIGKILL)
    _fails(busy, "WorkerLostError")
    return (time.monotonic_ns() - killed) / 1e9


def _fails(result: AsyncResult, name: str) -> None:
    error = result.get(timeout=PATIENCE, propagate=False)
    if result.state != "FAILURE" or type(error).__name__ != name:
        raise RuntimeError(f"{name} was to come, and not {result.state} {error!r}")


# ---- ratios --------------------------------------------------------------------------------------

Rounds = (
    list[dict[str, float]]
    | list[dict[str, Run]]
    | list[dict[str, Growth]]
    | list[dict[str, Failures]]
)


@dataclass(frozen=True)
class Ratio:
    """Of each round; its median is held against a bound. `aim`: told, not judged."""

    text: str
    of: Callable[..., float]  # of a round: what each pool has measured
    least: float | None = None
    most: float | None = None
    aim: bool = False

    def told(self, rounds: Rounds) -> tuple[str, bool]:
        """A line, and whether the bound is held."""
        found = sorted(self.of(one) for one in rounds)
        median = statistics.median(found)
        held = (self.least is None or median >= self.least) and (
            self.most is None or median <= self.most
        )
        line = f"  {self.text:58} {median:7.3f}  ({found[0]:.3f} to {found[-1]:.3f})"
        if self.least is not None:
            line += f"  at least {self.least:g}"
        if self.most is not None:
            line += f"  at most {self.most:.3g}"
        if self.least is not None or self.most is not None:
            line += ": held" if held else ": missed, not judged" if self.aim else ": MISSED"
        return line, held or self.aim


def noop_ratios() -> list[Ratio]:
    return [
        Ratio(
            "the pool's own CPU in the main process, ours/stock",
            lambda r: (r["prefork"].cpu - r["null"].cpu) / (r["stock"].cpu - r["null"].cpu),
            most=1 / 3,
        ),
        Ratio("tasks a second, ours/stock", _faster("stock", "prefork"), least=1.12),
        Ratio("tasks a second, ours/null", _faster("null", "prefork"), least=0.9, aim=True),
        Ratio("tasks a second, stock/null", _faster("null", "stock")),
        Ratio("CPU of all processes, ours/stock", _whole("prefork", "stock")),
    ]


def alone_ratios(what: str) -> list[Ratio]:
    return [
        Ratio(
            f"the pool's own {what} for a job, ours/stock",
            lambda r: (r["prefork"] - r["null"]) / (r["stock"] - r["null"]),
            most=1 / 3,
            aim=True,
        )
    ]


def size_ratios() -> list[Ratio]:
    return [
        Ratio(
            "private memory of a child, ours/stock",
            lambda r: r["prefork"].many.child.private / r["stock"].many.child.private,
            most=1,
        ),
        Ratio(
            "PSS of a child, ours/stock",
            lambda r: r["prefork"].many.child.pss / r["stock"].many.child.pss,
            most=1,
        ),
        Ratio(
            f"PSS of all processes, zygotes too, -c {FEW}, ours/stock",
            lambda r: r["prefork"].few.pss / r["stock"].few.pss,
        ),
        Ratio(
            f"PSS of all processes, zygotes too, -c {MANY}, ours/stock",
            lambda r: r["prefork"].many.pss / r["stock"].many.pss,
        ),
        Ratio(
            "PSS of all, for each process more, ours/stock",
            lambda r: r["prefork"].pss / r["stock"].pss,
        ),
        Ratio(
            f"private memory of the main process, -c {MANY}, ours/stock",
            lambda r: r["prefork"].many.main.private / r["stock"].many.main.private,
            most=1,
        ),
        Ratio(
            "descriptors of a child, ours/stock",
            lambda r: r["prefork"].many.child.descriptors / r["stock"].many.child.descriptors,
            most=1,
        ),
        Ratio(
            "descriptors of the main process, for each process more",
            lambda r: r["prefork"].descriptors / r["stock"].descriptors,
            most=1,
        ),
        Ratio(
            f"descriptors of the main process, -c {FEW}, ours/stock",
            lambda r: r["prefork"].few.main.descriptors / r["stock"].few.main.descriptors,
            most=1,
            aim=True,
        ),
        Ratio(
            f"descriptors of the main process, -c {MANY}, ours/stock",
            lambda r: r["prefork"].many.main.descriptors / r["stock"].many.main.descriptors,
            most=1,
        ),
    ]


def mix_ratios() -> list[Ratio]:
    return [
        # Two pools that are as fast as each other are not so to the last percent in each run.
        Ratio("speed, ours/stock (not slower: 2 % are noise)", _faster("stock", "prefork"), 0.98),
        Ratio("CPU of all processes, ours/stock", _whole("prefork", "stock")),
    ]


def failure_ratios() -> list[Ratio]:
    """In an event loop the stock pool hears of most losses at once, and of others when it looks,
    every five seconds; without one it believes in a loss after `worker_lost_wait` (10 s)."""
    return [
        Ratio(
            "kill to FAILURE, beside a call of a failing task",
            lambda r: r["prefork"].loss / r["prefork"].call,
            most=5,
        ),
        Ratio(
            "kill to FAILURE, beside a failing task's raise to FAILURE",
            lambda r: r["prefork"].loss / r["prefork"].error,
            most=5,
        ),
        Ratio(
            "kill to FAILURE, ours/stock",
            lambda r: r["prefork"].loss / r["stock"].loss,
            most=1 / 50,
        ),
    ]


def _faster(slow: str, fast: str) -> Callable[[dict[str, Run]], float]:
    return lambda r: r[slow].seconds / r[fast].seconds


def _whole(one: str, other: str) -> Callable[[dict[str, Run]], float]:
    return lambda r: (r[one].cpu + r[one].cpu_others) / (r[other].cpu + r[other].cpu_others)
