# The binding for CPython: converts, calls, checks, converts. What it says is _binding.pyi.
#
#   _cython_task.pxi    a task on its plain way: what it is, and its end
#   _cython_pool.pxi    CorePool
#   _cython_worker.pxi  CoreWorker, and the zygote that it comes from
#
# cython: language_level=3, binding=True
from cpython.bytes cimport PyBytes_FromStringAndSize
from cpython.exc cimport PyErr_CheckSignals, PyErr_SetFromErrno
from libc.errno cimport EBUSY, ECHILD, EINTR, ESHUTDOWN, errno
from libc.math cimport llrint
from libc.stdint cimport int32_t, int64_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy
from posix.unistd cimport _exit, fork, getpid

cimport prefork._prefork as pf

from concurrent.futures._base import FINISHED, PENDING
from pickle import HIGHEST_PROTOCOL as PROTOCOL, dumps, loads
from types import FunctionType

from . import plain

cdef extern from "Python.h":
    void PyOS_BeforeFork()
    void PyOS_AfterFork_Parent()
    void PyOS_AfterFork_Child()

cdef extern from "marshal.h":
    object PyMarshal_WriteObjectToString(object value, int version)
    object PyMarshal_ReadObjectFromString(const char *data, Py_ssize_t size)

cdef enum:
    BATCH = 256

__all__ = [
    "SOFT_SIGNAL",
    "STACKS_SIGNAL",
    "CorePool",
    "CoreWorker",
    "TaskState",
    "call_each",
    "call_first",
    "call_once",
    "read_history",
    "run_zygote",
]

SOFT_SIGNAL = pf.PF_SOFT_SIGNAL
STACKS_SIGNAL = pf.PF_STACKS_SIGNAL


cdef object codec = None


cdef int import_codec() except -1:
    # It imports us.
    global codec
    from . import codec
    return 0


cdef int check(int result) except -1:
    if result < 0:
        PyErr_SetFromErrno(OSError)
    return result


cdef void clear(pf.pf_event *events, int count) noexcept:
    cdef int i
    for i in range(count):
        pf.pf_event_clear(&events[i])


cdef int64_t nanoseconds(timeout) except -2:
    if timeout is None:
        return pf.PF_FOREVER
    cdef double seconds = timeout
    if not seconds > 0: # nor is "not a number"
        return 0
    return max(1, llrint(seconds * 1e9)) if seconds < 9e9 else pf.PF_FOREVER


cdef tuple notes_of(pf.pf_history *history):
    if history == NULL:
        return None
    cdef uint32_t i
    return (history.generation, history.since * 1e-9, history.pid,
            [(history.notes[i].type, history.notes[i].at * 1e-9, history.notes[i].value)
             for i in range(history.count)])


cdef tuple as_tuple(pf.pf_event *event):
    cdef bytes data = None, output = None
    cdef uint32_t outcome = event.outcome
    if event.data != NULL:
        try:
            data = PyBytes_FromStringAndSize(<char *>event.data, event.size)
        except MemoryError:
            if outcome == pf.PF_OK:
                outcome = pf.PF_ERROR
    if event.output != NULL:
        try:
            output = PyBytes_FromStringAndSize(<char *>event.output, event.output_size)
        except MemoryError:
            pass
    return (<int>event.type, outcome, event.task, event.slot, event.pid, event.status,
            event.zygote_lost, event.at * 1e-9, data, event.peak_rss, event.memory, output,
            notes_of(event.history), event.softened)


include "_cython_task.pxi"
include "_cython_pool.pxi"
include "_cython_worker.pxi"


def call_once(dict called, str name, function, *args):
    """Notes that it is called, and calls, or does nothing if that is noted: no handler comes in
    between."""
    if name not in called:
        called[name] = True
        function(*args)


def call_first(list functions, arg):
    """Takes the first of them and calls it: no handler comes in between."""
    if functions:
        functions.pop(0)(arg)


def read_history(int fd, uint32_t slot):
    cdef pf.pf_history history
    check(pf.pf_history_read(fd, slot, &history))
    return notes_of(&history)
