/* Channels over real pipes: short writes, queues, the end of the other side. */
#define _GNU_SOURCE
#include "channel.h"
#include "runner.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void make_pair(struct pf__channel *a, struct pf__channel *b)
{
    int there[2], back[2];
    CHECK(pipe(there) == 0 && pipe(back) == 0);
    CHECK(pf__channel_open(a, back[0], there[1], 1 << 24) == 0);
    CHECK(pf__channel_open(b, there[0], back[1], 1 << 24) == 0);
}

static int receive(struct pf__channel *channel, struct pf__frame *head, unsigned char **body)
{
    size_t budget = SIZE_MAX;
    return pf__channel_receive(channel, head, body, &budget);
}

TEST(small_frames_arrive_in_order)
{
    struct pf__channel a, b;
    struct pf__frame frame;
    unsigned char *body;
    make_pair(&a, &b);
    CHECK_EQ(receive(&b, &frame, &body), 0);
    pf__frame_init(&frame, PF_FRAME_BELL, 0, 0);
    CHECK_EQ(pf__channel_send(&a, &frame, NULL, NULL, NULL), 0);
    pf__frame_init(&frame, PF_FRAME_BODY, 9, 5);
    CHECK_EQ(pf__channel_send(&a, &frame, "hello", NULL, NULL), 0);
    CHECK(!pf__channel_wants_write(&a));
    CHECK_EQ(pf__channel_pending(&b), 2 * sizeof frame + 5);
    CHECK_EQ(receive(&b, &frame, &body), 1);
    CHECK(frame.type == PF_FRAME_BELL && body == NULL);
    CHECK_EQ(receive(&b, &frame, &body), 1);
    CHECK(frame.type == PF_FRAME_BODY && frame.seq == 9 && memcmp(body, "hello", 5) == 0);
    free(body);
    CHECK_EQ(pf__channel_pending(&b), 0);
    pf__channel_close(&a);
    pf__channel_close(&b);
}

/* The pipe takes a page; the rest is queued, and every later frame behind it. */
TEST(short_writes_are_queued_and_keep_their_order)
{
    enum { SIZE = 300001 };
    struct pf__channel a, b;
    struct pf__frame frame;
    unsigned char *body, *large = malloc(SIZE);
    make_pair(&a, &b);
    CHECK(fcntl(a.out, F_SETPIPE_SZ, 4096) >= 4096);
    for (int i = 0; i < SIZE; i++)
        large[i] = (unsigned char)(i * 7);
    pf__frame_init(&frame, PF_FRAME_BODY, 1, SIZE);
    CHECK_EQ(pf__channel_send(&a, &frame, large, NULL, NULL), 0);
    CHECK(pf__channel_wants_write(&a));
    pf__frame_init(&frame, PF_FRAME_BELL, 2, 0);
    CHECK_EQ(pf__channel_send(&a, &frame, NULL, NULL, NULL), 0);
    CHECK_EQ(pf__channel_flush(&a), 2);
    int got;
    while ((got = receive(&b, &frame, &body)) == 0)
        CHECK(pf__channel_flush(&a) >= 0);
    CHECK_EQ(got, 1);
    CHECK_EQ(frame.size, SIZE);
    CHECK(memcmp(body, large, SIZE) == 0);
    free(body);
    CHECK_EQ(pf__channel_flush(&a), 0);
    CHECK_EQ(receive(&b, &frame, &body), 1);
    CHECK(frame.type == PF_FRAME_BELL && frame.seq == 2);
    free(large);
    pf__channel_close(&a);
    pf__channel_close(&b);
}

TEST(a_full_pipe_splits_a_header)
{
    struct pf__channel a, b;
    struct pf__frame frame;
    unsigned char *body;
    make_pair(&a, &b);
    CHECK(fcntl(a.out, F_SETPIPE_SZ, 4096) >= 4096);
    int sent = 0;
    for (; sent < 2000; sent++) {
        pf__frame_init(&frame, PF_FRAME_BELL, (uint64_t)sent, 0);
        CHECK_EQ(pf__channel_send(&a, &frame, NULL, NULL, NULL), 0);
    }
    CHECK(pf__channel_wants_write(&a));
    for (int i = 0; i < sent;) {
        int got = receive(&b, &frame, &body);
        CHECK(got >= 0);
        if (got == 1)
            CHECK_EQ(frame.seq, i++);
        else
            CHECK(pf__channel_flush(&a) >= 0);
    }
    pf__channel_close(&a);
    pf__channel_close(&b);
}

TEST(a_budget_ends_in_the_middle_of_a_frame)
{
    struct pf__channel a, b;
    struct pf__frame frame;
    unsigned char *body;
    make_pair(&a, &b);
    pf__frame_init(&frame, PF_FRAME_BODY, 3, 10);
    CHECK_EQ(pf__channel_send(&a, &frame, "0123456789", NULL, NULL), 0);
    for (size_t i = 0; i < sizeof frame + 10; i++) {
        size_t budget = 1;
        int got = pf__channel_receive(&b, &frame, &body, &budget);
        CHECK_EQ(budget, 0);
        CHECK_EQ(got, i == sizeof frame + 9);
    }
    CHECK(memcmp(body, "0123456789", 10) == 0);
    free(body);
    pf__channel_close(&a);
    pf__channel_close(&b);
}

