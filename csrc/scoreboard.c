/* The scoreboard: a worker's segment, and the single-producer, single-consumer ring of results. */
#define _GNU_SOURCE
#include "scoreboard.h"

#include "platform.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static int map(struct pf__scoreboard *board)
{
    board->segment = pf__memory_map(board->fd, board->size, 1);
    return board->segment == NULL ? -1 : 0;
}

static int give_up(struct pf__scoreboard *board)
{
    int error = errno;
    pf__scoreboard_close(board);
    errno = error;
    return -1;
}

int pf__scoreboard_create(struct pf__scoreboard *board, uint32_t results_size, uint32_t claims)
{
    memset(board, 0, sizeof *board);
    board->size = sizeof(struct pf__segment) + results_size;
    board->mask = results_size - 1;
    board->fd = pf__memory_create("prefork-worker", board->size);
    if (board->fd < 0 || map(board) < 0)
        return give_up(board);
    board->segment->results_size = results_size;
    atomic_store(&board->segment->claims_left, claims);
    return 0;
}

int pf__scoreboard_open(struct pf__scoreboard *board, int fd)
{
    struct stat stat;
    memset(board, 0, sizeof *board);
    board->fd = fd;
    if (fstat(fd, &stat) < 0)
        return give_up(board);
    board->size = (size_t)stat.st_size;
    if (map(board) < 0)
        return give_up(board);
    board->mask = board->segment->results_size - 1;
    close(board->fd);
    board->fd = -1;
    return 0;
}

void pf__scoreboard_close(struct pf__scoreboard *board)
{
    pf__memory_unmap(board->segment, board->size);
    board->segment = NULL;
    if (board->fd >= 0)
        close(board->fd);
    board->fd = -1;
}

static uint64_t record_size(uint32_t size)
{
    return (sizeof(struct pf__record) + (uint64_t)size + 7) & ~(uint64_t)7;
}

/* Copies in and out go round the end of the ring. */
static void copy_in(struct pf__scoreboard *board, uint64_t at, const void *data, size_t size)
{
    size_t from = (size_t)at & board->mask, until_end = (size_t)board->mask + 1 - from;
    size_t first = size < until_end ? size : until_end;
    memcpy(board->segment->results + from, data, first);
    if (size > first)
        memcpy(board->segment->results, (const unsigned char *)data + first, size - first);
}

static void copy_out(const struct pf__scoreboard *board, uint64_t at, void *data, size_t size)
{
    size_t from = (size_t)at & board->mask, until_end = (size_t)board->mask + 1 - from;
    size_t first = size < until_end ? size : until_end;
    memcpy(data, board->segment->results + from, first);
    if (size > first)
        memcpy((unsigned char *)data + first, board->segment->results, size - first);
}

int pf__results_put(struct pf__scoreboard *board, const struct pf__record *record, const void *data)
{
    struct pf__segment *segment = board->segment;
    uint64_t need = record_size(record->size);
    if (need > (uint64_t)board->mask + 1) {
        errno = E2BIG;
        return -1;
    }
    uint64_t tail = board->cursor;
    uint64_t head = atomic_load_explicit(&segment->results_head, memory_order_acquire);
    if (tail + need - head > (uint64_t)board->mask + 1)
        return 0;
    copy_in(board, tail, record, sizeof *record);
    if (record->size > 0)
        copy_in(board, tail + sizeof *record, data, record->size);
    board->cursor = tail + need;
    atomic_store_explicit(&segment->results_tail, board->cursor, memory_order_release);
    return 1;
}

int pf__results_take(struct pf__scoreboard *board, uint64_t tail, struct pf__record *record,
                     void **data)
{
    struct pf__segment *segment = board->segment;
    uint64_t head = board->cursor;
    uint64_t filled = tail - head;
    if (filled == 0)
        return 0;
    /* The worker can write anything here: believe no size that the ring cannot hold. */
    if (filled > (uint64_t)board->mask + 1 || filled < sizeof *record)
        goto nonsense;
    copy_out(board, head, record, sizeof *record);
    uint64_t size = record_size(record->size);
    if (size > filled)
        goto nonsense;
    *data = NULL;
    if (record->size > 0) {
        *data = malloc(record->size);
        if (*data != NULL)
            copy_out(board, head + sizeof *record, *data, record->size);
    }
    board->cursor = head + size;
    atomic_store_explicit(&segment->results_head, board->cursor, memory_order_release);
    return 1;
nonsense:
    errno = EPROTO;
    return -1;
}
