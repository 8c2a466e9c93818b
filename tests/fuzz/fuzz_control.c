/* The words between application and zygote, as packets of any size with any number of descriptors:
 * taken by pf__control_receive, and by a zygote that obeys them.
 *
 *   a message is taken whole or not at all
 *   every descriptor that came is given to the caller or closed, and no other one
 *   a zygote signals its own children only, and none that it has reaped
 *   a zygote ends when it is told nothing more, whatever it was told before */
#define _GNU_SOURCE
#include "control.h"
#include "platform.h"
#include "prefork.h"
#include "process.h"
#include "worker.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

enum { MOST_PACKETS = 40, MOST_FDS = 9, FIRST_PID = 1 << 24 /* above any that there can be */ };

#define MUST(expression)                                                                           \
    do {                                                                                           \
        if (!(expression))                                                                         \
            abort();                                                                               \
    } while (0)

static int forks, watch;
static unsigned char reaped[MOST_PACKETS];

static int is_open(int fd)
{
    return fcntl(fd, F_GETFD) >= 0;
}

static int count_open(void)
{
    int count = 0;
    for (int fd = 0; fd < 256; fd++)
        count += is_open(fd);
    return count;
}

/* ---- the system, as zygote.c sees it: -Dkill=fuzz_kill … ----------------------------------- */

int fuzz_kill(pid_t pid, int signal);
int fuzz_process_ended(pid_t pid, int *status, uint64_t *peak_rss);
int fuzz_process_watch(pid_t pid);
pid_t fuzz_waitpid(pid_t pid, int *status, int options);
int fuzz_sigprocmask(int how, const sigset_t *set, sigset_t *old);

static void must_be_a_child(pid_t pid)
{
    MUST(pid >= FIRST_PID && pid < FIRST_PID + forks && !reaped[pid - FIRST_PID]);
}

int fuzz_kill(pid_t pid, int signal)
{
    if (pid != getpid() || signal != 0) /* that asks whether the application is there */
        must_be_a_child(pid);
    return 0;
}

int fuzz_process_watch(pid_t pid)
{
    watch = pf__process_watch(pid);
    return watch;
}

int fuzz_process_ended(pid_t pid, int *status, uint64_t *peak_rss)
{
    *status = 0;
    *peak_rss = 0;
    return pid % 2;
}

pid_t fuzz_waitpid(pid_t pid, int *status, int options)
{
    MUST(status == NULL && options == 0);
    must_be_a_child(pid);
    reaped[pid - FIRST_PID] = 1;
    return pid;
}

int fuzz_sigprocmask(int how, const sigset_t *set, sigset_t *old)
{
    (void)how, (void)set, (void)old; /* the signals are the fuzzer's */
    return 0;
}

void pf__signals_deafen(sigset_t *ignored)
{
    sigemptyset(ignored);
}

void pf__signals_restore(const sigset_t *ignored)
{
    (void)ignored;
}

/* Nobody is born. */
pf_worker *pf__worker_open(uint32_t slot, uint64_t generation, const int fds[PF_WORKER_FDS],
                           pid_t zygote)
{
    (void)slot, (void)generation, (void)fds, (void)zygote;
    abort();
}

static pid_t fake_fork(void *context)
{
    (void)context;
    if (forks % 5 == 4) {
        forks++;
        errno = EAGAIN;
        return -1;
    }
    return FIRST_PID + forks++;
}

/* ---- packets ------------------------------------------------------------------------------- */

struct packet {
    unsigned char bytes[64];
    size_t size;
    int fds;
};

/* Two bytes of shape, then the message's. */
static const uint8_t *make(struct packet *packet, const uint8_t *data, const uint8_t *end)
{
    uint8_t shape = *data++, fds = data < end ? *data++ : 0;
    packet->size = shape < 192 ? sizeof(struct pf__message) : shape % 64u;
    packet->fds = fds < 64 ? 0 : fds % (MOST_FDS + 1);
    if (fds % 8 == 1)
        packet->fds = PF_CONTROL_FDS;
    memset(packet->bytes, 0, sizeof packet->bytes);
    size_t given = (size_t)(end - data) < packet->size ? (size_t)(end - data) : packet->size;
    memcpy(packet->bytes, data, given);
    packet->bytes[0] %= 16; /* near the types that there are */
    if (shape % 2)
        memset(packet->bytes + 1, 0, 3);
    return data + given;
}

static int put(int socket, const struct packet *packet, const int *fds)
{
    union {
        struct cmsghdr header;
        char room[CMSG_SPACE(sizeof(int) * MOST_FDS)];
    } ancillary;
    struct iovec part = {.iov_base = (void *)packet->bytes, .iov_len = packet->size};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
    if (packet->fds > 0) {
        size_t size = sizeof(int) * (size_t)packet->fds;
        memset(&ancillary, 0, sizeof ancillary);
        message.msg_control = ancillary.room;
        message.msg_controllen = CMSG_SPACE(size);
        struct cmsghdr *rights = CMSG_FIRSTHDR(&message);
        rights->cmsg_level = SOL_SOCKET;
        rights->cmsg_type = SCM_RIGHTS;
        rights->cmsg_len = CMSG_LEN(size);
        memcpy(CMSG_DATA(rights), fds, size);
    }
    return sendmsg(socket, &message, MSG_DONTWAIT | MSG_NOSIGNAL) < 0 ? -1 : 0;
}

static void check_received(int socket, const struct packet *packet)
{
    struct pf__message message;
    int fds[PF_CONTROL_FDS], before = count_open();
    int count = pf__control_receive(socket, &message, fds);
    int whole = packet->size == sizeof message && packet->fds <= PF_CONTROL_FDS;
    MUST((count >= 0) == whole && (count < 0 || count == packet->fds));
    MUST(whole || errno == (packet->size == sizeof message ? EMFILE
                            : packet->size == 0            ? EPIPE
                                                           : EPROTO));
    MUST(!whole || memcmp(&message, packet->bytes, sizeof message) == 0);
    MUST(count_open() == before + (count > 0 ? count : 0));
    for (int i = 0; i < count; i++) {
        MUST(fcntl(fds[i], F_GETFD) == FD_CLOEXEC);
        close(fds[i]);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const uint8_t *end = data + size;
    struct packet packet;
    int ours[2], zygotes[2], fds[MOST_FDS], before = count_open();
    pf_worker *worker = NULL;
    watch = -1;
    MUST(pf__socketpair(ours) == 0 && pf__socketpair(zygotes) == 0);
    for (int i = 0; i < MOST_FDS; i++)
        fds[i] = ours[0];
    for (int i = 0; i < MOST_PACKETS && data < end; i++) {
        data = make(&packet, data, end);
        if (put(ours[0], &packet, fds) == 0)
            check_received(ours[1], &packet);
        (void)put(zygotes[0], &packet, fds);
    }
    close(zygotes[0]);
    forks = 0;
    memset(reaped, 0, sizeof reaped);
    MUST(pf_zygote_run(zygotes[1], getpid(), fake_fork, NULL, &worker) == 0 && worker == NULL);
    close(zygotes[1]);
    close(ours[0]);
    close(ours[1]);
    MUST(count_open() == before + 1); /* its watch on the application, which its end would close */
    close(watch);
    return 0;
}
