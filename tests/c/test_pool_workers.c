/* Workers of a pool, killed and replaced, more and fewer; and a pool that ends or is not there. */
#define _GNU_SOURCE
#include "pooltest.h"
#include "prefork.h"
#include "runner.h"

#include <errno.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

/* Of a worker that died in `task`: it says so last, having begun with its birth. */
static void check_history(const pf_history *history, pid_t pid, uint64_t task)
{
    static const uint32_t first[] = {PF_NOTE_SPAWNED, PF_NOTE_BORN, PF_NOTE_READY};
    CHECK(history != NULL && history->pid == pid && history->count >= 4);
    const pf_note *last = &history->notes[history->count - 1];
    while (last->type != PF_NOTE_CLAIMED)
        last--;
    CHECK(last->value == task);
    for (uint32_t i = 0; i < 3; i++)
        CHECK_EQ(history->notes[i].type, first[i]);
}

TEST(a_worker_killed_while_running_loses_its_task_only)
{
    pf_pool *pool = make_pool(2, 0);
    for (int i = 0; i < 5; i++) {
        uint64_t id = submit(pool, "sleep", TELL, 0);
        pf_event event = await(pool, PF_EVENT_ACCEPTED, id);
        CHECK_EQ(kill(event.pid, SIGKILL), 0);
        event = await(pool, PF_EVENT_DONE, id);
        CHECK_EQ(event.outcome, PF_LOST);
        CHECK(WIFSIGNALED(event.status) && WTERMSIG(event.status) == SIGKILL);
        check_history(event.history, event.pid, id);
        expect(pool, submit(pool, "e", 0, 0), PF_OK);
    }
    uint64_t id = submit(pool, "x\x2a", 0, 0);
    pf_event event = await(pool, PF_EVENT_DONE, id);
    CHECK_EQ(event.outcome, PF_LOST);
    CHECK_EQ(WEXITSTATUS(event.status), 42);
    pf_pool_free(pool);
}

TEST(a_loss_is_told_before_the_replacement_is_ordered)
{
    pf_pool *pool = make_pool(1, 0);
    pf_pool_info before, told;
    for (int i = 0; i < 5; i++) {
        uint64_t id = submit(pool, "sleep", TELL, 0);
        pf_event event = await(pool, PF_EVENT_ACCEPTED, id);
        CHECK_EQ(pf_pool_describe(pool, &before), 0);
        CHECK_EQ(kill(event.pid, SIGKILL), 0);
        CHECK_EQ(await(pool, PF_EVENT_DONE, id).outcome, PF_LOST);
        CHECK_EQ(pf_pool_describe(pool, &told), 0);
        CHECK_EQ(told.spawned, before.spawned);
        expect(pool, submit(pool, "e", 0, 0), PF_OK);
    }
    pf_pool_free(pool);
}

TEST(a_worker_that_is_asked_for_is_not_spawned_before_it_is_permitted)
{
    pf_pool *pool = make_pool_of(&(pf_options){.workers = 2, .ask_to_spawn = 1});
    pf_pool_info info;
    pid_t pid = 0;
    for (uint64_t spawned = 0; spawned < 6; spawned++) {
        (void)await(pool, PF_EVENT_SPAWN_WANTED, 0);
        pf_event event; /* asked once for each */
        while (pf_pool_poll(pool, &event, 1, 0, pf_pool_rouses(pool)) > 0)
            CHECK(event.type != PF_EVENT_SPAWN_WANTED);
        CHECK_EQ(pf_pool_describe(pool, &info), 0);
        CHECK_EQ(info.spawned, spawned);
        CHECK_EQ(pf_pool_permit_spawn(pool), 0);
        if (spawned == 0)
            continue; /* the second is asked for */
        pid = await(pool, PF_EVENT_WORKER_UP, 0).pid;
        expect(pool, submit(pool, "e", 0, 0), PF_OK);
        CHECK_EQ(kill(pid, SIGKILL), 0);
    }
    pf_pool_free(pool);
    pool = make_pool(1, 0); /* where nobody asks, there is nothing to permit */
    CHECK_EQ(pf_pool_permit_spawn(pool), 0);
    await_alive(pool, 1);
    CHECK_EQ(pf_pool_describe(pool, &info), 0);
    CHECK_EQ(info.spawned, 1);
    pf_pool_free(pool);
}

