/* The simulated kernel's memory: what a process allocates, and what several have mapped. */
#define _GNU_SOURCE
#include "kernel.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { MAPPINGS = 256, MOST_AT_ONCE = 1 << 16 };

struct allocation {
    struct allocation *next, *previous;
    struct process *owner;
    size_t size;
};

struct mapping {
    struct object *object;
    void *at;
    struct process *owner;
};

static struct mapping mappings[MAPPINGS];

/* ---- a process's own ------------------------------------------------------------------------- */

void *sim_malloc(size_t size)
{
    if (size > MOST_AT_ONCE) {
        errno = ENOMEM;
        return NULL;
    }
    struct allocation *allocation = malloc(sizeof *allocation + size);
    MUST(allocation != NULL && current != NULL);
    *allocation = (struct allocation){.next = current->allocations, .owner = current, .size = size};
    if (allocation->next != NULL)
        allocation->next->previous = allocation;
    current->allocations = allocation;
    return allocation + 1;
}

void *sim_calloc(size_t count, size_t size)
{
    return memset(sim_malloc(count * size), 0, count * size);
}

void sim_free(void *memory)
{
    struct allocation *allocation = memory;
    if (memory == NULL)
        return;
    allocation--;
    MUST(allocation->owner == current);
    if (allocation->previous != NULL)
        allocation->previous->next = allocation->next;
    else
        current->allocations = allocation->next;
    if (allocation->next != NULL)
        allocation->next->previous = allocation->previous;
    free(allocation);
}

void *sim_realloc(void *memory, size_t size)
{
    void *larger = sim_malloc(size);
    if (memory != NULL) {
        size_t had = ((struct allocation *)memory)[-1].size;
        memcpy(larger, memory, had < size ? had : size);
    }
    sim_free(memory);
    return larger;
}

size_t memory_held(const struct process *owner)
{
    size_t sum = 0;
    for (const struct allocation *item = owner->allocations; item != NULL; item = item->next)
        sum += item->size;
    return sum;
}

/* ---- shared ---------------------------------------------------------------------------------- */

int pf__memory_create(const char *name, size_t size)
{
    (void)name;
    return descriptors_exhausted() ? -1 : descriptor_open(object_make(MEMORY, size), 0, current);
}

void pf__memory_seal(int fd)
{
    (void)object_of(fd, MEMORY);
}

int sim_fstat(int fd, struct stat *stat)
{
    stat->st_size = (off_t)object_of(fd, MEMORY)->size;
    return 0;
}

void *pf__memory_map(int fd, size_t size, int writable)
{
    return pf__memory_map_part(fd, 0, size, writable);
}

void *pf__memory_map_part(int fd, size_t offset, size_t size, int writable)
{
    struct object *object = object_of(fd, MEMORY);
    (void)writable;
    MUST(offset + size <= object->size);
    for (int i = 0; i < MAPPINGS; i++)
        if (mappings[i].object == NULL) {
            mappings[i] =
                (struct mapping){.object = object, .owner = current, .at = object->bytes + offset};
            object->ends[1]++;
            return mappings[i].at;
        }
    MUST(!"too many mappings");
    return NULL;
}

static void unmap(struct mapping *mapping)
{
    struct object *object = mapping->object;
    mapping->object = NULL;
    object->ends[1]--;
    object_let_go(object);
}

void pf__memory_unmap(void *memory, size_t size)
{
    (void)size;
    for (int i = 0; i < MAPPINGS && memory != NULL; i++)
        if (mappings[i].object != NULL && mappings[i].at == memory &&
            mappings[i].owner == current) {
            unmap(&mappings[i]);
            return;
        }
    MUST(memory == NULL);
}

/* ---- at the end of a process ----------------------------------------------------------------- */

void memory_drop_all(struct process *owner)
{
    for (int i = 0; i < MAPPINGS; i++)
        if (mappings[i].object != NULL && mappings[i].owner == owner)
            unmap(&mappings[i]);
    while (owner->allocations != NULL) {
        struct allocation *allocation = owner->allocations;
        owner->allocations = allocation->next;
        free(allocation);
    }
}

void memory_check_none(const struct process *owner)
{
    MUST(owner->allocations == NULL);
    for (int i = 0; i < MAPPINGS; i++)
        MUST(mappings[i].object == NULL || mappings[i].owner != owner);
}
