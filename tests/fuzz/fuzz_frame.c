/* The frame parser, fed with the same bytes in two ways: all at once, and in pieces that the input
 * itself chooses, by feed and by reading straight into the body.
 *
 *   the frames are the same, and so is where it ends in an error
 *   what it takes it has been given, and an error stays
 *   it holds at most one body, of at most the limit */
#include "frame.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { LIMIT = 1 << 12, MOST_FRAMES = 64 };

#define MUST(expression)                                                                           \
    do {                                                                                           \
        if (!(expression))                                                                         \
            abort();                                                                               \
    } while (0)

struct outcome {
    struct pf__frame heads[MOST_FRAMES];
    unsigned char *bodies[MOST_FRAMES];
    int count;
    int failed; /* the stream turned out to be nonsense */
};

static void take(struct pf__parser *parser, struct outcome *outcome)
{
    struct pf__frame *head = &outcome->heads[outcome->count];
    unsigned char **body = &outcome->bodies[outcome->count];
    pf__parser_take(parser, head, body);
    MUST(head->magic == PF_FRAME_MAGIC && head->type > 0 && head->type < PF_FRAME_TYPES);
    MUST(head->size <= LIMIT && (*body != NULL) == (head->size > 0));
    outcome->count++;
}

static int feed(struct pf__parser *parser, const uint8_t *data, size_t size, int *whole)
{
    ptrdiff_t taken = pf__parser_feed(parser, data, size, whole);
    MUST(taken >= -1 && taken <= (ptrdiff_t)size);
    if (taken < 0) {
        int again;
        MUST(errno == EPROTO && !*whole);
        MUST(pf__parser_feed(parser, data, size, &again) == -1 && errno == EPROTO);
    }
    return (int)taken;
}

/* `pieces`: how much of it comes at a time; none: everything at once. */
static void parse(const uint8_t *data, size_t size, const uint8_t *pieces, size_t piece_count,
                  struct outcome *outcome)
{
    struct pf__parser parser;
    size_t at = 0, turn = 0;
    pf__parser_init(&parser, LIMIT);
    while (at < size && !outcome->failed && outcome->count < MOST_FRAMES) {
        uint8_t piece = piece_count > 0 ? pieces[turn++ % piece_count] : 0;
        size_t want = piece_count > 0 ? 1 + piece % 64u : size, room;
        unsigned char *where;
        int whole;
        want = want < size - at ? want : size - at;
        room = pf__parser_room(&parser, &where);
        MUST(room <= LIMIT);
        if (room > 0 && piece >= 128) {
            want = want < room ? want : room;
            memcpy(where, data + at, want);
            whole = pf__parser_filled(&parser, want);
            at += want;
        } else {
            int taken = feed(&parser, data + at, want, &whole);
            outcome->failed = taken < 0;
            at += taken < 0 ? 0 : (size_t)taken;
        }
        if (whole)
            take(&parser, outcome);
    }
    pf__parser_clear(&parser);
}

static void clear(struct outcome *outcome)
{
    for (int i = 0; i < outcome->count; i++)
        free(outcome->bodies[i]);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct outcome at_once, in_pieces;
    if (size < 8)
        return -1;
    at_once.count = in_pieces.count = at_once.failed = in_pieces.failed = 0;
    parse(data + 8, size - 8, NULL, 0, &at_once);
    parse(data + 8, size - 8, data, 8, &in_pieces);
    MUST(at_once.count == in_pieces.count && at_once.failed == in_pieces.failed);
    for (int i = 0; i < at_once.count; i++) {
        const struct pf__frame *head = &at_once.heads[i];
        MUST(memcmp(head, &in_pieces.heads[i], sizeof *head) == 0);
        MUST(head->size == 0 ||
             memcmp(at_once.bodies[i], in_pieces.bodies[i], (size_t)head->size) == 0);
    }
    clear(&at_once);
    clear(&in_pieces);
    return 0;
}