TEST(no_sigpipe_though_it_is_at_its_default)
{
    struct pf__channel a, b;
    struct pf__frame frame;
    sigset_t pending;
    signal(SIGPIPE, SIG_DFL);
    make_pair(&a, &b);
    pf__channel_close(&b);
    pf__frame_init(&frame, PF_FRAME_BELL, 0, 0);
    CHECK_EQ(pf__channel_send(&a, &frame, NULL, NULL, NULL), -1);
    CHECK_EQ(errno, EPIPE);
    sigpending(&pending);
    CHECK(!sigismember(&pending, SIGPIPE));
    pf__channel_close(&a);
}

static volatile sig_atomic_t pipes;

static void on_pipe(int number)
{
    (void)number;
    pipes++;
}

/* A SIGPIPE of somebody else, blocked and pending, is not ours to take away. */
TEST(a_foreign_sigpipe_stays_pending)
{
    struct pf__channel a, b;
    struct pf__frame frame;
    sigset_t only, before;
    signal(SIGPIPE, on_pipe);
    sigemptyset(&only);
    sigaddset(&only, SIGPIPE);
    sigprocmask(SIG_BLOCK, &only, &before);
    raise(SIGPIPE);
    make_pair(&a, &b);
    pf__channel_close(&b);
    pf__frame_init(&frame, PF_FRAME_BELL, 0, 0);
    CHECK_EQ(pf__channel_send(&a, &frame, NULL, NULL, NULL), -1);
    CHECK_EQ(pipes, 0);
    sigprocmask(SIG_SETMASK, &before, NULL);
    CHECK_EQ(pipes, 1);
    pf__channel_close(&a);
}

TEST(end_of_file_and_nonsense)
{
    struct pf__channel a, b;
    struct pf__frame frame;
    unsigned char *body, junk[64];
    make_pair(&a, &b);
    pf__frame_init(&frame, PF_FRAME_UP, 0, 0);
    CHECK_EQ(pf__channel_send(&a, &frame, NULL, NULL, NULL), 0);
    close(a.out);
    a.out = -1;
    CHECK_EQ(receive(&b, &frame, &body), 1); /* what was sent before the end still counts */
    CHECK_EQ(receive(&b, &frame, &body), -1);
    CHECK_EQ(errno, EPIPE);
    CHECK_EQ(pf__channel_send(&a, &frame, NULL, NULL, NULL), -1);
    CHECK_EQ(errno, EPIPE);
    memset(junk, 0x5a, sizeof junk);
    CHECK_EQ(write(b.out, junk, sizeof junk), sizeof junk);
    CHECK_EQ(receive(&a, &frame, &body), -1);
    CHECK_EQ(errno, EPROTO);
    pf__channel_close(&a);
    pf__channel_close(&b);
    CHECK_EQ(pf__channel_pending(&b), 0);
}

static int returned;

static void count(void *owner)
{
    CHECK(owner == &returned);
    returned++;
}

TEST(a_body_is_given_back_once_however_it_goes)
{
    enum { SIZE = 300000 };
    static const unsigned char large[SIZE];
    struct pf__channel a, b;
    struct pf__frame frame;
    unsigned char *body;
    make_pair(&a, &b);
    CHECK(fcntl(a.out, F_SETPIPE_SZ, 4096) >= 4096);
    pf__frame_init(&frame, PF_FRAME_BODY, 1, 5);
    CHECK_EQ(pf__channel_send(&a, &frame, "hello", count, &returned), 0);
    CHECK_EQ(returned, 1); /* the pipe has it */
    pf__frame_init(&frame, PF_FRAME_BODY, 2, SIZE);
    CHECK_EQ(pf__channel_send(&a, &frame, large, count, &returned), 0);
    CHECK_EQ(receive(&b, &frame, &body), 1);
    free(body);
    while (receive(&b, &frame, &body) == 0) {
        CHECK_EQ(returned, 1); /* it is being sent */
        CHECK(pf__channel_flush(&a) >= 0);
    }
    CHECK(frame.seq == 2 && memcmp(body, large, SIZE) == 0);
    free(body);
    CHECK_EQ(returned, 2);
    pf__frame_init(&frame, PF_FRAME_BODY, 3, SIZE);
    CHECK_EQ(pf__channel_send(&a, &frame, large, count, &returned), 0);
    CHECK_EQ(returned, 2);
    pf__channel_close(&a); /* with the rest still queued */
    CHECK_EQ(returned, 3);
    CHECK_EQ(pf__channel_send(&a, &frame, large, count, &returned), -1);
    CHECK_EQ(returned, 4);
    pf__channel_close(&b);
}
