"""The documents say what the tree says."""

import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest

import prefork

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text()
DESIGN = (ROOT / "docs" / "design.md").read_text()
SOURCES = sorted(
    str(path.relative_to(ROOT))
    for pattern in ("csrc/*.[ch]", "python/prefork/**/*.py", "python/prefork/*.p[yx]*")
    for path in ROOT.glob(pattern)
    if path.suffix in (".c", ".h", ".py", ".pyx", ".pxi", ".pxd", ".pyi")
)
CODE = "\n".join((ROOT / path).read_text() for path in SOURCES)


@pytest.mark.parametrize("path", sorted(set(SOURCES)))
def test_every_source_file_stands_in_the_tour_once(path):
    assert README.count(f"`{path}`") == 1


def test_the_tour_names_no_file_that_is_not_there():
    for path in re.findall(r"`((?:csrc|python)/[^`]+)`", README):
        assert (ROOT / path).is_file(), path


@pytest.mark.parametrize("title", ["One task, as a walk", "One worker, from fork to exit"])
def test_the_names_of_the_walks_exist(title):
    section = DESIGN.split(f"## {title}", 1)[1].split("\n## ", 1)[0]
    names = re.findall(r"`([\w.]+)`", section)
    assert len(names) > 8
    for name in names:
        assert re.search(rf"\b{re.escape(name.split('.')[-1])}\b", CODE), name


def test_every_public_name_is_documented():
    for name in prefork.__all__:
        public = getattr(prefork, name)
        if not inspect.isclass(public):
            continue
        assert public.__doc__, name
        for member, value in vars(public).items():
            if not member.startswith("_") and (
                inspect.isfunction(value) or isinstance(value, property)
            ):
                assert inspect.getdoc(getattr(public, member)), f"{name}.{member}"


def test_the_blocks_of_the_readme_run(tmp_path):
    blocks = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    assert blocks
    for block in blocks:
        done = subprocess.run(
            [sys.executable, "-c", block], capture_output=True, text=True, timeout=50, cwd=tmp_path
        )
        assert done.returncode == 0, done.stderr
        assert done.stderr == ""


def test_the_shell_lines_of_the_readme_run(tmp_path):
    (tmp_path / "numbers.txt").write_text("")
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for block in re.findall(r"```sh\n(.*?)```", README, re.DOTALL):
        for line in block.splitlines():
            words = line.split("#")[0].split()
            if words[0] == "make":
                assert words[1] in targets, line
            else:
                assert words[0] == "python"
                subprocess.run(
                    [sys.executable, *words[1:]], check=True, timeout=50, cwd=tmp_path,
                    stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                )  # fmt: skip
