/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Many short connections between one pair of addresses, closed first by the
 * client or by the server in turn: ports in TIME_WAIT come into use again by
 * timestamps (RFC 6191), and memory does not grow. Then many open ones: what
 * an idle connection costs.
 *
 * usage: short [CONNECTIONS [OPEN]]
 */
#include "net/link.h"

#include "check.h"
#include "mm/heap.h"
#include "net/tcp_internal.h"

#include <errno.h>
#include <string.h>

#define MAX_OPEN 28000u

static struct link l;
static struct tcp_conn *listener;

static struct tcp_conn *open_one(struct tcp_conn **server)
{
    struct net_endpoint to = {.addr = link_addr(1, true), .port = 80};
    struct tcp_conn *c = tcp_create(l.side[0].net, 4);
    int err = tcp_connect(c, &to);

    if (err != -EINPROGRESS) {
        fprintf(stderr, "connect: %d, %u in TIME_WAIT\n", err,
                tcp_tw_count(l.side[0].net));
        exit(1);
    }
    for (int i = 0; tcp_accept(listener, server); i++) {
        CHECK(i < 100);
        link_run_until(&l, l.env.now + 20000);
    }
    return c;
}

static void say(struct tcp_conn *from, struct tcp_conn *to)
{
    struct host_iter it;
    char buf[8];

    host_iter_from(&it, "hello", 5);
    CHECK_EQ(tcp_send(from, &it.it, 0), 5);
    link_run_until(&l, l.env.now + 20000);
    host_iter_to(&it, buf, 8);
    CHECK_EQ(tcp_recv(to, &it.it, 0), 5);
}

int main(int argc, char **argv)
{
    uint32_t count = argc > 1 ? (uint32_t)atoi(argv[1]) : 60000;
    uint32_t nr_open = argc > 2 ? (uint32_t)atoi(argv[2]) : 5000;
    struct link_params p = {.mtu = 1500, .caps = NETIF_CSUM,
                            .mem_max = 256 << 20, .delay = 5000};
    static struct tcp_conn *clients[MAX_OPEN], *servers[MAX_OPEN];
    struct net_endpoint at = {.port = 80};
    size_t peak = 0, before;

    nr_open = MIN(nr_open, MAX_OPEN);
    link_init(&l, 1, &p);
    listener = tcp_create(l.side[1].net, 6);
    CHECK_EQ(tcp_bind(listener, &at), 0);
    CHECK_EQ(tcp_listen(listener, 100), 0);
    for (uint32_t i = 0; i < count; i++) {
        struct tcp_conn *s, *c = open_one(&s);

        say(c, s);
        tcp_close(i & 1 ? c : s, false);
        link_run_until(&l, l.env.now + 20000);
        tcp_close(i & 1 ? s : c, false);
        peak = MAX(peak, shim_bytes);
    }
    CHECK(peak < (48u << 20));
    CHECK_EQ(net_counter_sum(l.side[0].net, NET_TCP_RTO), 0);
    printf("short: ok: %u connections in %.1f s, %llu ports again in use, at "
           "most %zu KiB, %u in TIME_WAIT here\n",
           count, (double)(l.env.now - 1000 * NSEC_PER_SEC) / 1e9,
           (unsigned long long)net_counter_sum(l.side[0].net,
                                               NET_TCP_TW_REUSED),
           peak >> 10, tcp_tw_count(l.side[0].net));
    link_run_until(&l, l.env.now + 200 * NSEC_PER_SEC);
    CHECK_EQ(tcp_tw_count(l.side[0].net), 0);
    before = shim_bytes;
    for (uint32_t i = 0; i < nr_open; i++) {
        clients[i] = open_one(&servers[i]);
        say(servers[i], clients[i]);
    }
    link_run_until(&l, l.env.now + NSEC_PER_SEC);
    size_t each = (shim_bytes - before) / (2ul * nr_open);
    CHECK(each <= 1024);
    printf("short: ok: %u open, %zu bytes each end\n", nr_open, each);
    for (uint32_t i = 0; i < nr_open; i++) {
        tcp_close(clients[i], true);
        tcp_close(servers[i], true);
    }
    tcp_close(listener, true);
    link_run_until(&l, l.env.now + 10 * NSEC_PER_SEC);
    link_destroy(&l);
    CHECK_EQ(shim_bytes, 0);
    return 0;
}