TEST(workers_killed_while_idle_are_replaced)
{
    pf_pool *pool = make_pool(2, 0);
    await_alive(pool, 2);
    expect(pool, submit(pool, "e", 0, 0), PF_OK);
    for (int i = 0; i < 10; i++) {
        pf_worker_info workers[4];
        int count = pf_pool_list_workers(pool, workers, 4);
        for (int j = 0; j < count && j < 4; j++)
            if (workers[j].pid > 0)
                CHECK_EQ(kill(workers[j].pid, SIGKILL), 0);
        expect(pool, submit(pool, "e", 0, 0), PF_OK);
    }
    await_alive(pool, 2);
    pf_pool_free(pool);
}

TEST(workers_end_after_their_number_of_tasks)
{
    pf_pool *pool = make_pool(2, 5);
    for (int i = 0; i < 100; i++)
        expect(pool, submit(pool, "e", 0, 0), PF_OK);
    pf_pool_info info;
    CHECK_EQ(pf_pool_describe(pool, &info), 0);
    CHECK(info.succeeded == 100 && info.lost == 0);
    CHECK(info.spawned >= 18);
    pf_pool_free(pool);
}

TEST(the_standby_takes_over)
{
    pf_pool *pool = make_pool(2, 0);
    for (int i = 0; i < 3; i++) {
        pf_pool_info info;
        do { /* a standby is forked first of all, but reports in its own time */
            await_alive(pool, 2);
            CHECK_EQ(pf_pool_describe(pool, &info), 0);
        } while (info.standby == 0);
        pid_t standby = info.standby;
        uint64_t id = submit(pool, "sleep", TELL, 0);
        pf_event event = await(pool, PF_EVENT_ACCEPTED, id);
        CHECK_EQ(kill(info.zygote, SIGKILL), 0);
        event = await(pool, PF_EVENT_ZYGOTE_LOST, 0);
        CHECK_EQ(event.status, standby);
        event = await(pool, PF_EVENT_DONE, id);
        CHECK_EQ(event.outcome, PF_LOST);
        CHECK_EQ(event.zygote_lost, 1);
        expect(pool, submit(pool, "e", 0, 0), PF_OK);
    }
    pf_pool_free(pool);
}

TEST(resize_both_ways)
{
    pf_pool *pool = make_pool(1, 0);
    static const uint32_t sizes[] = {4, 2, 6, 0, 3};
    for (int i = 0; i < 5; i++) {
        CHECK_EQ(pf_pool_resize(pool, sizes[i]), 0);
        await_alive(pool, sizes[i]);
        if (sizes[i] > 0)
            expect(pool, submit(pool, "e", 0, 0), PF_OK);
    }
    CHECK_EQ(pf_pool_resize(pool, 4096), -1);
    pf_pool_free(pool);
}

TEST(retire_finishes_what_was_submitted)
{
    pf_pool *pool = make_pool(2, 0);
    for (int i = 0; i < 50; i++)
        submit(pool, "m\x02", 0, 0);
    CHECK_EQ(pf_pool_retire(pool, 0), 0);
    CHECK_EQ(pf_pool_submit(pool, "e", 1, NULL, 1), 0);
    CHECK_EQ(errno, ESHUTDOWN);
    for (int i = 0; i < 50; i++)
        expect(pool, 0, PF_OK);
    await_alive(pool, 0);
    pf_pool_free(pool);
}

