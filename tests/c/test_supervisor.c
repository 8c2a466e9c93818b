/* The supervisor by hand, where chance would hardly lead the simulation. */
#include "runner.h"
#include "supervisor.h"

enum { SLOTS = 64, SEATS = 40 };

static struct pf__supervisor sup;
static struct pf__task *slots[SLOTS];
static struct pf__seat seats[SEATS], *pointers[SEATS];
static struct pf__task tasks[3];
static const int64_t ms = 1000000;

static void start(uint32_t target)
{
    pf__supervisor_init(&sup, slots, SLOTS, 1000 * ms);
    for (uint32_t i = 0; i < SEATS; i++) {
        pf__seat_init(&seats[i], i);
        pointers[i] = &seats[i];
    }
    pf__supervisor_seats(&sup, pointers, SEATS);
    pf__supervisor_time(&sup, ms);
    sup.can_spawn = true;
    pf__supervisor_resize(&sup, target);
}

/* Obeys, every slot being free; how many orders of that type there were. */
static int count(enum pf__order_type type)
{
    struct pf__order order;
    int found = 0;
    while (pf__supervisor_next(&sup, &order) != PF_ORDER_NONE) {
        if (order.type == PF_ORDER_LOOK_SLOT)
            pf__supervisor_slot_seen(&sup, order.seq, 0);
        found += order.type == type;
    }
    return found;
}

static void everybody_is_up(uint32_t target)
{
    start(target);
    while (count(PF_ORDER_SPAWN) > 0)
        for (uint32_t i = 0; i < target; i++)
            if (seats[i].state == PF_SEAT_SPAWNING) {
                pf__supervisor_spawned(&sup, &seats[i]);
                pf__supervisor_up(&sup, &seats[i]);
            }
}

static void submit(struct pf__task *task)
{
    pf__supervisor_submit(&sup, task);
    CHECK_EQ(count(PF_ORDER_PUBLISH), 1);
}

TEST(no_more_spawns_are_in_flight_than_a_socket_can_carry)
{
    start(SEATS);
    CHECK_EQ(count(PF_ORDER_SPAWN), PF_MAX_SPAWNING);
    pf__supervisor_spawned(&sup, &seats[3]);
    CHECK_EQ(count(PF_ORDER_SPAWN), 1);
    CHECK_EQ(count(PF_ORDER_SPAWN), 0);
}

TEST(one_who_was_called_and_does_not_come_counts_no_more)
{
    everybody_is_up(2);
    submit(&tasks[0]);
    CHECK(pf__supervisor_wants_sleepers(&sup));
    CHECK(pf__supervisor_sleeper_seen(&sup, &seats[0], 1));
    CHECK(!pf__supervisor_wants_sleepers(&sup)); /* one task, one call */
    CHECK_EQ(pf__supervisor_deadline(&sup), sup.now + PF_CALL_PATIENCE);
    pf__supervisor_time(&sup, sup.now + PF_CALL_PATIENCE);
    CHECK(pf__supervisor_wants_sleepers(&sup));
    CHECK(!pf__supervisor_sleeper_seen(&sup, &seats[0], 1)); /* not in the same sleep */
    CHECK(pf__supervisor_sleeper_seen(&sup, &seats[1], 1));
    pf__supervisor_time(&sup, sup.now + PF_CALL_PATIENCE);
    CHECK(pf__supervisor_sleeper_seen(&sup, &seats[0], 2)); /* but in the next */
}

TEST(one_who_was_called_and_dies_counts_no_more)
{
    everybody_is_up(2);
    submit(&tasks[0]);
    CHECK(pf__supervisor_sleeper_seen(&sup, &seats[0], 1));
    CHECK(!pf__supervisor_wants_sleepers(&sup));
    pf__supervisor_exited(&sup, &seats[0], pf__word(0, 0, PF_IDLE));
    CHECK(pf__supervisor_wants_sleepers(&sup));
}

