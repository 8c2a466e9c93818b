/* The ring and the results, by hand; and all roles at once as threads over one mapping, which is
 * what a thread sanitizer can see. */
#define _GNU_SOURCE
#include "side.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <sys/wait.h>

static struct pf__ring ring;

static pf_worker *hand_made(uint32_t slot)
{
    static pf_worker workers[4];
    workers[slot].ring = ring;
    workers[slot].slot = slot;
    workers[slot].cursor = 1;
    return &workers[slot];
}

TEST(publish_claim_cancel_burn)
{
    CHECK_EQ(pf__ring_create(&ring, 4, 64), 0);
    pf_worker *a = hand_made(0), *b = hand_made(1);
    CHECK_EQ(pf__worker_take_ready(a), 0);
    pf__ring_publish(&ring, 1, 100, "one", 3, 0);
    pf__ring_publish(&ring, 2, 200, "two", 3, 0);
    pf__ring_publish(&ring, 3, 300, NULL, 0, 0);
    CHECK(pf__ring_body(&ring, 3)->flags & PF_BODY_OUTSIDE);
    CHECK_EQ(pf__ring_cancel(&ring, 1), 1);
    CHECK_EQ(pf__ring_cancel(&ring, 1), 0);
    CHECK_EQ(pf__worker_take_ready(a), 1);
    CHECK_EQ(a->seq, 2);
    CHECK_EQ(pf__ring_cancel(&ring, 2), 0);
    CHECK_EQ(pf__worker_take_ready(b), 1);
    CHECK_EQ(b->seq, 3);
    CHECK_EQ(atomic_load(pf__ring_word(&ring, 3)), pf__word(3, 1, PF_CLAIMED));
    CHECK_EQ(pf__worker_take_ready(b), 0);
    pf__ring_publish(&ring, 4, 400, "four", 4, 0);
    pf__ring_publish(&ring, 5, 500, "five", 4, 0); /* slot 1 was withdrawn */
    pf__ring_skip(&ring, 6);                       /* slot 2 is held by a */
    CHECK_EQ(pf__worker_take_ready(b), 1);
    CHECK_EQ(b->seq, 4);
    CHECK_EQ(pf__worker_take_ready(a), 1);
    CHECK_EQ(a->seq, 5);
    CHECK_EQ(pf__worker_take_ready(a), 0);
    pf__ring_release(&ring, 1); /* not its holder */
    CHECK_EQ(atomic_load(pf__ring_word(&ring, 2)), pf__word(2, 0, PF_CLAIMED));
    pf__ring_release(&ring, 0);
    CHECK_EQ(atomic_load(pf__ring_word(&ring, 2)), pf__word(2, 0, PF_TAKEN));
    CHECK(pf__ring_fits(&ring, 64 - sizeof(struct pf__body)));
    CHECK(!pf__ring_fits(&ring, 65 - sizeof(struct pf__body)));
    pf__ring_close(&ring);
}

TEST(the_oldest_is_claimed_however_many_others_were)
{
    enum { TASKS = 60 };
    CHECK_EQ(pf__ring_create(&ring, 64, 64), 0);
    for (uint64_t seq = 1; seq <= TASKS; seq++)
        pf__ring_publish(&ring, seq, seq, "task", 4, 0);
    CHECK(pf__ring_cancel(&ring, 1) && pf__ring_cancel(&ring, 20) && pf__ring_cancel(&ring, 32));
    for (uint64_t seq = 1; seq <= TASKS; seq++) {
        if (seq == 1 || seq == 20 || seq == 32)
            continue;
        pf_worker *newborn = hand_made((uint32_t)seq % 4);
        CHECK_EQ(pf__worker_take_ready(newborn), 1);
        CHECK_EQ(newborn->seq, seq);
    }
    CHECK_EQ(pf__worker_take_ready(hand_made(0)), 0);
    pf__ring_close(&ring);
}

/* For longer than until the pool's head has come to it. */
TEST(a_wild_write_hides_no_task)
{
    uint64_t claimed = 0;
    CHECK_EQ(pf__ring_create(&ring, 16, 64), 0);
    for (uint64_t seq = 1; seq <= 10; seq++)
        pf__ring_publish(&ring, seq, seq, "task", 4, 0);
    pf_worker *a = hand_made(0), *b = hand_made(1);
    for (uint64_t seq = 1; seq <= 3; seq++)
        CHECK_EQ(pf__worker_take_ready(a), 1);
    atomic_store(pf__ring_word(&ring, 5), pf__word(5, 2, PF_CLAIMED));
    while (pf__worker_take_ready(b))
        claimed |= (uint64_t)1 << b->seq;
    CHECK_EQ(claimed, 1 << 6 | 1 << 7 | 1 << 8 | 1 << 9 | 1 << 10);
    atomic_store(&ring.pool->head, 4);
    CHECK_EQ(pf__worker_take_ready(b), 1);
    CHECK_EQ(b->seq, 4);
    CHECK_EQ(pf__worker_take_ready(b), 0);
    pf__ring_publish(&ring, 11, 11, "task", 4, 0);
    CHECK_EQ(pf__worker_take_ready(b), 1);
    CHECK_EQ(b->seq, 11);
    pf__ring_close(&ring);
}

