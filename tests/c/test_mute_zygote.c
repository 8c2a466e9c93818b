/* A zygote that is alive and owes workers. Its silence is told by hand, so that no test waits. */
#define _GNU_SOURCE
#include "pool.h"
#include "pooltest.h"
#include "prefork.h"
#include "runner.h"

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

enum { LONG = 5, VERY_LONG = 30 }; /* s: with a successor, and without one */

static struct pf__zygote *with_pid(pf_pool *pool, pid_t pid)
{
    struct pf__zygote *zygote = pool->zygotes;
    while (zygote != NULL && zygote->pid != pid)
        zygote = zygote->next;
    CHECK(zygote != NULL);
    return zygote;
}

static uint32_t owed_by(pf_pool *pool, pid_t pid)
{
    uint32_t count = 0;
    pthread_mutex_lock(&pool->lock);
    for (uint32_t i = 0; i < pool->sup.seat_count; i++) {
        struct pf__child *child = (struct pf__child *)pool->seats[i];
        count += child->zygote != NULL && child->zygote->pid == pid &&
                 child->seat.state == PF_SEAT_SPAWNING;
    }
    pthread_mutex_unlock(&pool->lock);
    return count;
}

static void turn(pf_pool *pool)
{
    pf_event event;
    if (pf_pool_poll(pool, &event, 1, 5 * ms, pf_pool_rouses(pool)) > 0)
        pf_event_clear(&event);
}

static void await_owed(pf_pool *pool, pid_t zygote, uint32_t count)
{
    for (int64_t until = clock_ns() + patience; owed_by(pool, zygote) != count; turn(pool))
        CHECK(clock_ns() < until);
}

static pf_pool_info facts(pf_pool *pool)
{
    pf_pool_info info;
    CHECK_EQ(pf_pool_describe(pool, &info), 0);
    return info;
}

static pf_pool_info await_standby(pf_pool *pool, uint32_t workers)
{
    for (int64_t until = clock_ns() + patience;; turn(pool)) {
        pf_pool_info info = facts(pool);
        if (info.standby != 0 && info.alive == workers)
            return info;
        CHECK(clock_ns() < until);
    }
}

static void silent_for(pf_pool *pool, pid_t pid, uint32_t seconds)
{
    pthread_mutex_lock(&pool->lock);
    with_pid(pool, pid)->silence = seconds;
    pthread_mutex_unlock(&pool->lock);
}

static void await_looks(pf_pool *pool, pid_t pid, uint32_t count)
{
    uint32_t looks = 0;
    for (int64_t until = clock_ns() + patience; looks < count; turn(pool)) {
        CHECK(clock_ns() < until);
        pthread_mutex_lock(&pool->lock);
        looks = with_pid(pool, pid)->silence;
        pthread_mutex_unlock(&pool->lock);
    }
}

/* Gone, or a zombie that is not ours to reap. */
static void await_gone(pf_pool *pool, pid_t pid)
{
    char path[64], state = 'R';
    snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    for (int64_t until = clock_ns() + patience; state != 'Z'; turn(pool)) {
        FILE *stat = fopen(path, "re");
        if (stat == NULL)
            return;
        if (fscanf(stat, "%*d %*[^)]) %c", &state) != 1)
            state = 'Z';
        fclose(stat);
        CHECK(clock_ns() < until);
    }
}

static void kill_workers(pf_pool *pool, pid_t but)
{
    pf_worker_info workers[8];
    int count = pf_pool_list_workers(pool, workers, 8);
    CHECK(count > 0 && count <= 8);
    for (int i = 0; i < count; i++)
        if (workers[i].pid > 0 && workers[i].pid != but)
            CHECK_EQ(kill(workers[i].pid, SIGKILL), 0);
}

static pf_pool *make_pool_that_never_comes_up(pid_t *pid)
{
    pf_pool *pool =
        pf_pool_new(&(pf_options){.workers = 2, .tasks_per_worker = 0, .term_grace = 5000 * ms});
    CHECK(pool != NULL && pf_pool_zygote_prepare(pool) >= 0);
    *pid = fork();
    CHECK(*pid >= 0);
    for (; *pid == 0;)
        pause();
    CHECK_EQ(pf_pool_zygote_started(pool, *pid), 0);
    return pool;
}

TEST(one_that_is_starting_is_waited_for_until_there_is_another)
{
    pid_t first;
    pf_pool *pool = make_pool_that_never_comes_up(&first);
    uint64_t task = submit(pool, "e", 0, 0);
    silent_for(pool, first, 1000);
    await_looks(pool, first, 1002);
    CHECK(facts(pool).zygote == first && facts(pool).zygotes_lost == 0);
    CHECK_EQ(owed_by(pool, first), 2);
    give_zygote(pool);
    expect(pool, task, PF_OK);
    await_alive(pool, 2);
    await_gone(pool, first);
    CHECK_EQ(facts(pool).zygotes_lost, 0);
    CHECK(pool->zygotes->next == NULL || pool->zygotes->next->next == NULL);
    pf_pool_free(pool);
}

