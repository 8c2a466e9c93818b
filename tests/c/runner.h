/* A test runner: every test in a process of its own, with a time limit, and nothing left behind.
 *
 *   TEST(name) { CHECK(expression); CHECK_EQ(a, b); }
 *   TEST_SLOW(name, seconds) { … }
 *
 * A failed check ends the process it is in, whichever thread or child of the test that is. */
#ifndef PF_RUNNER_H
#define PF_RUNNER_H

struct test {
    const char *name;
    void (*run)(void);
    int seconds; /* a test that takes longer hangs: a failure */
    struct test *next;
};

void test_register(struct test *test);
_Noreturn void test_fail(const char *file, int line, const char *what);
_Noreturn void test_fail_eq(const char *file, int line, const char *what, long long a, long long b);

#define TEST_SLOW(name, seconds)                                                                   \
    static void name(void);                                                                        \
    static struct test test_of_##name = {#name, name, seconds, 0};                                 \
    __attribute__((constructor)) static void register_##name(void)                                 \
    {                                                                                              \
        test_register(&test_of_##name);                                                            \
    }                                                                                              \
    static void name(void)

#define TEST(name) TEST_SLOW(name, 20)

#define CHECK(expression)                                                                          \
    do {                                                                                           \
        if (!(expression))                                                                         \
            test_fail(__FILE__, __LINE__, #expression);                                            \
    } while (0)

#define CHECK_EQ(a, b)                                                                             \
    do {                                                                                           \
        long long check_a = (long long)(a), check_b = (long long)(b);                              \
        if (check_a != check_b)                                                                    \
            test_fail_eq(__FILE__, __LINE__, #a " == " #b, check_a, check_b);                      \
    } while (0)

#endif
