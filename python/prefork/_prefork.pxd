# prefork.h, as the Cython binding needs it; tests/test_bindings.py compares the two.
from libc.stdint cimport int32_t, int64_t, uint32_t, uint64_t

cdef extern from "prefork.h" nogil:
    enum:
        PF_FOREVER
        PF_INTERRUPTED
        PF_MOST_WORKERS
        PF_SOFT_SIGNAL
        PF_STACKS_SIGNAL
        PF_EVENT_DONE
        PF_OK
        PF_ERROR
        PF_NOTES

    ctypedef struct pf_pool:
        pass
    ctypedef struct pf_worker:
        pass

    ctypedef struct pf_options:
        uint32_t workers
        uint32_t tasks_per_worker
        int64_t age_per_worker
        uint64_t memory_per_worker
        uint32_t jitter
        uint64_t memory_limit
        int64_t term_grace
        int32_t capture_output
        int32_t ask_to_spawn

    ctypedef struct pf_task_options:
        int32_t tell
        uint32_t retries
        int64_t soft_limit
        int64_t limit
        int64_t queue_limit

    ctypedef struct pf_note:
        uint32_t type
        int64_t at
        uint64_t value

    ctypedef struct pf_history:
        uint64_t generation
        int64_t since
        int32_t pid
        uint32_t count
        pf_note notes[PF_NOTES]

    ctypedef struct pf_event:
        int type
        uint32_t outcome
        uint64_t task
        uint32_t slot
        int32_t pid
        int32_t status
        int32_t zygote_lost
        int64_t at
        uint32_t softened
        uint64_t peak_rss
        uint64_t memory
        void *data
        size_t size
        pf_history *history
        void *output
        size_t output_size

    ctypedef struct pf_worker_info:
        uint32_t slot
        uint32_t state
        int32_t pid
        uint64_t generation
        uint64_t task
        int64_t since
        uint64_t tasks_done

    ctypedef struct pf_pool_info:
        uint32_t target
        uint32_t alive
        uint32_t busy
        uint32_t processes
        uint32_t running
        uint64_t queued
        uint64_t unfinished
        uint64_t submitted
        uint64_t succeeded
        uint64_t failed
        uint64_t lost
        uint64_t timed_out
        uint64_t cancelled
        uint64_t spawned
        uint64_t exited
        uint64_t replaced
        uint64_t spawn_failures
        uint64_t zygotes_lost
        uint64_t application_forks
        int zygote
        int standby

    ctypedef struct pf_claim:
        uint64_t id
        const void *body
        size_t size
        uint32_t lost
        int64_t started

    void pf_event_clear(pf_event *event)
    pf_pool *pf_pool_new(const pf_options *options)
    void pf_pool_free(pf_pool *pool)
    int pf_pool_zygote_prepare(pf_pool *pool)
    int pf_pool_zygote_started(pf_pool *pool, int pid)
    uint64_t pf_pool_submit(pf_pool *pool, const void *body, size_t size,
                            const pf_task_options *options, int may_block)
    int pf_pool_poll(pf_pool *pool, pf_event *events, int max, int64_t timeout, uint64_t rouses)
    uint64_t pf_pool_rouses(const pf_pool *pool)
    void pf_pool_rouse(pf_pool *pool)
    void pf_pool_remind(pf_pool *pool)
    int pf_pool_fd(pf_pool *pool)
    int pf_pool_drive_in_background(pf_pool *pool)
    int pf_pool_wait_gathered(pf_pool *pool)
    void pf_pool_rouse_gatherer(pf_pool *pool)
    int pf_pool_cancel(pf_pool *pool, uint64_t task)
    int pf_pool_kill_task(pf_pool *pool, uint64_t task, int signal)
    int pf_pool_kill_job(pf_pool *pool, int pid, int signal)
    int pf_pool_interrupt_task(pf_pool *pool, uint64_t task)
    int pf_pool_resize(pf_pool *pool, uint32_t workers)
    int pf_pool_permit_spawn(pf_pool *pool)
    int pf_pool_close(pf_pool *pool)
    int pf_pool_retire(pf_pool *pool, int at_once)
    int pf_pool_terminate(pf_pool *pool, int signal, int64_t grace)
    void pf_pool_shut_down(pf_pool *pool)
    int pf_pool_describe(pf_pool *pool, pf_pool_info *info)
    int pf_pool_list_workers(pf_pool *pool, pf_worker_info *workers, int max)
    int pf_pool_find_task(pf_pool *pool, uint64_t task)

    int pf_pool_history(pf_pool *pool, uint32_t slot, pf_history *copy)
    int pf_history_read(int fd, uint32_t slot, pf_history *copy)

    int pf_worker_crash_log(const pf_worker *worker)
    int pf_worker_captures(const pf_worker *worker)
    int pf_worker_answer_stacks_signal()
    int64_t pf_worker_clock()
    int pf_worker_call_begins(pf_worker *worker)
    void pf_worker_call_ends(pf_worker *worker)
    int64_t pf_worker_take_soft_limit(pf_worker *worker)
    int pf_worker_extend(pf_worker *worker, int64_t ns)
    uint32_t pf_worker_slot(const pf_worker *worker)
    uint64_t pf_worker_generation(const pf_worker *worker)
    void pf_worker_unblock(pf_worker *worker)
    int pf_worker_ready(pf_worker *worker)
    int pf_worker_failed(pf_worker *worker, const void *data, size_t size)
    int pf_worker_claim(pf_worker *worker, pf_claim *claim)
    void pf_worker_hold_signals(pf_worker *worker)
    void pf_worker_release_signals(pf_worker *worker)
    int pf_worker_wait(pf_worker *worker)
    int pf_worker_deliver(pf_worker *worker, uint32_t outcome, const void *data, size_t size)
    int pf_worker_wait_space(pf_worker *worker)

cdef extern from "prefork.h":  # with the GIL: it forks by the interpreter's own hooks
    ctypedef int (*pf_fork)(void *context) noexcept

    int pf_zygote_run(int control, int application, pf_fork fork, void *context,
                      pf_worker **worker)
