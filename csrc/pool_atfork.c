/* Forks of the application: in any child that is not ours, every pool is dead and holds nothing.
 *
 * A forked copy must not read our pipes, ring our workers' bells, or keep a zygote from seeing
 * that the application has gone. Its mappings are not there at all (MADV_DONTFORK). The zygote's
 * own birth comes by here too: it needs nothing but its end of the socket, which is no pool's. */
#define _GNU_SOURCE
#include "pool.h"

#include <unistd.h>

static pthread_mutex_t registry = PTHREAD_MUTEX_INITIALIZER;
static pf_pool *pools;
static int registered;

static void before(void)
{
    pthread_mutex_lock(&registry);
    for (pf_pool *pool = pools; pool != NULL; pool = pool->next)
        pthread_mutex_lock(&pool->lock); /* never held across a wait, so this is short */
}

static void in_parent(void)
{
    for (pf_pool *pool = pools; pool != NULL; pool = pool->next)
        pthread_mutex_unlock(&pool->lock);
    pthread_mutex_unlock(&registry);
}

static void close_quietly(int *fd)
{
    if (*fd >= 0)
        close(*fd);
    *fd = -1;
}

static void in_child(void)
{
    for (pf_pool *pool = pools; pool != NULL; pool = pool->next) {
        pool->dead = 1;
        for (uint32_t i = 0; i < pool->sup.seat_count; i++) {
            struct pf__child *child = (struct pf__child *)pool->seats[i];
            close_quietly(&child->channel.in);
            close_quietly(&child->channel.out);
            close_quietly(&child->watch);
            close_quietly(&child->output);
        }
        for (struct pf__zygote *zygote = pool->zygotes; zygote != NULL; zygote = zygote->next) {
            close_quietly(&zygote->control);
            close_quietly(&zygote->watch);
        }
        close_quietly(&pool->ring.pool_fd);
        close_quietly(&pool->ring.words_fd);
        close_quietly(&pool->history.fd);
        pf__poll_close(pool->poll);
        pool->poll = NULL;
        pthread_mutex_unlock(&pool->lock);
    }
    pthread_mutex_unlock(&registry);
}

int pf__pools_add(pf_pool *pool)
{
    pthread_mutex_lock(&registry);
    int error = registered ? 0 : pthread_atfork(before, in_parent, in_child);
    registered = registered || error == 0;
    if (error == 0) {
        pool->next = pools;
        if (pools != NULL)
            pools->previous = pool;
        pools = pool;
    }
    pthread_mutex_unlock(&registry);
    return error;
}

void pf__pools_remove(pf_pool *pool)
{
    pthread_mutex_lock(&registry);
    if (pool->previous != NULL)
        pool->previous->next = pool->next;
    else if (pools == pool)
        pools = pool->next;
    if (pool->next != NULL)
        pool->next->previous = pool->previous;
    pthread_mutex_unlock(&registry);
}
