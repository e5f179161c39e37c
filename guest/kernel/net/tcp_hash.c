/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The table of connections by their four numbers. It starts with 64 buckets
 * and doubles; buckets never move: segment k of the directory holds as many as
 * all before it. Whoever locked a bucket looks at the mask again, since the
 * table may have grown meanwhile.
 */
#include "mm/heap.h"
#include "net/tcp_internal.h"

#define FIRST_BUCKETS 64u
#define MAX_SEGMENTS 16u

struct tcp_bucket {
    struct spinlock lock; /* irq-safe */
    struct tcp_conn *first;
};

int tcp_hash_init(struct tcp_table *t)
{
    spin_init(&t->grow_lock);
    t->mask = FIRST_BUCKETS - 1;
    t->segments[0] = kzalloc(FIRST_BUCKETS * sizeof(struct tcp_bucket));
    return t->segments[0] ? 0 : -ENOMEM;
}

void tcp_hash_destroy(struct tcp_table *t)
{
    for (uint32_t i = 0; i < MAX_SEGMENTS; i++)
        kfree(t->segments[i]);
}

static struct tcp_bucket *bucket_at(struct tcp_table *t, uint32_t i)
{
    uint32_t k;

    if (i < FIRST_BUCKETS)
        return &t->segments[0][i];
    k = 32 - (uint32_t)__builtin_clz(i / FIRST_BUCKETS);
    return &t->segments[k][i - (FIRST_BUCKETS << (k - 1))];
}

static uint32_t hash_of(struct netstack *net, const struct net_endpoint *local,
                        const struct net_endpoint *remote)
{
    return (uint32_t)siphash_tuple(&net->secret, local, remote, 0);
}

static struct tcp_bucket *lock_bucket(struct tcp_table *t, uint32_t hash,
                                      bool *was_on)
{
    for (;;) {
        uint32_t mask = atomic_load_acquire(&t->mask);
        struct tcp_bucket *b = bucket_at(t, hash & mask);

        *was_on = spin_lock_irqsave(&b->lock);
        if (likely(atomic_load_relaxed(&t->mask) == mask))
            return b;
        spin_unlock_irqrestore(&b->lock, *was_on);
    }
}

static bool is_tuple(const struct tcp_conn *c, const struct net_endpoint *local,
                     const struct net_endpoint *remote)
{
    return c->s.remote.port == remote->port && c->s.local.port == local->port &&
           addr_equal(&c->s.remote.addr, &remote->addr) &&
           addr_equal(&c->s.local.addr, &local->addr);
}

static struct tcp_conn *find_locked(struct tcp_bucket *b,
                                    const struct net_endpoint *local,
                                    const struct net_endpoint *remote)
{
    struct tcp_conn *c = b->first;

    while (c && !is_tuple(c, local, remote))
        c = c->hash_next;
    return c;
}

/* Moves what belongs to the new half. All old buckets are locked. */
static void split_buckets(struct tcp_table *t, uint32_t old)
{
    for (uint32_t i = 0; i < old; i++) {
        struct tcp_conn **link = &bucket_at(t, i)->first, *c;
        struct tcp_bucket *upper = bucket_at(t, i + old);

        while ((c = *link) != NULL) {
            if (!(hash_of(t->net, &c->s.local, &c->s.remote) & old)) {
                link = &c->hash_next;
                continue;
            }
            *link = c->hash_next;
            c->hash_next = upper->first;
            upper->first = c;
        }
    }
}

static void grow(struct tcp_table *t)
{
    uint32_t old = atomic_load_relaxed(&t->mask) + 1, k;
    struct tcp_bucket *fresh;
    bool was_on;

    if (!spin_trylock(&t->grow_lock))
        return;
    old = atomic_load_relaxed(&t->mask) + 1;
    k = 32 - (uint32_t)__builtin_clz(old / FIRST_BUCKETS);
    fresh = k < MAX_SEGMENTS && atomic_load_relaxed(&t->nr_conns) > old * 2
                ? kzalloc(old * sizeof(*fresh))
                : NULL;
    if (fresh) {
        t->segments[k] = fresh;
        was_on = irq_save();
        for (uint32_t i = 0; i < old; i++)
            spin_lock(&bucket_at(t, i)->lock);
        split_buckets(t, old);
        /* Pairs with lock_bucket. */
        atomic_store_release(&t->mask, old * 2 - 1);
        for (uint32_t i = 0; i < old; i++)
            spin_unlock(&bucket_at(t, i)->lock);
        irq_restore(was_on);
    }
    spin_unlock(&t->grow_lock);
}

