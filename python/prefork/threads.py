"""Which thread this is."""

from __future__ import annotations

import os
import threading


def is_main_thread() -> bool:
    """Signal handlers run there, and nowhere else."""
    return threading.get_ident() == _main_thread


def _after_fork() -> None:
    global _main_thread
    _main_thread = threading.get_ident()


_main_thread = threading.main_thread().ident
os.register_at_fork(after_in_child=_after_fork)  # where who forks is the main one
