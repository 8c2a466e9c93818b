/* process.h for macOS: kqueues in the place of pidfds, a thread in that of PDEATHSIG. */
#define _GNU_SOURCE
#include "process.h"

#include <errno.h>
#include <fcntl.h>
#include <libproc.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/event.h>
#include <sys/wait.h>
#include <unistd.h>

/* There is no pipe2 and the like: a program that another thread starts in between gets a copy. */
static int new_queue(void)
{
    int queue = kqueue();
    if (queue >= 0)
        (void)fcntl(queue, F_SETFD, FD_CLOEXEC);
    return queue;
}

static int change(int queue, uintptr_t ident, int filter, unsigned flags)
{
    struct kevent event;
    EV_SET(&event, ident, (int16_t)filter, EV_ADD, flags, 0, NULL);
    return kevent(queue, &event, 1, NULL, 0, NULL);
}

/* A kqueue that waits for an exit is readable from then on, for nobody fetches the event. An end
 * that has not been reaped cannot be waited for; but kill finds it, which tells it from none. */
int pf__process_watch(pid_t pid)
{
    const char *off = getenv("PREFORK_NO_PIDFD");
    if (off != NULL && *off != '\0' && *off != '0') {
        errno = ENOSYS;
        return -1;
    }
    int queue = new_queue();
    if (queue < 0)
        return -1;
    if (change(queue, (uintptr_t)pid, EVFILT_PROC, NOTE_EXIT) == 0 ||
        (errno == ESRCH && kill(pid, 0) == 0 && change(queue, 0, EVFILT_USER, NOTE_TRIGGER) == 0))
        return queue;
    int error = errno;
    close(queue);
    errno = error;
    return -1;
}

int pf__process_watch_inherited(int watch, pid_t pid)
{
    return watch >= 0 ? pf__process_watch(pid) : -1; /* the number is free here */
}

/* Unlike a pidfd, a pid may be another's by now: one whose end can be seen is not signalled. Only
 * if it ends, is reaped and its pid is given away between these two calls does it hit another. */
int pf__process_signal(int watch, pid_t pid, int signal)
{
    struct pollfd ended = {.fd = watch, .events = POLLIN};
    if (watch >= 0 && poll(&ended, 1, 0) == 1) {
        errno = ESRCH;
        return -1;
    }
    return kill(pid, signal);
}

int pf__process_ended(pid_t pid, int *status, uint64_t *peak_rss)
{
    siginfo_t info = {.si_pid = 0};
    int result = waitid(P_PID, (id_t)pid, &info, WEXITED | WNOHANG | WNOWAIT);
    if (result < 0 || info.si_pid == 0)
        return result;
    *status = info.si_code == CLD_EXITED   ? info.si_status << 8
              : info.si_code == CLD_DUMPED ? info.si_status | 0x80
                                           : info.si_status;
    *peak_rss = 0; /* its usage is told only when it is reaped */
    return 1;
}

int pf__process_reap(int watch, pid_t pid, int block)
{
    pid_t got;
    (void)watch;
    do {
        got = waitpid(pid, NULL, block ? 0 : WNOHANG);
    } while (got < 0 && errno == EINTR);
    return got != 0;
}

uint64_t pf__process_memory(pid_t pid, uint64_t enough)
{
    struct rusage_info_v0 usage;
    (void)enough;
    if (proc_pid_rusage((int)pid, RUSAGE_INFO_V0, (rusage_info_t *)&usage) != 0)
        return 0;
    return usage.ri_phys_footprint / 1024;
}

pid_t pf__process_parent(pid_t pid)
{
    struct proc_bsdshortinfo about;
    int size = proc_pidinfo((int)pid, PROC_PIDT_SHORTBSDINFO, 0, &about, sizeof about);
    return size == (int)sizeof about ? (pid_t)about.pbsi_ppid : 0;
}

int pf__process_is_deaf(pid_t pid, int signal)
{
    (void)pid;
    (void)signal;
    return 0;
}

static int parent_watch; /* of this process, which has one parent to die with */

static void *end_with_parent(void *argument)
{
    struct kevent event;
    int got;
    do {
        got = kevent(parent_watch, NULL, 0, &event, 1, NULL);
    } while (got < 0 && errno == EINTR);
    if (got == 1) /* else a task has closed what is not its own */
        kill(getpid(), SIGKILL);
    return argument;
}

static int start_thread(void *(*run)(void *))
{
    pthread_t thread;
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before); /* inherited: signals are not its business */
    int error = pthread_create(&thread, NULL, run, NULL);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (error == 0)
        pthread_detach(thread);
    errno = error;
    return error == 0 ? 0 : -1;
}

/* There is no PR_SET_PDEATHSIG. A thread waits for the end of the parent, and so a call ends that
 * is in the midst of something; it holds no lock, and a fork of this process does without it. Other
 * than the kernel's signal it does not end a process that is stopped, before that goes on. */
int pf__process_die_with(pid_t parent)
{
    parent_watch = new_queue();
    if (parent_watch < 0)
        return -1;
    if (change(parent_watch, (uintptr_t)parent, EVFILT_PROC, NOTE_EXIT) == 0) {
        /* A parent that ended before may have left its pid to another. */
        errno = ESRCH;
        if (getppid() == parent && start_thread(end_with_parent) == 0)
            return 0;
    }
    int error = errno;
    close(parent_watch);
    errno = error;
    return -1;
}

uint64_t pf__process_turn(uint64_t ns)
{
    (void)ns;
    return 0;
}

void pf__process_name(const char *name)
{
    pthread_setname_np(name); /* seen by debuggers and samplers; ps shows the program's */
}

void pf__thread_name(pthread_t thread, const char *name)
{
    (void)thread;
    (void)name;
}

void pf__process_prefer_oom(void)
{
    /* Who goes first when memory is short is the system's own affair. */
}
