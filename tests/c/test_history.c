/* The flight recorder: what was noted can be read, by whom it concerns, in its order. */
#define _GNU_SOURCE
#include "history.h"
#include "platform.h"
#include "runner.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <string.h>
#include <unistd.h>

enum { SLOTS = 5 };

static struct pf__history make(void)
{
    struct pf__history history;
    CHECK_EQ(pf__history_create(&history, SLOTS), 0);
    return history;
}

static void drop(struct pf__history *history)
{
    pf__history_close(history);
    CHECK_EQ(close(history->fd), 0);
}

static pf_history copy_of(const struct pf__history *history, uint32_t slot)
{
    pf_history copy;
    pf__history_copy(pf__history_of(history, slot), &copy);
    return copy;
}

TEST(notes_are_read_in_their_order)
{
    struct pf__history history = make();
    struct pf__slot_history *worker = pf__history_open(history.fd, 3);
    int64_t before = pf__now();
    pf__history_spawned(pf__history_of(&history, 3), 7);
    pf__history_born(worker, 1234);
    pf__history_note(worker, PF_NOTE_CLAIMED, UINT64_MAX);
    pf__history_note(pf__history_of(&history, 3), PF_NOTE_EXITED, (uint64_t)-1);
    pf_history copy = copy_of(&history, 3);
    CHECK(copy.generation == 7 && copy.pid == 1234 && copy.count == 4);
    const pf_note expected[] = {{.type = PF_NOTE_SPAWNED, .value = 7},
                                {.type = PF_NOTE_BORN, .value = 1234},
                                {.type = PF_NOTE_CLAIMED, .value = UINT64_MAX},
                                {.type = PF_NOTE_EXITED, .value = (uint64_t)-1}};
    for (uint32_t i = 0; i < copy.count; i++) {
        CHECK_EQ(copy.notes[i].type, expected[i].type);
        CHECK(copy.notes[i].value == expected[i].value);
        CHECK(copy.notes[i].at >= (i > 0 ? copy.notes[i - 1].at : before));
    }
    CHECK(copy.since >= before && copy.since <= pf__now());
    for (uint32_t slot = 0; slot < SLOTS; slot++)
        CHECK(slot == 3 || copy_of(&history, slot).count == 0);
    pf__history_leave(worker);
    drop(&history);
}

TEST(the_newest_are_kept)
{
    struct pf__history history = make();
    for (uint64_t i = 1; i <= 1000; i++) {
        pf__history_note(pf__history_of(&history, 0), PF_NOTE_CLAIMED, i);
        pf_history copy = copy_of(&history, 0);
        CHECK_EQ(copy.count, i < PF_NOTES ? i : PF_NOTES);
        for (uint32_t j = 0; j < copy.count; j++)
            CHECK_EQ(copy.notes[j].value, i - copy.count + 1 + j);
    }
    drop(&history);
}

TEST(whoever_has_the_descriptor_can_read_along)
{
    struct pf__history history = make();
    pf_history copy;
    pf__history_spawned(pf__history_of(&history, SLOTS - 1), 2);
    CHECK_EQ(pf_history_read(history.fd, SLOTS - 1, &copy), 0);
    CHECK(copy.generation == 2 && copy.count == 1 && copy.pid == 0);
    CHECK_EQ(pf_history_read(history.fd, 0, &copy), 0);
    CHECK(copy.generation == 0 && copy.count == 0);
    CHECK_EQ(pf_history_read(history.fd, SLOTS, &copy), -1);
    CHECK_EQ(errno, ERANGE);
    drop(&history);
}

TEST(what_is_no_history_is_not_read)
{
    pf_history copy;
    size_t sizes[] = {0, 100, 4096, 1 << 20};
    for (int i = 0; i < 4; i++) {
        int fd = pf__memory_create("other", sizes[i]);
        CHECK(fd >= 0);
        CHECK_EQ(pf_history_read(fd, 0, &copy), -1);
        CHECK_EQ(errno, EPROTO);
        close(fd);
    }
    struct pf__history history = make();
    int shorter = pf__memory_create("cut off", history.part * 2);
    void *title = pf__memory_map(shorter, history.part, 1);
    memcpy(title, history.memory, 64);
    CHECK_EQ(pf_history_read(shorter, 4, &copy), -1);
    CHECK_EQ(errno, EPROTO);
    pf__memory_unmap(title, history.part);
    close(shorter);
    drop(&history);
}

TEST(nonsense_is_left_out)
{
    struct pf__history history = make();
    struct pf__slot_history *worker = pf__history_open(history.fd, 0);
    const int fills[] = {0xff, 0x00, 0x01, 0x7f};
    for (int i = 0; i < 4; i++) {
        memset(worker, fills[i], sizeof *worker);
        pf_history copy = copy_of(&history, 0);
        CHECK_EQ(copy.count, 0);
        pf__history_note(pf__history_of(&history, 0), PF_NOTE_EXITED, 9);
    }
    pf__history_leave(worker);
    drop(&history);
}

/* ---- several at once ----------------------------------------------------------------------- */

enum { ROUNDS = 200000 };
static _Atomic int writing = 2;
static struct pf__slot_history *shared;
static _Atomic uint64_t progress[2];

/* A note's value says its type, so that halves of two notes are found out. Who is off the processor
 * for a whole round of the notes would spoil a newer one, so neither leaves the other behind. */
static void *write_many(void *number)
{
    const int me = *(const int *)number;
    for (uint64_t i = 0; i < ROUNDS; i++) {
        while (i > atomic_load(&progress[1 - me]) + PF_NOTES / 4)
            sched_yield();
        pf__history_note(shared, i % PF_NOTE_TYPES, i * PF_NOTE_TYPES + i % PF_NOTE_TYPES);
        atomic_store(&progress[me], i + 1);
    }
    atomic_fetch_sub(&writing, 1);
    return NULL;
}

TEST_SLOW(no_note_is_read_in_halves, 60)
{
    struct pf__history history = make();
    shared = pf__history_of(&history, 1);
    const int numbers[2] = {0, 1};
    pthread_t writers[2];
    for (int i = 0; i < 2; i++)
        CHECK_EQ(pthread_create(&writers[i], NULL, write_many, (void *)&numbers[i]), 0);
    while (atomic_load(&writing) > 0) {
        pf_history copy = copy_of(&history, 1);
        for (uint32_t i = 0; i < copy.count; i++)
            CHECK_EQ(copy.notes[i].value % PF_NOTE_TYPES, copy.notes[i].type);
    }
    for (int i = 0; i < 2; i++)
        pthread_join(writers[i], NULL);
    CHECK_EQ(copy_of(&history, 1).count, PF_NOTES);
    drop(&history);
}
