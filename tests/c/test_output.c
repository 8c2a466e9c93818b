/* The captured output by itself: what is kept of it, what is shown, and where it is put. */
#define _GNU_SOURCE
#include "output.h"
#include "runner.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static char text[PF_OUTPUT_SHOWN];

static void write_lines(int fd, int count)
{
    for (int i = 0; i < count; i++)
        CHECK_EQ(dprintf(fd, "line %10d\n", i), 16);
}

static off_t size_of(int fd)
{
    struct stat found;
    CHECK_EQ(fstat(fd, &found), 0);
    return found.st_size;
}

/* For what changes 1 and 2. */
static void in_a_child(void (*run)(void))
{
    int status;
    pid_t pid = fork();
    CHECK(pid >= 0);
    if (pid == 0) {
        run();
        _exit(0);
    }
    CHECK(waitpid(pid, &status, 0) == pid && status == 0);
}

TEST(what_is_shown_is_the_end)
{
    int fd = pf__output_create();
    CHECK(fd >= 0 && fcntl(fd, F_GETFD) & FD_CLOEXEC);
    CHECK_EQ(pf__output_read(fd, text), 0);
    CHECK_EQ(pf__output_read(-1, text), 0);
    write_lines(fd, 3);
    CHECK_EQ(lseek(fd, 0, SEEK_SET), 0); /* and still nothing is overwritten */
    write_lines(fd, 1);
    CHECK_EQ(pf__output_read(fd, text), 4 * 16);
    CHECK_EQ(memcmp(text + 32, "line          2\nline          0\n", 32), 0);
    write_lines(fd, 1000);
    CHECK_EQ(pf__output_read(fd, text), PF_OUTPUT_SHOWN);
    CHECK_EQ(memcmp(text + PF_OUTPUT_SHOWN - 16, "line        999\n", 16), 0);
    pf__output_close(fd);
    pf__output_close(-1);
}

TEST(what_is_kept_is_little)
{
    struct stat found;
    int fd = pf__output_create(), more = PF_OUTPUT_KEPT / 16 * 20;
    write_lines(fd, 100);
    pf__output_trim(fd);
    CHECK_EQ(pread(fd, text, 16, 0), 16);
    CHECK_EQ(memcmp(text, "line          0\n", 16), 0); /* so little stays whole */
    write_lines(fd, more);
    pf__output_trim(fd);
    CHECK_EQ(fstat(fd, &found), 0);
    CHECK_EQ(found.st_size, (more + 100) * 16);
    CHECK(found.st_blocks * 512 <= PF_OUTPUT_KEPT + sysconf(_SC_PAGESIZE));
    CHECK_EQ(pf__output_read(fd, text), PF_OUTPUT_SHOWN);
    CHECK_EQ(memcmp(text, "line ", 5), 0);
    pf__output_trim(-1);
    pf__output_close(fd);
}

TEST(once_it_is_closed_nobody_can_write_to_it)
{
    int fd = pf__output_create(), other = dup(fd);
    write_lines(other, PF_OUTPUT_KEPT);
    pf__output_close(fd);
    CHECK(write(other, "x", 1) == -1 && errno == EPERM);
    struct stat found;
    CHECK_EQ(fstat(other, &found), 0);
    CHECK(found.st_blocks * 512 <= PF_OUTPUT_KEPT + sysconf(_SC_PAGESIZE));
    close(other);
}

static void be_a_worker(void)
{
    struct pf__output output;
    int fd = pf__output_create();
    CHECK_EQ(pf__output_open(&output, fd), 0);
    CHECK_EQ(fcntl(1, F_GETFD) | fcntl(2, F_GETFD), 0); /* programs inherit these */
    CHECK(write(1, "one", 3) == 3 && write(2, "two", 3) == 3);
    CHECK_EQ(pf__output_read(fd, text), 6);
    CHECK_EQ(memcmp(text, "onetwo", 6), 0);
    pf__output_begin(&output);
    CHECK_EQ(pf__output_read(fd, text), 0);
    close(1); /* put back, and the other left as it is */
    CHECK_EQ(dup2(fcntl(0, F_DUPFD, 3), 2), 2);
    pf__output_begin(&output);
    CHECK_EQ(write(1, "one", 3), 3);
    CHECK(size_of(1) == 3 && size_of(fd) == 3 && size_of(2) != 3);
    int another = pf__output_create(); /* no task's file is emptied */
    CHECK_EQ(dup2(another, fd), fd);
    CHECK_EQ(write(another, "file", 4), 4);
    pf__output_begin(&output);
    CHECK(size_of(another) == 4 && size_of(1) == 3);
    close(fd);
    pf__output_begin(&output);
    output.fd = -1;
    pf__output_begin(&output);
}

TEST(a_task_begins_with_nothing)
{
    in_a_child(be_a_worker);
}

static void be_sent_low_descriptors(void)
{
    int pair[2], fds[3];
    CHECK_EQ(pipe(pair), 0);
    fds[0] = dup2(pair[0], 1);
    fds[1] = dup2(pair[1], 2);
    fds[2] = pf__output_create();
    int before = fds[2];
    CHECK_EQ(pf__output_make_way(fds, 3), 0);
    CHECK(fds[0] > 2 && fds[1] > 2 && fds[2] == before);
    CHECK(fcntl(fds[0], F_GETFD) & fcntl(fds[1], F_GETFD) & FD_CLOEXEC);
    CHECK(fcntl(1, F_GETFD) == -1 && fcntl(2, F_GETFD) == -1);
    struct pf__output output;
    CHECK_EQ(pf__output_open(&output, fds[2]), 0);
    CHECK_EQ(write(fds[1], "still the pipe's", 16), 16);
    CHECK_EQ(read(fds[0], text, 16), 16);
    CHECK_EQ(size_of(fds[2]), 0);
}

TEST(what_was_sent_to_1_and_2_is_moved_out_of_the_way)
{
    in_a_child(be_sent_low_descriptors);
}
