"""What is promised, clause by clause: a heading, and under it what may happen. Every clause has a
row."""

from __future__ import annotations

import re

_PROMISED = """
worker ends: one task is lost, its error says how, the pool goes on
    SIGKILL
    SIGSEGV
    SIGABRT
    SIGTERM to itself
    os._exit(0)
    os._exit(3)
    sys.exit
    KeyboardInterrupt
    GeneratorExit
    MemoryError
    stack overflow in C
    out of memory, RLIMIT_AS
    out of memory, the kernel's hand
    a resource limit's signal

worker ends, when: what it held is lost only if its call had begun; the rest is done by others
    running
    idle
    starting
    in the initializer
    half-way through publishing a result
    half-way through reading a task
    all workers at once
    one after another, thousands of times

task in its own process: it may do there what it likes
    stops itself
    ignores SIGTERM
    blocks SIGTERM
    closes all descriptors
    writes garbage on every descriptor
    its child returns into the worker's loop
    a grandchild keeps the pipes open
    leaves threads behind
    closes stdio
    reads stdin
    changes directory
    changes umask
    changes locale
    changes signal masks
    changes rlimits

arguments: an error of the call, or of the one task
    unpicklable
    raising in __reduce__
    raising while unpickled
    exiting while unpickled
    very deep
    huge

results: an error of the one task
    unpicklable
    raising while unpickled
    deep
    huge

exceptions: they arrive, or a RemoteError in their place with all there is to say
    two-argument __init__
    unpicklable
    frozen
    with __cause__ and notes
    groups
    huge
    the remote traceback as text in __cause__
    real traceback objects where tblib is installed

application: whatever it does, nothing hangs, and nothing survives it
    SIGCHLD ignored
    SIGCHLD with a handler that reaps everything
    another thread in os.wait()
    Popen beside us
    a timer storm
    Ctrl-C in get
    Ctrl-C when idle
    its own SIGTERM handler
    out of descriptors
    out of processes
    out of memory in the parent
    descriptors 0 to 2 closed
    closes all its descriptors under us
    forks and exits
    forks and uses the pool
    killed with tasks queued
    pool made in a thread that ends
    pool collected without close
    exit with tasks pending
    submit and terminate racing from many threads
    callbacks that raise
    callbacks that submit
    callbacks that stop the pool
    callbacks that take long

zygote: its standby takes over; tasks that ran are lost, and no other
    killed
    stopped
    out of descriptors
    failing to fork
    killed together with its standby
    killed together with its standby, recovered without restart()
    without pidfds

process group: what the terminal or an operator sends to all of it
    SIGTERM
    SIGINT
    SIGHUP
    SIGTSTP

limits: they hit the task they mean
    hard, per task
    hard, per pool
    hard: stacks of all threads, also while the GIL is held
    hard: no TERM, no grace
    from the claim
    soft: raised inside the task
    only that task, never its successor
    extend_deadline and current_task
    queue_timeout

ending one task: it is the one that was meant, or none
    cancel before the call begins
    terminate hits the running task it means, or nothing
    terminate_job hits the running task it means, or nothing

lost tasks: called again only if so wanted, and not for ever
    at most once by default
    retry
    quarantine

initializer: who waits hears of its failure
    fails for good
    recovers by itself

recycling: no task is lost, repeated or delayed by it
    after N tasks; none lost or repeated
    by memory
    by age
    a successor forked ahead

errors that explain: the facts, as attributes and in words
    they pickle and copy
    one log line
    peak of memory
    the last lines the task wrote to stderr if capture_output=True
    the last events of the worker

flight recorder: what happened in a slot can be read, whoever is dead or hangs
    history of a slot, its dead workers' too
    prefork inspect, while the application is stopped

life cycle: no call hangs, and each is defined in every state
    calls before the start and after the end
    calls after the end
    double calls
    calls from signal handlers
    no call hangs in any state
    stop(timeout) and terminate(timeout) climb
    restart and resize under fire
"""


def _clauses() -> dict[str, str]:
    found = {}
    for section in re.split(r"\n\n+", _PROMISED.strip()):
        head, *items = section.split("\n")
        topic, promise = head.split(": ", 1)
        for item in items:
            found[f"{topic}: {item.strip()}"] = promise
    return found


CLAUSES = _clauses()  #: clause -> what is promised
