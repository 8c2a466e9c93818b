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

from . import mutations, mutations_core, mutations_life, mutations_told, mutations_worker, runner
from .mutant import Mutant
from .row import all_rows

ROOT = Path(__file__).parents[2]
TREE = ("csrc", "python", "tools", "CMakeLists.txt", "pyproject.toml", "README.md", "LICENSE")
MUTANTS = [
    *mutations.MUTANTS,
    *mutations_worker.MUTANTS,
    *mutations_life.MUTANTS,
    *mutations_told.MUTANTS,
    *mutations_core.MUTANTS,
]


def edited(text: str, mutant: Mutant) -> str:
    """A file, made wrong. Raises ValueError where the edit cannot be, SyntaxError where what comes
    of it is no Python: that every row would notice."""
    count = text.count(mutant.old)
    if count != 1:
        raise ValueError(f"{mutant.name}: old text is {count} times in {mutant.file}")
    found = text.replace(mutant.old, mutant.new)
    if not mutant.is_built:
        compile(found, mutant.file, "exec")
    return found


def installed(mutant: Mutant, scratch: Path) -> Path:
    """Where to import the mutant from."""
    place = scratch / mutant.name
    if mutant.is_built:
        build(mutant, scratch, place)
        return place
    import prefork

    shutil.copytree(Path(prefork.__file__).parent, place / "prefork")
    path = place / "prefork" / mutant.file
    path.write_text(edited(path.read_text(), mutant))
    return place


def build(mutant: Mutant, scratch: Path, place: Path) -> None:
    """From a copy of the sources, which the next one finds as they were."""
    tree = scratch / "tree"
    if not tree.exists():
        tree.mkdir()
        for name in TREE:
            copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
            copy(ROOT / name, tree / name)
    path = tree / mutant.path
    text = path.read_text()
    path.write_text(edited(text, mutant))
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", place]
    pip += [f"-Cbuild-dir={scratch / 'build'}", tree]
    try:
        built = subprocess.run(pip, stderr=subprocess.PIPE, text=True)
    finally:
        path.write_text(text)
    if built.returncode != 0:
        raise RuntimeError(f"{mutant.name} cannot be built:\n{built.stderr}")


def tried(mutant: Mutant, scratch: Path, jobs: int) -> bool:
    """Whether every row that it names fails."""
    rows = [all_rows()[name] for name in mutant.rows]
    place = str(installed(mutant, scratch))
    results = runner.run_all(rows, "prefork", lambda _: None, jobs, path=place)
    for result in results:
        what = "NOT CAUGHT" if result.passed else result.why[:110]
        print(f"{mutant.name}: {result.row}: {what}", flush=True)
    return not any(result.passed for result in results)


def main(names: list[str], jobs: int) -> int:
    wanted = [m for m in MUTANTS if not names or m.name in names]
    with tempfile.TemporaryDirectory() as directory:
        caught = sum([tried(mutant, Path(directory), jobs) for mutant in wanted])
    print(f"{caught} of {len(wanted)} mutants caught by every row that they name")
    return caught < len(wanted)
