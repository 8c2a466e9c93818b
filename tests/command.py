"""What tests of `prefork map` share: functions to call, and the command itself."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from scripts import launched

COMMAND = [sys.executable, "-m", "prefork", "map"]
LIMIT = 40  # seconds, for anything

FUNCTIONS = '''
import os, sys

def upper(text):
    print("noise")
    return text.upper()

def fails(text):
    if text.startswith("bad"):
        raise ValueError("it is " + text)
    if text.startswith("quit"):
        sys.exit(3)
    return text

def dies(text):
    if text == "kill":
        os.kill(os.getpid(), 9)
    if text == "exit":
        os._exit(7)
    return text

def dies_once(path):
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return "second time"
    os.kill(os.getpid(), 9)

def waits(path):
    """Say that it runs, then wait for a word. Both are named pipes."""
    with open(path + ".begun", "w") as begun:
        begun.write("x")
    with open(path + ".go") as go:
        return go.read()

def fails_or_waits(text):
    fails(text)
    return waits(text)

def waits_and_dies(path):
    """Waits, and dies: the first time."""
    try:
        os.close(os.open(path + ".mark", os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return "second time"
    waits(path)
    os.kill(os.getpid(), 9)

def fails_when_told(path):
    raise ValueError(waits(path))

def fails_or_dies(path):
    """Waits, and fails for "bad"; else dies."""
    return fails_when_told(path) if path == "bad" else waits_and_dies(path)

def pid(text):
    return os.getpid()

def loops(text):
    while True:
        pass

def a_set(text):
    return {1}

def not_a_number(text):
    return float("nan")

shout = lambda text: text + "!"
number = 5
where = None

def set_up():
    global where
    where = "set up"

def says_where(text):
    return where

def breaks():
    raise RuntimeError("no database")
'''


def run(here: Path, *args: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    command = [*COMMAND, *args]
    return subprocess.run(
        command, cwd=here, input=stdin, capture_output=True, text=True, timeout=LIMIT
    )


def records(done: subprocess.CompletedProcess[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in done.stdout.splitlines()]


def launch(here: Path, *args: str) -> Any:
    pipe = subprocess.PIPE
    command = [*COMMAND, *args]
    return launched(command, cwd=here, text=True, stdin=pipe, stdout=pipe, stderr=pipe)
