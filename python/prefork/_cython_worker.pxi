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


# A fork of the worker has nothing more to do.
cdef int check_own(int result) except -1:
    if result < 0 and errno == ECHILD:
        raise SystemExit(0)
    return check(result)


cdef class CoreWorker:
    cdef pf.pf_worker *worker
    cdef int pid
    cdef pf.pf_claim claim
    cdef object target, correlation_id

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

    @property
    def current(self):
        if self.target is None:
            return None
        return (self.target, self.correlation_id, self.claim.id, self.claim.started * 1e-9,
                self.claim.lost)

    cdef object call(self, target, args, kwargs, correlation_id):
        self.target = target
        self.correlation_id = correlation_id
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

    def serve_next(self):
        cdef int result
        while True:
            result = pf.pf_worker_claim(self.worker, &self.claim)
            if result == 1:
                break
            if result < 0 and errno == ESHUTDOWN:
                return False
            check_own(result)
            self.wait(pf.pf_worker_wait)
        outcome, data = self.answer()
        self.deliver(outcome, data)
        return True

    cdef tuple answer(self):
        # As codec.run_call.
        cdef const char *body = <const char *>self.claim.body
        cdef size_t size = self.claim.size
        try:
            if body == NULL:
                raise MemoryError(f"there is no room for {size} bytes of arguments")
            target, args, kwargs, correlation_id = decode_call(body, size)
            result = self.call(target, args, kwargs, correlation_id)
        except BaseException as error:
            return codec.outcome_of(error, self.pid)
        # As codec.encode_result, which says why there is none.
        try:
            data = dump(result) if type(result) in TYPES else None
        except BaseException:
            data = None
        return codec.encode_result(result) if data is None else (pf.PF_OK, data)

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
                check_own(result)
        finally:
            pf.pf_worker_release_signals(self.worker)
        PyErr_CheckSignals()
        return 0

    cdef int deliver(self, uint32_t outcome, bytes data) except -1:
        cdef const char *at = data
        cdef size_t size = len(data)
        self.target = None
        cdef int result = pf.pf_worker_deliver(self.worker, outcome, at, size)
        while result == 1:
            self.wait(pf.pf_worker_wait_space)
            result = pf.pf_worker_deliver(self.worker, outcome, at, size)
        check_own(result)


def call_each(target, bint star, list items, list results, double until):
    # As calls.call_each.
    cdef Py_ssize_t place = len(results)
    while place < len(items): # which a fork of the worker empties
        if star:
            results.append(target(*items[place]))
        else:
            results.append(target(items[place]))
        place += 1
        if pf.pf_worker_clock() * 1e-9 > until:
            break


def run_zygote(int control, int application, worker_main):
    """Serves the application; returns in no process."""
    import_codec()
    cdef pf.pf_worker *worker = NULL
    cdef CoreWorker newborn
    try:
        # The GIL is kept: nothing else may run here.
        if pf.pf_zygote_run(control, application, fork_with_hooks, NULL, &worker) == 1:
            newborn = CoreWorker.__new__(CoreWorker)
            newborn.worker = worker
            newborn.pid = getpid()
            worker_main(newborn)
    finally:
        _exit(0)
