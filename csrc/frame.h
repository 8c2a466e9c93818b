/* What travels over a pipe between pool and worker: frames with a fixed header.
 *
 * Both ends are on one machine and made by one build, so fields are in host order. The parser is
 * incremental and bounded: it takes whatever bytes have come, and nonsense is an error of that
 * channel, never a crash or a wild allocation. */
#ifndef PF_FRAME_H
#define PF_FRAME_H

#include <stddef.h>
#include <stdint.h>

enum pf__frame_type {
    PF_FRAME_BELL = 1, /* either way: look at your ring; no body */
    PF_FRAME_UP,       /* worker: the initializer is through, I claim from now on */
    PF_FRAME_FAILED,   /* worker: the initializer raised; body: the encoded exception */
    PF_FRAME_NEED,     /* worker: I claimed `seq`, whose body is not in the slot */
    PF_FRAME_BODY,     /* pool: the body of `seq` */
    PF_FRAME_RESULT,   /* worker: a result too large for the result ring */
    PF_FRAME_DOWN,     /* worker: I claim no more, and am about to end in good order */
    PF_FRAME_TYPES
};

#define PF_FRAME_MAGIC 0x70664631u /* "pfF1" */

struct pf__frame {
    uint32_t magic;
    uint16_t type;
    uint16_t flags;  /* of a RESULT: enum pf_outcome */
    uint64_t size;   /* bytes of body behind the header */
    uint64_t id;     /* of a RESULT: the task's id */
    uint64_t seq;    /* the publication it belongs to, 0 for none */
    int64_t started; /* of a RESULT: when the call began, CLOCK_MONOTONIC ns */
};

_Static_assert(sizeof(struct pf__frame) == 40, "a frame header has no padding");

struct pf__parser {
    uint64_t limit; /* a larger body is nonsense */
    size_t have;    /* bytes of the present frame taken so far, header included */
    struct pf__frame head;
    unsigned char *body; /* malloc'd once the header is whole; NULL while size is 0 */
    int dropping;        /* there was no memory for it: its bytes are passed over */
};

void pf__frame_init(struct pf__frame *frame, uint16_t type, uint64_t seq, uint64_t size);

void pf__parser_init(struct pf__parser *parser, uint64_t limit);
void pf__parser_clear(struct pf__parser *parser);

/* Takes bytes from `data` up to the end of one frame. Returns the number of bytes taken, `*whole`
 * set to 1 if a frame is now complete (take it by pf__parser_take before feeding on), or -1 with
 * errno: EPROTO for nonsense, and stays in error. */
ptrdiff_t pf__parser_feed(struct pf__parser *parser, const void *data, size_t size, int *whole);

/* Hands the completed frame over and makes the parser ready for the next. The body (NULL if the
 * frame has none, or there was no memory for it) is the caller's to free(). */
void pf__parser_take(struct pf__parser *parser, struct pf__frame *head, unsigned char **body);

/* Where a large body can be read to directly, saving a copy: the unfilled rest of the body, or 0.
 * `*where` is NULL if that has no memory: then so many bytes are to be passed over.
 * pf__parser_filled tells how many bytes were put there; returns 1 if the frame is whole. */
size_t pf__parser_room(struct pf__parser *parser, unsigned char **where);
int pf__parser_filled(struct pf__parser *parser, size_t size);

#endif
