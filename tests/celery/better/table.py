"""What both pools have said, and the table of docs/celery.md.

`verdicts.json`, beside this file, is what is kept of the last runs; a run of some tests replaces
what it has of those. `python -m better` (in tests/celery) writes the table of it.
"""

from __future__ import annotations

import ast
import fcntl
import json
import os
from importlib.metadata import version
from pathlib import Path

HERE = Path(__file__).parent
VERDICTS = HERE / "verdicts.json"
DOCUMENT = HERE.parents[2] / "docs" / "celery.md"
OPEN, CLOSE = "<!-- better -->", "<!-- /better -->"
PASSES = "passes"

Verdicts = dict[str, dict[str, str]]  # item -> pool -> what it has said


def heard(name: str, said: str) -> None:
    """Keep what the pool that is asked has said to an item, where that is wanted."""
    if "KEEP_VERDICTS" not in os.environ:
        return
    pool = "stock" if os.environ.get("POOL") == "stock" else "prefork"
    with open(HERE / "table.py") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # both pools may be asked at once
        found = _load()
        found.setdefault(name, {})[f"{pool}, Celery {version('celery')}"] = said
        _save(found)


def _load() -> Verdicts:
    found: Verdicts = json.loads(VERDICTS.read_text()) if VERDICTS.exists() else {}
    return found


def _save(found: Verdicts) -> None:
    rows = [
        f"{json.dumps(name)}: {json.dumps(said, sort_keys=True, ensure_ascii=False)}"
        for name, said in sorted(found.items())
    ]
    VERDICTS.write_text("{\n" + ",\n".join(rows) + "\n}\n")


def items() -> dict[str, dict[str, str]]:
    """Topic -> name of the test -> the item, in the order of the files."""
    found: dict[str, dict[str, str]] = {}
    for path in sorted(HERE.glob("test_*.py")):
        module = ast.parse(path.read_text())
        tests = [one for one in module.body if getattr(one, "name", "").startswith("test_")]
        topic = _sentence(ast.get_docstring(module))
        found[topic] = {one.name: _sentence(ast.get_docstring(one)) for one in tests}
    return found


def _sentence(text: str | None) -> str:
    assert text is not None, "a test here has its item as its docstring"
    return " ".join(text.split()).rstrip(".")


def text(found: Verdicts) -> str:
    """The table: what Celery's own pool does not pass in any version that was asked."""
    asked = sorted({pool for said in found.values() for pool in said})
    stock = [pool for pool in asked if pool.startswith("stock")]
    ours = [pool for pool in asked if not pool.startswith("stock")]
    lines = [_row(["what happens", *stock, "prefork"]), "|" + "---|" * (2 + len(stock))]
    struck = 0
    for tests in items().values():
        for name, item in tests.items():
            said = found.get(name, {})
            if any(said.get(pool) not in (None, PASSES) for pool in stock):
                cells = [said.get(pool, "–") for pool in stock]
                lines.append(_row([item, *cells, _all([said.get(pool, "–") for pool in ours])]))
            else:
                struck += 1
    versions = ", ".join(pool.split()[-1] for pool in ours)
    lines.append(
        f"\n{struck} more items are tested, which both pass. prefork: on Celery {versions}."
    )
    return "\n".join(lines)


def _row(cells: list[str]) -> str:
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def _all(said: list[str]) -> str:
    """What our pool has said on every version; that it passes only if it does so on each."""
    return next((one for one in said if one != PASSES), PASSES)


def write() -> None:
    """Bring the document up to date; forget what there is no test of any more."""
    names = {name for tests in items().values() for name in tests}
    found = {name: said for name, said in _load().items() if name in names}
    _save(found)
    before, rest = DOCUMENT.read_text().split(OPEN, 1)
    DOCUMENT.write_text(f"{before}{OPEN}\n{text(found)}\n{CLOSE}{rest.split(CLOSE, 1)[1]}")
