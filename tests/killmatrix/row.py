"""What a row of the matrix is: which clause it stands for, what shall happen, and how to bring it
about."""

from __future__ import annotations

import importlib
import signal
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

TOPICS = {
    "ends": "how a worker ends",
    "moments": "when a worker ends",
    "deeds": "what a task does to its process",
    "values": "arguments, results, exceptions",
    "application": "what becomes of the application",
    "callbacks": "its callbacks",
    "surroundings": "signals, limits and neighbours of the application",
    "zygotes": "zygote and process group",
    "limits": "limits, ending one task",
    "recovery": "retries, initializers, recycling, errors",
    "lifecycle": "life cycle under fire",
}


@dataclass(frozen=True)
class Expect:
    """How the tasks that a row is about end, when the pool is prefork: the class of their error
    ("" for the right value), its attributes, words of its message, the type of its cause."""

    error: str = ""
    attributes: dict[str, Any] = field(default_factory=dict)
    words: str = ""
    cause: str = ""
    at_call: bool = False  #: raised by the call that submits it
    text: str = ""  #: what documents say of it, if it differs between versions of Python

    def __str__(self) -> str:
        if self.text:
            return self.text
        parts = [self.error or "the right value"]
        parts += [f"{name}={value!r}" for name, value in self.attributes.items()]
        parts += [f"says {self.words!r}"] if self.words else []
        parts += [f"from {self.cause}"] if self.cause else []
        return " ".join(parts) + (" at the call" if self.at_call else "")


VALUE = Expect()


def raised(error: str, words: str = "", **attributes: Any) -> Expect:
    """What the task raised comes out."""
    return Expect(error, attributes, words, cause="RemoteError")


def killed(number: signal.Signals, words: str = "", **attributes: Any) -> Expect:
    name = signal.Signals(number).name
    facts = {"signal": int(number), "signal_name": name, "exitcode": -int(number)}
    return Expect("WorkerKilled", {**facts, **attributes}, words)


def exited(code: int) -> Expect:
    return Expect("WorkerExited", {"exitcode": code, "signal": None}, f"code {code}")


@dataclass(frozen=True)
class Row:
    """One row. `needs`: features that a pool must have for the row to make sense for it."""

    name: str
    clause: str
    topic: str
    scenario: Callable[[Any], None]
    expect: Expect
    after: str = "at full strength"  #: the pool: that, "ended", or "none" (the row has its own)
    needs: tuple[str, ...] = ()
    limit: float = 20.0  #: seconds; more is a hang
    workers: int = 2
    spares: bool = False  #: no worker ends by it


ROWS: dict[str, Row] = {}


def add(row: Row) -> None:
    assert row.name not in ROWS, row.name
    ROWS[row.name] = row


def row(clause: str, expect: Expect = VALUE, **options: Any) -> Callable[..., Any]:
    """A scenario, named as its function is."""

    def made(scenario: Callable[[Any], None]) -> Callable[[Any], None]:
        name = scenario.__name__.replace("_", "-")
        topic = scenario.__module__.rpartition("rows_")[2]
        add(Row(name, clause, topic, scenario, expect, **options))
        return scenario

    return made


def deed(name: str, clause: str, topic: str, expect: Expect, *call: Any, **options: Any) -> None:
    """The commonest row: one task among others that does something terrible."""
    started = {k: options.pop(k) for k in ("initializer", "initargs") if k in options}

    def scenario(stage: Any) -> None:
        stage.start(**started)
        stage.others()
        stage.victim(*call)
        stage.others()

    add(Row(name, clause, topic, scenario, expect, **options))


# Rows that prefork does not pass yet, and why. They run, and are reported; the others must pass.
FAILING: dict[str, str] = {}


def all_rows() -> dict[str, Row]:
    """Every row, in the order of the topics."""
    for topic in TOPICS:
        importlib.import_module(f"killmatrix.rows_{topic}")
    return ROWS
