"""The same rows for every pool, and what came of them, as data."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from pathlib import Path

from . import rivals, runner
from .row import Row

PASSES, SOMETIMES, FAILS = "passes", "sometimes", "fails"


def missing(row: Row, pool: str) -> str:
    """Why a row makes no sense for a pool; "" if it does."""
    features = rivals.RIVALS[pool].features
    for need in row.needs:
        if need not in features:
            return rivals.WHY_NOT[need]
    return ""


def compare(rows: Iterable[Row], pool: str, python: str) -> dict[str, list[str]]:
    """Row -> verdict and reason. What fails is tried again: only what fails twice fails."""
    rows = [row for row in rows if not missing(row, pool)]
    found = {}
    first = runner.run_all(rows, pool, lambda _: None, python=python, strict=False)
    failed = [row for row, result in zip(rows, first, strict=True) if not result.passed]
    again = runner.run_all(failed, pool, lambda _: None, python=python, strict=False)
    second = {result.row: result for result in again}
    for result in first:
        verdict = PASSES
        if not result.passed:
            verdict = SOMETIMES if second[result.row].passed else FAILS
        found[result.row] = [verdict, result.why]
    passed = sum(verdict == PASSES for verdict, _ in found.values())
    print(f"{pool}: {passed} of {len(found)} rows", flush=True)
    return found


def load(path: Path) -> dict[str, dict[str, list[str]]]:
    """Pool -> row -> verdict and reason, as `save` has written it."""
    found: dict[str, dict[str, list[str]]] = json.loads(path.read_text()) if path.exists() else {}
    return found


def save(path: Path, pool: str, verdicts: dict[str, list[str]]) -> None:
    found = load(path)
    found.setdefault(pool, {}).update(verdicts)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(found, indent=1, sort_keys=True))


def by_row(path: Path) -> dict[str, dict[str, str]]:
    """Row -> pool -> verdict."""
    found: dict[str, dict[str, str]] = {}
    for pool, verdicts in load(path).items():
        for row, (verdict, _) in verdicts.items():
            found.setdefault(row, {})[pool] = verdict
    return found


def versions(python: str) -> dict[str, str]:
    """The rivals, as they are installed beside that interpreter."""
    import subprocess

    code = "import sys; print(sys.version.split()[0])"
    own = subprocess.run([python, "-c", code], capture_output=True, text=True, check=True)
    pinned = dict(pin.lower().split("==") for pin in rivals.PINNED)
    stdlib = f"Python {own.stdout.strip()}"
    return {name: pinned.get(name, stdlib) for name in rivals.RIVALS}


def main(rows: list[Row], results: Path, python: str, only: str = "") -> None:
    for pool in rivals.RIVALS:
        if not only or pool == only:
            save(results, pool, compare(rows, pool, python))
            sys.stdout.flush()
