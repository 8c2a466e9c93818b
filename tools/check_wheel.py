"""Looks for both bindings in the built wheel, installs it into an empty venv, where there is no
compiler and no cffi, and runs the README's quick start there: tools/check_wheel.py DIST README"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
import venv
import zipfile
from pathlib import Path


def quick_start(readme: str) -> str:
    """The first Python block of the README."""
    found = re.search(r"```python\n(.*?)```", readme, re.DOTALL)
    if found is None:
        raise SystemExit("the README has no Python block")
    return found.group(1)


def main(dist: str, readme: str) -> None:
    """Exits non-zero if anything fails."""
    wheels = list(Path(dist).glob("*.whl"))
    if len(wheels) != 1:
        raise SystemExit(f"expected one wheel in {dist}, found {len(wheels)}")
    names = zipfile.ZipFile(wheels[0]).namelist()
    for module in ("_cython", "_cffi_core"):
        if not any(re.fullmatch(rf"prefork/{module}\..*\.so", name) for name in names):
            raise SystemExit(f"{wheels[0].name} has no {module}")
    with tempfile.TemporaryDirectory() as folder:
        venv.create(folder, with_pip=True)
        python = Path(folder, "bin", "python")
        only_here = {"PATH": str(Path(folder, "bin")), "HOME": folder}
        install = [python, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps", wheels[0]]
        subprocess.run(install, check=True, env=only_here)
        script = Path(folder, "quick_start.py")
        script.write_text(quick_start(Path(readme).read_text()))
        subprocess.run([python, script], check=True, env=only_here, timeout=60)
    print(f"{wheels[0].name}: installs without compiler and cffi, and the quick start runs")


if __name__ == "__main__":
    main(*sys.argv[1:])
