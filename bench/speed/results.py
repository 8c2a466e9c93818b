"""A run as ratios: kept as JSON, and told as a table in Markdown.

    python bench/speed/results.py results.json

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
        if self._path is not None:
            self._path.write_text(json.dumps(self.entries, indent=1) + "\n")


def _rounded(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else float(f"{value:.3g}")


def table(results: Results) -> str:
    """Of each figure's first cost, how many times prefork's it is; and how the bounds fared."""
    lines: list[str] = []
    sides = ["mp.Pool", "PPE", "billiard", "loky", "pebble", "mpire"]
    lines.append("| | " + " | ".join(sides) + " |")
    lines.append("|---" * (len(sides) + 1) + "|")
    for title, entry in results.entries.items():
        cells = []
        for side in sides:
            costs = entry["times"].get(side)
            cells.append(f"{next(iter(costs.values()))[0]:g}" if costs else "")
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


if __name__ == "__main__":
    print(table(Results(Path(sys.argv[1]))))
