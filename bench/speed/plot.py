"""A run as a picture: how fast each pool is, beside multiprocessing.Pool.

python bench/speed/plot.py results.json picture.svg
"""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

from results import Results

MARKS = {  # of each pool, its colour and its sign
    "mp.Pool": ("#555555", "|"),
    "PPE": ("#0072b2", "s"),
    "billiard": ("#e69f00", "^"),
    "loky": ("#009e73", "v"),
    "pebble": ("#cc79a7", "D"),
    "mpire": ("#56b4e9", "P"),
    "prefork": ("#d00000", "o"),  # the last is above the others
}
LEFT_OUT = ("idle", "memory", "scale")  # which are not about speed


def speeds(results: Results) -> dict[str, dict[str, float]]:
    """Of each figure by its title, each pool's speed as a multiple of multiprocessing.Pool's."""
    found = {}
    for title, entry in results.entries.items():
        times = {side: next(iter(costs.values()))[0] for side, costs in entry["times"].items()}
        floor = times.get("mp.Pool")
        if floor and entry["name"] not in LEFT_OUT:
            pools = {side: floor / time for side, time in times.items() if side in MARKS}
            found[title] = pools | {"prefork": floor}
    return found


def draw(results: Results, path: Path) -> None:
    matplotlib: Any = importlib.import_module("matplotlib")
    matplotlib.use("svg")
    # Text as text, and the same file of the same figures.
    matplotlib.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "prefork", "font.size": 9})
    plt: Any = importlib.import_module("matplotlib.pyplot")
    found = speeds(results)
    figure, axes = plt.subplots(figsize=(9, 1.2 + 0.26 * len(found)), layout="constrained")
    rows = list(found)
    for pool, (colour, sign) in MARKS.items() if found else ():
        places = [
            (found[title][pool], row) for row, title in enumerate(rows) if pool in found[title]
        ]
        size = 45 if pool == "prefork" else 22
        axes.scatter(
            *zip(*places, strict=True), s=size, c=colour, marker=sign, label=pool, zorder=3
        )
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g} x")
    axes.set_yticks(range(len(rows)), rows)
    axes.invert_yaxis()
    axes.grid(axis="x", which="major", color="#cccccc")
    axes.grid(axis="y", color="#eeeeee")
    axes.axvline(1, color="#555555", linewidth=1)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.tick_params(left=False)
    axes.set_xlabel("as fast as multiprocessing.Pool (right is faster)")
    figure.legend(loc="outside upper center", ncols=len(MARKS), frameon=False)
    figure.savefig(path, metadata={"Date": None, "Creator": None})


if __name__ == "__main__":
    draw(Results(Path(sys.argv[1])), Path(sys.argv[2]))
