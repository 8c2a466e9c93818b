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

struct pf__outgoing {
    struct pf__outgoing *next;
    size_t size, sent;
    unsigned char bytes[];
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

static int queue_rest(struct pf__channel *channel, const struct pf__frame *head, const void *body,
                      size_t sent)
{
    size_t size = sizeof *head + (size_t)head->size;
    struct pf__outgoing *item = malloc(sizeof *item + size);
    if (item == NULL)
        return -1;
    item->next = NULL;
    item->size = size;
    item->sent = sent;
    memcpy(item->bytes, head, sizeof *head);
    if (head->size > 0)
        memcpy(item->bytes + sizeof *head, body, (size_t)head->size);
    if (channel->last != NULL)
        channel->last->next = item;
    else
        channel->first = item;
    channel->last = item;
    return 0;
}

int pf__channel_send(struct pf__channel *channel, const struct pf__frame *head, const void *body)
{
    if (channel->out < 0) {
        errno = EPIPE;
        return -1;
    }
    size_t sent = 0;
    /* A frame with a body goes through the queue: one copied write costs less than two writes. */
    if (channel->first == NULL && head->size == 0) {
        ssize_t n = pf__pipe_write(channel->out, head, sizeof *head);
        if (n == (ssize_t)sizeof *head)
            return 0;
        if (n < 0 && errno != EAGAIN)
            return -1;
        sent = n < 0 ? 0 : (size_t)n;
    }
    if (queue_rest(channel, head, body, sent) < 0)
        return -1;
    return pf__channel_flush(channel) < 0 ? -1 : 0;
}

int pf__channel_flush(struct pf__channel *channel)
{
    while (channel->first != NULL) {
        struct pf__outgoing *item = channel->first;
        ssize_t n = pf__pipe_write(channel->out, item->bytes + item->sent, item->size - item->sent);
        if (n < 0 && errno == EAGAIN)
            break;
        if (n < 0)
            return -1;
        item->sent += (size_t)n;
        if (item->sent == item->size)
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
        unsigned char *room;
        size_t want = pf__parser_room(parser, &room);
        unsigned char header[sizeof parser->head];
        int in_body = want > 0;
        if (!in_body) {
            room = header;
            want = sizeof header - parser->have;
        }
        ssize_t n = read_some(channel->in, room, want < *budget ? want : *budget);
        if (n < 0)
            return errno == EAGAIN ? 0 : -1;
        *budget -= (size_t)n;
        if (in_body)
            whole = pf__parser_filled(parser, (size_t)n);
        else if (pf__parser_feed(parser, header, (size_t)n, &whole) < 0)
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
