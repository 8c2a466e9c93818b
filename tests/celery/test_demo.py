"""`make demo-celery`: what it says has come out, on both transports, and nothing of it stays."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

DEMO = Path(__file__).resolve().parents[2] / "examples" / "celery_app" / "demo.py"


@pytest.mark.timeout(300)
@pytest.mark.parametrize("transport", ["filesystem", "redis"])
def test_the_demo(transport):
    done = subprocess.run(
        [sys.executable, str(DEMO), transport], capture_output=True, text=True, timeout=280
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    for words in ("prefork.celery.prefork:TaskPool", "5133", "tidied up", "TimeLimitExceeded"):
        assert words in done.stdout
    assert "was killed by SIGKILL while it ran app.killed" in done.stdout
    assert done.stdout.endswith("all of it came out as it says\n")
