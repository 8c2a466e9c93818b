"""Whether the matrix would notice: the library made wrong in one place at a time.

Each mutant is a textual edit, which must be found exactly once; each of the rows that it names must
fail then. Those of Python are edited copies of the installed package; those of the core are built.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from . import runner
from .mutations import MUTANTS, Mutant
from .row import all_rows

ROOT = Path(__file__).parents[2]
TREE = ("csrc", "python", "CMakeLists.txt", "pyproject.toml", "README.md", "LICENSE")

__all__ = ["MUTANTS", "main"]


def edited(path: Path, mutant: Mutant) -> None:
    text = path.read_text()
    count = text.count(mutant.old)
    if count != 1:
        raise ValueError(f"{mutant.name}: old text is {count} times in {mutant.file}")
    path.write_text(text.replace(mutant.old, mutant.new))


def installed(mutant: Mutant, scratch: Path) -> Path:
    """Where to import the mutant from."""
    place = scratch / mutant.name
    if not mutant.in_core:
        import prefork

        shutil.copytree(Path(prefork.__file__).parent, place / "prefork")
        edited(place / "prefork" / mutant.file, mutant)
        return place
    tree = scratch / f"{mutant.name}-tree"
    tree.mkdir()
    for name in TREE:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, tree / name)
    edited(tree / "csrc" / mutant.file, mutant)
    subprocess.run(
        [
            sys.executable,
            "-m",
            "pip",
            "install",
            "--quiet",
            "--no-deps",
            "--target",
            place,
            f"-Cbuild-dir={scratch / 'build'}",
            tree,
        ],
        check=True,
        stderr=subprocess.DEVNULL,
    )
    return place


def tried(mutant: Mutant, scratch: Path) -> bool:
    """Whether every row that it names fails."""
    rows = [all_rows()[name] for name in mutant.rows]
    results = runner.run_all(rows, "prefork", lambda _: None, path=str(installed(mutant, scratch)))
    for result in results:
        what = "NOT CAUGHT" if result.passed else result.why[:110]
        print(f"{mutant.name}: {result.row}: {what}", flush=True)
    return not any(result.passed for result in results)


def main(names: list[str]) -> int:
    wanted = [m for m in MUTANTS if not names or m.name in names]
    with tempfile.TemporaryDirectory() as directory:
        caught = sum([tried(mutant, Path(directory)) for mutant in wanted])
    print(f"{caught} of {len(wanted)} mutants caught by every row that they name")
    return caught < len(wanted)
