/* One end of a worker's pair of pipes: frames in, frames out, never blocking, never SIGPIPE.
 *
 * EINTR, short reads and short writes are handled here and nowhere else. What the pipe does not
 * take is queued; whether to watch for writability is the question "is the queue empty?". */
#ifndef PF_CHANNEL_H
#define PF_CHANNEL_H

#include "frame.h"

struct pf__outgoing; /* a queued frame */

struct pf__channel {
    int in, out; /* owned; -1 when closed */
    struct pf__parser parser;
    struct pf__outgoing *first, *last;
};

/* Takes over both descriptors and makes them non-blocking. Returns 0, or -1 with errno. */
int pf__channel_open(struct pf__channel *channel, int in, int out, uint64_t max_body);
void pf__channel_close(struct pf__channel *channel);

/* Sends a frame, or queues what the pipe does not take. The body is not copied: it must stay where
 * it is until `release(owner)` is called, once in any case (without `release`, until the queue is
 * empty). Returns 0; -1 with errno: EPIPE if the other end is gone, ENOMEM. */
int pf__channel_send(struct pf__channel *channel, const struct pf__frame *head, const void *body,
                     void (*release)(void *owner), void *owner);

/* Writes what is queued. Returns the number of frames that still wait, or -1 with errno. */
int pf__channel_flush(struct pf__channel *channel);

int pf__channel_wants_write(const struct pf__channel *channel);

/* Reads at most *budget bytes, up to the end of one frame, and lowers *budget. Returns 1 with a
 * frame (`*body` is the caller's to free; NULL if it is empty, or there was no memory for it), 0 if
 * no more has come or the budget is spent, -1 with errno: EPIPE at end of file, EPROTO for
 * nonsense.
 */
int pf__channel_receive(struct pf__channel *channel, struct pf__frame *head, unsigned char **body,
                        size_t *budget);

/* How many bytes can be read now; what a dead worker left behind. */
size_t pf__channel_pending(const struct pf__channel *channel);

#endif