/* It would end so again, and again. */
TEST(one_who_ends_before_it_is_up_is_replaced_ever_later)
{
    start(1);
    for (int64_t pause = 50 * ms; pause <= 400 * ms; pause *= 2) {
        CHECK_EQ(count(PF_ORDER_SPAWN), 1);
        pf__supervisor_spawned(&sup, &seats[0]);
        pf__supervisor_exited(&sup, &seats[0], 0);
        CHECK_EQ(pf__supervisor_deadline(&sup), sup.now + pause);
        pf__supervisor_time(&sup, sup.now + pause - 1);
        CHECK_EQ(count(PF_ORDER_SPAWN), 0);
        pf__supervisor_time(&sup, sup.now + 1);
    }
    CHECK_EQ(count(PF_ORDER_SPAWN), 1);
    pf__supervisor_spawned(&sup, &seats[0]);
    pf__supervisor_up(&sup, &seats[0]); /* one that comes up ends that */
    pf__supervisor_exited(&sup, &seats[0], 0);
    CHECK_EQ(count(PF_ORDER_SPAWN), 1);
}

TEST(nobody_is_forked_before_the_end_of_another_was_told)
{
    everybody_is_up(1);
    sup.forks_wait = true;
    pf__supervisor_exited(&sup, &seats[0], pf__word(0, 0, PF_IDLE));
    CHECK_EQ(count(PF_ORDER_SPAWN), 0);
    CHECK(pf__supervisor_has_orders(&sup)); /* so nobody goes to sleep on it */
    sup.forks_wait = false;
    CHECK_EQ(count(PF_ORDER_SPAWN), 1);
}

TEST(who_retires_or_starts_is_never_called)
{
    everybody_is_up(3);
    submit(&tasks[0]);
    pf__supervisor_resize(&sup, 2);
    CHECK_EQ(count(PF_ORDER_RETIRE), 1);
    CHECK(seats[2].retiring && !pf__supervisor_sleeper_seen(&sup, &seats[2], 1));
    pf__supervisor_exited(&sup, &seats[2], pf__word(0, 0, PF_IDLE));
    CHECK_EQ(count(PF_ORDER_SPAWN), 0);
    pf__supervisor_exited(&sup, &seats[1], pf__word(0, 0, PF_IDLE));
    CHECK_EQ(count(PF_ORDER_SPAWN), 1);
    CHECK(!pf__supervisor_sleeper_seen(&sup, &seats[1], 1));
    pf__supervisor_spawned(&sup, &seats[1]);
    CHECK(!pf__supervisor_sleeper_seen(&sup, &seats[1], 1));
    pf__supervisor_up(&sup, &seats[1]);
    CHECK(pf__supervisor_sleeper_seen(&sup, &seats[1], 1));
}

/* A worker can be at work, and its task be ended, before the word of its birth is read; and UP may
 * come before that word. But till then its pid is by its own word alone, and may be anybody's. */
TEST(one_who_was_to_be_killed_before_it_was_known_is)
{
    everybody_is_up(1);
    pf__supervisor_exited(&sup, &seats[0], pf__word(0, 0, PF_IDLE));
    CHECK_EQ(count(PF_ORDER_SPAWN), 1);
    pf__supervisor_kill(&sup, &seats[0], 15);
    CHECK_EQ(count(PF_ORDER_SIGNAL), 0);
    pf__supervisor_up(&sup, &seats[0]);
    CHECK_EQ(count(PF_ORDER_SIGNAL), 0);
    pf__supervisor_spawned(&sup, &seats[0]);
    CHECK_EQ(count(PF_ORDER_SIGNAL), 1);
}

/* While the whole family is stopped, the clock runs on. */
TEST(one_whose_initializer_does_not_return_is_killed_when_it_is_to_end)
{
    start(3);
    CHECK_EQ(count(PF_ORDER_SPAWN), 3);
    pf__supervisor_spawned(&sup, &seats[0]);
    pf__supervisor_spawned(&sup, &seats[1]);
    pf__supervisor_resize(&sup, 0);
    CHECK_EQ(count(PF_ORDER_RETIRE), 3);
    pf__supervisor_up(&sup, &seats[1]);
    pf__supervisor_time(&sup, ms + PF_EXIT_PATIENCE - 1);
    CHECK(count(PF_ORDER_SIGNAL) == 0 && !seats[0].killed && !seats[2].killed);
    pf__supervisor_time(&sup, ms + PF_EXIT_PATIENCE);
    CHECK_EQ(count(PF_ORDER_SIGNAL), 1);
    CHECK(seats[0].killed && !seats[1].killed && seats[2].killed);
    pf__supervisor_spawned(&sup, &seats[2]); /* only now its pid is known */
    CHECK_EQ(count(PF_ORDER_SIGNAL), 1);
}

