"""`make demo` in small, and what it measures with."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"

SOURCE = """\
class A:
    def f(self):
        if self:
            return 1
        elif not self:
            return 2
        else:
            for _ in ():
                pass

g = lambda: 0
"""


@pytest.fixture(scope="module")
def example() -> Any:
    spec = importlib.util.spec_from_file_location("measure", EXAMPLES / "measure.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_measure(tmp_path: Path, example: Any) -> None:
    path = tmp_path / "a.py"
    path.write_text(SOURCE)
    expected = {"lines": 11, "functions": 2, "classes": 1, "nesting": 4}
    assert example.measure(str(path)) == expected
    path.write_text("print 1")
    with pytest.raises(SyntaxError):
        example.measure(str(path))


def test_demo_on_few_files(tmp_path: Path) -> None:
    """Enough work that the killer meets a worker at it."""
    body = "".join(f"def f{i}(x):\n    return [x for _ in range({i})]\n" for i in range(700))
    for i in range(60):
        (tmp_path / f"m{i}.py").write_text(body)
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / "demo.py"), str(tmp_path)],
        capture_output=True, text=True, timeout=55,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "60 records for 60 inputs" in done.stdout
    assert "were killed by SIGKILL" in done.stdout
