"""Interpreters that are told to be strict."""

from __future__ import annotations

import subprocess

import pytest

from scripts import script, script_environment

STRICT = """
    import os, signal
    import prefork

    def one_more(x):
        return x + 1

    def die():
        os.kill(os.getpid(), signal.SIGKILL)

    if __name__ == "__main__":
        with prefork.TaskPool(1, start_method="METHOD") as pool:
            print(pool.map(one_more, range(5)))
            print(prefork.TaskPool().limit > 0, pool.workers[0].rss > 0)
            print(type(pool.apply_async(die).exception()).__name__)
            print(pool.map(one_more, range(5), 2))
"""


@pytest.mark.parametrize("method", ["fork", "exec"])
def test_no_warning_of_any_kind(tmp_path, method):
    command = script(tmp_path, STRICT.replace("METHOD", method))
    command[1:1] = ["-X", "warn_default_encoding", "-W", "error"]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
        env=script_environment(),
    )
    assert done.stderr == ""
    assert done.stdout.splitlines() == [
        "[1, 2, 3, 4, 5]", "True True", "WorkerKilled", "[1, 2, 3, 4, 5]",
    ]  # fmt: skip
