/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Multicast groups a socket has joined: remembered so that the interface
 * leaves them when the socket goes. The table is made by the first join and
 * freed by inet_leave_all.
 *
 * Locks: the stack's socket lock protects the table; the interface is told
 * with it released.
 */
#include "net/inet_sock.h"

#include "mm/heap.h"
#include "net/route.h"

/* REQUIRES(ns->lock) */
static struct inet_group *find_locked(struct inet_sock *i,
                                      const struct net_addr *group,
                                      uint32_t nif_index)
{
    for (uint32_t k = 0; i->groups && k < INET_MAX_GROUPS; k++) {
        struct inet_group *g = &i->groups[k];

        if (g->nif_index == nif_index &&
            (!nif_index || addr_equal(&g->addr, group)))
            return g;
    }
    return NULL;
}

/* Takes a free slot of the table. REQUIRES(ns->lock) */
static int add_locked(struct inet_sock *i, const struct net_addr *group,
                      uint32_t nif_index)
{
    struct inet_group *g;

    if (find_locked(i, group, nif_index))
        return -EADDRINUSE;
    g = find_locked(i, group, 0);
    if (!g)
        return -ENOBUFS;
    g->addr = *group;
    g->nif_index = nif_index;
    return 0;
}

static void forget(struct inet_sock *i, const struct net_addr *group,
                   uint32_t nif_index)
{
    struct inet_group *g;

    sock_lock(i->ns);
    g = find_locked(i, group, nif_index);
    if (g)
        g->nif_index = 0;
    sock_unlock(i->ns);
}

int inet_join(struct inet_sock *i, const struct net_addr *group,
              struct netif *nif)
{
    struct inet_group *table = NULL;
    int err;

    if (!i->groups) {
        table = kzalloc(INET_MAX_GROUPS * sizeof(*table));
        if (!table)
            return -ENOBUFS;
    }
    sock_lock(i->ns);
    if (!i->groups) {
        i->groups = table;
        table = NULL;
    }
    err = add_locked(i, group, nif->index);
    sock_unlock(i->ns);
    kfree(table);
    if (err)
        return err;
    err = netif_join(nif, group);
    if (err)
        forget(i, group, nif->index);
    return err;
}

int inet_leave(struct inet_sock *i, const struct net_addr *group,
               struct netif *nif)
{
    struct inet_group *g;

    sock_lock(i->ns);
    g = find_locked(i, group, nif->index);
    if (g)
        g->nif_index = 0;
    sock_unlock(i->ns);
    return g ? netif_leave(nif, group) : -EADDRNOTAVAIL;
}

void inet_leave_all(struct inet_sock *i)
{
    for (uint32_t k = 0; i->groups && k < INET_MAX_GROUPS; k++) {
        struct inet_group *g = &i->groups[k];
        struct netif *nif = netif_by_index(i->ns->net, g->nif_index);

        if (g->nif_index && nif)
            (void)netif_leave(nif, &g->addr);
    }
    kfree(i->groups);
    i->groups = NULL;
}
