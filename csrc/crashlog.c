/* The crash log: a sealed memory file. */
#define _GNU_SOURCE
#include "crashlog.h"

#include "platform.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

int pf__crashlog_create(struct pf__crashlog *log)
{
    log->text = NULL;
    log->fd = pf__memory_create("prefork-crash", PF_CRASHLOG_SIZE);
    if (log->fd < 0)
        return -1;
    pf__memory_seal(log->fd);
    log->text = pf__memory_map(log->fd, PF_CRASHLOG_SIZE, 0);
    if (log->text == NULL) {
        int error = errno;
        pf__crashlog_close(log);
        errno = error;
        return -1;
    }
    return 0;
}

void pf__crashlog_close(struct pf__crashlog *log)
{
    pf__memory_unmap((void *)log->text, PF_CRASHLOG_SIZE);
    log->text = NULL;
    if (log->fd >= 0)
        close(log->fd);
    log->fd = -1;
}

size_t pf__crashlog_length(const struct pf__crashlog *log)
{
    return log->text != NULL ? strnlen(log->text, PF_CRASHLOG_SIZE) : 0;
}
