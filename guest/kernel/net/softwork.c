/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The soft work of a CPU: frames for the stack itself, sockets with something
 * to do, timers, and the flush of what they sent. See netstack.h.
 *
 * A socket is marked "not queued" before its work is done, so that whatever
 * comes meanwhile queues it again.
 */
#include "net/ip.h"
#include "net/sock.h"

#define ROUNDS 8u          /* loopback: what we sent may be work again */
#define INPUT_MAX 4096u    /* frames for the stack itself, per CPU */

void net_input_queue(struct netstack *net, struct frame *f)
{
    struct net_cpu *cpu = net_this_cpu(net);
    struct frame *head = atomic_load_relaxed(&cpu->input);

    if (atomic_add(&cpu->nr_input, 1u) > INPUT_MAX) {
        atomic_sub(&cpu->nr_input, 1u);
        net_count(net, NET_CHANNEL_FULL);
        frame_put(f);
        return;
    }
    do
        f->next = head; /* pairs with the exchange in run_input */
    while (!atomic_cmpxchg(&cpu->input, &head, f));
}

static void run_input(struct netstack *net, struct net_cpu *cpu)
{
    struct frame *f, *oldest = NULL;
    uint32_t n = 0;

    if (!atomic_load_relaxed(&cpu->input))
        return;
    f = atomic_xchg(&cpu->input, (struct frame *)NULL);
    while (f) {
        struct frame *next = f->next;
        f->next = oldest;
        oldest = f;
        f = next;
        n++;
    }
    atomic_sub(&cpu->nr_input, n);
    while (oldest) {
        struct frame *next = oldest->next;
        oldest->next = NULL;
        ip_input(net, oldest);
        oldest = next;
    }
}

static void run_sockets(struct net_cpu *cpu)
{
    struct net_sock *s, *oldest = NULL;

    if (!atomic_load_relaxed(&cpu->work))
        return;
    s = atomic_xchg(&cpu->work, (struct net_sock *)NULL);
    while (s) {
        struct net_sock *next = s->work_next;
        s->work_next = oldest;
        oldest = s;
        s = next;
    }
    while (oldest) {
        s = oldest;
        oldest = s->work_next;
        atomic_and(&s->work_flags, ~SOCK_WORK_QUEUED);
        s->ops->work(s);
        sock_put(s);
    }
}

bool net_work_pending(struct netstack *net, uint32_t cpu)
{
    struct net_cpu *c = &net->cpus[cpu];

    return atomic_load_relaxed(&c->input) || atomic_load_relaxed(&c->work) ||
           c->tx.nr;
}

static nsec_t next_deadline(struct netstack *net, struct net_cpu *c)
{
    nsec_t next = net_wheel_next(&c->wheel);

    return net->env->deferred ? next : MIN(next, c->flush_by);
}

static void tell_deadline(struct netstack *net, struct net_cpu *c)
{
    nsec_t next = next_deadline(net, c);

    if (next >= c->armed)
        return;
    c->armed = next;
    if (net->env->arm)
        net->env->arm(net->env, (uint32_t)(c - net->cpus), next);
}

bool net_softwork(struct netstack *net, uint32_t cpu)
{
    struct net_cpu *c = &net->cpus[cpu];

    if (c->is_running)
        return false;
    c->is_running = true;
    for (uint32_t i = 0; i < ROUNDS && net_work_pending(net, cpu); i++) {
        run_input(net, c);
        run_sockets(c);
        netif_flush(net);
    }
    c->flush_by = NET_NO_DEADLINE;
    c->is_running = false;
    tell_deadline(net, c);
    return net_work_pending(net, cpu);
}

void net_timer_run(struct netstack *net, uint32_t cpu)
{
    struct net_cpu *c = &net->cpus[cpu];
    nsec_t now = net_now(net);

    if (now >= c->armed)
        c->armed = NET_NO_DEADLINE;
    net_wheel_run(&c->wheel, now);
    tell_deadline(net, c);
}

nsec_t net_next_deadline(struct netstack *net, uint32_t cpu)
{
    return next_deadline(net, &net->cpus[cpu]);
}

void net_arm(struct netstack *net, struct net_timer *t, nsec_t deadline)
{
    struct net_cpu *c = net_this_cpu(net);

    if (net_timer_arm(&c->wheel, t, net_now(net), deadline))
        tell_deadline(net, c);
}

void net_defer(struct netstack *net)
{
    struct net_cpu *c = net_this_cpu(net);

    if (c->is_running || c->flush_by != NET_NO_DEADLINE)
        return;
    c->flush_by = net_now(net) + NET_DEFER_NS;
    if (net->env->deferred)
        net->env->deferred(net->env, (uint32_t)(c - net->cpus));
    else
        tell_deadline(net, c);
}