TEST(a_limit_is_longer_by_the_time_for_which_nobody_ran)
{
    everybody_is_up(1);
    tasks[0].limit = 100 * ms;
    submit(&tasks[0]);
    uint64_t seq = tasks[0].seq;
    int64_t begun = sup.now;
    pf__supervisor_slot_seen(&sup, seq, pf__word(seq, 0, PF_TAKEN));
    pf__supervisor_stalled(&sup, begun + 5000 * ms);
    for (int64_t at = begun + 100 * ms; at < begun + 5100 * ms; at += 100 * ms) {
        pf__supervisor_time(&sup, at);
        pf__supervisor_page_seen(&sup, &seats[0], pf__word(seq, 0, PF_RUNNING), begun, 0);
        CHECK_EQ(count(PF_ORDER_CONDEMN), 0);
    }
    pf__supervisor_time(&sup, begun + 5100 * ms);
    pf__supervisor_page_seen(&sup, &seats[0], pf__word(seq, 0, PF_RUNNING), begun, 0);
    CHECK_EQ(count(PF_ORDER_CONDEMN), 1);
}

/* Both were in the ring while the family was stopped. The first has begun when that was all but
 * over, so it gets its limit from then; the second began afterwards. */
TEST(a_limit_is_no_longer_by_a_time_before_the_call)
{
    everybody_is_up(2);
    for (int i = 0; i < 2; i++) {
        tasks[i].limit = 100 * ms;
        submit(&tasks[i]);
    }
    for (uint32_t i = 0; i < 2; i++)
        pf__supervisor_slot_seen(&sup, tasks[i].seq, pf__word(tasks[i].seq, i, PF_TAKEN));
    int64_t over = sup.now + 5000 * ms;
    const int64_t begun[2] = {over - 10 * ms, over + 10 * ms};
    const int64_t up[2] = {over + 100 * ms, over + 110 * ms};
    pf__supervisor_stalled(&sup, over);
    for (int i = 0; i < 2; i++) {
        uint64_t seq = tasks[i].seq;
        for (int64_t at = up[i] - 1; at <= up[i]; at++) {
            pf__supervisor_time(&sup, at);
            pf__supervisor_page_seen(&sup, &seats[i], pf__word(seq, 0, PF_RUNNING), begun[i], 0);
            CHECK_EQ(count(PF_ORDER_CONDEMN), at == up[i]);
        }
    }
}

/* However late we wake to look whether it has: what it gets is a time, not a number of looks. */
TEST(who_does_not_answer_for_its_stacks_is_waited_for_no_longer_than_that)
{
    everybody_is_up(1);
    tasks[0].limit = 100 * ms;
    submit(&tasks[0]);
    uint64_t seq = tasks[0].seq;
    int64_t due = sup.now + 100 * ms;
    pf__supervisor_slot_seen(&sup, seq, pf__word(seq, 0, PF_TAKEN));
    pf__supervisor_time(&sup, due);
    pf__supervisor_page_seen(&sup, &seats[0], pf__word(seq, 0, PF_RUNNING), due - 100 * ms, 0);
    CHECK_EQ(count(PF_ORDER_CONDEMN), 1);
    pf__supervisor_condemned(&sup, &seats[0], seq, true);
    CHECK_EQ(count(PF_ORDER_ASK), 1);
    while (tasks[0].state != PF_TASK_SETTLED) {
        CHECK(pf__supervisor_deadline(&sup) <= due + 9 * ms);
        pf__supervisor_time(&sup, pf__supervisor_deadline(&sup) + ms / 2);
        (void)count(PF_ORDER_LOOK_ASKED);
    }
    CHECK_EQ(tasks[0].verdict, PF_VERDICT_TIMED_OUT);
}

