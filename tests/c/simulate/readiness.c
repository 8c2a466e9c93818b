/* poll.h over the simulated descriptors: as poll_epoll.c, level-triggered, and in no order that one
 * could rely on. */
#define _GNU_SOURCE
#include "world.h"

#include "poll.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { ENTRIES = 128 };

struct pf__poll {
    struct entry {
        int fd, what;
        uint64_t key;
    } entries[ENTRIES];
    int count;
    int64_t timer;
    bool woken;
};

static struct pf__poll the_poll; /* of the one pool */

struct pf__poll *pf__poll_open(void)
{
    memset(&the_poll, 0, sizeof the_poll);
    the_poll.timer = INT64_MAX;
    return &the_poll;
}

void pf__poll_close(struct pf__poll *poll)
{
    MUST(poll == NULL || poll->count == 0);
}

int pf__poll_fd(const struct pf__poll *poll)
{
    (void)poll;
    return 0;
}

static struct entry *find(int fd)
{
    for (int i = 0; i < the_poll.count; i++)
        if (the_poll.entries[i].fd == fd)
            return &the_poll.entries[i];
    return NULL;
}

bool poll_has(int fd)
{
    return find(fd) != NULL;
}

int pf__poll_add(struct pf__poll *poll, int fd, int what, uint64_t key)
{
    sim_step();
    MUST(find(fd) == NULL && poll->count < ENTRIES);
    poll->entries[poll->count++] = (struct entry){.fd = fd, .what = what, .key = key};
    return 0;
}

int pf__poll_change(struct pf__poll *poll, int fd, int what, uint64_t key)
{
    (void)poll;
    sim_step();
    *find(fd) = (struct entry){.fd = fd, .what = what, .key = key};
    return 0;
}

int pf__poll_remove(struct pf__poll *poll, int fd)
{
    sim_step();
    struct entry *entry = find(fd);
    if (entry == NULL) {
        errno = ENOENT;
        return -1;
    }
    *entry = poll->entries[--poll->count];
    return 0;
}

int pf__poll_timer(struct pf__poll *poll, int64_t at)
{
    sim_step();
    poll->timer = at;
    return 0;
}

int pf__poll_wake(struct pf__poll *poll)
{
    sim_step();
    poll->woken = true;
    return 0;
}

static int what_is_ready(const struct entry *entry)
{
    int ready = descriptor_ready(entry->fd), what = 0;
    if (ready & (POLLIN | POLLHUP | POLLERR))
        what |= PF_POLL_READ;
    if (ready & (POLLOUT | POLLERR))
        what |= PF_POLL_WRITE;
    return what & entry->what;
}

bool poll_is_ready(struct process *process)
{
    (void)process;
    if (the_poll.woken || the_poll.timer <= now)
        return true;
    for (int i = 0; i < the_poll.count; i++)
        if (what_is_ready(&the_poll.entries[i]))
            return true;
    return false;
}

int64_t poll_deadline(void)
{
    return the_poll.timer;
}

static int collect(struct pf__poll_event *events, int max)
{
    int count = 0, from = the_poll.count > 0 ? (int)draw((uint64_t)the_poll.count) : 0;
    if (the_poll.timer <= now) {
        the_poll.timer = INT64_MAX;
        events[count++] = (struct pf__poll_event){.key = PF_POLL_TIMER, .what = PF_POLL_READ};
    }
    if (the_poll.woken) {
        the_poll.woken = false;
        events[count++] = (struct pf__poll_event){.key = PF_POLL_WAKE, .what = PF_POLL_READ};
    }
    for (int i = 0; i < the_poll.count && count < max; i++) {
        const struct entry *entry = &the_poll.entries[(from + i) % the_poll.count];
        int what = what_is_ready(entry);
        if (what != 0 && (count == 0 || !once_in(4)))
            events[count++] = (struct pf__poll_event){.key = entry->key, .what = what};
    }
    return count;
}

int pf__poll_wait(struct pf__poll *poll, struct pf__poll_event *events, int max, int64_t timeout)
{
    int64_t until = timeout < 0 ? PF_NEVER : now + timeout;
    int count;
    (void)poll;
    sim_step();
    current->interrupted = false;
    while ((count = collect(events, max)) == 0 && now < until) {
        sim_wait(poll_is_ready, until);
        if (current->interrupted) {
            errno = EINTR;
            return -1;
        }
    }
    return count;
}
