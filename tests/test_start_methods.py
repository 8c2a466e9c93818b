"""fork and exec: what each needs and what workers know."""

from __future__ import annotations

import subprocess
import sys
import weakref

import pytest

import prefork
from helpers import add, fail, hold, pid_of_worker, square
from scripts import run_script


@pytest.fixture(params=["fork", "exec"])
def one(request, pool):
    # A proxy: pytest keeps what a fixture gave until after the check for descriptors.
    return weakref.proxy(pool(2, start_method=request.param, putlocks=False))


def test_tasks(one):
    assert one.map(square, range(200)) == [i * i for i in range(200)]
    assert one.apply(add, (1, 2), {"c": 3}) == 6
    with pytest.raises(ValueError, match="no"):
        one.apply(fail)


def test_restart(one):
    before = {one.apply(pid_of_worker)}
    one.restart()
    assert not before & {one.apply(pid_of_worker) for _ in range(4)}


def test_grow_and_terminate(one, gate):
    one.grow()
    tasks = [one.apply_async(hold, (gate.path,)) for _ in range(3)]
    gate.arrived(3)
    one.terminate()
    assert all(isinstance(task.exception(), prefork.WorkerKilled) for task in tasks)


STATE: list = []


def test_initializer_and_its_arguments(pool):
    one = pool(1, start_method="exec", initializer=STATE_append, initargs=(7,))
    assert one.apply(STATE_first) == 7


def STATE_append(value):  # noqa: N802
    STATE.append(value)


def STATE_first():  # noqa: N802
    return STATE[0]


def test_by_exec_initargs_are_pickled(pool):
    with pytest.raises(Exception, match="pickle|local"):
        pool(1, start_method="exec", initializer=lambda: None)


def test_a_start_that_failed_leaves_a_pool_that_was_not_started():
    pool = prefork.TaskPool(1, start_method="exec", initializer=lambda: None)
    with pytest.raises(Exception, match="pickle|local"):
        pool.start()
    assert pool.state == "new"
    with pytest.raises(RuntimeError, match="start"):
        pool.apply(square, (1,))


def is_imported(name):
    return name in sys.modules


@pytest.mark.parametrize("method", ["fork", "exec"])
def test_preloaded_modules_are_there_in_workers_and_not_here(pool, method):
    name = "wsgiref.simple_server"
    assert name not in sys.modules
    one = pool(1, start_method=method, preload=[name])
    assert one.apply(is_imported, (name,)) is True
    assert name not in sys.modules
    assert pool(1, start_method=method).apply(is_imported, (name,)) is False


