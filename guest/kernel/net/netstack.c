/* SPDX-License-Identifier: BSD-2-Clause */
/* Making and unmaking a stack; counters. See netstack.h. */
#include "net/netstack.h"

#include "lib/errno.h"
#include "lib/string.h"
#include "mm/heap.h"
#include "net/neigh.h"
#include "net/port.h"
#include "net/reass.h"
#include "net/resolv.h"
#include "net/route.h"
#include "net/tcp_stack.h"

static const char *const counter_names[NET_NR_COUNTERS] = {
    [NET_BAD_FRAME] = "bad_frame",
    [NET_BAD_CHECKSUM] = "bad_checksum",
    [NET_NOT_FOR_US] = "not_for_us",
    [NET_CHANNEL_FULL] = "channel_full",
    [NET_FRAME_NO_MEMORY] = "frame_no_memory",
    [NET_NO_ROUTE] = "no_route",
    [NET_NEIGH_FAILED] = "neigh_failed",
    [NET_REASS_DONE] = "reass_done",
    [NET_REASS_FAILED] = "reass_failed",
    [NET_ICMP_IN] = "icmp_in",
    [NET_ICMP_OUT] = "icmp_out",
    [NET_ICMP_LIMITED] = "icmp_limited",
    [NET_UDP_IN] = "udp_in",
    [NET_UDP_OUT] = "udp_out",
    [NET_UDP_NO_PORT] = "udp_no_port",
    [NET_UDP_FULL] = "udp_full",
    [NET_TCP_IN] = "tcp_in",
    [NET_TCP_OUT] = "tcp_out",
    [NET_TCP_RETRANS] = "tcp_retrans",
    [NET_TCP_RTO] = "tcp_rto",
    [NET_TCP_TLP] = "tcp_tlp",
    [NET_TCP_RECOVERY] = "tcp_recovery",
    [NET_TCP_PAWS] = "tcp_paws",
    [NET_TCP_CHALLENGE] = "tcp_challenge",
    [NET_TCP_OUT_OF_ORDER] = "tcp_out_of_order",
    [NET_TCP_RST_OUT] = "tcp_rst_out",
    [NET_TCP_COOKIE_OUT] = "tcp_cookie_out",
    [NET_TCP_COOKIE_IN] = "tcp_cookie_in",
    [NET_TCP_HALF_FULL] = "tcp_half_full",
    [NET_TCP_BACKLOG_FULL] = "tcp_backlog_full",
    [NET_TCP_CONNS_FULL] = "tcp_conns_full",
    [NET_TCP_TW_REUSED] = "tcp_tw_reused",
    [NET_TCP_TW_RECYCLED] = "tcp_tw_recycled",
};

static int init_cpus(struct netstack *net)
{
    nsec_t now = net_now(net);

    net->cpus = kzalloc(net->nr_cpus * sizeof(*net->cpus));
    if (!net->cpus)
        return -ENOMEM;
    for (uint32_t i = 0; i < net->nr_cpus; i++) {
        struct net_cpu *c = &net->cpus[i];

        c->armed = c->flush_by = NET_NO_DEADLINE;
        frame_pool_init(&c->pool);
        net_wheel_init(&c->wheel, now);
    }
    return 0;
}

static int init_parts(struct netstack *net)
{
    static int (*const parts[])(struct netstack *) = {
        init_cpus, routes_init, neighs_init, reass_init,
        ports_init, dns_init, tcp_init, loopback_create,
    };

    for (uint32_t i = 0; i < ARRAY_SIZE(parts); i++) {
        int err = parts[i](net);
        if (err)
            return err;
    }
    return 0;
}

int net_create(const struct net_config *config, struct netstack **out)
{
    struct netstack *net;
    int err;

    if (!config->env || !config->nr_cpus || config->mem_max < 64 * KIB)
        return -EINVAL;
    net = kzalloc(sizeof(*net));
    if (!net)
        return -ENOMEM;
    net->env = config->env;
    net->nr_cpus = config->nr_cpus;
    net->mem_max = config->mem_max;
    for (int c = 0; c < FRAME_CLASSES; c++)
        net->pool_keep[c] = frame_pool_keep(net, (enum frame_class)c);
    net->conns_max = config->conns_max ? config->conns_max : ~0u;
    net->env->random(net->env, &net->secret, sizeof(net->secret));
    net->ip_id = net_random32(net);
    err = init_parts(net);
    if (err) {
        net_destroy(net);
        return err;
    }
    *out = net;
    return 0;
}

void net_destroy(struct netstack *net)
{
    if (net->cpus) {
        for (uint32_t i = 0; i < net->nr_cpus; i++)
            frame_list_free(&net->cpus[i].tx);
        neighs_destroy(net);
        reass_destroy(net);
        tcp_destroy(net);
        ports_destroy(net);
        routes_destroy(net);
        dns_destroy(net);
        if (net->nr_nifs)
            loopback_destroy(net);
        for (uint32_t i = 0; i < net->nr_cpus; i++)
            frame_pool_drain(&net->cpus[i].pool);
    }
    kfree(net->cpus);
    kfree(net);
}

uint32_t net_random32(struct netstack *net)
{
    uint32_t v;

    net->env->random(net->env, &v, sizeof(v));
    return v;
}

bool net_rate_allows(struct netstack *net, struct net_rate *r,
                     uint32_t per_second)
{
    nsec_t now = net_now(net), step = NSEC_PER_SEC / per_second;
    bool is_allowed;

    spin_lock(&r->lock);
    uint64_t fresh = (uint64_t)(now - r->last) / (uint64_t)step;
    if (fresh) {
        /* Never the same amount: a stranger who uses up the budget must not
         * learn from what is left what others got of it. */
        uint64_t max = per_second -
                       siphash(&net->secret, &now, sizeof(now)) %
                           (per_second / 16 + 1);

        r->tokens = (uint32_t)MIN(r->tokens + fresh, max);
        r->last = now;
    }
    is_allowed = r->tokens > 0;
    if (is_allowed)
        r->tokens--;
    spin_unlock(&r->lock);
    return is_allowed;
}

uint64_t net_counter_sum(struct netstack *net, enum net_counter c)
{
    uint64_t sum = 0;

    for (uint32_t i = 0; i < net->nr_cpus; i++)
        sum += atomic_load_relaxed(&net->cpus[i].counters[c]);
    return sum;
}

const char *net_counter_name(enum net_counter c)
{
    return counter_names[c];
}
