"""Celery's own unit tests of its prefork pool, from the sources of the installed release, with our
module in the place of `celery.concurrency.prefork`.

Those of `celerys_own.txt` fail, each for the reason that is written there; no others do.
"""

from __future__ import annotations

import importlib.metadata
import os
import subprocess
import sys
import tarfile
import xml.etree.ElementTree as Xml
from pathlib import Path

import pytest

HERE = Path(__file__).parent
CLASSES = ("test_process_initializer", "test_process_destructor", "test_TaskPool")

#: A plugin of pytest. Names that our module does not have, as the tests want some for themselves,
#: are those of Celery's, whose two functions ours call.
PLUGIN = """
import sys
import types

import celery.concurrency
import celery.concurrency.prefork as stock
import prefork.celery.prefork as ours


ITS_NAMES = frozenset(vars(ours))


def owner(name):
    return ours if name in ITS_NAMES else stock


class InItsPlace(types.ModuleType):
    def __getattr__(self, name):
        return getattr(owner(name), name)

    def __setattr__(self, name, value):
        setattr(owner(name), name, value)

    def __delattr__(self, name):
        delattr(owner(name), name)


def pytest_configure():
    module = InItsPlace("celery.concurrency.prefork")
    sys.modules[module.__name__] = celery.concurrency.prefork = module
"""


def listed() -> dict[str, str]:
    """Which tests are to fail, and why."""
    found = {}
    for line in (HERE / "celerys_own.txt").read_text().splitlines():
        name, _, reason = line.partition(": ")
        if line and not line.startswith("#"):
            assert reason, line
            found[name] = reason
    return found


def outcomes(directory: Path) -> dict[str, bool]:
    """Whether each test passes."""
    version = importlib.metadata.version("celery")
    sources = Path(sys.prefix, "sdist", f"celery-{version}.tar.gz")
    assert sources.exists(), f"missing: {sources.name}, which `make test-celery` downloads"
    root = directory / f"celery-{version}"
    with tarfile.open(sources) as archive:  # the tests alone: the rest is what is installed
        tests = [file for file in archive if file.name.startswith(f"{root.name}/t/")]
        archive.extractall(directory, tests, filter="data")
    (root / "in_its_place.py").write_text(PLUGIN)
    report = directory / "report.xml"
    command = [sys.executable, "-m", "pytest", "-p", "in_its_place", "-p", "no:cacheprovider"]
    command += ["-q", "-c", os.devnull, "--rootdir", str(root), "--junitxml", str(report)]
    command += ["-o", "python_classes=test_*"]
    command += [f"t/unit/concurrency/test_prefork.py::{name}" for name in CLASSES]
    run = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=100)
    assert report.exists(), run.stdout + run.stderr
    found = {}
    for case in Xml.parse(report).getroot().iter("testcase"):
        kind = case.attrib["classname"].rpartition(".")[2]
        assert case.find("skipped") is None, case.attrib
        found[f"{kind}::{case.attrib['name']}"] = (
            case.find("failure") is None and case.find("error") is None
        )
    assert {name.partition("::")[0] for name in found} == set(CLASSES), run.stdout
    return found


@pytest.mark.timeout(120)
def test_celerys_own_tests_pass_but_for_those_that_are_listed(tmp_path):
    found, reasons = outcomes(tmp_path), listed()
    failed = {name for name, passed in found.items() if not passed}
    assert failed - set(reasons) == set(), "these fail, and no reason is given"
    assert {name for name in reasons if found.get(name)} == set(), "these pass: strike them"
    print(f"{len(found) - len(failed)} of {len(found)} pass")
