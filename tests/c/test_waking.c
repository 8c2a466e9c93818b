/* Whom brief tasks leave asleep, and for how long. */
#define _GNU_SOURCE
#include "platform.h"
#include "pool.h"
#include "pooltest.h"

enum { WORKERS = 8 };
static const int64_t hour = 3600000 * ms;

static uint32_t up_and_asleep(const pf_pool *pool)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < WORKERS; i++)
        count +=
            pool->seats[i]->state == PF_SEAT_UP && atomic_load(pool->ring.words->sleepers) >> i & 1;
    return count;
}

static void turn(pf_pool *pool)
{
    pf_event event;
    if (pf_pool_poll(pool, &event, 1, 5 * ms, pf_pool_rouses(pool)) > 0)
        pf_event_clear(&event);
}

static uint32_t running(pf_pool *pool)
{
    pf_pool_info info;
    CHECK_EQ(pf_pool_describe(pool, &info), 0);
    return info.busy;
}

/* A guest's, all of whose workers sleep, and whose tasks were brief so far. */
static pf_pool *make_brief(void)
{
    pf_pool *pool = make_pool(WORKERS, 0);
    await_alive(pool, WORKERS);
    CHECK(pf_pool_fd(pool) >= 0);
    for (int64_t until = clock_ns() + patience; up_and_asleep(pool) < WORKERS; turn(pool))
        CHECK(clock_ns() < until);
    pool->sup.pace = 0;
    return pool;
}

TEST(of_many_sleepers_as_many_are_called_as_there_are_processors)
{
    pf_pool *pool = make_brief();
    pool->calls = (struct pf__calls){.since = pf__now() + hour, .most = 2};
    for (uint32_t i = 1; i <= WORKERS; i++) {
        submit(pool, "s", 0, 0);
        CHECK_EQ(pool->calls.made, i < 2 ? i : 2);
        CHECK_EQ(pool->calls.again_at != PF_NEVER, i > 2);
    }
    pf_pool_free(pool);
}

TEST(all_are_called_in_the_end_and_twice_as_many_each_time_while_nothing_is_settled)
{
    pf_pool *pool = make_brief();
    pool->calls = (struct pf__calls){.since = pf__now(), .most = 1, .made = 1};
    for (int i = 0; i < WORKERS; i++)
        submit(pool, "s", 0, 0);
    for (int64_t until = clock_ns() + patience; running(pool) < WORKERS; turn(pool))
        CHECK(clock_ns() < until);
    CHECK(pool->calls.most >= WORKERS / 2);
    CHECK(pool->calls.again_at == PF_NEVER);
    pf_pool_free(pool);
}

/* By the clock of then the call's patience would have been over for two seconds, and whoever looked
 * at the time next would have taken that for a family that was stopped: limits would stretch. */
TEST(a_pool_that_is_given_a_task_after_a_while_was_not_stopped)
{
    pf_pool *pool = make_pool(WORKERS, 0);
    await_alive(pool, WORKERS);
    for (int64_t until = clock_ns() + patience; up_and_asleep(pool) < WORKERS; turn(pool))
        CHECK(clock_ns() < until);
    pool->sup.now -= 2000 * ms;
    pool->driver_runs = 1; /* else nobody would have looked meanwhile */
    submit(pool, "s", 0, 0);
    for (int64_t until = clock_ns() + patience; running(pool) < 1; turn(pool))
        CHECK(clock_ns() < until);
    CHECK_EQ(pool->sup.stall, 0);
    pool->driver_runs = 0;
    pf_pool_free(pool);
}

TEST(sleepers_whom_a_wild_write_has_hidden_are_found)
{
    pf_pool *pool = make_brief();
    atomic_store(&pool->ring.words->sleepers[0], 0);
    pool->calls.sought_at = pf__now() + 1000 * ms;
    submit(pool, "s", 0, 0);
    CHECK(pool->sup.called_count == 0 && pool->calls.again_at < pf__now() + 1200 * ms);
    pool->calls.sought_at = 0;
    for (int64_t until = clock_ns() + patience; running(pool) < 1; turn(pool))
        CHECK(clock_ns() < until);
    pf_pool_free(pool);
}

/* So a guest's tasks are done one after the other, though nobody polls. */
TEST(while_all_sleep_one_is_called_however_many_were)
{
    pf_pool *pool = make_brief();
    pool->calls = (struct pf__calls){.since = pf__now() + hour, .most = 1, .made = 1};
    submit(pool, "s", 0, 0);
    for (int64_t until = clock_ns() + patience; running(pool) < 1;)
        CHECK(clock_ns() < until);
    CHECK(pool->calls.again_at == PF_NEVER);
    submit(pool, "s", 0, 0);
    CHECK_EQ(pool->calls.made, 2);
    CHECK(pool->calls.again_at != PF_NEVER);
    pf_pool_free(pool);
}

TEST(all_are_called_at_once_unless_tasks_are_brief)
{
    pf_pool *pool = make_brief();
    pool->calls = (struct pf__calls){.since = pf__now() + hour, .most = 1};
    pool->sup.pace = PF_MOST_PACE;
    for (int i = 0; i < WORKERS; i++)
        submit(pool, "s", 0, 0);
    CHECK(pool->calls.again_at == PF_NEVER);
    for (int64_t until = clock_ns() + patience; running(pool) < WORKERS;)
        CHECK(clock_ns() < until);
    pf_pool_free(pool);
}
