/* The flight recorder. Its first part says what the file is; slot n's is the one after n others. */
#define _GNU_SOURCE
#include "history.h"

#include "platform.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const char magic[16] = "prefork history";
enum { VERSION = 1 };

struct title {
    char magic[sizeof magic];
    uint32_t version, slots;
    uint64_t part;
};

static size_t part_size(void)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    return (sizeof(struct pf__slot_history) + page - 1) / page * page;
}

static size_t offset_of(size_t part, uint32_t slot)
{
    return part * ((size_t)slot + 1);
}

int pf__history_create(struct pf__history *history, uint32_t slots)
{
    *history = (struct pf__history){.slots = slots, .part = part_size()};
    history->fd = pf__memory_create("prefork-history", offset_of(history->part, slots));
    if (history->fd < 0)
        return -1;
    pf__memory_seal(history->fd);
    history->memory = pf__memory_map(history->fd, offset_of(history->part, slots), 1);
    if (history->memory == NULL)
        return -1;
    struct title title = {.version = VERSION, .slots = slots, .part = history->part};
    memcpy(title.magic, magic, sizeof magic);
    memcpy(history->memory, &title, sizeof title);
    return 0;
}

void pf__history_close(struct pf__history *history)
{
    pf__memory_unmap(history->memory, offset_of(history->part, history->slots));
    history->memory = NULL;
}

struct pf__slot_history *pf__history_of(const struct pf__history *history, uint32_t slot)
{
    return (void *)((char *)history->memory + offset_of(history->part, slot));
}

struct pf__slot_history *pf__history_open(int fd, uint32_t slot)
{
    size_t part = part_size();
    return pf__memory_map_part(fd, offset_of(part, slot), part, 1);
}

void pf__history_leave(struct pf__slot_history *of)
{
    pf__memory_unmap(of, part_size());
}

/* ---- writing ------------------------------------------------------------------------------- */

void pf__history_spawned(struct pf__slot_history *of, uint64_t generation)
{
    atomic_store(&of->pid, 0);
    atomic_store(&of->since, pf__now());
    atomic_store(&of->generation, generation);
    pf__history_note(of, PF_NOTE_SPAWNED, generation);
}

void pf__history_born(struct pf__slot_history *of, pid_t pid)
{
    if (of != NULL)
        atomic_store(&of->pid, pid);
    pf__history_note(of, PF_NOTE_BORN, (uint64_t)pid);
}

void pf__history_note(struct pf__slot_history *of, pf_note_type type, uint64_t value)
{
    if (of == NULL)
        return;
    uint64_t number = atomic_fetch_add_explicit(&of->written, 1, memory_order_relaxed) + 1;
    struct pf__note *note = &of->notes[number % PF_NOTES];
    atomic_store_explicit(&note->head, 0, memory_order_relaxed);
    atomic_thread_fence(memory_order_release);
    atomic_store_explicit(&note->at, pf__now(), memory_order_relaxed);
    atomic_store_explicit(&note->value, value, memory_order_relaxed);
    atomic_store_explicit(&note->head, number << 8 | (uint64_t)type, memory_order_release);
}

/* ---- reading ------------------------------------------------------------------------------- */

/* 0 if it is not, or no longer, the note with that number. A worker can write anything here. */
static int copy_note(const struct pf__note *note, uint64_t number, pf_note *copy)
{
    uint64_t head = atomic_load_explicit(&note->head, memory_order_acquire);
    copy->at = atomic_load_explicit(&note->at, memory_order_relaxed);
    copy->value = atomic_load_explicit(&note->value, memory_order_relaxed);
    copy->type = (uint32_t)(head & 0xff);
    atomic_thread_fence(memory_order_acquire);
    return head >> 8 == number && copy->type < PF_NOTE_TYPES && copy->at > 0 &&
           atomic_load_explicit(&note->head, memory_order_relaxed) == head;
}

void pf__history_copy(const struct pf__slot_history *of, pf_history *copy)
{
    uint64_t newest = atomic_load_explicit(&of->written, memory_order_acquire);
    copy->generation = atomic_load(&of->generation);
    copy->pid = atomic_load(&of->pid);
    copy->since = atomic_load(&of->since);
    copy->count = 0;
    for (uint64_t age = newest < PF_NOTES ? newest : PF_NOTES; age > 0; age--) {
        uint64_t number = newest - age + 1;
        copy->count +=
            (uint32_t)copy_note(&of->notes[number % PF_NOTES], number, &copy->notes[copy->count]);
    }
}

static int read_title(int fd, struct title *title)
{
    struct stat stat;
    if (fstat(fd, &stat) < 0)
        return -1;
    errno = EPROTO;
    if ((size_t)stat.st_size < part_size())
        return -1;
    const struct title *mapped = pf__memory_map(fd, part_size(), 0);
    if (mapped == NULL)
        return -1;
    *title = *mapped;
    pf__memory_unmap((void *)mapped, part_size());
    errno = EPROTO;
    int sound = memcmp(title->magic, magic, sizeof magic) == 0 && title->version == VERSION &&
                title->part == part_size() && title->slots <= 4095 &&
                (size_t)stat.st_size >= offset_of(title->part, title->slots);
    return sound ? 0 : -1;
}

int pf_history_read(int fd, uint32_t slot, pf_history *copy)
{
    struct title title;
    if (read_title(fd, &title) < 0)
        return -1;
    if (slot >= title.slots) {
        errno = ERANGE;
        return -1;
    }
    struct pf__slot_history *of =
        pf__memory_map_part(fd, offset_of(title.part, slot), title.part, 0);
    if (of == NULL)
        return -1;
    pf__history_copy(of, copy);
    pf__history_leave(of);
    return 0;
}
