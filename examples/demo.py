"""`make demo`: measure every .py file of this Python in a pool whose workers are being killed.

Runs `prefork map measure.py:measure` on all files below the library and site-packages, as a
process of its own. Meanwhile a thread looks for worker processes that are computing and sends them
SIGKILL. Then: one record per input, no task lost for good, and a table of what was found.

    python examples/demo.py [DIRECTORY …]     other directories
"""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import signal
import subprocess
import sys
import sysconfig
import tempfile
import termios
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROUNDS = 3  # until one in which a task was lost and retried
KILLS = 6  # per round
PAUSE = 0.5  # seconds between them
LIMIT = 300.0  # seconds for one round; it takes some 20
MEASURE = Path(__file__).resolve().with_name("measure.py")


def python_files(directories: list[str]) -> list[str]:
    """Every .py file below, each once."""
    if not directories:
        names = ("stdlib", "platstdlib", "purelib", "platlib")
        directories = [sysconfig.get_path(name) for name in names]
        directories += [path for path in sys.path if path.endswith("-packages")]
    found: set[str] = set()
    for directory in directories:
        for folder, below, files in os.walk(os.path.realpath(directory)):
            # Below a virtual environment's library lie the packages of another: not ours.
            below[:] = [name for name in below if not name.endswith("-packages")]
            found.update(os.path.join(folder, name) for name in files if name.endswith(".py"))
    return sorted(path for path in found if "\n" not in path)


# ---- the killer ----------------------------------------------------------------------------------


def running_workers(ancestor: int) -> list[int]:
    """The pids of prefork workers descending from a process that are on a CPU now."""
    parents: dict[int, int] = {}
    running = []
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                text = Path("/proc", entry, "stat").read_text(errors="replace")
            except OSError:
                continue  # it has gone
            name, _, rest = text.partition("(")[2].rpartition(")")
            state, parent = rest.split()[:2]
            parents[int(entry)] = int(parent)
            if name == "prefork-worker" and state == "R":
                running.append(int(entry))
    return [pid for pid in running if ancestor in _ancestors(pid, parents)]


def _ancestors(pid: int, parents: dict[int, int]) -> Iterator[int]:
    while pid := parents.get(pid, 0):
        yield pid


class Killer(threading.Thread):
    """Sends SIGKILL to running workers of a process, a few times."""

    def __init__(self, pid: int) -> None:
        super().__init__(name="killer", daemon=True)
        self._pid = pid
        self._over = threading.Event()
        self.killed: list[int] = []

    def run(self) -> None:
        pause = PAUSE
        while len(self.killed) < KILLS and not self._over.wait(pause):
            victims = running_workers(self._pid)
            for pid in victims[:1]:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    continue
                self.killed.append(pid)
            pause = PAUSE if victims else 0.001

    def stop(self) -> None:
        """No more of it."""
        self._over.set()
        self.join()


# ---- one run -------------------------------------------------------------------------------------


def open_stderr() -> tuple[int, int]:
    """Two ends for the command's stderr: a terminal like ours if we have one, so that there is a
    progress bar; otherwise a pipe."""
    if not sys.stderr.isatty():
        return os.pipe()
    ours, theirs = pty.openpty()
    size = fcntl.ioctl(sys.stderr, termios.TIOCGWINSZ, b"\0" * 8)
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, size)
    return ours, theirs


def relay(fd: int, seen: bytearray) -> None:
    """Copy what the command says to our stderr, and keep it."""
    while True:
        try:
            data = os.read(fd, 4096)
        except OSError:  # so a terminal ends
            return
        if not data:
            return
        seen += data
        os.write(2, data)