/* Between the look at the page and the swap that condemns it. */
TEST(what_begins_just_before_it_is_condemned_has_a_start)
{
    everybody_is_up(1);
    submit(&tasks[0]);
    uint64_t seq = tasks[0].seq;
    CHECK(pf__supervisor_slot_seen(&sup, seq, pf__word(seq, 0, PF_CLAIMED)));
    pf__supervisor_page_seen(&sup, &seats[0], pf__word(seq, 0, PF_LOADING), 7 * ms, 0);
    CHECK_EQ(tasks[0].started, 0);
    pf__supervisor_page_seen(&sup, &seats[0], pf__word(seq, 0, PF_CONDEMNED), 7 * ms, 0);
    CHECK_EQ(tasks[0].started, 7 * ms);
}

/* Whoever else writes the words: nobody can say what became of that task, and no other suffers. */
TEST(a_wild_word_costs_the_task_it_was_and_no_other)
{
    static const uint32_t states[] = {PF_EMPTY, PF_WITHDRAWN, 9, PF_CLAIMED, PF_TAKEN};
    for (int i = 0; i < 5; i++) {
        everybody_is_up(1);
        submit(&tasks[0]);
        submit(&tasks[1]);
        uint64_t seq = tasks[0].seq;
        /* CLAIMED and TAKEN: by one who is not there, or for another sequence. */
        uint64_t word = i == 3   ? pf__word(seq, 20, states[i])
                        : i == 4 ? pf__word(seq + SLOTS, 0, states[i])
                                 : pf__word(seq, 0, states[i]);
        CHECK(pf__supervisor_slot_seen(&sup, seq, word));
        CHECK_EQ(tasks[0].state, PF_TASK_SETTLED);
        CHECK_EQ(tasks[0].verdict, PF_VERDICT_LOST);
        CHECK_EQ(tasks[1].state, PF_TASK_PUBLISHED);
    }
}

static void run(struct pf__task *task, uint32_t seat, int64_t started)
{
    submit(task);
    CHECK(pf__supervisor_slot_seen(&sup, task->seq, pf__word(task->seq, seat, PF_CLAIMED)));
    CHECK(pf__supervisor_result(&sup, &seats[seat], task, task->seq, PF_VERDICT_OK, started));
    CHECK_EQ(count(PF_ORDER_SETTLED), 1);
}

TEST(tasks_are_brief_once_many_have_begun_soon_after_the_one_before)
{
    int64_t now = ms;
    everybody_is_up(2);
    for (int i = 0; i < 4; i++)
        run(&tasks[0], 0, now += 1000);
    CHECK(!pf__supervisor_tasks_are_brief(&sup));
    for (int i = 0; i < 20; i++) {
        run(&tasks[0], 0, now += 1000);
        run(&tasks[0], 1, now);
    }
    CHECK(pf__supervisor_tasks_are_brief(&sup));
    run(&tasks[0], 0, now += 1000 * ms); /* a pause, or a long one, is no reason */
    CHECK(pf__supervisor_tasks_are_brief(&sup));
    for (int i = 0; i < 3; i++)
        run(&tasks[0], 0, now += ms);
    CHECK(!pf__supervisor_tasks_are_brief(&sup));
}

TEST(tasks_whose_times_are_wild_are_not_brief)
{
    static const int64_t wild[] = {INT64_MIN, INT64_MAX, 0, -1};
    int64_t now = ms;
    everybody_is_up(1);
    for (int i = 0; i < 60; i++)
        run(&tasks[0], 0, now += 1000);
    CHECK(pf__supervisor_tasks_are_brief(&sup));
    for (int i = 0; i < 8; i++)
        run(&tasks[0], 0, wild[i % 4]);
    CHECK(!pf__supervisor_tasks_are_brief(&sup));
    CHECK(sup.pace >= 0 && sup.pace <= PF_MOST_PACE);
}
