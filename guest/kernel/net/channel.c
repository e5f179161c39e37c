/* SPDX-License-Identifier: BSD-2-Clause */
/* Channels: slots, making, closing. See channel.h. */
#include "net/channel.h"

#include "lib/errno.h"
#include "lib/string.h"
#include "linux/task.h"
#include "mm/heap.h"

#define FIRST_SLOTS 64u
#define FIRST_FREE_PORT 1024u /* ip_unprivileged_port_start */

static uint32_t nr_chans; /* atomic: those closed by the program but not by TCP
                           * count too */

bool chan_any(void)
{
    return atomic_load_relaxed(&nr_chans) != 0;
}

/* ---- hooks of the stack ---- */

static void sock_event(struct net_sock *ns, uint32_t bits)
{
    chan_event(ns->owner, bits);
}

static void sock_freed(struct net_sock *ns)
{
    struct chan *c = ns->owner;

    chan_loop_put(c->loop);
    kfree(c);
    atomic_sub(&nr_chans, 1u);
}

static const struct sock_hooks hooks = {
    .event = sock_event,
    .release = sock_freed,
};

/* ---- slots ---- */

struct chan *chan_find(struct chan_loop *l, uint64_t handle)
{
    uint32_t slot = (uint32_t)handle;
    struct chan *c = slot < l->nr_slots ? l->slots[slot] : NULL;

    return c && c->handle == handle ? c : NULL;
}

static int grow(struct chan_loop *l)
{
    uint32_t old = l->nr_slots, n = old ? 2 * old : FIRST_SLOTS;
    struct chan **slots;
    uint32_t *gens;

    if (n > CHAN_SLOTS_MAX)
        return -EMFILE;
    slots = krealloc(l->slots, n * sizeof(struct chan *));
    if (!slots)
        return -ENOMEM;
    l->slots = slots;
    gens = krealloc(l->gens, n * sizeof(uint32_t));
    if (!gens)
        return -ENOMEM;
    l->gens = gens;
    memset(slots + old, 0, (n - old) * sizeof(struct chan *));
    memset(gens + old, 0, (n - old) * sizeof(uint32_t));
    l->nr_slots = n;
    l->next_slot = old;
    return 0;
}

/* A free slot. Looks on from the last one, so the search is short. */
static int take_slot(struct chan_loop *l, uint32_t *out)
{
    int err = l->nr_used == l->nr_slots ? grow(l) : 0;
    uint32_t at = l->next_slot;

    if (err)
        return err;
    for (at %= l->nr_slots; l->slots[at];)
        at = (at + 1) % l->nr_slots;
    l->next_slot = at + 1;
    l->nr_used++;
    *out = at;
    return 0;
}

/* Joins ns, which no program has seen, to a new channel. On failure ns is as
 * it was. */
static int join(struct chan_loop *l, struct net_sock *ns, enum chan_kind kind,
                struct chan **out)
{
    struct chan *c = kzalloc(sizeof(*c));
    uint32_t slot;
    int err;

    if (!c)
        return -ENOMEM;
    err = take_slot(l, &slot);
    if (err) {
        kfree(c);
        return err;
    }
    c->ns = ns;
    c->loop = l;
    c->kind = (uint8_t)kind;
    l->gens[slot] = (l->gens[slot] + 1) & 0x7fffffff;
    c->handle = (uint64_t)l->gens[slot] << 32 | slot;
    list_init(&c->ready_link);
    atomic_add(&l->refcount, 1u); /* put by sock_freed */
    atomic_add(&nr_chans, 1u);
    l->slots[slot] = c;
    sock_lock(ns);
    ns->owner = c;
    ns->hooks = &hooks;
    sock_unlock(ns);
    *out = c;
    return 0;
}

/* ---- making ---- */

static void drop(struct net_sock *ns, enum chan_kind kind)
{
    if (kind == CHAN_UDP)
        udp_close((struct udp_sock *)ns);
    else
        tcp_close((struct tcp_conn *)ns, true);
}

static int bind_to(struct net_sock *ns, const struct chan_made *m)
{
    struct net_endpoint any = {.addr = ns->local.addr};
    const struct net_endpoint *local = m->local ? m->local : &any;

    if (local->port && local->port < FIRST_FREE_PORT &&
        current_process()->euid != 0)
        return -EACCES;
    sock_lock(ns);
    ns->reuse_addr = m->kind == CHAN_LISTENER;
    ns->reuse_port = m->is_shared;
    sock_unlock(ns);
    return m->kind == CHAN_UDP ? udp_bind((struct udp_sock *)ns, local)
                               : tcp_bind((struct tcp_conn *)ns, local);
}

static int start(struct net_sock *ns, const struct chan_made *m)
{
    struct tcp_conn *tcp = (struct tcp_conn *)ns;
    int err = m->local ? bind_to(ns, m) : 0;

    if (err || m->kind == CHAN_UDP)
        return err;
    err = tcp_set_option(tcp, TCP_OPT_NODELAY, 1);
    if (!err && m->kind == CHAN_LISTENER)
        err = tcp_listen(tcp, CHAN_BACKLOG);
    return err;
}

int chan_make(struct chan_loop *l, const struct chan_made *m, uint64_t *handle)
{
    struct net_sock *ns;
    struct chan *c;
    int err;

    if (m->kind == CHAN_UDP)
        ns = (struct net_sock *)udp_create(l->net, m->family);
    else
        ns = (struct net_sock *)tcp_create(l->net, m->family);
    if (!ns)
        return -ENOMEM;
    err = start(ns, m);
    if (!err)
        err = join(l, ns, m->kind, &c);
    if (err) {
        drop(ns, m->kind);
        return err;
    }
    if (m->remote) {
        c->is_connecting = true;
        err = tcp_connect(c->tcp, m->remote);
        if (err && err != -EINPROGRESS) {
            chan_close(c, true);
            return err;
        }
    }
    *handle = c->handle;
    return 0;
}

int chan_adopt(struct chan_loop *l, struct tcp_conn *tcp, struct chan **out)
{
    int err = join(l, &tcp->s, CHAN_TCP, out);

    if (err)
        tcp_close(tcp, true);
    else
        chan_event(*out, NET_EV_IN | NET_EV_HUP); /* before the hook */
    return err;
}

/* ---- the end ---- */

void chan_close(struct chan *c, bool abort)
{
    struct chan_loop *l = c->loop;
    uint32_t slot = (uint32_t)c->handle;
    bool was_on = spin_lock_irqsave(&l->lock), was_queued = c->is_queued;

    c->is_closed = true; /* chan_event leaves it alone */
    if (was_queued) {
        c->is_queued = false;
        list_del(&c->ready_link);
    }
    spin_unlock_irqrestore(&l->lock, was_on);
    l->slots[slot] = NULL;
    l->nr_used--;
    l->next_slot = slot;
    if (was_queued)
        sock_put(c->ns); /* the list's; ours is left */
    if (c->kind == CHAN_UDP)
        udp_close(c->udp);
    else
        tcp_close(c->tcp, abort);
}

void chan_pause(struct chan *c, bool is_paused)
{
    if (c->is_paused && !is_paused)
        chan_event(c, NET_EV_IN | NET_EV_HUP); /* what came meanwhile */
    c->is_paused = is_paused;
}

void chan_close_all(struct chan_loop *l)
{
    for (uint32_t i = 0; i < l->nr_slots; i++)
        if (l->slots[i])
            chan_close(l->slots[i], false);
}
