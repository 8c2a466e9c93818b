# The binding for CPython: converts, calls, checks, converts. What it says is _binding.pyi.
# cython: language_level=3, binding=True
from cpython.bytes cimport PyBytes_FromStringAndSize
from cpython.exc cimport PyErr_CheckSignals, PyErr_SetFromErrno
from libc.errno cimport EBUSY, EINTR, ESHUTDOWN, errno
from libc.math cimport llrint
from libc.stdint cimport int32_t, int64_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from posix.unistd cimport _exit, fork

cimport prefork._prefork as pf

cdef extern from "Python.h":
    void PyOS_BeforeFork()
    void PyOS_AfterFork_Parent()
    void PyOS_AfterFork_Child()

cdef enum:
    BATCH = 256
    MOST_WORKERS = 4095


from concurrent.futures._base import FINISHED as _FINISHED

SOFT_SIGNAL = pf.PF_SOFT_SIGNAL
STACKS_SIGNAL = pf.PF_STACKS_SIGNAL


cdef int check(int result) except -1:
    if result < 0:
        PyErr_SetFromErrno(OSError)
    return result


cdef int64_t nanoseconds(timeout) except -2:
    if timeout is None:
        return pf.PF_FOREVER
    cdef double seconds = timeout
    if not seconds > 0: # nor is "not a number"
        return 0
    return llrint(seconds * 1e9) if seconds < 9e9 else pf.PF_FOREVER


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


cdef bint settle_plain(delivery, pf.pf_event *event) except -1:
    # The end of a task that has a result, and of which nobody wants to be told: here and now, so
    # that no signal handler and no other thread comes in between. False: it is no such end.
    if (event.type != pf.PF_EVENT_DONE or event.outcome != pf.PF_OK or event.data == NULL or
            event.softened):
        return False
    cdef dict tasks = delivery.tasks
    task = tasks.get(event.task)
    if task is None or not task._is_plain:
        return False
    cdef bytes data
    try:
        data = PyBytes_FromStringAndSize(<char *>event.data, event.size)
    except MemoryError:
        return False
    hand = task._slot
    if hand:
        delivery.slots.free.append(hand.pop())
    task._accepted_by = event.pid
    task._data = data
    task._state = _FINISHED
    del tasks[event.task]
    return True


