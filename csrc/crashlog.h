/* What a worker leaves behind when it crashes: text that its fault handler wrote, by descriptor,
 * into memory that the pool has mapped.
 *
 * Made anew for every worker process. The worker keeps the descriptor and maps nothing; the pool
 * maps it and keeps no descriptor. The size is sealed, so that nothing written there can grow it.
 */
#ifndef PF_CRASHLOG_H
#define PF_CRASHLOG_H

#include <stddef.h>

enum { PF_CRASHLOG_SIZE = 1 << 14 };

struct pf__crashlog {
    const char *text; /* NULL: there is none */
    int fd;           /* the worker's end, until it is sent; then -1 */
};

/* 0, or -1 with errno. */
int pf__crashlog_create(struct pf__crashlog *log);
void pf__crashlog_close(struct pf__crashlog *log);

/* How many bytes were written, up to the first NUL. */
size_t pf__crashlog_length(const struct pf__crashlog *log);

#endif
