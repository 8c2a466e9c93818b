/* The control channel: sendmsg and recvmsg with descriptors, and what can go wrong with them. */
#define _GNU_SOURCE
#include "control.h"

#include "platform.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

union ancillary {
    struct cmsghdr header; /* for its alignment */
    char room[CMSG_SPACE(sizeof(int) * PF_CONTROL_FDS)];
};

int pf__control_send(int fd, const struct pf__message *message, const int *fds, int count)
{
    union ancillary ancillary;
    struct iovec part = {.iov_base = (void *)message, .iov_len = sizeof *message};
    struct msghdr packet = {.msg_iov = &part, .msg_iovlen = 1};
    if (count > 0) {
        memset(&ancillary, 0, sizeof ancillary);
        packet.msg_control = ancillary.room;
        packet.msg_controllen = CMSG_SPACE(sizeof(int) * (size_t)count);
        struct cmsghdr *rights = CMSG_FIRSTHDR(&packet);
        rights->cmsg_level = SOL_SOCKET;
        rights->cmsg_type = SCM_RIGHTS;
        rights->cmsg_len = CMSG_LEN(sizeof(int) * (size_t)count);
        memcpy(CMSG_DATA(rights), fds, sizeof(int) * (size_t)count);
    }
    ssize_t sent;
    do {
        sent = pf__socket_send(fd, &packet);
    } while (sent < 0 && errno == EINTR);
    return sent < 0 ? -1 : 0;
}

static int take_descriptors(struct msghdr *packet, int fds[PF_CONTROL_FDS])
{
    int count = 0;
    for (struct cmsghdr *item = CMSG_FIRSTHDR(packet); item != NULL;
         item = CMSG_NXTHDR(packet, item)) {
        if (item->cmsg_level != SOL_SOCKET || item->cmsg_type != SCM_RIGHTS)
            continue;
        int here = (int)((item->cmsg_len - CMSG_LEN(0)) / sizeof(int));
        memcpy(fds + count, CMSG_DATA(item), sizeof(int) * (size_t)here);
        count += here;
    }
    return count;
}

int pf__control_receive(int fd, struct pf__message *message, int fds[PF_CONTROL_FDS])
{
    union ancillary ancillary;
    struct iovec part = {.iov_base = message, .iov_len = sizeof *message};
    /* Without what the room has for alignment: the kernel would put one more into that. */
    struct msghdr packet = {.msg_iov = &part,
                            .msg_iovlen = 1,
                            .msg_control = ancillary.room,
                            .msg_controllen = CMSG_LEN(sizeof(int) * PF_CONTROL_FDS)};
    ssize_t got;
    do {
        got = pf__socket_receive(fd, &packet);
    } while (got < 0 && errno == EINTR);
    if (got < 0) {
        /* The other end was closed with words of ours unread. */
        errno = errno == ECONNRESET ? EPIPE : errno;
        return -1;
    }
    int count = take_descriptors(&packet, fds);
    int whole = got == sizeof *message && !(packet.msg_flags & MSG_TRUNC);
    /* Out of descriptors the kernel delivers the message and drops what does not fit. */
    if (whole && !(packet.msg_flags & MSG_CTRUNC))
        return count;
    while (count > 0)
        close(fds[--count]);
    errno = whole ? EMFILE : got == 0 ? EPIPE : EPROTO;
    return -1;
}
