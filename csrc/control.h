/* The words between application and zygote: one message a packet, descriptors beside it. */
#ifndef PF_CONTROL_H
#define PF_CONTROL_H

#include <stddef.h>
#include <stdint.h>

enum pf__message_type {
    PF_MESSAGE_SPAWN = 1, /* to the zygote: fork a worker; its descriptors (worker.h) */
    PF_MESSAGE_STANDBY,   /* to the zygote: fork your standby; its control socket */
    PF_MESSAGE_REAP,      /* to the zygote: the exit of `pid` is settled, its pid may be reused */
    PF_MESSAGE_SIGNAL,    /* to the zygote: send `status` to its child `pid` */
    PF_MESSAGE_SPAWNED,   /* from it: `pid` */
    PF_MESSAGE_FAILED,    /* from it: `status` is the errno */
    PF_MESSAGE_EXITED     /* from it: `pid` ended with `status`, and is not reaped yet */
};

struct pf__message {
    uint32_t type;
    uint32_t slot;       /* UINT32_MAX: the standby */
    uint64_t generation; /* of the worker */
    uint64_t peak_rss;   /* KiB, of one that has exited */
    int32_t pid, status;
};

enum { PF_CONTROL_FDS = 8 };

/* Sends one message. 0, or -1 with errno: EAGAIN (a non-blocking socket is full), EPIPE. */
int pf__control_send(int fd, const struct pf__message *message, const int *fds, int count);

/* Receives one. Returns the number of descriptors (they are CLOEXEC, and the caller's to close),
 * or -1 with errno: EAGAIN, EPIPE at the end, EMFILE if descriptors were dropped on the way (the
 * message itself is there), EPROTO for nonsense. */
int pf__control_receive(int fd, struct pf__message *message, int fds[PF_CONTROL_FDS]);

#endif