@pytest.mark.parametrize("method", ["fork", "exec"])
def test_a_preload_that_fails_is_an_error_of_the_tasks_until_a_restart(
    pool, tmp_path, monkeypatch, method
):
    name = f"made_later_for_{method}"
    one = pool(1, preload=[name], putlocks=False, start_method=method)
    with pytest.raises(prefork.InitializerError, match=f"No module named '{name}'") as caught:
        one.apply_async(square, (1,)).get()
    assert isinstance(caught.value.__cause__, ModuleNotFoundError)
    assert "in _preloaded" in str(caught.value.__cause__.__cause__)
    assert one.state == "degraded"
    (tmp_path / f"{name}.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    one.restart()
    assert one.apply(is_imported, (name,)) is True
    assert one.did_start_ok()


def test_a_main_module_that_fails_in_the_zygote_is_an_error_of_the_tasks(tmp_path):
    done = run_script(
        tmp_path,
        """
        import prefork
        if __name__ != "__main__":
            raise LookupError("only once")
        with prefork.TaskPool(1, start_method="exec", putlocks=False) as pool:
            try:
                pool.apply_async(abs, (1,)).get()
            except prefork.InitializerError as error:
                print(repr(error.__cause__))
        """,
    )
    assert done.stdout == "LookupError('only once')\n", done.stderr


def test_by_exec_nothing_of_the_application_is_inherited(pool, monkeypatch):
    monkeypatch.setattr(sys.modules[__name__], "STATE", ["mine"])
    assert pool(1, start_method="fork").apply(STATE_first) == "mine"
    with pytest.raises(IndexError):
        pool(1, start_method="exec").apply(STATE_first)


MAIN = """
    import sys
    from prefork import TaskPool

    def double(x):
        return x * 2

    def initialize(value):
        global known
        known = value

    def recall():
        return known

    def main():
        options = {"start_method": sys.argv[1], "initializer": initialize, "initargs": (5,)}
        with TaskPool(2, **options) as pool:
            print(pool.map(double, range(5)), pool.apply(recall))
"""


@pytest.mark.parametrize("method", ["fork", "exec"])
def test_functions_of_main_work(tmp_path, method):
    done = run_script(tmp_path, MAIN + "    if __name__ == '__main__':\n        main()\n", method)
    assert (done.returncode, done.stdout) == (0, "[0, 2, 4, 6, 8] 5\n"), done.stderr


def test_by_fork_no_guard_is_needed(tmp_path):
    done = run_script(tmp_path, MAIN + "    main()\n", "fork")
    assert (done.returncode, done.stdout) == (0, "[0, 2, 4, 6, 8] 5\n"), done.stderr


def test_by_exec_a_missing_guard_is_a_clear_error_and_no_fork_bomb(tmp_path):
    done = run_script(tmp_path, MAIN + "    main()\n", "exec")
    assert done.returncode != 0
    assert "__main__" in done.stderr
    assert done.stderr.count("if __name__ == '__main__'") <= 3
    assert done.stdout == ""


@pytest.mark.parametrize("method", ["fork", "exec"])
def test_functions_of_a_package_run_by_dash_m(tmp_path, method):
    from scripts import script

    (tmp_path / "pack").mkdir()
    script(tmp_path / "pack", MAIN + "    if __name__ == '__main__':\n        main()\n", "tool.py")
    (tmp_path / "pack" / "__init__.py").touch()
    done = subprocess.run(
        [sys.executable, "-m", "pack.tool", method],
        cwd=tmp_path, capture_output=True, text=True, timeout=50, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, "[0, 2, 4, 6, 8] 5\n"), done.stderr


def test_a_function_of_the_interactive_prompt_is_an_error_that_names_it(tmp_path):
    done = run_script(
        tmp_path,
        """
        from prefork import TaskPool
        with TaskPool(1) as pool:
            exec("def typed_later(): return 1", globals())
            try:
                pool.apply(typed_later)
            except AttributeError as error:
                print("typed_later" in str(error), "restart()" in str(error))
        """,
    )
    assert done.stdout == "True True\n", done.stderr


def test_by_exec_a_function_of_a_main_py_is_an_error_that_says_so(tmp_path):
    """As for multiprocessing: it has no guard, and is not run again."""
    (tmp_path / "pack").mkdir()
    (tmp_path / "pack" / "__main__.py").write_text(
        "from prefork import TaskPool\n"
        "def mine(x): return x\n"
        "with TaskPool(1, start_method='exec') as pool: pool.map(abs, [1]); pool.apply(mine, (1,))"
    )
    for command in (["-m", "pack"], ["pack"]):
        done = subprocess.run(
            [sys.executable, *command],
            cwd=tmp_path, capture_output=True, text=True, timeout=50, check=False,
        )  # fmt: skip
        assert "'mine'" in done.stderr
        assert "the __main__.py of a package, a directory or a zipapp" in done.stderr


def test_by_exec_in_a_directory_that_is_gone(tmp_path):
    (tmp_path / "gone").mkdir()
    done = run_script(
        tmp_path,
        """
        import os
        from prefork import TaskPool
        if __name__ == "__main__":
            os.chdir("gone")
            os.rmdir("../gone")
            pool = TaskPool(1, start_method="exec")
            try:
                pool.start()
            except FileNotFoundError as error:
                print(error.strerror)
            os.chdir("..")
            with pool:
                print(pool.map(abs, [-1, 2]))
        """,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    first, second = done.stdout.splitlines()
    assert "working directory of this process has been removed" in first
    assert second == "[1, 2]"


def test_a_program_on_stdin_can_use_exec():
    text = "from prefork import TaskPool\n"
    text += "with TaskPool(1, start_method='exec') as pool: print(pool.map(abs, [-1, 2]))\n"
    done = subprocess.run(
        [sys.executable, "-"], input=text, capture_output=True, text=True, timeout=50, check=False
    )
    assert (done.returncode, done.stdout) == (0, "[1, 2]\n"), done.stderr


def test_nothing_of_the_standard_library_is_imported_after_the_fork(tmp_path):
    """The application may have gone where it cannot be read: chroot, another user."""
    done = run_script(
        tmp_path,
        """
        import os, sys, time
        import prefork
        from helpers import fail, kill_self, square

        class Watch:
            def find_spec(self, name, path=None, target=None):
                if name.partition(".")[0] in sys.stdlib_module_names:
                    os.write(2, f"{name} is imported{os.linesep}".encode())

        sys.meta_path.insert(0, Watch())
        with prefork.TaskPool(1, maxtasksperchild=3) as pool:
            tasks = [
                pool.apply_async(square, (2,)),
                pool.apply_async(fail),
                pool.apply_async(time.sleep, (60,), soft_timeout=0.1),
                pool.apply_async(time.sleep, (60,), timeout=0.3),
                pool.apply_async(sys.exit, (3,)),
                pool.apply_async(kill_self, (9,)),
                pool.apply_async(prefork.exit_worker),
                pool.apply_async(square, (3,)),
            ]
            print([type(task.exception()).__name__ for task in tasks])
        """,
    )
    assert "imported" not in done.stderr
    assert done.stdout.strip() == str(
        ["NoneType", "ValueError", "SoftTimeLimitExceeded", "TimeLimitExceeded", "RemoteError",
         "WorkerKilled", "WorkerExited", "NoneType"]
    )  # fmt: skip