int tcp_hash_insert(struct tcp_conn *c)
{
    struct tcp_table *t = c->s.net->tcp;
    bool was_on, is_taken;
    struct tcp_bucket *b = lock_bucket(
        t, hash_of(c->s.net, &c->s.local, &c->s.remote), &was_on);

    is_taken = find_locked(b, &c->s.local, &c->s.remote) != NULL;
    if (!is_taken) {
        c->hash_next = b->first;
        b->first = c;
        c->is_hashed = true;
        sock_get(&c->s);
    }
    spin_unlock_irqrestore(&b->lock, was_on);
    if (is_taken)
        return -EADDRNOTAVAIL;
    if (atomic_add(&t->nr_conns, 1u) > (atomic_load_relaxed(&t->mask) + 1) * 2)
        grow(t);
    return 0;
}

void tcp_hash_remove(struct tcp_conn *c)
{
    struct tcp_table *t = c->s.net->tcp;
    struct tcp_conn **link;
    struct tcp_bucket *b;
    bool was_on;

    if (!c->is_hashed)
        return;
    c->is_hashed = false;
    b = lock_bucket(t, hash_of(c->s.net, &c->s.local, &c->s.remote), &was_on);
    for (link = &b->first; *link != c; link = &(*link)->hash_next)
        assert(*link);
    *link = c->hash_next;
    c->hash_next = NULL;
    spin_unlock_irqrestore(&b->lock, was_on);
    atomic_sub(&t->nr_conns, 1u);
    sock_put(&c->s);
}

bool tcp_hash_give(struct netstack *net, struct frame *f)
{
    struct tcp_conn *c = tcp_hash_find(net, f);

    if (!c)
        return false;
    sock_channel_push(&c->s, f, TCP_CHANNEL_MAX);
    sock_put(&c->s);
    return true;
}

bool tcp_hash_has(struct netstack *net, const struct net_endpoint *local,
                  const struct net_endpoint *remote)
{
    bool was_on, has;
    struct tcp_bucket *b =
        lock_bucket(net->tcp, hash_of(net, local, remote), &was_on);

    has = find_locked(b, local, remote) != NULL;
    spin_unlock_irqrestore(&b->lock, was_on);
    return has;
}

static void ends_of(const struct frame *f, struct net_endpoint *local,
                    struct net_endpoint *remote)
{
    local->addr = f->dst;
    local->port = f->dport;
    remote->addr = f->src;
    remote->port = f->sport;
}

struct tcp_conn *tcp_hash_find(struct netstack *net, const struct frame *f)
{
    struct net_endpoint local, remote;
    struct tcp_bucket *b;
    struct tcp_conn *c;
    bool was_on;

    ends_of(f, &local, &remote);
    b = lock_bucket(net->tcp, hash_of(net, &local, &remote), &was_on);
    c = find_locked(b, &local, &remote);
    if (c)
        sock_get(&c->s);
    spin_unlock_irqrestore(&b->lock, was_on);
    return c;
}

bool tcp_classify(struct netstack *net, struct frame *f)
{
    struct net_endpoint local, remote;
    struct tcp_bucket *b;
    struct tcp_conn *c;
    bool was_on;

    ends_of(f, &local, &remote);
    b = lock_bucket(net->tcp, hash_of(net, &local, &remote), &was_on);
    c = find_locked(b, &local, &remote);
    /* The table's reference keeps it alive while the bucket is locked. */
    if (c)
        sock_channel_push(&c->s, f, TCP_CHANNEL_MAX);
    spin_unlock_irqrestore(&b->lock, was_on);
    return c != NULL;
}

void tcp_for_each(struct netstack *net,
                  void (*visit)(struct tcp_conn *c, void *arg), void *arg)
{
    struct tcp_table *t = net->tcp;

    for (uint32_t i = 0; i <= atomic_load_acquire(&t->mask); i++) {
        struct tcp_bucket *b = bucket_at(t, i);
        struct tcp_conn *some[64];
        uint32_t n = 0;
        bool was_on = spin_lock_irqsave(&b->lock);

        for (struct tcp_conn *c = b->first; c && n < ARRAY_SIZE(some);
             c = c->hash_next) {
            sock_get(&c->s);
            some[n++] = c;
        }
        spin_unlock_irqrestore(&b->lock, was_on);
        for (uint32_t k = 0; k < n; k++) {
            visit(some[k], arg);
            sock_put(&some[k]->s);
        }
    }
}
