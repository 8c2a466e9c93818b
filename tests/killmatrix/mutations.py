"""What can be wrong in how tasks, their values and their ends go from and to the application: edits
of python/prefork, and the rows that would notice."""

from __future__ import annotations

from .mutant import Mutant

MUTANTS = [
    # ---- outcomes ----
    Mutant(
        "callback-twice",
        "task.py",
        'self._call_once("_end_told", self._callback, self._result)',
        'self._call_once("_end_told", self._callback, self._result)\n'
        '            self._call_once("_other_told", self._callback, self._result)',
        "the callback of a task is called twice",
        ("rlimit-as", "interrupted-in-get"),
    ),
    Mutant(
        "slot-not-released",
        "delivery.py",
        "        elif task._holds_foreign:",
        "        elif task._holds_foreign and error is None:",
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
        '    BaseException.__setattr__(error, "__cause__", None if error is remote else remote)',
        "    pass",
        "an exception comes without its remote traceback",
        (
            "the-remote-traceback-is-the-cause",
            "raises-memoryerror",
            "exception-shows-nothing",
            "exception-is-a-group",
            "exception-is-huge",
            "exception-is-a-long-chain",
            "exception-is-stopiteration",
            "exception-has-cause-and-notes",
        ),
    ),
    Mutant(
        "frozen-refuses-its-cause",
        "codec.py",
        'BaseException.__setattr__(error, "__cause__", None if error is remote else remote)',
        "error.__cause__ = None if error is remote else remote",
        "an exception that is frozen comes as a RemoteError",
        ("exception-is-frozen-and-pickles",),
    ),
    Mutant(
        "exits-escape-the-call",
        "codec.py",
        "    if os.getpid() != worker:\n        raise error\n",
        "    if os.getpid() != worker or not isinstance(error, Exception):\n        raise error\n",
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
        "pickle.dumps(result, _PROTOCOL)\n    except BaseException as error:",
        "pickle.dumps(result, _PROTOCOL)\n    except ZeroDivisionError as error:",
        "a result that cannot be pickled ends the worker",
        (
            "result-raises-in-reduce",
            "result-is-a-lock",
            "result-is-a-lambda-and-a-lock",
            "result-is-very-deep",
        ),
    ),
    Mutant(
        "exceptions-must-pickle",
        "codec.py",
        "pickle.dumps(error, _PROTOCOL)\n        except BaseException as",
        "pickle.dumps(error, _PROTOCOL)\n        except ZeroDivisionError as",
        "an exception that cannot be pickled ends the worker",
        ("exception-holds-a-lock", "exception-of-a-local-class", "exception-raises-in-reduce"),
    ),
    Mutant(
        "exceptions-must-unpickle",
        "codec.py",
        "    except Exception as failure:\n        return None, f",
        "    except MemoryError as failure:\n        return None, f",
        "an exception that cannot be unpickled is not what the error says",
        (
            "exception-of-two-arguments",
            "exception-raises-valueerror-in-the-parent",
            "exception-is-frozen",
        ),
    ),
    Mutant(
        "results-must-unpickle",
        "codec.py",
        "        except BaseException as error:\n            failure = error",
        "        except Exception as error:\n            failure = error",
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
        ("forks-and-the-child-submits", "forks-and-the-child-ends-the-pool"),
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
        "        _signal.signal(_signal.SIGINT, _signal.SIG_IGN)",
        "        _signal.signal(_signal.SIGINT, _signal.SIG_DFL)",
        "Ctrl-C of the terminal ends workers",
        ("group-gets-sigint", "interrupted-by-the-terminal-in-get"),
    ),
    Mutant(
        "hangups-reach-workers",
        "worker.py",
        "        _signal.signal(_signal.SIGHUP, _signal.SIG_IGN)",
        "        _signal.signal(_signal.SIGHUP, _signal.SIG_DFL)",
        "the end of the terminal ends workers",
        ("group-gets-sighup",),
    ),
    Mutant(
        "waiting-tasks-are-not-failed",
        "ending.py",
        "            self._core.cancel(number)",
        "            pass",
        "tasks wait for ever when no worker can start",
        ("initializer-fails-for-good", "both-killed-with-tasks-running-and-queued"),
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
    # ---- sizes ----
    Mutant(
        "large-results-are-cut",
        "_cython_task.pxi",
        "        return PyMarshal_WriteObjectToString(what, VERSION)",
        "        return PyMarshal_WriteObjectToString(what, VERSION)[: 1 << 21]",
        "of a large result half arrives",
        ("result-is-huge", "many-large-results"),
    ),
    Mutant(
        "large-calls-are-cut",
        "plain.py",
        "        return marshal.dumps(what, VERSION)",
        "        return marshal.dumps(what, VERSION)[: 1 << 21]",
        "of a large argument half arrives",
        ("argument-is-huge", "many-large-arguments"),
    ),
    Mutant(
        "calls-are-replaced",
        "codec.py",
        "    return pickle.dumps((what, args, kwargs, correlation_id), _PROTOCOL)",
        "    try:\n"
        "        return pickle.dumps((what, args, kwargs, correlation_id), _PROTOCOL)\n"
        "    except Exception:\n"
        "        return pickle.dumps((abs, (1,), None, correlation_id), _PROTOCOL)",
        "arguments that cannot be pickled are no error of the call",
        (
            "lock-as-argument",
            "local-function-as-argument",
            "argument-raises-in-reduce",
            "argument-is-very-deep",
        ),
    ),
    # ---- waiting ----
    Mutant(
        "waiters-are-not-roused",
        "driving.py",
        "            self._core.rouse()  # others may have waited for what was in this batch\n",
        "            pass\n",
        "who waits does not hear of an end that another thread has found",
        ("many-threads-submit-and-wait",),
    ),
    Mutant(
        "interrupted-calls-fail",
        "_cython_pool.pxi",
        "            PyErr_CheckSignals()\n            return 0\n",
        "            PyErr_CheckSignals()\n",
        "a signal whose handler does nothing ends the wait with InterruptedError",
        ("timer-storm",),
    ),
    Mutant(
        "no-recovery",
        "recovery.py",
        "self._obstacle(pool._start_method) or self._start(pool)",
        'self._obstacle(pool._start_method) or "it was never meant to be"',
        "a pool that has lost both zygotes is degraded at once",
        ("both-killed-and-forked-anew", "both-killed-and-executed-anew"),
    ),
    Mutant(
        "recovery-for-ever",
        "recovery.py",
        "MOST, WITHIN = 3,",
        "MOST, WITHIN = 1_000_000,",
        "a zygote that dies at once is started anew for ever",
        ("both-killed-again-and-again",),
    ),
    Mutant(
        "forked-among-threads",
        "recovery.py",
        'if method != "fork":',
        "if True:",
        "the application is forked whatever its threads are about",
        ("both-killed-and-restarted", "both-killed-with-tasks-running-and-queued"),
    ),
]
