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
            "zygote-killed-while-workers-run",
            "fresh-zygote-killed-while-workers-run",
        ),
    ),
    Mutant(
        "start-is-not-looked-up",
        "pool_orders.c",
        "    pf__child_look(pool, child); /* when it began",
        "    /* when it began",
        "a task over its memory limit does not know how long it ran",
        ("killed-when-it-takes-far-too-much",),
    ),
    # ---- sizes ----
    Mutant(
        "large-results-are-cut",
        "codec.py",
        "        return OK, pickle.dumps(result, _PROTOCOL)\n    except",
        "        return OK, pickle.dumps(result, _PROTOCOL)[: 1 << 21]\n    except",
        "of a large result half arrives",
        ("result-is-huge", "many-large-results"),
    ),
    Mutant(
        "large-calls-are-cut",
        "codec.py",
        "return pickle.dumps((target, args, kwargs, correlation_id), _PROTOCOL)",
        "return pickle.dumps((target, args, kwargs, correlation_id), _PROTOCOL)[: 1 << 21]",
        "of a large argument half arrives",
        ("argument-is-huge", "many-large-arguments"),
    ),
    Mutant(
        "calls-are-replaced",
        "codec.py",
        "    return pickle.dumps((target, args, kwargs, correlation_id), _PROTOCOL)",
        "    try:\n"
        "        return pickle.dumps((target, args, kwargs, correlation_id), _PROTOCOL)\n"
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
        "pool.py",
        "task._soft_limit or 0.0,",
        "0.0,",
        "soft limits never come",
        ("soft-limit-that-is-not-caught", "soft-limit-that-is-caught"),
    ),
    Mutant(
        "queue-limits-are-forgotten",
        "pool.py",
        "task._queue_limit or 0.0,",
        "0.0,",
        "a task waits for a worker as long as it takes",
        ("time-in-the-queue", "a-limit-does-not-count-the-queue", "a-task-gives-itself-more-time"),
    ),
    Mutant(
        "cancelling-is-pretended",
        "pool.py",
        "if self._finished or not self._core.cancel(task._number):",
        "if self._finished:",
        "cancel() says yes, and the task is called",
        ("cancelled-while-it-waits", "cancelled-while-it-is-loaded"),
    ),
    Mutant(
        "ending-is-pretended",
        "pool.py",
        "            done = kill(whom, signals.SIGTERM if signal is None else signal)",
        "            done = True",
        "terminate() says yes, and nothing is hit",
        ("one-task-is-terminated", "one-job-is-terminated"),
    ),
    Mutant(
        "retries-are-forgotten",
        "pool.py",
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
        "        boot.start_zygote(self._core, self._start_method, self._setup, self._preload)\n"
        "        self._delivery",
        "        self._delivery",
        "restart() forks no zygote",
        ("restarted-under-fire", "both-killed-and-restarted"),
    ),
    Mutant(
        "size-is-only-noted",
        "pool.py",
        "        self._core.resize(limit)\n",
        "",
        "grow() makes no workers",
        ("resized-under-fire",),
    ),
    Mutant(
        "callbacks-are-dropped",
        "delivery.py",
        "            self.callbacks.append((task._call_ended, (timed_out,)))",
        "            pass",
        "callbacks are not called",
        ("callback-submits", "callback-takes-long", "a-guest-of-a-loop-loses-workers"),
    ),
    # ---- flight recorder ----
    Mutant(
        "a-dead-workers-history-too",
        "delivery.py",
        "        history = last_life(history_of(notes, {number: task.id}))",
        "        history = history_of(notes, {number: task.id})",
        "the error shows what happened to the slot's earlier workers, too",
        ("the-last-events-are-told",),
    ),
    Mutant(
        "exits-are-not-noted",
        "pool_children.c",
        "    pf__child_note(pool, child, PF_NOTE_EXITED, (uint64_t)(int64_t)event.status);",
        "",
        "the recorder does not say that a worker has ended",
        ("the-last-events-are-told", "a-slot-shows-what-happened-to-its-dead"),
    ),
    Mutant(
        "inspect-misreads",
        "cli/inspect.py",
        '            return "running", event.value, event.at',
        '            return "idle", None, event.at',
        "prefork inspect shows no running task",
        ("inspected-while-the-application-is-stopped",),
    ),
    # ---- output ----
    Mutant(
        "frames-are-not-restored",
        "codec.py",
        "    tracebacks.restore(error, frames)\n",
        "",
        "an exception has no remote frames",
        ("the-remote-frames-are-a-traceback",),
    ),
    Mutant(
        "output-is-not-shown",
        "delivery.py",
        '        output = last_lines(written or b"")\n        history',
        '        output = ""\n        history',
        "what a task wrote last does not come with its loss",
        (
            "the-last-lines-are-told",
            "the-last-lines-of-what-ran-too-long",
            "the-last-words-of-c",
            "the-last-lines-are-its-own",
            "a-talkative-task-does-not-fill-memory",
        ),
    ),
    Mutant(
        "streams-are-left-as-they-are",
        "worker.py",
        "        streams = _captured_streams() if core.captures else ()\n",
        "        streams = ()\n",
        "what Python prints is not there when the worker ends",
        ("the-last-lines-are-told",),
    ),
    Mutant(
        "output-is-never-trimmed",
        "pool_orders.c",
        "    pf__output_trim(child->output);\n",
        "",
        "a talkative task fills memory",
        ("a-talkative-task-does-not-fill-memory",),
    ),
    Mutant(
        "output-is-never-emptied",
        "worker_tasks.c",
        "    pf__output_begin(&worker->output);\n",
        "",
        "a task shows what others wrote",
        ("the-last-lines-are-its-own",),
    ),
    Mutant(
        "exits-before-up-show-nothing",
        "pool_children.c",
        "    if (seat->state != PF_SEAT_UP && !seat->up_early)\n"
        "        pf__child_show_output(child, &event);\n",
        "",
        "what keeps a worker from coming up is not shown",
        ("the-last-lines-of-a-worker-that-is-not-up",),
    ),
    # ---- zygotes ----
    Mutant(
        "no-standby",
        "pool_zygotes.c",
        "    if (active != NULL && pf__zygote_with_role(pool, PF_ZYGOTE_STANDBY) == NULL &&",
        "    if (0 && active != NULL && pf__zygote_with_role(pool, PF_ZYGOTE_STANDBY) == NULL &&",
        "no standby is forked",
        (
            "zygote-killed-while-idle",
            "standby-killed",
            "zygotes-killed-one-after-the-other",
            "zygote-killed-without-pidfds",
            "zygote-stopped-and-killed",
            "another-thread-reaps-the-zygote",
        ),
    ),
]
