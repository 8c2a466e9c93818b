/* A pool on a kernel that has no pidfds, or under a filter that refuses them. */
#define _GNU_SOURCE
#include "pooltest.h"
#include "process.h"
#include "runner.h"

#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

/* For this process and all it forks, for good. */
static void refuse_pidfds(int error)
{
    const unsigned answer = SECCOMP_RET_ERRNO | ((unsigned)error & SECCOMP_RET_DATA);
    struct sock_filter filter[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_pidfd_open, 1, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_pidfd_send_signal, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, answer),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {.len = sizeof filter / sizeof *filter, .filter = filter};
    CHECK_EQ(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
    CHECK_EQ(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program), 0);
    CHECK(pf__process_watch(getpid()) == -1 && errno == error);
}

static void kill_worker_and_task(pf_pool *pool)
{
    uint64_t id = submit(pool, "sleep", TELL, 0);
    pf_event event = await(pool, PF_EVENT_ACCEPTED, id);
    CHECK_EQ(kill(event.pid, SIGKILL), 0);
    event = await(pool, PF_EVENT_DONE, id);
    CHECK(event.outcome == PF_LOST && WTERMSIG(event.status) == SIGKILL);
    expect(pool, submit(pool, "sleep", 0, 20 * ms), PF_TIMED_OUT);
    expect(pool, submit(pool, "e", 0, 0), PF_OK);
}

/* Workers of a dead zygote become children of whoever is their subreaper. */
static void kill_zygote(pf_pool *pool)
{
    pf_pool_info info;
    uint64_t id = submit(pool, "sleep", TELL, 0);
    (void)await(pool, PF_EVENT_ACCEPTED, id);
    CHECK_EQ(pf_pool_describe(pool, &info), 0);
    CHECK_EQ(kill(info.zygote, SIGKILL), 0);
    pf_event event = await(pool, PF_EVENT_DONE, id);
    CHECK(event.outcome == PF_LOST && event.zygote_lost);
    expect(pool, submit(pool, "e", 0, 0), PF_OK);
}

static void live_without(int error)
{
    CHECK_EQ(prctl(PR_SET_CHILD_SUBREAPER, 1), 0);
    refuse_pidfds(error);
    pf_pool *pool = make_pool(2, 0);
    kill_worker_and_task(pool);
    kill_zygote(pool);
    kill_worker_and_task(pool);
    pf_pool_free(pool);
}

TEST(a_kernel_without_pidfds)
{
    live_without(ENOSYS);
}

TEST(a_filter_that_refuses_pidfds)
{
    live_without(EPERM);
}