/* The signal that ends a child which does that to a ring. */
static int fate_of(struct pf__ring *its, void (*deed)(struct pf__ring *its))
{
    int status;
    pid_t pid = fork();
    CHECK(pid >= 0);
    if (pid == 0) {
        signal(SIGSEGV, SIG_DFL); /* a sanitizer would tell a long story */
        deed(its);
        _exit(0);
    }
    CHECK(waitpid(pid, &status, 0) == pid);
    return WIFSIGNALED(status) ? WTERMSIG(status) : 0;
}

static void write_word(struct pf__ring *its)
{
    atomic_store(pf__ring_word(its, 1), 1);
}

static void open_and_write_word(struct pf__ring *its)
{
    struct pf__ring mine;
    CHECK_EQ(pf__ring_open(&mine, dup(its->pool_fd), dup(its->words_fd)), 0);
    write_word(&mine);
}

static void open_and_move_tail(struct pf__ring *its)
{
    struct pf__ring mine;
    CHECK_EQ(pf__ring_open(&mine, dup(its->pool_fd), dup(its->words_fd)), 0);
    CHECK_EQ(atomic_load(&mine.pool->tail), 1);
    atomic_store(&mine.pool->tail, 2);
}

static void open_and_write_body(struct pf__ring *its)
{
    struct pf__ring mine;
    CHECK_EQ(pf__ring_open(&mine, dup(its->pool_fd), dup(its->words_fd)), 0);
    pf__ring_body(&mine, 1)->size = 2;
}

TEST(a_worker_can_write_words_and_nothing_else)
{
    CHECK_EQ(pf__ring_create(&ring, 4, 64), 0);
    CHECK_EQ(fate_of(&ring, open_and_write_word), 0);
    CHECK_EQ(atomic_load(pf__ring_word(&ring, 1)), 1);
    CHECK_EQ(fate_of(&ring, open_and_move_tail), SIGSEGV);
    CHECK_EQ(fate_of(&ring, open_and_write_body), SIGSEGV);
    pf__ring_close(&ring);
}

TEST(a_forked_copy_has_no_ring)
{
    CHECK_EQ(pf__ring_create(&ring, 4, 64), 0);
    CHECK_EQ(fate_of(&ring, write_word), SIGSEGV);
    CHECK_EQ(atomic_load(pf__ring_word(&ring, 1)), 0);
    pf__ring_close(&ring);
}

TEST(results_go_round_the_ring)
{
    struct pf__scoreboard worker, pool;
    unsigned char bytes[64];
    CHECK_EQ(pf__scoreboard_create(&pool, 256, UINT32_MAX), 0);
    worker = pool;
    uint64_t put = 0, taken = 0;
    srandom(6);
    while (taken < 100000) {
        struct pf__record record = {.seq = put + 1, .size = (uint32_t)(put % 61)};
        memset(bytes, (int)put, sizeof bytes);
        if (random() % 2 && pf__results_put(&worker, &record, bytes) == 1)
            put++;
        void *data;
        if (random() % 2 && pf__results_pending(&pool)) {
            CHECK_EQ(pf__results_take(&pool, pf__results_tail(&pool), &record, &data), 1);
            CHECK_EQ(record.seq, taken + 1);
            CHECK_EQ(record.size, taken % 61);
            for (uint32_t i = 0; i < record.size; i++)
                CHECK_EQ(((unsigned char *)data)[i], (unsigned char)taken);
            free(data);
            taken++;
        }
        CHECK(put - taken <= 256 / sizeof record);
    }
    struct pf__record huge = {.size = 256};
    CHECK_EQ(pf__results_put(&worker, &huge, bytes), -1);
    CHECK_EQ(errno, E2BIG);
    pf__scoreboard_close(&pool);
}

TEST(nonsense_in_the_results_is_refused)
{
    struct pf__scoreboard worker, pool;
    struct pf__record record = {.seq = 1, .size = 8}, *inside;
    void *data;
    CHECK_EQ(pf__scoreboard_create(&pool, 256, UINT32_MAX), 0);
    worker = pool;
    CHECK_EQ(pf__results_put(&worker, &record, "12345678"), 1);
    inside = (void *)pool.segment->results;
    uint64_t tail = pf__results_tail(&pool);
    static const uint32_t sizes[] = {9, 300, UINT32_MAX, UINT32_MAX - 7, 1u << 31};
    for (int i = 0; i < 5; i++) {
        inside->size = sizes[i];
        CHECK_EQ(pf__results_take(&pool, tail, &record, &data), -1);
        CHECK_EQ(errno, EPROTO);
    }
    static const uint64_t tails[] = {1, 8, 31, 257, UINT64_MAX, (uint64_t)1 << 40};
    inside->size = 8;
    for (int i = 0; i < 6; i++) {
        CHECK_EQ(pf__results_take(&pool, tails[i], &record, &data), -1);
        CHECK_EQ(errno, EPROTO);
    }
    CHECK_EQ(pf__results_take(&pool, tail, &record, &data), 1); /* and nothing was broken */
    free(data);
    pf__scoreboard_close(&pool);
}

