"""What can be wrong in a worker between tasks: edits of python/prefork, and the rows that would
notice."""

from __future__ import annotations

from .mutant import Mutant

MUTANTS = [
    Mutant(
        "looks-where-it-is",
        "worker.py",
        "        if not core.serve_next():\n",
        "        os.getcwd()\n        if not core.serve_next():\n",
        "a worker needs its directory between tasks",
        ("removes-its-directory",),
    ),
    Mutant(
        "prints-between-tasks",
        "worker.py",
        "        if not core.serve_next():\n",
        "        os.write(1, b'')\n        if not core.serve_next():\n",
        "a worker needs its stdout between tasks",
        ("closes-stdio", "stdio-is-closed-before-the-start"),
    ),
    Mutant(
        "opens-between-tasks",
        "worker.py",
        "        if not core.serve_next():\n",
        "        open('/dev/null').close()\n        if not core.serve_next():\n",
        "a worker needs a new descriptor between tasks",
        ("lowers-its-limits",),
    ),
    Mutant(
        "joins-threads-between-tasks",
        "worker.py",
        "        if not core.serve_next():\n",
        "        [t.join() for t in threading.enumerate()\n"
        "         if t is not threading.main_thread()]\n        if not core.serve_next():\n",
        "a worker waits for the threads that a task has left",
        ("leaves-threads-behind",),
    ),
    Mutant(
        "reads-its-environment",
        "worker.py",
        "        if not core.serve_next():\n",
        "        os.environ['PATH']\n        if not core.serve_next():\n",
        "a worker needs its environment between tasks",
        ("changes-the-environment",),
    ),
    Mutant(
        "masks-are-kept",
        "worker.py",
        "        if _signal.getsignal(_core.SOFT_SIGNAL) != on_soft_limit:\n",
        "        if _core.SOFT_SIGNAL in signal.pthread_sigmask(signal.SIG_BLOCK, []):\n"
        "            raise RuntimeError\n"
        "        if _signal.getsignal(_core.SOFT_SIGNAL) != on_soft_limit:\n",
        "a worker cannot live with the mask that a task has left",
        ("changes-signal-masks",),
    ),
    Mutant(
        "handlers-are-kept",
        "worker.py",
        "    if found != expected:\n",
        "    if found != expected:\n        raise RuntimeError\n    if False:\n",
        "a worker cannot live without its handler of the soft signal",
        ("changes-signal-handlers",),
    ),
    Mutant(
        "works-only-at-home",
        "worker.py",
        "        if not core.serve_next():\n",
        "        if os.getcwd() == '/':\n            raise RuntimeError\n"
        "        if not core.serve_next():\n",
        "a worker cannot work in another directory",
        ("changes-directory",),
    ),
    Mutant(
        "shares-its-files",
        "worker.py",
        "        if not core.serve_next():\n",
        "        os.umask(mask := os.umask(0o77))\n        if mask == 0o777:\n"
        "            raise RuntimeError\n        if not core.serve_next():\n",
        "a worker cannot work with the umask that a task has left",
        ("changes-umask",),
    ),
    Mutant(
        "speaks-one-language",
        "worker.py",
        "        if not core.serve_next():\n",
        "        import locale\n        if locale.setlocale(locale.LC_ALL) == 'C':\n"
        "            raise RuntimeError\n        if not core.serve_next():\n",
        "a worker cannot work in the locale that a task has left",
        ("changes-locale",),
    ),
    Mutant(
        "has-no-stdin",
        "worker.py",
        "    exitcode = 1\n    pid = os.getpid()\n    try:\n",
        "    exitcode = 1\n    pid = os.getpid()\n    try:\n        os.close(0)\n",
        "a task finds no stdin",
        ("reads-stdin",),
    ),
    Mutant(
        "copies-stay",
        "worker.py",
        "            exitcode = _end_of_copy(error)\n",
        "            signal.pause()\n",
        "a process that a task has forked, and that comes back from it, does not end",
        (
            "child-returns-into-the-workers-loop",
            "child-raises-into-the-workers-loop",
            "child-in-the-loop-takes-no-task",
        ),
    ),
]
