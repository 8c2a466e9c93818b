"""What can be wrong in limits, recycling, and the pool's own life: edits of python/prefork, and the
rows that would notice."""

from __future__ import annotations

from .mutant import Mutant

MUTANTS = [
    # ---- limits and ends that were asked for ----
    Mutant(
        "limits-without-facts",
        "errors.py",
        "error.limit, error.pid, error.runtime = limit, pid, runtime",
        "error.pid = pid",
        "the error of a time limit does not tell the limit",
        (
            "hard-limit-deaf-to-every-signal",
            "hard-limit-stack-signal-ignored",
            "stops-itself-and-has-a-limit",
            "a-limit-passes-while-the-zygote-is-stopped",
            "soft-limit-that-is-ignored-then-hard",
        ),
    ),
    Mutant(
        "limits-without-stacks",
        "errors.py",
        "    error.stack = stack or None\n    error.output = output or None\n    return error",
        "    error.output = output or None\n    return error",
        "the error of a time limit does not show where the task was",
        (
            "hard-limit",
            "hard-limit-of-the-pool",
            "hard-limit-while-asleep",
            "hard-limit-while-the-gil-is-held",
            "hard-limit-with-threads",
        ),
    ),
    Mutant(
        "soft-limits-are-forgotten",
        "submitting.py",
        "task._soft_limit or 0.0,",
        "0.0,",
        "soft limits never come",
        ("soft-limit-that-is-not-caught", "soft-limit-that-is-caught"),
    ),
    Mutant(
        "queue-limits-are-forgotten",
        "submitting.py",
        "task._queue_limit or 0.0,",
        "0.0,",
        "a task waits for a worker as long as it takes",
        ("time-in-the-queue", "a-limit-does-not-count-the-queue", "a-task-gives-itself-more-time"),
    ),
    Mutant(
        "cancelling-is-pretended",
        "ending.py",
        "if self._finished or not self._core.cancel(task._number):",
        "if self._finished:",
        "cancel() says yes, and the task is called",
        ("cancelled-while-it-waits", "cancelled-while-it-is-loaded"),
    ),
    Mutant(
        "ending-is-pretended",
        "ending.py",
        "            done = kill(whom, signals.SIGTERM if signal is None else signal)",
        "            done = True",
        "terminate() says yes, and nothing is hit",
        ("one-task-is-terminated", "one-job-is-terminated"),
    ),
    Mutant(
        "retries-are-forgotten",
        "submitting.py",
        "                task._retries,\n",
        "                0,\n",
        "a lost task is not called again",
        ("lost-and-called-again", "lost-too-often"),
    ),
    # ---- workers ----
    Mutant(
        "workers-are-never-worn-out",
        "lifecycle.py",
        "self._recycling.tasks or 0",
        "0",
        "maxtasksperchild means nothing",
        ("recycled-again-and-again", "a-successor-forked-ahead-is-killed"),
    ),
    Mutant(
        "memory-is-not-looked-at",
        "lifecycle.py",
        "self._recycling.memory or 0",
        "0",
        "max_memory_per_child means nothing",
        ("replaced-when-it-has-grown",),
    ),
    Mutant(
        "workers-do-not-age",
        "lifecycle.py",
        "self._recycling.age or 0.0",
        "0.0",
        "max_age_per_child means nothing",
        ("replaced-when-it-is-old",),
    ),
    Mutant(
        "failed-starts-are-never-forgiven",
        "health.py",
        "        self.is_well = not self.zygote_missing\n",
        "",
        "a pool whose initializer failed stays degraded",
        ("initializer-works-again",),
    ),
    # ---- what is told ----
    Mutant(
        "errors-hold-what-cannot-be-pickled",
        "errors.py",
        "    error.zygote_lost = end.zygote_lost\n",
        "    error.zygote_lost = end.zygote_lost\n"
        "    error.end = lambda: end  # type: ignore[attr-defined]\n",
        "the error of a lost task cannot be pickled",
        ("errors-pickle-and-copy",),
    ),
    Mutant(
        "peak-is-not-told",
        "errors.py",
        "error.peak_rss = end.peak_rss or None",
        "error.peak_rss = 0",
        "the error of a lost task does not tell its memory",
        ("the-peak-of-memory-is-told",),
    ),
    Mutant(
        "ends-are-not-logged",
        "delivery.py",
        "if how in (_core.EXIT_UNASKED, _core.EXIT_OVERDUE):",
        "if how in ():",
        "that a worker was lost is not in the log",
        ("a-lost-worker-is-one-line-in-the-log",),
    ),
    # ---- life cycle ----
    Mutant(
        "endings-are-not-repeatable",
        "lifecycle.py",
        "        if self._closed or self._is_copy():\n            return\n",
        "        if self._is_copy():\n            return\n"
        "        if self._closed:\n            raise ValueError('closed already')\n",
        "the second stop() raises",
        ("stopped-from-many-threads", "calls-before-the-start-and-after-the-end"),
    ),
    Mutant(
        "terminate-has-all-the-time-there-is",
        "lifecycle.py",
        "        grace = TERM_GRACE if timeout is None else timeout\n",
        "        grace = 1000.0\n",
        "a worker that is deaf to SIGTERM is not killed",
        ("ignores-sigterm-when-the-pool-is-terminated",),
    ),
    Mutant(
        "stop-waits-for-ever",
        "lifecycle.py",
        "        if not self.join(timeout):\n            self.terminate()",
        "        self.join(timeout)",
        "stop(timeout) leaves what is left",
        ("stopped-with-a-timeout",),
    ),
    Mutant(
        "terminate-does-not-climb",
        "lifecycle.py",
        "            self._core.terminate(signals.SIGTERM, grace)\n"
        "            self._core.rouse()\n"
        "        if not self._wait(self._is_over, grace):\n"
        "            self._core.terminate(signals.SIGKILL, 0)\n",
        "            self._core.terminate(signals.SIGTERM, 1e6)\n"
        "            self._core.rouse()\n"
        "        if not self._wait(self._is_over, None):\n",
        "who ignores SIGTERM is waited for",
        ("terminated-with-a-stopped-and-a-deaf-worker",),
    ),
    Mutant(
        "restart-does-nothing",
        "lifecycle.py",
        "        self._have_zygote()\n        self._recovery.start_afresh()",
        "        self._recovery.start_afresh()",
        "restart() forks no zygote",
        ("restarted-under-fire", "both-killed-and-restarted"),
    ),
    Mutant(
        "size-is-only-noted",
        "sizing.py",
        "            self._core.resize(limit)\n",
        "",
        "grow() makes no workers",
        ("resized-under-fire",),
    ),
    Mutant(
        "callbacks-are-dropped",
        "delivery.py",
        "            self.callbacks.append((task._call_ended, (timed_out, begun)))",
        "            pass",
        "callbacks are not called",
        ("callback-submits", "callback-takes-long", "a-guest-of-a-loop-loses-workers"),
    ),
    Mutant(
        "soft-limits-hit-whoever-is-there",
        "inside.py",
        "        limit = self.core.take_soft_limit()\n",
        "        limit = self.core.take_soft_limit() or 1.0\n",
        "a soft limit that comes late is raised in the next task",
        ("soft-limit-never-hits-the-next-task",),
    ),
    Mutant(
        "exit-waits",
        "lifecycle.py",
        '                ends.callback(pool._abandon, "was still running at exit")',
        "                ends.callback(pool.stop)",
        "a program that leaves waits for the tasks of its pools",
        ("leaves-by-sys-exit", "leaves-by-the-end-of-its-program", "leaves-by-an-exception"),
    ),
    Mutant(
        "stop-drops-what-waits",
        "lifecycle.py",
        "        self.on_stop()\n        self.close()\n",
        "        self.on_stop()\n        self.flush()\n        self.close()\n",
        "stop() cancels the tasks that have not begun",
        ("stop-does-what-was-submitted",),
    ),
    Mutant(
        "terminate-is-not-repeatable",
        "lifecycle.py",
        "        if not self._terminated:\n            self._terminated = self._closed = True\n",
        "        if self._terminated:\n            raise ValueError('terminated already')\n"
        "        if not self._terminated:\n            self._terminated = self._closed = True\n",
        "the second terminate() raises while the first goes on",
        ("terminated-from-many-threads",),
    ),
    Mutant(
        "closed-is-taken-for-ended",
        "lifecycle.py",
        "        if self._finished or self._is_copy():\n            return\n        grace",
        "        if self._closed or self._is_copy():\n            return\n        grace",
        "a pool that stops cannot be terminated",
        ("terminated-while-it-stops",),
    ),
    Mutant(
        "a-start-that-fails-is-the-last",
        "lifecycle.py",
        "        finally:\n            self._starting.release()\n",
        "        finally:\n            pass\n",
        "a pool that could not be started cannot be started later",
        ("out-of-descriptors-at-the-start",),
    ),
    Mutant(
        "a-fresh-zygote-needs-stdio",
        "boot.py",
        "    os.set_inheritable(control, False)\n",
        "    os.set_inheritable(control, False)\n    sys.stdout.flush()\n",
        "a zygote in a fresh interpreter cannot do without stdout",
        ("stdio-is-closed-before-the-start-of-a-fresh-interpreter",),
    ),
]