cdef class CorePool:
    cdef pf.pf_pool *pool

    def __cinit__(self, uint32_t workers, uint32_t tasks, double age, uint64_t memory,
                  uint64_t memory_limit, double jitter, double term_grace, bint capture_output,
                  bint ask_to_spawn):
        cdef pf.pf_options options
        options.workers = workers
        options.tasks_per_worker = tasks
        options.age_per_worker = nanoseconds(min(age, 1e9))
        options.memory_per_worker = memory
        options.memory_limit = memory_limit
        options.jitter = <uint32_t>(jitter * 1000)
        options.term_grace = <int64_t>(term_grace * 1e9)
        options.capture_output = capture_output
        options.ask_to_spawn = ask_to_spawn
        self.pool = pf.pf_pool_new(&options)
        if self.pool == NULL:
            PyErr_SetFromErrno(OSError)

    def __dealloc__(self):
        cdef pf.pf_pool *pool = self.pool
        self.pool = NULL
        if pool != NULL:
            with nogil:
                pf.pf_pool_free(pool)

    def zygote_prepare(self, list prepared not None):
        cdef int fd
        with nogil:
            fd = pf.pf_pool_zygote_prepare(self.pool)
        prepared.append(check(fd))

    def zygote_started(self, int pid):
        cdef int result
        with nogil:
            result = pf.pf_pool_zygote_started(self.pool, pid)
        check(result)

    # Kept where its end is looked for within this call, so that no signal handler that raises can
    # come in between. An end that another thread has met already is to be applied again.
    def submit(self, kept, delivery, bytes body not None, bint tell, double soft_limit,
               double limit, double queue_limit, uint32_t retries):
        cdef const char *data = body
        cdef size_t size = len(body)
        cdef pf.pf_task_options options
        options.tell = tell
        options.retries = retries
        options.soft_limit = nanoseconds(soft_limit)
        options.limit = nanoseconds(limit)
        options.queue_limit = nanoseconds(queue_limit)
        # Without giving up the GIL if the pool is free, which it nearly always is.
        cdef uint64_t task = pf.pf_pool_submit(self.pool, data, size, &options, 0)
        if task == 0 and errno == EBUSY:
            with nogil:
                task = pf.pf_pool_submit(self.pool, data, size, &options, 1)
        if task == 0:
            PyErr_SetFromErrno(OSError)
        kept._number = task
        delivery.tasks[task] = kept
        early = delivery.early.pop(task, None)
        if early is not None:
            delivery.events.append(early)
            pf.pf_pool_rouse(self.pool)
            pf.pf_pool_rouse_gatherer(self.pool)

    # Into the delivery's deque, so that no signal handler can come between taking and keeping.
    def poll(self, timeout, uint64_t rouses, delivery not None):
        cdef int64_t ns = nanoseconds(timeout)
        cdef pf.pf_event events[BATCH]
        cdef int count, i
        with nogil:
            count = pf.pf_pool_poll(self.pool, events, BATCH, ns, rouses)
        if count < 0 and errno == EINTR:
            PyErr_CheckSignals()
            return 0
        check(count)
        try:
            for i in range(count):
                if not settle_plain(delivery, &events[i]):
                    delivery.events.append(as_tuple(&events[i]))
        finally:
            for i in range(count):
                pf.pf_event_clear(&events[i])
        return count

    def rouses(self):
        return pf.pf_pool_rouses(self.pool)

    def rouse(self):
        pf.pf_pool_rouse(self.pool)

    def remind(self):
        pf.pf_pool_remind(self.pool)

    def fd(self):
        cdef int fd
        with nogil:
            fd = pf.pf_pool_fd(self.pool)
        return check(fd)

    def drive_in_background(self):
        cdef int result
        with nogil:
            result = pf.pf_pool_drive_in_background(self.pool)
        check(result)

    def wait_gathered(self):
        cdef int result
        with nogil:
            result = pf.pf_pool_wait_gathered(self.pool)
        if result < 0 and errno != EINTR:
            check(result)

    def rouse_gatherer(self):
        pf.pf_pool_rouse_gatherer(self.pool)

    def cancel(self, uint64_t task):
        cdef int result
        with nogil:
            result = pf.pf_pool_cancel(self.pool, task)
        return check(result) == 1

    def kill_task(self, uint64_t task, int signal):
        cdef int result
        with nogil:
            result = pf.pf_pool_kill_task(self.pool, task, signal)
        return check(result) == 1

    def kill_job(self, int pid, int signal):
        cdef int result
        with nogil:
            result = pf.pf_pool_kill_job(self.pool, pid, signal)
        return check(result) == 1

    def interrupt_task(self, uint64_t task):
        cdef int result
        with nogil:
            result = pf.pf_pool_interrupt_task(self.pool, task)
        return check(result) == 1

    def permit_spawn(self):
        cdef int result
        with nogil:
            result = pf.pf_pool_permit_spawn(self.pool)
        check(result)

    def resize(self, uint32_t workers):
        cdef int result
        with nogil:
            result = pf.pf_pool_resize(self.pool, workers)
        check(result)

    def close(self):
        cdef int result
        with nogil:
            result = pf.pf_pool_close(self.pool)
        check(result)

    def retire(self, bint at_once):
        cdef int result
        with nogil:
            result = pf.pf_pool_retire(self.pool, at_once)
        check(result)

    def terminate(self, int signal, double grace):
        cdef int result
        cdef int64_t ns = nanoseconds(min(grace, 1e9))
        with nogil:
            result = pf.pf_pool_terminate(self.pool, signal, ns)
        check(result)

    def shut_down(self):
        with nogil:
            pf.pf_pool_shut_down(self.pool)

    def describe(self):
        cdef pf.pf_pool_info info
        cdef int result
        with nogil:
            result = pf.pf_pool_describe(self.pool, &info)
        check(result)
        return info

    def workers(self):
        cdef pf.pf_worker_info *workers
        cdef int count, i
        workers = <pf.pf_worker_info *>calloc(MOST_WORKERS, sizeof(pf.pf_worker_info))
        if workers == NULL:
            raise MemoryError
        try:
            with nogil:
                count = pf.pf_pool_list_workers(self.pool, workers, MOST_WORKERS)
            check(count)
            return [(workers[i].slot, workers[i].state, workers[i].pid, workers[i].generation,
                     workers[i].task, workers[i].since * 1e-9, workers[i].tasks_done)
                    for i in range(count)]
        finally:
            free(workers)

    def history(self, uint32_t slot):
        cdef pf.pf_history history
        check(pf.pf_pool_history(self.pool, slot, &history))
        return notes_of(&history)

    def find_task(self, uint64_t task):
        cdef int pid
        with nogil:
            pid = pf.pf_pool_find_task(self.pool, task)
        return check(pid)


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