TEST(terminate_settles_everything_as_terminated)
{
    pf_pool *pool = make_pool(2, 0);
    uint64_t running = submit(pool, "sleep", TELL, 0);
    (void)await(pool, PF_EVENT_ACCEPTED, running);
    running = submit(pool, "sleep", TELL, 0);
    (void)await(pool, PF_EVENT_ACCEPTED, running);
    for (int i = 0; i < 20; i++)
        submit(pool, "e", 0, 0);
    CHECK_EQ(pf_pool_terminate(pool, SIGTERM, 3000 * ms), 0);
    for (int i = 0; i < 22; i++)
        expect(pool, 0, PF_TERMINATED);
    await_alive(pool, 0);
    pf_pool_free(pool);
}

TEST(a_forked_copy_of_the_application_is_dead)
{
    pf_pool *pool = make_pool(1, 0);
    expect(pool, submit(pool, "e", 0, 0), PF_OK);
    pid_t pid = fork();
    if (pid == 0) {
        pf_event event;
        pf_pool_info info;
        CHECK(pf_pool_submit(pool, "e", 1, NULL, 1) == 0 && errno == ECHILD);
        CHECK(pf_pool_poll(pool, &event, 1, 0, 0) == -1 && errno == ECHILD);
        CHECK(pf_pool_describe(pool, &info) == -1 && errno == ECHILD);
        CHECK(pf_pool_fd(pool) == -1 && errno == ECHILD);
        pf_pool_free(pool);
        _exit(0);
    }
    int status;
    CHECK(waitpid(pid, &status, 0) == pid && status == 0);
    expect(pool, submit(pool, "e", 0, 0), PF_OK);
    pf_pool_free(pool);
}

TEST(a_pool_without_zygote_says_so)
{
    pf_options options = {.workers = 1};
    pf_pool *pool = pf_pool_new(&options);
    CHECK(pf_pool_submit(pool, "e", 1, NULL, 1) == 0 && errno == ENOTCONN);
    CHECK(pf_pool_zygote_prepare(pool) >= 0);
    CHECK_EQ(pf_pool_zygote_started(pool, -1), 0);
    CHECK(pf_pool_submit(pool, "e", 1, NULL, 1) == 0 && errno == ENOTCONN);
    pf_pool_free(pool);
}

static int is_blocked(int signal)
{
    sigset_t mask;
    CHECK_EQ(pthread_sigmask(SIG_SETMASK, NULL, &mask), 0);
    return sigismember(&mask, signal);
}

TEST(one_zygote_is_born_at_a_time)
{
    pf_pool *pool = make_pool(1, 0);
    CHECK(pf_pool_zygote_prepare(pool) >= 0);
    CHECK(pf_pool_zygote_prepare(pool) == -1 && errno == EBUSY);
    CHECK(is_blocked(SIGUSR1)); /* still, for the first */
    CHECK_EQ(pf_pool_zygote_started(pool, -1), 0);
    CHECK(!is_blocked(SIGUSR1));
    expect(pool, submit(pool, "e", 0, 0), PF_OK);
    pf_pool_free(pool);
}

TEST(a_pool_may_be_shut_down_while_a_zygote_is_born)
{
    pf_pool *pool = make_pool(1, 0);
    CHECK(pf_pool_zygote_prepare(pool) >= 0);
    pid_t pid = fork();
    if (pid == 0) {
        pause();
        _exit(0);
    }
    pf_pool_shut_down(pool);
    CHECK(pf_pool_zygote_started(pool, pid) == -1 && errno == ESHUTDOWN);
    CHECK(waitpid(pid, NULL, 0) == -1 && errno == ECHILD);
    CHECK(!is_blocked(SIGUSR1));
    CHECK(pf_pool_zygote_prepare(pool) == -1 && errno == ESHUTDOWN);
    CHECK(!is_blocked(SIGUSR1));
    pf_pool_free(pool);
}
