"""A run as ratios: kept as JSON, and told as tables in a document.

    python bench/speed/results.py results.json docs/performance.md

Times are not kept, only how many times each side's cost is prefork's, since those of another
machine, or of this one in another hour, are others.
"""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from typing import Any

from bounds import Verdict, quotient
from figures import Figure
from measured import Found

Entry = dict[str, Any]


class Results:
    """Of all figures, by their titles; those that are not run again stay as they were."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self.entries: dict[str, Entry] = {}
        if path is not None and path.exists():
            self.entries = json.loads(path.read_text())

    def add(self, figure: Figure, rounds: int, found: Found, verdicts: list[Verdict]) -> None:
        entry: Entry = {"name": figure.name, "rounds": rounds, "times": {}, "missing": {}}
        for side in found.rounds:
            if side in found.missing or "prefork" in found.missing:
                entry["missing"][side] = found.missing.get(side, "prefork has no figure")
            elif figure.compared and side != "prefork":
                entry["times"][side] = {
                    key: [_rounded(each) for each in quotient(found, (side, key), ("prefork", key))]
                    for key in figure.costs
                }
        entry["bounds"] = [
            {
                "text": verdict.bound.text,
                "median": _rounded(verdict.median),
                "best": _rounded(verdict.best) if verdict.bound.under else None,
                "word": verdict.word,
            }
            for verdict in verdicts
        ]
        self.entries[figure.title] = entry

    def save(self) -> None:
        """After each figure: a run that is broken off leaves what it has."""
        if self._path is not None:
            self._path.write_text(json.dumps(self.entries, indent=1) + "\n")


def _rounded(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else float(f"{value:.3g}")


def table(results: Results) -> str:
    """Of each figure's first cost, how many times prefork's it is: the median, the best round. And
    how the bounds fared."""
    sides = ["mp.Pool", "PPE", "billiard", "loky", "pebble", "mpire", "C pipes", "ideal"]
    lines = ["| figure | " + " | ".join(sides) + " |", "|---" * (len(sides) + 1) + "|"]
    for title, entry in results.entries.items():
        cells = [_cell(entry["times"].get(side)) for side in sides]
        if any(cells):
            lines.append(f"| {title} | " + " | ".join(cells) + " |")
    lines += ["", "| figure | bound | median | best round | |", "|---|---|---|---|---|"]
    for title, entry in results.entries.items():
        for bound in entry["bounds"]:
            middle, best = (
                "" if bound[key] is None else f"{bound[key]:g}" for key in ("median", "best")
            )
            lines.append(f"| {title} | {bound['text']} | {middle} | {best} | {bound['word']} |")
    return "\n".join(lines)


def _cell(costs: dict[str, list[float | None]] | None) -> str:
    if not costs:
        return ""
    middle, best = next(iter(costs.values()))
    return f"{middle:g} ({best:g})" if middle is not None and best is not None else ""


def write(results: Results, document: Path) -> None:
    """Where the document has a place for it."""
    before, begin, rest = document.read_text().partition("<!-- bench -->\n")
    _, end, after = rest.partition("<!-- /bench -->\n")
    if not begin or not end:
        raise SystemExit(f"{document} has no place for the tables")
    document.write_text(f"{before}{begin}{table(results)}\n{end}{after}")


if __name__ == "__main__":
    write(Results(Path(sys.argv[1])), Path(sys.argv[2]))
