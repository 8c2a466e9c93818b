/* poll.h for Linux: an epoll with a timerfd and an eventfd in it. */
#define _GNU_SOURCE
#include "poll.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/timerfd.h>
#include <unistd.h>

struct pf__poll {
    int epoll, timer, wake;
};

enum { BATCH = 64 };

static uint32_t interest(int what)
{
    return (what & PF_POLL_READ ? (uint32_t)EPOLLIN : 0) |
           (what & PF_POLL_WRITE ? (uint32_t)EPOLLOUT : 0);
}

static int control(struct pf__poll *poll, int op, int fd, int what, uint64_t key)
{
    struct epoll_event event = {.events = interest(what), .data.u64 = key};
    return epoll_ctl(poll->epoll, op, fd, &event);
}

struct pf__poll *pf__poll_open(void)
{
    struct pf__poll *poll = malloc(sizeof *poll);
    if (poll == NULL)
        return NULL;
    poll->epoll = epoll_create1(EPOLL_CLOEXEC);
    poll->timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
    poll->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (poll->epoll < 0 || poll->timer < 0 || poll->wake < 0 ||
        control(poll, EPOLL_CTL_ADD, poll->timer, PF_POLL_READ, PF_POLL_TIMER) < 0 ||
        control(poll, EPOLL_CTL_ADD, poll->wake, PF_POLL_READ, PF_POLL_WAKE) < 0) {
        int error = errno;
        pf__poll_close(poll);
        errno = error;
        return NULL;
    }
    return poll;
}

void pf__poll_close(struct pf__poll *poll)
{
    if (poll == NULL)
        return;
    if (poll->wake >= 0)
        close(poll->wake);
    if (poll->timer >= 0)
        close(poll->timer);
    if (poll->epoll >= 0)
        close(poll->epoll);
    free(poll);
}

int pf__poll_fd(const struct pf__poll *poll)
{
    return poll->epoll;
}

int pf__poll_add(struct pf__poll *poll, int fd, int what, uint64_t key)
{
    return control(poll, EPOLL_CTL_ADD, fd, what, key);
}

int pf__poll_change(struct pf__poll *poll, int fd, int what, uint64_t key)
{
    return control(poll, EPOLL_CTL_MOD, fd, what, key);
}

int pf__poll_remove(struct pf__poll *poll, int fd)
{
    return control(poll, EPOLL_CTL_DEL, fd, 0, 0);
}

int pf__poll_timer(struct pf__poll *poll, int64_t at)
{
    struct itimerspec when = {0};
    if (at != INT64_MAX) {
        /* A time of zero would disarm; one nanosecond past the epoch is just as due. */
        int64_t due = at > 0 ? at : 1;
        when.it_value.tv_sec = due / 1000000000;
        when.it_value.tv_nsec = due % 1000000000;
    }
    return timerfd_settime(poll->timer, TFD_TIMER_ABSTIME, &when, NULL);
}

int pf__poll_wake(struct pf__poll *poll)
{
    const uint64_t one = 1;
    ssize_t done;
    while ((done = write(poll->wake, &one, sizeof one)) < 0 && errno == EINTR)
        ;
    /* EAGAIN means that the counter is full: the wait will return all the same. */
    return done < 0 && errno != EAGAIN ? -1 : 0;
}

static void consume(int fd)
{
    uint64_t count;
    while (read(fd, &count, sizeof count) < 0 && errno == EINTR)
        ;
}

int pf__poll_wait(struct pf__poll *poll, struct pf__poll_event *events, int max, int64_t timeout)
{
    struct epoll_event ready[BATCH];
    /* epoll counts in milliseconds; rounded up, so that a wait never ends early and spins. */
    int64_t ms = timeout < 0 ? -1 : timeout / 1000000 + (timeout % 1000000 != 0);
    if (ms > 3600000)
        ms = 3600000;
    int count = epoll_wait(poll->epoll, ready, max < BATCH ? max : BATCH, (int)ms);
    for (int i = 0; i < count; i++) {
        events[i].key = ready[i].data.u64;
        events[i].what = (ready[i].events & ~(uint32_t)EPOLLOUT ? PF_POLL_READ : 0) |
                         (ready[i].events & (uint32_t)EPOLLOUT ? PF_POLL_WRITE : 0);
        if (events[i].key == PF_POLL_WAKE)
            consume(poll->wake);
        else if (events[i].key == PF_POLL_TIMER)
            consume(poll->timer);
    }
    return count;
}
