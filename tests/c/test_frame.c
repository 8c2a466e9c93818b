/* The frame parser: every way to split a stream, and every way to spoil a header. */
#define _GNU_SOURCE
#include "frame.h"
#include "runner.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { LIMIT = 4096 };

/* A stream of three frames: with a body, without one, with a body of one byte. */
static size_t make_stream(unsigned char *stream)
{
    static const size_t sizes[] = {100, 0, 1};
    static const uint16_t types[] = {PF_FRAME_BODY, PF_FRAME_BELL, PF_FRAME_RESULT};
    size_t at = 0;
    for (int i = 0; i < 3; i++) {
        struct pf__frame frame;
        pf__frame_init(&frame, types[i], (uint64_t)i + 1, sizes[i]);
        memcpy(stream + at, &frame, sizeof frame);
        at += sizeof frame;
        memset(stream + at, 'a' + i, sizes[i]);
        at += sizes[i];
    }
    return at;
}

static int take_and_check(struct pf__parser *parser, int number)
{
    static const size_t sizes[] = {100, 0, 1};
    struct pf__frame head;
    unsigned char *body;
    pf__parser_take(parser, &head, &body);
    CHECK_EQ(head.seq, number + 1);
    CHECK_EQ(head.size, sizes[number]);
    CHECK((body == NULL) == (sizes[number] == 0));
    for (size_t i = 0; i < head.size; i++)
        CHECK_EQ(body[i], 'a' + number);
    free(body);
    return number + 1;
}

static int feed_all(struct pf__parser *parser, const unsigned char *data, size_t size, int number)
{
    while (size > 0) {
        int whole;
        ptrdiff_t taken = pf__parser_feed(parser, data, size, &whole);
        CHECK(taken > 0 && (size_t)taken <= size);
        data += taken;
        size -= (size_t)taken;
        if (whole)
            number = take_and_check(parser, number);
    }
    return number;
}

TEST(every_split_in_three_pieces)
{
    unsigned char stream[512];
    size_t size = make_stream(stream);
    for (size_t a = 0; a <= size; a++)
        for (size_t b = a; b <= size; b++) {
            struct pf__parser parser;
            pf__parser_init(&parser, LIMIT);
            int number = feed_all(&parser, stream, a, 0);
            number = feed_all(&parser, stream + a, b - a, number);
            CHECK_EQ(feed_all(&parser, stream + b, size - b, number), 3);
            pf__parser_clear(&parser);
        }
}

TEST(byte_by_byte_and_directly_into_the_body)
{
    unsigned char stream[512];
    size_t size = make_stream(stream), at = 0;
    struct pf__parser parser;
    int number = 0;
    pf__parser_init(&parser, LIMIT);
    while (at < size) {
        unsigned char *where;
        size_t room = pf__parser_room(&parser, &where);
        int whole;
        if (room > 0) {
            size_t some = room < 7 ? room : 7;
            memcpy(where, stream + at, some);
            at += some;
            whole = pf__parser_filled(&parser, some);
        } else {
            CHECK_EQ(pf__parser_feed(&parser, stream + at, 1, &whole), 1);
            at++;
        }
        if (whole)
            number = take_and_check(&parser, number);
    }
    CHECK_EQ(number, 3);
    pf__parser_clear(&parser);
}

/* Whatever byte of the header is spoilt: an error that stays, or a frame within the limit. */
TEST(every_corruption_of_one_byte)
{
    struct pf__frame frame;
    pf__frame_init(&frame, PF_FRAME_RESULT, 1, 16);
    for (size_t at = 0; at < sizeof frame; at++)
        for (int value = 0; value < 256; value++) {
            unsigned char bytes[sizeof frame];
            struct pf__parser parser;
            int whole;
            memcpy(bytes, &frame, sizeof bytes);
            if (bytes[at] == value)
                continue;
            bytes[at] = (unsigned char)value;
            pf__parser_init(&parser, LIMIT);
            ptrdiff_t taken = pf__parser_feed(&parser, bytes, sizeof bytes, &whole);
            if (at < offsetof(struct pf__frame, type))
                CHECK_EQ(taken, -1);
            if (taken < 0) {
                CHECK_EQ(errno, EPROTO);
                CHECK(!whole);
                errno = 0;
                CHECK_EQ(pf__parser_feed(&parser, &frame, sizeof frame, &whole), -1);
                CHECK_EQ(errno, EPROTO);
            } else {
                CHECK_EQ(taken, sizeof bytes);
                CHECK(parser.head.size <= LIMIT && parser.head.type < PF_FRAME_TYPES);
            }
            pf__parser_clear(&parser);
        }
}

static ptrdiff_t feed_header(uint16_t type, uint64_t size, uint64_t limit, int *whole)
{
    struct pf__frame frame;
    struct pf__parser parser;
    pf__frame_init(&frame, type, 1, size);
    pf__parser_init(&parser, limit);
    ptrdiff_t taken = pf__parser_feed(&parser, &frame, sizeof frame, whole);
    int error = errno;
    pf__parser_clear(&parser);
    errno = error;
    return taken;
}

TEST(bounds)
{
    int whole;
    CHECK_EQ(feed_header(PF_FRAME_BODY, LIMIT, LIMIT, &whole), sizeof(struct pf__frame));
    CHECK_EQ(feed_header(PF_FRAME_BODY, LIMIT + 1, LIMIT, &whole), -1);
    CHECK_EQ(errno, EPROTO);
    CHECK_EQ(feed_header(PF_FRAME_BODY, UINT64_MAX, UINT64_MAX, &whole), -1);
    CHECK_EQ(errno, EPROTO);
    CHECK_EQ(feed_header(PF_FRAME_BELL, 1, LIMIT, &whole), -1);
    CHECK_EQ(feed_header(0, 0, LIMIT, &whole), -1);
    CHECK_EQ(feed_header(PF_FRAME_TYPES, 0, LIMIT, &whole), -1);
    CHECK_EQ(feed_header(PF_FRAME_UP, 0, 0, &whole), sizeof(struct pf__frame));
    CHECK(whole);
}

TEST(random_bytes_never_harm)
{
    srandom(3);
    for (int round = 0; round < 20000; round++) {
        struct pf__parser parser;
        pf__parser_init(&parser, 256);
        for (int piece = 0; piece < 8; piece++) {
            unsigned char bytes[64];
            int whole;
            for (size_t i = 0; i < sizeof bytes; i++)
                bytes[i] = (unsigned char)random();
            if (piece == 0 && random() % 2) { /* often enough past the first check */
                struct pf__frame frame;
                pf__frame_init(&frame, (uint16_t)(random() % 9), 1, (uint64_t)(random() % 300));
                memcpy(bytes, &frame, sizeof frame);
            }
            if (pf__parser_feed(&parser, bytes, sizeof bytes, &whole) < 0)
                break;
            if (whole) {
                struct pf__frame head;
                unsigned char *body;
                pf__parser_take(&parser, &head, &body);
                free(body);
            }
        }
        pf__parser_clear(&parser);
    }
}
