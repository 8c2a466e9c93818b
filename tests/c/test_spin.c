/* Spinning before sleeping: how often it is tried, that a task is taken by it, and that what it
 * leaves behind keeps no task waiting, nor wild words. */
#define _GNU_SOURCE
#include "pool.h"
#include "pooltest.h"

static struct pf__segment *segment_of(const pf_pool *pool)
{
    return ((struct pf__child *)pool->seats[0])->board.segment;
}

static int spins(const pf_pool *pool)
{
    return pf__ring_any(pool->ring.words->spinners, pool->sup.seat_count);
}

/* How often it has slept until now, when it sleeps. */
static uint64_t sleeps(const pf_pool *pool)
{
    uint64_t count;
    for (int64_t until = clock_ns() + patience;
         (count = atomic_load(&segment_of(pool)->asleep)) == 0;)
        CHECK(clock_ns() < until);
    return count;
}

TEST(a_spin_that_pays_is_tried_each_time_and_one_that_does_not_ever_more_rarely)
{
    enum { WAITS = 100000 };
    struct pf__spin spin = {0};
    int tried = 0;
    for (int i = 0; i < WAITS; i++)
        if (pf__spin_pays(&spin)) {
            pf__spin_ended(&spin, 0);
            tried++;
        }
    CHECK(tried > WAITS / 1100 && tried < WAITS / 1000 + 20);
    while (!pf__spin_pays(&spin))
        ;
    for (int i = 0; i < WAITS; i++) {
        CHECK(i == 0 || pf__spin_pays(&spin));
        pf__spin_ended(&spin, 1);
    }
    int yields = spin.yields;
    for (int times = 1; times <= 4; times++) { /* twice in each way is no rule */
        pf__spin_ended(&spin, 0);
        CHECK(pf__spin_pays(&spin));
        CHECK_EQ(spin.yields != yields, times / 2 == 1);
    }
    pf__spin_ended(&spin, 0);
    CHECK(!pf__spin_pays(&spin));
}

/* One that was seen to spin, and then has slept once for two tasks, has taken the second so. */
static int takes_the_second_without_a_sleep(pf_pool *pool)
{
    uint64_t before = sleeps(pool);
    expect(pool, submit(pool, "e", 0, 0), PF_OK);
    while (!spins(pool))
        if (atomic_load(&segment_of(pool)->asleep) != 0)
            return 0;
    expect(pool, submit(pool, "e", 0, 0), PF_OK);
    return sleeps(pool) == before + 1;
}

TEST(who_waits_for_each_result_is_served_by_one_who_does_not_sleep)
{
    pf_pool *pool = make_pool(1, 0);
    await_alive(pool, 1);
    for (int64_t until = clock_ns() + patience; !takes_the_second_without_a_sleep(pool);)
        CHECK(clock_ns() < until);
    pf_pool_free(pool);
}

/* There are more tasks than workers: nobody waits for each of them. */
TEST(whoever_has_sent_many_is_not_waited_for)
{
    pf_pool *pool = make_pool(1, 0);
    await_alive(pool, 1);
    /* Whose result is there before it is asked for was not waited for. */
    for (int64_t until = clock_ns() + patience; !atomic_load(&pool->ring.pool->awaited);) {
        CHECK(clock_ns() < until);
        expect(pool, submit(pool, "m\001", 0, 0), PF_OK);
    }
    uint64_t first = submit(pool, "m\001", 0, 0), second = submit(pool, "e", 0, 0);
    CHECK_EQ(atomic_load(&pool->ring.pool->awaited), 0);
    expect(pool, first, PF_OK);
    expect(pool, second, PF_OK);
    pf_pool_free(pool);
}

static _Atomic uint64_t *spinners_of(const pf_pool *pool)
{
    return &pool->ring.words->spinners[0];
}

TEST(who_dies_while_it_spins_does_so_no_more)
{
    pf_pool *pool = make_pool(1, 0);
    await_alive(pool, 1);
    uint64_t id = submit(pool, "x\003", 0, 0);
    atomic_fetch_or(spinners_of(pool), 1);
    expect(pool, id, PF_LOST);
    CHECK_EQ(atomic_load(spinners_of(pool)), 0);
    pf_pool_free(pool);
}

/* A wild write, or one who was stopped: what is submitted reaches a sleeper all the same, whether
 * somebody waits or the driver looks. */
TEST(who_is_said_to_spin_and_does_not_keeps_no_task_waiting)
{
    pf_pool *pool = make_pool(1, 0);
    await_alive(pool, 1);
    atomic_store(spinners_of(pool), 1);
    expect(pool, submit(pool, "e", 0, 0), PF_OK);
    CHECK_EQ(pf_pool_drive_in_background(pool), 0);
    for (int i = 0; i < 20; i++) {
        (void)sleeps(pool);
        atomic_store(spinners_of(pool), 1);
        uint64_t id = submit(pool, "e", 0, 0);
        CHECK_EQ(pf_pool_wait_gathered(pool), 0);
        expect(pool, id, PF_OK);
    }
    pf_pool_free(pool);
}

/* The others look claimed, so who passes them leaps over the fourth; the pool's head ends there,
 * and it is called for again. */
TEST(a_task_that_wild_words_hide_is_called_for_again)
{
    enum { TASKS = 5, HIDDEN = 3 };
    uint64_t ids[TASKS];
    pf_worker_info worker;
    pf_pool *pool = make_pool(1, 0);
    await_alive(pool, 1);
    uint64_t before = sleeps(pool), first = pool->sup.tail;
    CHECK_EQ(pf_pool_list_workers(pool, &worker, 1), 1);
    CHECK_EQ(kill(worker.pid, SIGSTOP), 0);
    for (int i = 0; i < TASKS; i++)
        ids[i] = submit(pool, "e", 0, 0);
    for (uint64_t seq = first; seq < first + TASKS; seq++)
        if (seq != first + HIDDEN)
            atomic_store(pf__ring_word(&pool->ring, seq), pf__word(seq, 20, PF_CLAIMED));
    CHECK_EQ(kill(worker.pid, SIGCONT), 0);
    while (sleeps(pool) == before) /* nobody drives meanwhile, so the head stays where it was */
        ;
    CHECK_EQ(pf__word_state(atomic_load(pf__ring_word(&pool->ring, first + HIDDEN))), PF_READY);
    expect(pool, ids[HIDDEN], PF_OK);
    pf_pool_free(pool);
}
