"""What a row makes the pool say: errors as the application gets them, and lines of the log.

It is kept in tests/killmatrix/ends.json, so what is another's at every run (pids, times, addresses,
directories) has a placeholder. docs/failures.md is made of it.
"""

from __future__ import annotations

import json
import logging
import os
import re
from pathlib import Path
from typing import Any

LONGEST = 1000  # characters of a message that are kept
PLACEHOLDERS = [
    (r"(What happened to the worker last:)(\n +-?\d+\.\d+ s  .*)+", r"\1\n  ..."),
    (r"a new zygote, \d+,", "a new zygote, PID,"),
    (r"at most \d+ in \d+ seconds", "at most N in N seconds"),
    (r"(?:/[\w.+~-]+)+/(?=[\w.+-]+)", ".../"),
    (r"line \d+", "line N"),
    (r"0x[0-9a-f]{6,}", "0x..."),
    (r"\b(worker|zygote)(s?) \d+", r"\1\2 PID"),
    (r"after \d+\.\d+ s", "after T s"),
    (r"\b\d+ KiB", "N KiB"),
    (r"\(slot \d+\)", "(slot N)"),
    (r"\b(in|for) slot \d+", r"\1 slot N"),
    (r"\d+ in a row", "N in a row"),
    (r"<(\w*Pool) (\w+)[^>]*>", r"<\1 \2 ...>"),
    (r"<Task \S+ (\S+) [^>]*>", r"<Task ID \1 ...>"),
    (r"with \d+ open tasks", "with N open tasks"),
    (
        r"\b\d+ more workers want \d+ descriptors, \d+ may",
        "N more workers want N descriptors, N may",
    ),
]
CHANGING = ("task_id", "pid", "runtime", "peak_rss", "memory", "stack", "text", "history")


def with_placeholders(text: str) -> str:
    """The same words whenever the same happens."""
    if len(text) > 20 * LONGEST:
        text = f"{text[: 10 * LONGEST]}\n{text[-10 * LONGEST :]}"
    for pattern, instead in PLACEHOLDERS:
        text = re.sub(pattern, instead, text)
    lines = text.strip().split("\n")
    head = 12  # of a stack that repeats itself
    if len(lines) > 2 * head:
        lines = [*lines[:head], "  ...", *lines[-head:]]
    text = "\n".join(lines)
    return text if len(text) <= LONGEST else text[:LONGEST] + " ..."


def described(error: BaseException, at_call: bool = False) -> dict[str, Any]:
    """An error, as it is kept."""
    kind = type(error)
    ours = kind.__module__.startswith("prefork")
    try:
        message = with_placeholders(str(error))
    except Exception as unspeakable:
        message = f"(str() of it raises {type(unspeakable).__name__})"
    facts = {name: _fact(name, value) for name, value in vars(error).items()} if ours else {}
    cause = error.__cause__
    return {
        "error": f"prefork.{kind.__name__}" if ours else kind.__qualname__,
        "message": message,
        "facts": facts,
        "cause": "" if cause is None else type(cause).__name__,
        "at_call": at_call,
    }


def _fact(name: str, value: Any) -> Any:
    if name in CHANGING and value is not None:
        return "..."
    return value if isinstance(value, (int, float, str, type(None))) else repr(value)


class Heard(logging.Handler):
    """Of one process of a row."""

    def __init__(self, directory: Path) -> None:
        super().__init__(logging.INFO)
        self._directory = directory
        self.errors: list[dict[str, Any]] = []
        self.lines: list[str] = []
        logger = logging.getLogger("prefork")
        logger.addHandler(self)
        logger.setLevel(logging.INFO)

    def emit(self, record: logging.LogRecord) -> None:
        line = f"{record.levelname} {with_placeholders(record.getMessage())}"
        if line not in self.lines:
            self.lines.append(line)

    def error(self, error: BaseException, at_call: bool = False) -> None:
        found = described(error, at_call)
        if found not in self.errors:
            self.errors.append(found)

    def write(self) -> None:
        """For who has launched this process."""
        path = self._directory / f"heard-{os.getpid()}.json"
        path.write_text(json.dumps({"errors": self.errors, "log": self.lines}))


def read(directory: Path) -> dict[str, Any]:
    """What all processes of a row have heard."""
    found: dict[str, Any] = {"errors": [], "log": []}
    for path in sorted(directory.glob("heard-*.json")):
        for key, values in json.loads(path.read_text()).items():
            found[key] += [value for value in values if value not in found[key]]
    found["log"].sort()
    return found