TEST(one_that_was_replaced_is_waited_for_and_keeps_its_workers)
{
    pf_pool *pool = make_pool(2, 0);
    pid_t old = await_standby(pool, 2).zygote;
    uint64_t running = submit(pool, "sleep", TELL, 0);
    pid_t worker = await(pool, PF_EVENT_ACCEPTED, running).pid;
    CHECK_EQ(kill(old, SIGSTOP), 0);
    kill_workers(pool, worker);
    await_owed(pool, old, 1); /* the end that it cannot report is known all the same */
    give_zygote(pool);
    silent_for(pool, old, LONG - 2);
    await_looks(pool, old, LONG - 1);
    CHECK_EQ(owed_by(pool, old), 1);
    expect(pool, submit(pool, "e", 0, 0), PF_OK);
    await_owed(pool, old, 0);
    CHECK(kill(worker, 0) == 0 && kill(old, 0) == 0);
    /* It bears what it was asked for, which finds that nobody wants it, and is reaped. */
    pf_pool_info before = facts(pool);
    CHECK_EQ(kill(old, SIGCONT), 0);
    char path[64], children[64];
    snprintf(path, sizeof path, "/proc/%d/task/%d/children", (int)old, (int)old);
    for (int64_t until = clock_ns() + patience;; turn(pool)) {
        CHECK(clock_ns() < until);
        FILE *file = fopen(path, "re");
        CHECK(file != NULL);
        int first = 0, count = fscanf(file, "%d %63s", &first, children);
        fclose(file);
        pthread_mutex_lock(&pool->lock);
        uint32_t silence = with_pid(pool, old)->silence;
        pthread_mutex_unlock(&pool->lock);
        if (silence == 0 && count == 1 && first == worker)
            break;
    }
    CHECK_EQ(facts(pool).exited, before.exited);
    CHECK_EQ(kill(worker, SIGKILL), 0);
    pf_event event = await(pool, PF_EVENT_DONE, running);
    CHECK(event.outcome == PF_LOST && event.pid == worker && !event.zygote_lost);
    await_gone(pool, old);
    await_alive(pool, 2);
    CHECK_EQ(facts(pool).zygotes_lost, 0);
    pf_pool_free(pool);
}

/* Whom it forks as its standby once it is continued has nobody to serve. */
static void is_given_up_alone(pf_pool *pool, pid_t zygote, uint64_t task)
{
    await_owed(pool, zygote, 2);
    silent_for(pool, zygote, VERY_LONG - 2);
    await_looks(pool, zygote, VERY_LONG - 1);
    CHECK_EQ(owed_by(pool, zygote), 2);
    pf_event event = await(pool, PF_EVENT_ZYGOTE_LOST, 0);
    CHECK(event.pid == zygote && event.outcome == 1 && event.status == 0);
    CHECK(facts(pool).zygote == 0 && facts(pool).standby == 0);
    CHECK(pool->zygotes == NULL);
    await_gone(pool, zygote);
    give_zygote(pool);
    expect(pool, task, PF_OK);
    await_alive(pool, 2);
}

TEST(one_without_a_standby_is_waited_for_longer)
{
    pf_pool *pool = make_pool(2, 0);
    pf_pool_info info = await_standby(pool, 2);
    CHECK_EQ(kill(info.zygote, SIGSTOP), 0);
    CHECK_EQ(kill(info.standby, SIGKILL), 0);
    for (int64_t until = clock_ns() + patience; facts(pool).standby != 0; turn(pool))
        CHECK(clock_ns() < until);
    kill_workers(pool, 0);
    is_given_up_alone(pool, info.zygote, submit(pool, "e", 0, 0));
    CHECK_EQ(facts(pool).zygotes_lost, 1);
    pf_pool_free(pool);
}

TEST(a_standby_that_takes_over_and_does_not_answer_either_is_given_up)
{
    pf_pool *pool = make_pool(2, 0);
    pf_pool_info info = await_standby(pool, 2);
    CHECK_EQ(kill(info.zygote, SIGSTOP), 0);
    CHECK_EQ(kill(info.standby, SIGSTOP), 0);
    kill_workers(pool, 0);
    uint64_t task = submit(pool, "e", 0, 0);
    await_owed(pool, info.zygote, 2);
    silent_for(pool, info.zygote, LONG - 1);
    pf_event event = await(pool, PF_EVENT_ZYGOTE_LOST, 0);
    CHECK(event.pid == info.zygote && event.outcome == 1 && event.status == info.standby);
    is_given_up_alone(pool, info.standby, task);
    CHECK_EQ(facts(pool).zygotes_lost, 2);
    pf_pool_free(pool);
}
