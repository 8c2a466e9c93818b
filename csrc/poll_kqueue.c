/* poll.h for macOS: a kqueue with a timer and a user event in it.
 *
 * Filters without EV_CLEAR are level-triggered, as poll.h wants it. A kqueue takes no entry that
 * waits for nothing and does not tell a second add from a change, so what is watched is noted
 * here, by descriptor; like the entries themselves it is the caller's to keep others out of. */
#define _GNU_SOURCE
#include "poll.h"

#include "platform.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/event.h>
#include <unistd.h>

_Static_assert(sizeof(void *) >= sizeof(uint64_t), "a key must fit into udata");

enum { BATCH = 64, KNOWN = 4 /* beside PF_POLL_READ and PF_POLL_WRITE: there is an entry */ };

struct pf__poll {
    int queue;
    int room;
    unsigned char *entries; /* by descriptor: KNOWN and what it waits for */
};

static void *udata(uint64_t key)
{
    return (void *)(uintptr_t)key; // NOLINT(performance-no-int-to-ptr): never dereferenced
}

static struct kevent change_of(uintptr_t ident, int filter, int flags, uint64_t key)
{
    struct kevent change;
    memset(&change, 0, sizeof change);
    change.ident = ident;
    change.filter = (int16_t)filter;
    change.flags = (uint16_t)flags;
    change.udata = udata(key);
    return change;
}

/* Changes are taken whole before a signal is looked at, so EINTR asks for nothing more. */
static int apply(int queue, const struct kevent *changes, int count)
{
    return kevent(queue, changes, count, NULL, 0, NULL) < 0 && errno != EINTR ? -1 : 0;
}

struct pf__poll *pf__poll_open(void)
{
    struct pf__poll *poll = calloc(1, sizeof *poll);
    if (poll == NULL)
        return NULL;
    struct kevent wake = change_of(0, EVFILT_USER, EV_ADD | EV_CLEAR, PF_POLL_WAKE);
    poll->queue = kqueue();
    if (poll->queue < 0 || fcntl(poll->queue, F_SETFD, FD_CLOEXEC) < 0 ||
        apply(poll->queue, &wake, 1) < 0) {
        int error = errno;
        pf__poll_close(poll);
        errno = error;
        return NULL;
    }
    return poll;
}

/* A fork does not inherit a kqueue: there the number is free, and closing it does nothing. */
void pf__poll_close(struct pf__poll *poll)
{
    if (poll == NULL)
        return;
    if (poll->queue >= 0)
        close(poll->queue);
    free(poll->entries);
    free(poll);
}

int pf__poll_fd(const struct pf__poll *poll)
{
    return poll->queue;
}

/* ---- entries ------------------------------------------------------------------------------- */

static int entry(const struct pf__poll *poll, int fd)
{
    return fd >= 0 && fd < poll->room ? poll->entries[fd] : 0;
}

static int make_room(struct pf__poll *poll, int fd)
{
    if (fd < poll->room)
        return 0;
    int room = fd + fd / 2 + BATCH;
    unsigned char *entries = realloc(poll->entries, (size_t)room);
    if (entries == NULL)
        return -1;
    memset(entries + poll->room, 0, (size_t)(room - poll->room));
    poll->entries = entries;
    poll->room = room;
    return 0;
}

/* From what is watched to what shall be; adding what is there gives it the new key. */
static int turn(struct pf__poll *poll, int fd, int what, uint64_t key)
{
    static const struct {
        int what, filter;
    } filters[] = {{PF_POLL_READ, EVFILT_READ}, {PF_POLL_WRITE, EVFILT_WRITE}};
    int before = poll->entries[fd];
    for (int i = 0; i < 2; i++) {
        int wanted = what & filters[i].what;
        if (!wanted && !(before & filters[i].what))
            continue;
        struct kevent change =
            change_of((uintptr_t)fd, filters[i].filter, wanted ? EV_ADD : EV_DELETE, key);
        if (apply(poll->queue, &change, 1) < 0)
            return -1;
        poll->entries[fd] =
            (unsigned char)((poll->entries[fd] & ~filters[i].what) | KNOWN | wanted);
    }
    poll->entries[fd] |= KNOWN;
    return 0;
}

int pf__poll_add(struct pf__poll *poll, int fd, int what, uint64_t key)
{
    if (fd < 0 || entry(poll, fd)) {
        errno = fd < 0 ? EBADF : EEXIST;
        return -1;
    }
    if (make_room(poll, fd) < 0)
        return -1;
    if (turn(poll, fd, what, key) == 0)
        return 0;
    int error = errno;
    (void)pf__poll_remove(poll, fd);
    errno = error;
    return -1;
}

int pf__poll_change(struct pf__poll *poll, int fd, int what, uint64_t key)
{
    if (!entry(poll, fd)) {
        errno = ENOENT;
        return -1;
    }
    return turn(poll, fd, what, key);
}

int pf__poll_remove(struct pf__poll *poll, int fd)
{
    if (!entry(poll, fd)) {
        errno = ENOENT;
        return -1;
    }
    int result = turn(poll, fd, 0, 0);
    poll->entries[fd] = 0;
    return result;
}

/* ---- timer, wake-up, wait ------------------------------------------------------------------ */

/* Counted from now, by the clock that pf__now reads. NOTE_CRITICAL: a limit is not to be put off
 * to save energy. */
int pf__poll_timer(struct pf__poll *poll, int64_t at)
{
    int64_t left = at == INT64_MAX ? 0 : at - pf__now();
    struct kevent timer =
        change_of(0, EVFILT_TIMER, at == INT64_MAX ? EV_DELETE : EV_ADD, PF_POLL_TIMER);
    timer.flags |= EV_ONESHOT;
    timer.fflags = NOTE_NSECONDS | NOTE_CRITICAL;
    timer.data = left > 0 ? left : 1;
    if (apply(poll->queue, &timer, 1) == 0)
        return 0;
    return at == INT64_MAX && errno == ENOENT ? 0 : -1; /* it has fired, or there was none */
}

int pf__poll_wake(struct pf__poll *poll)
{
    struct kevent wake = change_of(0, EVFILT_USER, 0, PF_POLL_WAKE);
    wake.fflags = NOTE_TRIGGER;
    return apply(poll->queue, &wake, 1);
}

/* One descriptor that is ready in both ways is two events. Both inside are consumed by being
 * fetched: the timer fires once, the wake-up is EV_CLEAR. */
int pf__poll_wait(struct pf__poll *poll, struct pf__poll_event *events, int max, int64_t timeout)
{
    struct kevent ready[BATCH];
    struct timespec left = {timeout / 1000000000, timeout % 1000000000};
    int count =
        kevent(poll->queue, NULL, 0, ready, max < BATCH ? max : BATCH, timeout < 0 ? NULL : &left);
    for (int i = 0; i < count; i++) {
        events[i].key = (uint64_t)(uintptr_t)ready[i].udata;
        events[i].what = ready[i].filter == EVFILT_WRITE ? PF_POLL_WRITE : PF_POLL_READ;
    }
    return count;
}
