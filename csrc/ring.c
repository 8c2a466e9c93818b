/* The task ring: its memory, and the pool's side of publishing and cancelling. */
#define _GNU_SOURCE
#include "ring.h"

#include "platform.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

static size_t pool_area(uint32_t slots, uint32_t body_size)
{
    return sizeof(struct pf__ring_pool) + (size_t)slots * body_size;
}

static size_t words_area(uint32_t slots)
{
    return sizeof(struct pf__ring_words) + (size_t)slots * sizeof(struct pf__slot);
}

static int map(struct pf__ring *ring, int writable)
{
    ring->pool = pf__memory_map(ring->pool_fd, ring->pool_size, writable);
    ring->words = pf__memory_map(ring->words_fd, ring->words_size, 1);
    return ring->pool == NULL || ring->words == NULL ? -1 : 0;
}

int pf__ring_create(struct pf__ring *ring, uint32_t slots, uint32_t body_size)
{
    memset(ring, 0, sizeof *ring);
    ring->slots = slots;
    ring->body_size = body_size;
    ring->pool_size = pool_area(slots, body_size);
    ring->words_size = words_area(slots);
    ring->words_fd = -1;
    ring->pool_fd = pf__memory_create("prefork-tasks", ring->pool_size);
    if (ring->pool_fd < 0)
        goto fail;
    ring->words_fd = pf__memory_create("prefork-words", ring->words_size);
    if (ring->words_fd < 0 || map(ring, 1) < 0)
        goto fail;
    ring->pool->slots = slots;
    ring->pool->body_size = body_size;
    atomic_store(&ring->pool->head, 1);
    atomic_store(&ring->pool->tail, 1);
    return 0;
fail:;
    int error = errno;
    pf__ring_close(ring);
    errno = error;
    return -1;
}

/* The sizes stand in the pool's area, which is mapped once for its header and once whole. */
int pf__ring_open(struct pf__ring *ring, int pool_fd, int words_fd)
{
    memset(ring, 0, sizeof *ring);
    ring->pool_fd = pool_fd;
    ring->words_fd = words_fd;
    struct pf__ring_pool *header = pf__memory_map(pool_fd, sizeof *header, 0);
    if (header == NULL)
        goto fail;
    ring->slots = header->slots;
    ring->body_size = header->body_size;
    pf__memory_unmap(header, sizeof *header);
    ring->pool_size = pool_area(ring->slots, ring->body_size);
    ring->words_size = words_area(ring->slots);
    if (map(ring, 0) < 0)
        goto fail;
    close(ring->pool_fd);
    close(ring->words_fd);
    ring->pool_fd = ring->words_fd = -1;
    return 0;
fail:;
    int error = errno;
    pf__ring_close(ring);
    errno = error;
    return -1;
}

void pf__ring_close(struct pf__ring *ring)
{
    pf__memory_unmap(ring->pool, ring->pool_size);
    pf__memory_unmap(ring->words, ring->words_size);
    ring->pool = NULL;
    ring->words = NULL;
    pf__ring_close_fds(ring);
}

void pf__ring_close_fds(struct pf__ring *ring)
{
    if (ring->pool_fd >= 0)
        close(ring->pool_fd);
    if (ring->words_fd >= 0)
        close(ring->words_fd);
    ring->pool_fd = ring->words_fd = -1;
}

int pf__ring_fits(const struct pf__ring *ring, size_t size)
{
    return size <= ring->body_size - sizeof(struct pf__body);
}

void pf__ring_publish(struct pf__ring *ring, uint64_t seq, uint64_t id, const void *data,
                      uint32_t size, uint32_t flags)
{
    struct pf__body *body = pf__ring_body(ring, seq);
    body->id = id;
    body->size = size;
    body->flags = data == NULL ? flags | PF_BODY_OUTSIDE : flags;
    if (data != NULL)
        memcpy(body->bytes, data, size);
    atomic_store_explicit(pf__ring_word(ring, seq), pf__word(seq, PF_NO_WORKER, PF_READY),
                          memory_order_release);
    pf__ring_skip(ring, seq);
}

void pf__ring_skip(struct pf__ring *ring, uint64_t seq)
{
    atomic_store_explicit(&ring->pool->tail, seq + 1, memory_order_release);
}

int pf__ring_cancel(struct pf__ring *ring, uint64_t seq)
{
    uint64_t ready = pf__word(seq, PF_NO_WORKER, PF_READY);
    return atomic_compare_exchange_strong(pf__ring_word(ring, seq), &ready,
                                          pf__word(seq, PF_NO_WORKER, PF_WITHDRAWN));
}

void pf__ring_release(struct pf__ring *ring, uint32_t worker)
{
    for (uint32_t i = 0; i < ring->slots; i++) {
        _Atomic uint64_t *where = &ring->words->slot[i].word;
        uint64_t word = atomic_load_explicit(where, memory_order_relaxed);
        if (pf__word_state(word) == PF_CLAIMED && pf__word_worker(word) == worker)
            atomic_store_explicit(where, pf__word(pf__word_seq(word), worker, PF_TAKEN),
                                  memory_order_relaxed);
    }
}