/* ---- all roles at once --------------------------------------------------------------------- */

enum { WORKERS = 3, COUNT = 30000, WINDOW = 150 };

static struct side side;
static struct pf__task tasks[COUNT];
static unsigned char settled[COUNT];
static int settled_count, cancelled_count;

static void on_settled(struct pf__task *task)
{
    CHECK_EQ(settled[task - tasks]++, 0);
    settled_count++;
    cancelled_count += task->verdict == PF_VERDICT_CANCELLED;
    CHECK(task->verdict == PF_VERDICT_CANCELLED || task->verdict == PF_VERDICT_OK);
}

static struct pf__task *find(uint64_t id)
{
    return id >= 1 && id <= COUNT ? &tasks[id - 1] : NULL;
}

static void *serve(void *argument)
{
    pf_worker *worker = argument;
    pf_claim claim;
    for (;;) {
        int got = pf_worker_claim(worker, &claim);
        if (got < 0) {
            CHECK_EQ(errno, ESHUTDOWN);
            return NULL;
        }
        if (got == 0) {
            CHECK(pf_worker_wait(worker) == 0);
            continue;
        }
        uint64_t id;
        memcpy(&id, claim.body, sizeof id);
        CHECK_EQ(id, claim.id); /* the body is that of the claim */
        while ((got = pf_worker_deliver(worker, PF_OK, claim.body, claim.size)) > 0)
            CHECK(pf_worker_wait_space(worker) == 0);
        CHECK_EQ(got, 0);
    }
}

static void cancel(struct pf__task *task)
{
    enum pf__cancel next = pf__supervisor_cancel(&side.sup, task);
    int done = 0;
    if (next == PF_CANCEL_TRY_SLOT) {
        done = pf__ring_cancel(&side.ring, task->seq);
        if (!done) {
            side_note_claims(&side);
            next = pf__supervisor_cancel(&side.sup, task);
        }
    }
    if (next == PF_CANCEL_TRY_PAGE) {
        uint64_t loading = pf__word(task->seq, 0, PF_LOADING);
        done = atomic_compare_exchange_strong(&side.workers[task->seat].board.segment->page,
                                              &loading, pf__word(task->seq, 0, PF_REVOKED));
    }
    if (done)
        pf__supervisor_withdrawn(&side.sup, task, PF_VERDICT_CANCELLED);
}

TEST_SLOW(threads_race_in_all_roles, 60)
{
    pthread_t threads[WORKERS];
    pf_worker *workers[WORKERS];
    side_open(&side, WORKERS, 512); /* so small that results must wait for room */
    side.settled = on_settled;
    side_obey(&side);
    for (uint32_t i = 0; i < WORKERS; i++) {
        workers[i] = side_worker_in_thread(&side, i);
        CHECK_EQ(pthread_create(&threads[i], NULL, serve, workers[i]), 0);
    }
    srandom(7);
    for (int submitted = 0; settled_count < COUNT;) {
        int burst = (int)(random() % 20);
        for (; burst > 0 && submitted < COUNT && submitted - settled_count < WINDOW; burst--) {
            tasks[submitted].id = (uint64_t)submitted + 1;
            pf__supervisor_submit(&side.sup, &tasks[submitted++]);
        }
        pf__supervisor_time(&side.sup, pf__now());
        side_note_claims(&side);
        side_obey(&side);
        side_call_sleepers(&side);
        if (submitted > 0 && random() % 4 == 0) {
            struct pf__task *task = &tasks[submitted - 1 - random() % 30 % submitted];
            if (task->state != PF_TASK_SETTLED)
                cancel(task);
        }
        for (uint32_t i = 0; i < WORKERS; i++) {
            struct pf__frame frame;
            unsigned char *body;
            size_t budget = SIZE_MAX;
            side_drain(&side, &side.workers[i], find);
            while (pf__channel_receive(&side.workers[i].channel, &frame, &body, &budget) > 0)
                free(body);
        }
        side_obey(&side);
        side_call_sleepers(&side);
    }
    CHECK(cancelled_count > 0 && cancelled_count < COUNT);
    for (uint32_t i = 0; i < WORKERS; i++) {
        atomic_store(&side.workers[i].board.segment->control, PF_CTL_RETIRE);
        side_bell(&side.workers[i]);
    }
    for (uint32_t i = 0; i < WORKERS; i++) {
        pthread_join(threads[i], NULL);
        pf__channel_close(&workers[i]->channel);
        free(workers[i]->body);
        free(workers[i]);
    }
    side_close(&side);
}
