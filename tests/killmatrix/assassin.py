"""Kills a process half-way: `python -m killmatrix.assassin PID rchar|wchar BYTES`, or stops it only
if BYTES is negative.

It watches how much the process has read or written, stops it when that is more than a part of what
it is to read or write, and kills it if that was not all yet. Its exit code says whether it did.
"""

import os
import signal
import sys
from pathlib import Path

WRITE = "1" if os.uname().machine == "x86_64" else "64"  # the number of that call


def in_one_call(pid: int, counter: str, size: int) -> bool:
    """Whether it is in a single write of all of it, which is counted only at its end."""
    call = Path(f"/proc/{pid}/syscall").read_text().split()
    return (
        counter == "wchar" and len(call) > 3 and call[0] == WRITE and int(call[3], 16) > size // 2
    )


def main() -> int:
    pid, counter, size = int(sys.argv[1]), sys.argv[2], abs(int(sys.argv[3]))
    spares = sys.argv[3].startswith("-")

    def count() -> int:
        text = Path(f"/proc/{pid}/io").read_text()
        return int(text.split(f"{counter}: ")[1].split()[0])

    before = count()
    print("ready", flush=True)
    while count() - before < size // 50 and not in_one_call(pid, counter, size):
        pass
    os.kill(pid, signal.SIGSTOP)
    while Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] not in "TZ":
        pass
    if count() - before < size:
        if not spares:
            os.kill(pid, signal.SIGKILL)
        return 0
    os.kill(pid, signal.SIGCONT)
    return 3


if __name__ == "__main__":
    sys.exit(main())
