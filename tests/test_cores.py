"""Two bindings to one core: which of them is used."""

from __future__ import annotations

import os
import re

import pytest

from prefork import _core, inside
from scripts import run_script

CORES = ("cffi", "cython")


def core_in_use():
    worker = inside._present and type(inside._present.core)
    return _core.NAME, _core.CorePool.__module__, worker and worker.__module__


@pytest.mark.parametrize("method", ["fork", "exec"])
def test_the_core_in_use_is_the_one_that_was_asked_for(pool, method):
    name = os.environ.get("PREFORK_CORE") or "cython"
    worker = {"cffi": "prefork._cffi_worker", "cython": "prefork._cython"}[name]
    assert core_in_use() == (name, f"prefork._{name}", None)
    one = pool(1, start_method=method)
    assert one.apply(core_in_use) == (name, f"prefork._{name}", worker)


SMOKE = """
    import gc, operator, signal, sys, time
    from prefork import SoftTimeLimitExceeded, TaskPool, WorkerKilled, _core
    from helpers import spin, square
    if __name__ == "__main__":
        with TaskPool(2, start_method=sys.argv[1]) as pool:
            killed = pool.apply_async(signal.raise_signal, (signal.SIGKILL,))
            late = pool.apply_async(time.sleep, (30,), soft_timeout=0.01)
            errors = [type(task.exception()) for task in (killed, late)]
            assert errors == [WorkerKilled, SoftTimeLimitExceeded], errors
            assert pool.map(square, range(2000)) == [i * i for i in range(2000)]
            large = pool.apply(operator.mul, (b"large", 1 << 20))
            told = []
            pool.apply_async(square, (2,), callback=told.append).get()
        forgotten = TaskPool(1)
        forgotten.start()
        forgotten.apply_async(spin)
        del forgotten  # which is in a cycle with its task
        gc.collect()
        print(_core.NAME, len(large), told)
"""


@pytest.mark.parametrize("method", ["fork", "exec"])
@pytest.mark.parametrize("name", CORES)
def test_each_core_does_tasks(tmp_path, monkeypatch, name, method):
    monkeypatch.setenv("PREFORK_CORE", name)
    done = run_script(tmp_path, SMOKE, method)
    assert (done.returncode, done.stdout) == (0, f"{name} {5 << 20} [4]\n"), done.stderr


@pytest.mark.parametrize("value", ["", None])
def test_cython_is_the_default_and_wants_no_cffi(tmp_path, monkeypatch, value):
    monkeypatch.delenv("PREFORK_CORE", raising=False)
    if value is not None:
        monkeypatch.setenv("PREFORK_CORE", value)
    text = """
        import sys
        sys.modules["cffi"] = sys.modules["_cffi_backend"] = None
        from prefork import _core
        print(_core.NAME)
    """
    done = run_script(tmp_path, text)
    assert (done.stdout, done.stderr) == ("cython\n", "")


MISSING = {"cffi": "_cffi_backend", "cython": "prefork._cython"}


@pytest.mark.parametrize("name", CORES)
def test_a_core_that_is_asked_for_and_missing_is_an_error(tmp_path, monkeypatch, name):
    monkeypatch.setenv("PREFORK_CORE", name)
    text = f"import sys; sys.modules[{MISSING[name]!r}] = None; import prefork"
    done = run_script(tmp_path, text)
    assert done.returncode == 1
    assert re.search(rf"(Import|ModuleNotFound)Error: .*{MISSING[name]}", done.stderr), done.stderr


def test_a_core_that_there_is_not_is_an_error_that_says_which_there_are(tmp_path, monkeypatch):
    monkeypatch.setenv("PREFORK_CORE", "ctypes")
    done = run_script(tmp_path, "import prefork")
    assert done.returncode == 1
    assert "ImportError: PREFORK_CORE is 'ctypes'; there are 'cffi' and 'cython'" in done.stderr


DENIED = """
    import os, sys, warnings
    from helpers import square
    from prefork import TaskPool, _core
    application, denied = os.getpid(), []

    def deny(event, args):
        if event == "os.fork" and os.getpid() != application and len(denied) < 3:
            denied.append(event)
            raise LookupError("of an audit hook")

    sys.addaudithook(deny)
    with TaskPool(2) as pool:
        assert pool.map(square, range(10)) == [i * i for i in range(10)]
        print(_core.NAME, pool.stats["spawn_failures"], pool.state)
"""


def test_what_is_raised_where_a_zygote_forks_is_a_failed_spawn(tmp_path, monkeypatch):
    """The standby's, and two of workers."""
    monkeypatch.setenv("PREFORK_CORE", "cffi")
    done = run_script(tmp_path, DENIED)
    assert (done.stdout, done.stderr) == ("cffi 2 running\n", "")
