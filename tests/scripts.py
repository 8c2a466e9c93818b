"""Programs that tests write: run to their end, or ended with their test."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any


def script(directory: Path, text: str, name: str = "script.py") -> list[str]:
    """Write a program; the command that runs it."""
    path = directory / name
    path.write_text(textwrap.dedent(text))
    return [sys.executable, "-X", "faulthandler", str(path)]


def run_script(directory: Path, text: str, *args: str, **options: Any) -> Any:
    """Run a program to its end, with the tests' modules to import."""
    return subprocess.run(
        [*script(directory, text), *args],
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
        env=script_environment(),
        **options,
    )


@contextlib.contextmanager
def launched(command: list[str], **options: Any) -> Iterator[subprocess.Popen[Any]]:
    """A program in a session of its own, which is over, with all that is in it, when the block is:
    a test that fails must not wait for what it has failed to end."""
    options.setdefault("env", script_environment())
    with subprocess.Popen(command, start_new_session=True, **options) as process:
        try:
            yield process
        except BaseException:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            raise


def script_environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}
