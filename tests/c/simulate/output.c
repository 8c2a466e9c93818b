/* The simulated machine's output.h: of all that workers write only the number of the task that has
 * written last, so that what is shown with a loss can be told from what another task has left. */
#define _GNU_SOURCE
#include "kernel.h"

#include <string.h>

static uint64_t *number_in(int fd)
{
    return (uint64_t *)(void *)object_of(fd, MEMORY)->bytes;
}

int pf__output_create(void)
{
    return pf__memory_create("output", sizeof(uint64_t));
}

void pf__output_trim(int fd)
{
    if (fd >= 0)
        (void)object_of(fd, MEMORY);
}

size_t pf__output_read(int fd, void *text)
{
    sim_step();
    memcpy(text, number_in(fd), sizeof(uint64_t));
    return *number_in(fd) != 0 ? sizeof(uint64_t) : 0;
}

void pf__output_close(int fd)
{
    if (fd >= 0)
        sim_close(fd);
}

int pf__output_make_way(int *fds, int count)
{
    (void)fds, (void)count;
    return 0;
}

int pf__output_open(struct pf__output *output, int fd)
{
    *output = (struct pf__output){.fd = fd};
    return 0;
}

void pf__output_begin(const struct pf__output *output)
{
    if (output->fd < 0)
        return;
    sim_step();
    *number_in(output->fd) = 0;
}

void output_write(const struct pf__output *output, uint64_t number)
{
    if (output->fd < 0)
        return;
    sim_step();
    *number_in(output->fd) = number;
}