cdef int fork_with_hooks(void *context) noexcept:
    PyOS_BeforeFork()
    cdef int pid = fork()
    cdef int error = errno
    if pid == 0:
        PyOS_AfterFork_Child()
    else:
        PyOS_AfterFork_Parent()
    (&errno)[0] = error
    return pid


cdef class CoreWorker:
    cdef pf.pf_worker *worker
    cdef readonly uint64_t task
    cdef readonly uint32_t lost

    @property
    def slot(self):
        return pf.pf_worker_slot(self.worker)

    @property
    def generation(self):
        return pf.pf_worker_generation(self.worker)

    @property
    def crash_log(self):
        return pf.pf_worker_crash_log(self.worker)

    @property
    def captures(self):
        return pf.pf_worker_captures(self.worker) != 0

    def call(self, target, args, kwargs):
        # Between these two no line of Python runs but the target's: only in there may a signal
        # handler of ours raise, and it asks take_soft_limit.
        cdef bint interrupted = pf.pf_worker_call_begins(self.worker)
        try:
            if interrupted:
                PyErr_CheckSignals()
            return target(*args, **kwargs) if kwargs else target(*args)
        finally:
            pf.pf_worker_call_ends(self.worker)

    def take_soft_limit(self):
        cdef int64_t limit = pf.pf_worker_take_soft_limit(self.worker)
        return None if limit == pf.PF_INTERRUPTED else limit / 1e9 # 0.3 comes back as 0.3

    def extend(self, double seconds):
        check(pf.pf_worker_extend(self.worker, nanoseconds(min(seconds, 1e9))))

    def answer_stacks_signal(self):
        check(pf.pf_worker_answer_stacks_signal())

    def unblock_signals(self):
        pf.pf_worker_unblock(self.worker)
        PyErr_CheckSignals()

    def ready(self):
        check(pf.pf_worker_ready(self.worker))

    def failed(self, bytes data not None):
        check(pf.pf_worker_failed(self.worker, <char *>data, len(data)))

    def claim(self):
        cdef pf.pf_claim claim
        cdef int result
        while True:
            result = pf.pf_worker_claim(self.worker, &claim)
            if result == 1:
                self.task = claim.id
                self.lost = claim.lost
                if claim.body == NULL and claim.size > 0:
                    raise MemoryError(f"there is no room for {claim.size} bytes of arguments")
                return PyBytes_FromStringAndSize(<char *>claim.body, claim.size)
            if result < 0 and errno == ESHUTDOWN:
                return None
            check(result)
            self.wait(pf.pf_worker_wait)

    cdef int wait(self, int (*until)(pf.pf_worker *) noexcept nogil) except -1:
        # Every handler that is due is called before we sleep: the few that come due between the
        # first look and the blocking of signals are called with these blocked.
        cdef int result
        PyErr_CheckSignals()
        pf.pf_worker_hold_signals(self.worker)
        try:
            PyErr_CheckSignals()
            with nogil:
                result = until(self.worker)
            if result < 0 and errno != EINTR:
                check(result)
        finally:
            pf.pf_worker_release_signals(self.worker)
        PyErr_CheckSignals()
        return 0

    def deliver(self, uint32_t outcome, bytes data not None):
        cdef const char *at = data
        cdef size_t size = len(data)
        cdef int result = pf.pf_worker_deliver(self.worker, outcome, at, size)
        while result == 1:
            self.wait(pf.pf_worker_wait_space)
            result = pf.pf_worker_deliver(self.worker, outcome, at, size)
        check(result)


def run_zygote(int control, int application, worker_main):
    """Serves the application; returns in no process."""
    cdef pf.pf_worker *worker = NULL
    cdef CoreWorker newborn
    try:
        # The GIL is kept: nothing else may run here.
        if pf.pf_zygote_run(control, application, fork_with_hooks, NULL, &worker) == 1:
            newborn = CoreWorker.__new__(CoreWorker)
            newborn.worker = worker
            worker_main(newborn)
    finally:
        _exit(0)
