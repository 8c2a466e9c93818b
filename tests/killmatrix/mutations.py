"""What can be wrong with the library in one place, and which rows would notice: edits of
python/prefork (quick to try) and of csrc (which have to be built)."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Mutant:
    name: str
    file: str  # below python/prefork, or of csrc
    old: str
    new: str
    breaks: str
    rows: tuple[str, ...]

    @property
    def in_core(self) -> bool:
        return self.file.endswith((".c", ".h"))


MUTANTS = [
    # ---- outcomes ----
    Mutant(
        "callback-twice",
        "task.py",
        "self._call_back(self._callback, self._result)",
        "self._call_back(self._callback, self._result)\n"
        "            self._call_back(self._callback, self._result)",
        "the callback of a task is called twice",
        ("rlimit-as", "interrupted-in-get"),
    ),
    Mutant(
        "slot-not-released",
        "delivery.py",
        "                self._pool._semaphore.release()",
        "                if error is None:\n                    self._pool._semaphore.release()",
        "a task that fails keeps its slot",
        ("sigterm-to-itself", "raises-memoryerror"),
    ),
    Mutant(
        "error-without-pid",
        "errors.py",
        "error.pid = end.pid or None",
        "error.pid = None",
        "the error of a lost task names no worker",
        ("sigkill", "killed-from-outside-while-running"),
    ),
    Mutant(
        "exception-without-cause",
        "codec.py",
        '        BaseException.__setattr__(error, "__cause__", remote)',
        "        pass",
        "an exception comes without its remote traceback",
        (
            "the-remote-traceback-is-the-cause",
            "raises-memoryerror",
            "exception-has-cause-and-notes",
        ),
    ),
    Mutant(
        "frozen-refuses-its-cause",
        "codec.py",
        'BaseException.__setattr__(error, "__cause__", remote)',
        "error.__cause__ = remote",
        "an exception that is frozen comes as a RemoteError",
        ("exception-is-frozen-and-pickles",),
    ),
    Mutant(
        "exits-escape-the-call",
        "codec.py",
        "    except BaseException as error:\n        if os.getpid() != worker:\n"
        "            raise\n        return ERROR",
        "    except Exception as error:\n        if os.getpid() != worker:\n"
        "            raise\n        return ERROR",
        "sys.exit in a task ends the worker",
        (
            "raises-systemexit",
            "raises-keyboardinterrupt",
            "raises-generatorexit",
            "argument-raises-systemexit-in-the-worker",
        ),
    ),
    Mutant(
        "results-must-pickle",
        "codec.py",
        "        return OK, pickle.dumps(result, _PROTOCOL)\n    except BaseException as error:",
        "        return OK, pickle.dumps(result, _PROTOCOL)\n    except ValueError as error:",
        "a result that cannot be pickled ends the worker",
        ("result-is-a-lock", "result-is-a-lambda-and-a-lock", "result-is-very-deep"),
    ),
    Mutant(
        "exceptions-must-pickle",
        "codec.py",
        "pickle.dumps(error, _PROTOCOL)\n        except Exception:",
        "pickle.dumps(error, _PROTOCOL)\n        except ZeroDivisionError:",
        "an exception that cannot be pickled ends the worker",
        ("exception-holds-a-lock", "exception-of-a-local-class", "exception-raises-in-reduce"),
    ),
    Mutant(
        "exceptions-must-unpickle",
        "codec.py",
        '(error, "__cause__", remote)  # it may be a frozen one\n    except Exception:',
        '(error, "__cause__", remote)  # it may be a frozen one\n    except MemoryError:',
        "an exception that cannot be unpickled is not what the error says",
        (
            "exception-of-two-arguments",
            "exception-raises-valueerror-in-the-parent",
            "exception-is-frozen",
        ),
    ),
    Mutant(
        "results-must-unpickle",
        "delivery.py",
        "            except BaseException as error:\n                failure = error",
        "            except Exception as error:\n                failure = error",
        "SystemExit in the unpickling of a result leaves the call that waits",
        ("result-raises-systemexit-in-the-parent", "result-raises-keyboardinterrupt-in-the-parent"),
    ),
    # ---- the application ----
    Mutant(
        "copies-are-not-told",
        "driving.py",
        "return self._pid != os.getpid()",
        "return False",
        "a fork of the application takes the pool for its own",
        ("forks-and-the-child-submits",),
    ),
    Mutant(
        "callbacks-may-not-raise",
        "task.py",
        "        except self._propagate as error:\n            self._pool._propagate(error)",
        "        except ValueError:\n            raise\n"
        "        except self._propagate as error:\n            self._pool._propagate(error)",
        "what a callback raises keeps the next ones from being called",
        ("callback-raises",),
    ),
    Mutant(
        "forgotten-pools-live-on",
        "lifecycle.py",
        '            self._abandon("was collected while it was running")',
        "            pass",
        "a pool that was collected is not ended",
        ("pool-is-collected",),
    ),
    Mutant(
        "interrupts-reach-workers",
        "worker.py",
        "        signal.signal(signal.SIGINT, signal.SIG_IGN)",
        "        signal.signal(signal.SIGINT, signal.SIG_DFL)",
        "Ctrl-C of the terminal ends workers",
        ("group-gets-sigint", "interrupted-by-the-terminal-in-get"),
    ),
    Mutant(
        "hangups-reach-workers",
        "worker.py",
        "        signal.signal(signal.SIGHUP, signal.SIG_IGN)",
        "        signal.signal(signal.SIGHUP, signal.SIG_DFL)",
        "the end of the terminal ends workers",
        ("group-gets-sighup",),
    ),
    Mutant(
        "waiting-tasks-are-not-failed",
        "pool.py",
        "            self._core.cancel(number)\n\n    # ---- size",
        "\n    # ---- size",
        "tasks wait for ever when no worker can start",
        ("initializer-fails-for-good", "both-killed-with-tasks-running-and-queued"),
    ),
    # ---- between tasks ----
    Mutant(
        "looks-where-it-is",
        "worker.py",
        "        body = core.claim()\n",
        "        os.getcwd()\n        body = core.claim()\n",
        "a worker needs its directory between tasks",
        ("removes-its-directory",),
    ),
    Mutant(
        "prints-between-tasks",
        "worker.py",
        "        body = core.claim()\n",
        "        os.write(1, b'')\n        body = core.claim()\n",
        "a worker needs its stdout between tasks",
        ("closes-stdio", "stdio-is-closed-before-the-start"),
    ),
    Mutant(
        "opens-between-tasks",
        "worker.py",
        "        body = core.claim()\n",
        "        open('/dev/null').close()\n        body = core.claim()\n",
        "a worker needs a new descriptor between tasks",
        ("lowers-its-limits",),
    ),
    Mutant(
        "joins-threads-between-tasks",
        "worker.py",
        "        body = core.claim()\n",
        "        [t.join() for t in threading.enumerate()\n"
        "         if t is not threading.main_thread()]\n        body = core.claim()\n",
        "a worker waits for the threads that a task has left",
        ("leaves-threads-behind",),
    ),
    Mutant(
        "reads-its-environment",
        "worker.py",
        "        body = core.claim()\n",
        "        os.environ['PATH']\n        body = core.claim()\n",
        "a worker needs its environment between tasks",
        ("changes-the-environment",),
    ),
    Mutant(
        "masks-are-kept",
        "worker.py",
        "        if signal.getsignal(_core.SOFT_SIGNAL) != present.on_soft_limit:",
        "        if _core.SOFT_SIGNAL in signal.pthread_sigmask(signal.SIG_BLOCK, []):\n"
        "            raise RuntimeError\n"
        "        if signal.getsignal(_core.SOFT_SIGNAL) != present.on_soft_limit:",
        "a worker cannot live with the mask that a task has left",
        ("changes-signal-masks",),
    ),
    Mutant(
        "handlers-are-kept",
        "worker.py",
        "            signal.signal(_core.SOFT_SIGNAL, present.on_soft_limit)\n\n\ndef _finish",
        "            raise RuntimeError\n\n\ndef _finish",
        "a worker cannot live without its handler of the soft signal",
        ("changes-signal-handlers",),
    ),
    # ---- limits ----
    Mutant(
        "crashes-say-nothing",
        "worker.py",
        "        faulthandler.enable(core.crash_log, all_threads=True)\n",
        "",
        "a crash brings no stack",
        ("sigsegv", "sigabrt", "a-thread-left-behind-crashes"),
    ),
    # ---- the core ----
    Mutant(
        "poll-closed-unnoticed",
        "pool_poll.c",
        "    if (pool->by_driver && pf__poll_wake(pool->poll) < 0)\n        return -1;",
        "    if (pool->by_driver)\n        (void)pf__poll_wake(pool->poll);",
        "who waits for a driver that cannot be woken waits for ever",
        ("all-descriptors-are-closed-under-the-pool",),
    ),
    Mutant(
        "workers-outlive-the-zygote",
        "platform_linux.c",
        "prctl(PR_SET_PDEATHSIG, SIGKILL)",
        "prctl(PR_SET_PDEATHSIG, 0)",
        "workers live on when application and zygote are gone",
        (
            "killed-with-tasks-queued",
            "zygote-killed-while-workers-run",
            "terminated-with-tasks-queued",
            "aborted-with-tasks-queued",
        ),
    ),
    Mutant(
        "copies-speak",
        "worker.c",
        "    forked_copy = 1;\n",
        "",
        "a process that a task has forked speaks for its worker",
        ("child-in-the-loop-takes-no-task", "child-returns-into-the-workers-loop"),
    ),
    Mutant(
        "start-is-not-looked-up",
        "pool_orders.c",
        "    pf__child_look(pool, child); /* when it began",
        "    /* when it began",
        "a task over its memory limit does not know how long it ran",
        ("killed-when-it-takes-far-too-much",),
    ),
]
