/* The captured output: a file to which both sides have a descriptor, and nobody a mapping. */
#define _GNU_SOURCE
#include "output.h"

#include "platform.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- the pool's side ----------------------------------------------------------------------- */

int pf__output_create(void)
{
    return pf__file_create("prefork-output");
}

/* Between the look and the deed the worker may have begun another task, and that one has then lost
 * what it wrote first. It would take a lock that a worker can die with to prevent that. */
void pf__output_trim(int fd)
{
    struct stat found;
    if (fd >= 0 && fstat(fd, &found) == 0 && found.st_size > PF_OUTPUT_KEPT)
        pf__file_discard(fd, found.st_size - PF_OUTPUT_KEPT);
}

size_t pf__output_read(int fd, void *text)
{
    struct stat found;
    if (fd < 0 || fstat(fd, &found) < 0)
        return 0;
    off_t before = found.st_size > PF_OUTPUT_SHOWN ? found.st_size - PF_OUTPUT_SHOWN : 0;
    ssize_t got = pread(fd, text, PF_OUTPUT_SHOWN, before);
    return got > 0 ? (size_t)got : 0;
}

void pf__output_close(int fd)
{
    if (fd < 0)
        return;
    pf__memory_seal(fd);
    pf__output_trim(fd);
    close(fd);
}

/* ---- the worker's side --------------------------------------------------------------------- */

int pf__output_make_way(int *fds, int count)
{
    for (int i = 0; i < count; i++) {
        if (fds[i] != STDOUT_FILENO && fds[i] != STDERR_FILENO)
            continue;
        int moved = fcntl(fds[i], F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
        if (moved < 0)
            return -1;
        close(fds[i]);
        fds[i] = moved;
    }
    return 0;
}

int pf__output_open(struct pf__output *output, int fd)
{
    struct stat found;
    if (fstat(fd, &found) < 0 || dup2(fd, STDOUT_FILENO) < 0 || dup2(fd, STDERR_FILENO) < 0)
        return -1;
    *output = (struct pf__output){.fd = fd, .device = found.st_dev, .inode = found.st_ino};
    return 0;
}

void pf__output_begin(const struct pf__output *output)
{
    struct stat found;
    if (output->fd < 0 || fstat(output->fd, &found) < 0 || found.st_dev != output->device ||
        found.st_ino != output->inode)
        return;
    if (found.st_size > 0)
        (void)!ftruncate(output->fd, 0); /* EPERM: a task has sealed it */
    for (int fd = STDOUT_FILENO; fd <= STDERR_FILENO; fd++)
        if (fcntl(fd, F_GETFD) < 0 && errno == EBADF)
            (void)dup2(output->fd, fd);
}
