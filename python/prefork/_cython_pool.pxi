cdef class CorePool:
    cdef pf.pf_pool *pool
    cdef pf.pf_event left[BATCH] # taken from the core; there was no memory to deliver them
    cdef int left_count

    def __cinit__(self, uint32_t workers, uint32_t tasks, double age, uint64_t memory,
                  uint64_t memory_limit, double jitter, double term_grace, bint capture_output,
                  bint ask_to_spawn):
        import_codec()
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
        clear(self.left, self.left_count)
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
    def submit(self, TaskState kept not None, delivery, bytes body not None, bint tell,
               double soft_limit, double limit, double queue_limit, uint32_t retries):
        cdef pf.pf_task_options options
        options.tell = tell
        options.retries = retries
        options.soft_limit = nanoseconds(soft_limit)
        options.limit = nanoseconds(limit)
        options.queue_limit = nanoseconds(queue_limit)
        if not self._keep(kept, delivery, body, &options):
            PyErr_SetFromErrno(OSError)

    cdef bint _keep(self, TaskState task, delivery, bytes body,
                    pf.pf_task_options *options) except -1:
        cdef const char *data = body
        cdef size_t size = len(body)
        # Without giving up the GIL if the pool is free, which it nearly always is.
        cdef uint64_t number = pf.pf_pool_submit(self.pool, data, size, options, 0)
        if number == 0 and errno == EBUSY:
            with nogil:
                number = pf.pf_pool_submit(self.pool, data, size, options, 1)
        if number == 0:
            return False
        task._number = number
        cdef dict tasks = delivery.tasks, early = delivery.early
        try:
            tasks[number] = task
        except MemoryError: # it grows at times, by as much as all of them have
            task._number = 0
            delivery.ended.add(number)
            self.cancel(number)
            raise
        found = early.pop(number, None) if early else None
        if found is not None:
            delivery.events.append(found)
            pf.pf_pool_rouse(self.pool)
            pf.pf_pool_rouse_gatherer(self.pool)
        return True

    def submit_call(self, kind, pool, delivery, target, tuple args not None, kwargs):
        cdef bytes body = encode_call(target, args, kwargs)
        cdef TaskState task = TaskState.__new__(kind)
        task._pool = pool
        task._name = target.__qualname__ if type(target) is FunctionType else codec.name_of(target)
        if self._keep(task, delivery, body, NULL):
            return task
        if errno not in (ECHILD, ESHUTDOWN):
            PyErr_SetFromErrno(OSError)
        return None

    # Into the delivery's deque, so that no signal handler can come between taking and keeping.
    def poll(self, timeout, uint64_t rouses, delivery not None):
        cdef int64_t ns = nanoseconds(timeout)
        cdef pf.pf_event events[BATCH]
        cdef int count = self.left_count
        if count > 0:
            memcpy(events, self.left, count * sizeof(pf.pf_event))
            self.left_count = 0
        else:
            with nogil:
                count = pf.pf_pool_poll(self.pool, events, BATCH, ns, rouses)
        if count < 0 and errno == EINTR:
            PyErr_CheckSignals()
            return 0
        check(count)
        self._deliver(delivery, events, count)
        return count

    cdef int _deliver(self, delivery, pf.pf_event *events, int count) except -1:
        cdef dict tasks = delivery.tasks
        cdef int done = 0
        try:
            while done < count:
                if not settle_plain(delivery, tasks, &events[done]):
                    delivery.events.append(as_tuple(&events[done]))
                done += 1
        finally:
            clear(events, done)
            if done < count and self.left_count == 0: # else two threads had no memory at once
                memcpy(self.left, &events[done], (count - done) * sizeof(pf.pf_event))
                self.left_count = count - done
                pf.pf_pool_rouse(self.pool)
                pf.pf_pool_rouse_gatherer(self.pool)
            elif done < count:
                clear(&events[done], count - done)
        return 0

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
        workers = <pf.pf_worker_info *>calloc(pf.PF_MOST_WORKERS, sizeof(pf.pf_worker_info))
        if workers == NULL:
            raise MemoryError
        try:
            with nogil:
                count = pf.pf_pool_list_workers(self.pool, workers, pf.PF_MOST_WORKERS)
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
