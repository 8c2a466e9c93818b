/* Frames: the bounded, incremental parser of what comes over a pipe. */
#include "frame.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

void pf__frame_init(struct pf__frame *frame, uint16_t type, uint64_t seq, uint64_t size)
{
    memset(frame, 0, sizeof *frame);
    frame->magic = PF_FRAME_MAGIC;
    frame->type = type;
    frame->seq = seq;
    frame->size = size;
}

void pf__parser_init(struct pf__parser *parser, uint64_t limit)
{
    memset(parser, 0, sizeof *parser);
    parser->limit = limit;
}

void pf__parser_clear(struct pf__parser *parser)
{
    free(parser->body);
    parser->body = NULL;
    parser->have = 0;
    parser->dropping = 0;
}

static int header_is_sound(const struct pf__parser *parser)
{
    const struct pf__frame *head = &parser->head;
    if (head->magic != PF_FRAME_MAGIC || head->type == 0 || head->type >= PF_FRAME_TYPES)
        return 0;
    if (head->size > parser->limit || head->size > SIZE_MAX - sizeof *head)
        return 0;
    /* Bells carry nothing; one with a body is a stray write. */
    return head->type != PF_FRAME_BELL || head->size == 0;
}

static int is_whole(const struct pf__parser *parser)
{
    return parser->have >= sizeof parser->head &&
           parser->have - sizeof parser->head == parser->head.size;
}

ptrdiff_t pf__parser_feed(struct pf__parser *parser, const void *data, size_t size, int *whole)
{
    const unsigned char *from = data;
    size_t taken = 0;
    *whole = 0;
    if (parser->have < sizeof parser->head) {
        size_t want = sizeof parser->head - parser->have;
        taken = size < want ? size : want;
        memcpy((unsigned char *)&parser->head + parser->have, from, taken);
        parser->have += taken;
        if (parser->have < sizeof parser->head)
            return (ptrdiff_t)taken;
    }
    /* Checked again on every call, so that a parser that met nonsense stays in error. */
    if (!header_is_sound(parser)) {
        errno = EPROTO;
        return -1;
    }
    if (parser->head.size != 0 && parser->body == NULL && !parser->dropping) {
        parser->body = malloc((size_t)parser->head.size);
        parser->dropping = parser->body == NULL;
    }
    unsigned char *room;
    size_t want = pf__parser_room(parser, &room);
    size_t more = size - taken < want ? size - taken : want;
    if (more > 0) {
        if (room != NULL)
            memcpy(room, from + taken, more);
        parser->have += more;
        taken += more;
    }
    *whole = is_whole(parser);
    return (ptrdiff_t)taken;
}

void pf__parser_take(struct pf__parser *parser, struct pf__frame *head, unsigned char **body)
{
    *head = parser->head;
    *body = parser->body;
    parser->body = NULL;
    parser->have = 0;
    parser->dropping = 0;
}

size_t pf__parser_room(struct pf__parser *parser, unsigned char **where)
{
    if (parser->body == NULL && !parser->dropping)
        return 0;
    size_t filled = parser->have - sizeof parser->head;
    *where = parser->dropping ? NULL : parser->body + filled;
    return (size_t)parser->head.size - filled;
}

int pf__parser_filled(struct pf__parser *parser, size_t size)
{
    parser->have += size;
    return is_whole(parser);
}
