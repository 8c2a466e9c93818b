/* Channels: a worker's pair of pipes as frames in and frames out. */
#define _GNU_SOURCE
#include "channel.h"

#include "platform.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

enum { FIRST_WRITE = 8192, DROP_AT_ONCE = 4096 };

struct pf__outgoing {
    struct pf__outgoing *next;
    struct pf__frame head;
    const unsigned char *body; /* its owner's */
    size_t sent;
    void (*release)(void *owner);
    void *owner;
};

static int set_nonblocking(int fd)
{
    int flags = fcntl(fd, F_GETFL);
    return flags < 0 ? -1 : fcntl(fd, F_SETFL, flags | O_NONBLOCK);
}

int pf__channel_open(struct pf__channel *channel, int in, int out, uint64_t max_body)
{
    memset(channel, 0, sizeof *channel);
    channel->in = in;
    channel->out = out;
    pf__parser_init(&channel->parser, max_body);
    return set_nonblocking(in) < 0 || set_nonblocking(out) < 0 ? -1 : 0;
}

static void drop_first(struct pf__channel *channel)
{
    struct pf__outgoing *item = channel->first;
    channel->first = item->next;
    if (channel->first == NULL)
        channel->last = NULL;
    if (item->release != NULL)
        item->release(item->owner);
    free(item);
}

void pf__channel_close(struct pf__channel *channel)
{
    while (channel->first != NULL)
        drop_first(channel);
    pf__parser_clear(&channel->parser);
    if (channel->in >= 0)
        close(channel->in);
    if (channel->out >= 0)
        close(channel->out);
    channel->in = channel->out = -1;
}

int pf__channel_send(struct pf__channel *channel, const struct pf__frame *head, const void *body,
                     void (*release)(void *owner), void *owner)
{
    size_t sent = 0;
    int error = EPIPE;
    if (channel->out < 0)
        goto fail;
    if (channel->first == NULL && head->size == 0) {
        ssize_t n = pf__pipe_write(channel->out, head, sizeof *head);
        error = errno;
        if (n == (ssize_t)sizeof *head) {
            if (release != NULL)
                release(owner);
            return 0;
        }
        if (n < 0 && error != EAGAIN)
            goto fail;
        sent = n < 0 ? 0 : (size_t)n;
    }
    struct pf__outgoing *item = malloc(sizeof *item);
    error = ENOMEM;
    if (item == NULL)
        goto fail;
    *item = (struct pf__outgoing){
        .head = *head, .body = body, .sent = sent, .release = release, .owner = owner};
    if (channel->last != NULL)
        channel->last->next = item;
    else
        channel->first = item;
    channel->last = item;
    return pf__channel_flush(channel) < 0 ? -1 : 0;
fail:
    if (release != NULL)
        release(owner);
    errno = error;
    return -1;
}

/* The beginning of the body goes with the header: a copy of that costs less than a system call. */
static ssize_t write_some(int out, const struct pf__outgoing *item)
{
    unsigned char first[FIRST_WRITE];
    size_t head = sizeof item->head, size = (size_t)item->head.size;
    if (item->sent >= head)
        return pf__pipe_write(out, item->body + (item->sent - head), head + size - item->sent);
    size_t some = size < sizeof first - head ? size : sizeof first - head;
    memcpy(first, &item->head, head);
    if (some > 0)
        memcpy(first + head, item->body, some);
    return pf__pipe_write(out, first + item->sent, head + some - item->sent);
}

int pf__channel_flush(struct pf__channel *channel)
{
    if (channel->first != NULL && channel->out < 0) {
        errno = EPIPE;
        return -1;
    }
    while (channel->first != NULL) {
        struct pf__outgoing *item = channel->first;
        ssize_t n = write_some(channel->out, item);
        if (n < 0 && errno == EAGAIN)
            break;
        if (n < 0)
            return -1;
        item->sent += (size_t)n;
        if (item->sent == sizeof item->head + (size_t)item->head.size)
            drop_first(channel);
    }
    int waiting = 0;
    for (struct pf__outgoing *item = channel->first; item != NULL; item = item->next)
        waiting++;
    return waiting;
}

int pf__channel_wants_write(const struct pf__channel *channel)
{
    return channel->first != NULL;
}

static ssize_t read_some(int fd, void *data, size_t size)
{
    ssize_t n;
    do {
        n = read(fd, data, size);
    } while (n < 0 && errno == EINTR);
    if (n == 0) {
        errno = EPIPE;
        return -1;
    }
    return n;
}

/* Reads exactly to the end of a frame and no further, first the header, then the body straight to
 * where it stays: there is no buffer to keep between calls. */
int pf__channel_receive(struct pf__channel *channel, struct pf__frame *head, unsigned char **body,
                        size_t *budget)
{
    struct pf__parser *parser = &channel->parser;
    int whole = 0;
    while (!whole && *budget > 0) {
        unsigned char *room, scratch[DROP_AT_ONCE];
        size_t want = pf__parser_room(parser, &room);
        int in_body = want > 0;
        if (!in_body)
            want = sizeof parser->head - parser->have;
        if (!in_body || room == NULL) { /* a header, or a body for which there was no memory */
            room = scratch;
            want = want < sizeof scratch ? want : sizeof scratch;
        }
        ssize_t n = read_some(channel->in, room, want < *budget ? want : *budget);
        if (n < 0)
            return errno == EAGAIN ? 0 : -1;
        *budget -= (size_t)n;
        if (in_body)
            whole = pf__parser_filled(parser, (size_t)n);
        else if (pf__parser_feed(parser, scratch, (size_t)n, &whole) < 0)
            return -1;
    }
    if (!whole)
        return 0;
    pf__parser_take(parser, head, body);
    return 1;
}

size_t pf__channel_pending(const struct pf__channel *channel)
{
    int bytes = 0;
    if (channel->in < 0 || ioctl(channel->in, FIONREAD, &bytes) < 0 || bytes < 0)
        return 0;
    return (size_t)bytes;
}