def run_map(lines: str, output: str) -> tuple[int, str, list[int]]:
    """Run the command with a killer at its heels: its status, its summary, who was killed."""
    command = [sys.executable, "-m", "prefork", "map", f"{MEASURE}:measure"]
    command += ["--lines", lines, "--retries", "5"]
    ours, theirs = open_stderr()
    with open(output, "wb") as records:
        process = subprocess.Popen(command, stdout=records, stderr=theirs)
    os.close(theirs)
    seen = bytearray()
    copier = threading.Thread(target=relay, args=(ours, seen), daemon=True)
    copier.start()
    killer = Killer(process.pid)
    killer.start()
    try:
        status = process.wait(LIMIT)
    finally:
        process.kill()
        killer.stop()
    copier.join(10)
    summary = [line for line in seen.decode(errors="replace").splitlines() if " retried, " in line]
    return status, summary[-1] if summary else "", killer.killed


def check(inputs: list[str], records: list[dict[str, Any]], status: int) -> str | None:
    """What is wrong with the outcome, or None."""
    if [os.fsencode(record["input"]) for record in records] != [os.fsencode(i) for i in inputs]:
        return f"{len(records)} records for {len(inputs)} inputs, or not in their order"
    errors = [record["error"] for record in records if "error" in record]
    lost = [error for error in errors if error["signal"] or error["exitcode"]]
    if lost:
        return f"{len(lost)} tasks were lost for good; the first: {lost[0]}"
    if status != (1 if errors else 0):
        return f"exit status {status} with {len(errors)} failed inputs"
    return None


# ---- the table -----------------------------------------------------------------------------------


def report(records: list[dict[str, Any]]) -> None:
    """Totals, and the files that stand out."""
    good = [(record["input"], record["result"]) for record in records if "result" in record]
    print(f"\n{'files':>12} {'lines':>12} {'functions':>12} {'classes':>12} {'deepest':>8}")
    totals = [sum(sizes[key] for _, sizes in good) for key in ("lines", "functions", "classes")]
    deepest = max((sizes["nesting"] for _, sizes in good), default=0)
    print(f"{len(good):>12,} " + " ".join(f"{n:>12,}" for n in totals) + f" {deepest:>8}")
    for key in ("lines", "functions", "classes", "nesting"):
        print(f"\nmost {key}" if key != "nesting" else "\ndeepest nesting")
        for path, sizes in sorted(good, key=lambda item: -item[1][key])[:5]:
            print(f"{sizes[key]:>12,}  {shorten(path)}")
    errors = Counter(record["error"]["type"] for record in records if "error" in record)
    if errors:
        print("\nfiles that are not Python 3, one error record each")
        for name, count in errors.most_common():
            print(f"{count:>12,}  {name}")


def shorten(path: str, width: int = 84) -> str:
    """The end of a path, printable anywhere."""
    path = path.encode(errors="replace").decode()
    return path if len(path) <= width else "…" + path[1 - width :]


def main() -> int:
    inputs = python_files(sys.argv[1:])
    print(f"{len(inputs):,} Python files; workers will be killed while they are parsed", flush=True)
    for _ in range(ROUNDS):
        began = time.monotonic()
        with tempfile.TemporaryDirectory(prefix="prefork-demo-") as folder:
            lines, output = os.path.join(folder, "inputs"), os.path.join(folder, "records")
            Path(lines).write_bytes(b"".join(os.fsencode(path) + b"\n" for path in inputs))
            status, summary, killed = run_map(lines, output)
            records = [json.loads(line) for line in Path(output).read_text().splitlines()]
        wrong = check(inputs, records, status)
        if wrong is not None:
            print(f"demo: {wrong}", file=sys.stderr)
            return 1
        retried = int((re.findall(r"(\d+) retried", summary) or ["0"])[0])
        if retried:
            report(records)
            print(f"\n{len(killed)} workers were killed by SIGKILL: {retried} tasks lost, retried")
            print(f"and done. {len(records):,} records for {len(inputs):,} inputs, ", end="")
            print(f"in {time.monotonic() - began:.1f} s.")
            return 0
        print("no task was lost in this round; once more", file=sys.stderr, flush=True)
    print(f"demo: {ROUNDS} rounds, and no task was lost", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
