/* Pieces of memory out of slabs. */
#include "slab.h"

#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>

#ifdef __has_feature /* clang */
#if __has_feature(address_sanitizer)
#define PF_ASAN
#endif
#elif defined(__SANITIZE_ADDRESS__) /* gcc */
#define PF_ASAN
#endif
#ifdef PF_ASAN
#include <sanitizer/asan_interface.h>
#else
#define ASAN_POISON_MEMORY_REGION(at, size)   ((void)(at), (void)(size))
#define ASAN_UNPOISON_MEMORY_REGION(at, size) ((void)(at), (void)(size))
#endif

struct piece {
    struct pf__slab *slab; /* NULL: malloc's */
    unsigned char memory[];
};

struct free_piece {
    struct free_piece *next;
};

struct pf__slab {
    struct pf__slabs *owner;
    struct pf__slab *next, *previous; /* among those with room */
    struct free_piece *free;          /* given back */
    uint32_t kind;                    /* its pieces have so many times PF_SLAB_STEP bytes */
    uint32_t used, fresh, all;        /* pieces: taken, never yet taken, and of both kinds */
    unsigned char memory[];
};

static bool is_full(const struct pf__slab *slab)
{
    return slab->free == NULL && slab->fresh == 0;
}

static void link_roomy(struct pf__slab *slab)
{
    struct pf__slab **first = &slab->owner->roomy[slab->kind];
    slab->previous = NULL;
    slab->next = *first;
    if (*first != NULL)
        (*first)->previous = slab;
    *first = slab;
}

static void unlink_roomy(struct pf__slab *slab)
{
    if (slab->previous != NULL)
        slab->previous->next = slab->next;
    else
        slab->owner->roomy[slab->kind] = slab->next;
    if (slab->next != NULL)
        slab->next->previous = slab->previous;
}

static void release(struct pf__slab *slab)
{
    slab->owner->count--;
    ASAN_UNPOISON_MEMORY_REGION(slab, PF_SLAB_SIZE);
    free(slab);
}

static struct pf__slab *new_slab(struct pf__slabs *slabs, uint32_t kind)
{
    struct pf__slab *slab = malloc(PF_SLAB_SIZE);
    if (slab == NULL)
        return NULL;
    uint32_t all = (uint32_t)((PF_SLAB_SIZE - sizeof *slab) / ((size_t)kind * PF_SLAB_STEP));
    *slab = (struct pf__slab){.owner = slabs, .kind = kind, .fresh = all, .all = all};
    ASAN_POISON_MEMORY_REGION(slab->memory, PF_SLAB_SIZE - sizeof *slab);
    slabs->count++;
    link_roomy(slab);
    return slab;
}

void *pf__slabs_take_alone(size_t size)
{
    struct piece *piece = size < SIZE_MAX - sizeof *piece ? malloc(sizeof *piece + size) : NULL;
    if (piece == NULL) {
        errno = ENOMEM;
        return NULL;
    }
    piece->slab = NULL;
    return piece->memory;
}

void *pf__slabs_take(struct pf__slabs *slabs, size_t size)
{
    if (size > PF_SLAB_MOST - sizeof(struct piece))
        return pf__slabs_take_alone(size);
    uint32_t kind = (uint32_t)((sizeof(struct piece) + size + PF_SLAB_STEP - 1) / PF_SLAB_STEP);
    struct pf__slab *slab = slabs->roomy[kind];
    if (slab == NULL && (slab = new_slab(slabs, kind)) == NULL)
        return NULL;
    void *place = slab->free;
    if (place == NULL)
        place = slab->memory + (size_t)(slab->all - slab->fresh--) * kind * PF_SLAB_STEP;
    ASAN_UNPOISON_MEMORY_REGION(place, sizeof(struct piece) + size);
    if (slab->free != NULL)
        slab->free = slab->free->next;
    struct piece *piece = place;
    piece->slab = slab;
    slab->used++;
    if (is_full(slab))
        unlink_roomy(slab);
    return piece->memory;
}

void pf__slabs_give(void *memory)
{
    if (memory == NULL)
        return;
    struct piece *piece = (struct piece *)((unsigned char *)memory - sizeof *piece);
    struct pf__slab *slab = piece->slab;
    if (slab == NULL) {
        free(piece);
        return;
    }
    if (is_full(slab))
        link_roomy(slab);
    struct free_piece *freed = (struct free_piece *)piece;
    freed->next = slab->free;
    slab->free = freed;
    ASAN_POISON_MEMORY_REGION(piece, (size_t)slab->kind * PF_SLAB_STEP);
    if (--slab->used == 0 && (slab->next != NULL || slab->previous != NULL)) {
        unlink_roomy(slab);
        release(slab);
    }
}

void pf__slabs_clear(struct pf__slabs *slabs)
{
    for (uint32_t kind = 0; kind < sizeof slabs->roomy / sizeof *slabs->roomy; kind++) {
        struct pf__slab *slab = slabs->roomy[kind], *next;
        for (; slab != NULL; slab = next) {
            next = slab->next;
            release(slab);
        }
        slabs->roomy[kind] = NULL;
    }
}
