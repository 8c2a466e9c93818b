"""What is kept of the last runs, beside this file, so that every document can be made anew without
running anything: `verdicts.json`, which pool passes which row, and `ends.json`, what prefork said.

A run of some rows only replaces what it has of those. One line a row: they merge.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from .row import Row

VERDICTS = Path(__file__).with_name("verdicts.json")
ENDS = Path(__file__).with_name("ends.json")
Said = dict[str, Any]  # as of heard.read
Verdicts = dict[str, dict[str, str]]


def load(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    return found


def save(path: Path, table: dict[str, Any]) -> None:
    lines = [f"{json.dumps(key)}: {json.dumps(value)}" for key, value in sorted(table.items())]
    path.write_text("{\n" + ",\n".join(lines) + "\n}\n")


def shapes(said: Said) -> set[str]:
    """What tells one end from another: no numbers, no names of functions."""
    errors = {f"{e['error']} {e['message'].split(chr(10))[0]}" for e in said["errors"]}
    return errors | set(said["log"])


def verdicts() -> tuple[Verdicts, dict[str, str]]:
    """Row -> pool -> verdict, and the versions of the pools."""
    found = load(VERDICTS)
    return found, found.pop("versions", {})


def keep_verdicts(rows: Iterable[Row], new: Verdicts, versions: dict[str, str]) -> Verdicts:
    """Take over what is new."""
    old, _ = verdicts()
    names = [row.name for row in rows]
    kept = {name: {**old.get(name, {}), **new.get(name, {})} for name in names}
    save(VERDICTS, {**kept, "versions": versions})
    return kept


def keep_ends(rows: Iterable[Row], new: dict[str, Said], fresh: bool = False) -> dict[str, Said]:
    """Take over what is new. A row that may end in more than one way, and has shown less this time,
    keeps what it had; what the library says no more goes if this is to be `fresh`."""
    old = load(ENDS)
    kept = {}
    for name in (row.name for row in rows):
        less = name in new and name in old and shapes(new[name]) <= shapes(old[name])
        if name in new and (fresh or not less):
            kept[name] = new[name]
        elif name in old:
            kept[name] = old[name]
    save(ENDS, kept)
    return kept
