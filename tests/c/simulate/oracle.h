/* What the oracle's files share: the truth about every task, and what was seen on the way. */
#ifndef ORACLE_H
#define ORACLE_H

#include "world.h"

struct truth {
    uint64_t id;
    pf_task_options options;
    int64_t submitted_at, begun_at, running_since;
    int pid, published;  /* how often, since the last loss */
    uint32_t losses;     /* that were made good */
    uint32_t softenings; /* told, in all its attempts */
    bool told, begun, ended, delivered, softened, condemned, cancelled, settled;
    bool wrote;     /* something that is captured */
    bool oversized; /* condemned when its worker had more memory than it may */
};

struct seen {
    unsigned long long outcomes[7], retried, softened, put_back, given_up, burned, revoked, outside,
        full, deaf, left, oversized, spares, shown;
};

extern struct truth truths[TASKS]; /* by number, from 1 */
extern uint64_t truth_count;
extern uint64_t words[SLOTS]; /* of the ring, as they were after the last step */
extern struct seen seen;

struct truth *truth_of_seq(uint64_t seq);

#endif
