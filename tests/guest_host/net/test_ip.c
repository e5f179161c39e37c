/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * UDP, ports, ICMP, fragments, neighbours, IPv6 configuration, DHCP, loopback:
 * each against hand-made packets or what Linux does.
 */
#include "net/wire.h"

#include "check.h"
#include "mm/heap.h"
#include "net/dhcp.h"
#include "net/icmp.h"
#include "net/ndp.h"
#include "net/neigh.h"
#include "net/ping.h"
#include "net/port.h"
#include "net/reass.h"
#include "net/resolv.h"
#include "net/udp.h"

#include <errno.h>
#include <string.h>

#define MS 1000000l

static uint64_t rng = 4711;
static struct wire w;

/* ---- UDP ---- */

static struct udp_sock *udp_open(uint32_t family, const char *addr,
                                 uint32_t port, int expected)
{
    struct udp_sock *u = udp_create(w.net, family);
    struct net_endpoint at = host_endpoint(addr, port);

    CHECK_EQ(udp_bind(u, &at), expected);
    return u;
}

static ssize_t udp_put(struct udp_sock *u, const char *text,
                       const struct net_endpoint *to)
{
    struct host_iter it;

    host_iter_from(&it, text, strlen(text));
    return udp_send(u, &(struct udp_send){.from = &it.it,
                                          .len = (uint32_t)strlen(text),
                                          .to = to});
}

static ssize_t udp_get(struct udp_sock *u, char *buf, size_t n,
                       struct udp_info *info)
{
    struct host_iter it;

    host_iter_to(&it, buf, n);
    return udp_recv(u, &it.it, 0, info);
}

static void put_udp(uint32_t sport, uint32_t dport, const char *text)
{
    uint8_t p[600] = {0};
    uint32_t len = UDP_HEADER + (uint32_t)strlen(text);
    struct net_addr us = wire_us(&w), peer = wire_peer(&w);

    wire_put16(p, sport);
    wire_put16(p + 2, dport);
    wire_put16(p + 4, len);
    memcpy(p + 8, text, strlen(text));
    csum_store(p + 6, csum_add(csum_pseudo(&peer, &us, 17, len), p, len));
    wire_put_ip(&w, IP_PROTO_UDP, p, len);
}

static void test_udp(bool is_v4)
{
    struct net_endpoint peer = {.port = 9};
    struct udp_sock *u, *c;
    struct wire_packet *p;
    struct udp_info info;
    char buf[100];

    wire_init(&w, 0);
    w.is_v4 = is_v4;
    peer.addr = wire_peer(&w);
    u = udp_open(6, "::", 53, 0);
    put_udp(4000, 53, "question");
    CHECK_EQ(udp_poll(u), NET_EV_IN | NET_EV_OUT);
    CHECK_EQ(udp_next_len(u), 8);
    CHECK_EQ(udp_get(u, buf, 5, &info), 5);
    CHECK(memcmp(buf, "quest", 5) == 0);
    CHECK_EQ(info.len, 8); /* truncated */
    CHECK_EQ(info.from.port, 4000);
    CHECK(addr_equal(&info.from.addr, &peer.addr));
    CHECK_EQ(udp_get(u, buf, 5, &info), -EAGAIN);
    CHECK_EQ(udp_put(u, "answer", &info.from), 6);
    p = wire_take(&w);
    CHECK(p && memcmp(p->data + p->len - 6, "answer", 6) == 0);
    free(p);
    /* A connected socket takes its peer's only, and wins over the other. */
    c = udp_create(w.net, 6);
    c->s.reuse_addr = true;
    u->s.reuse_addr = true;
    struct net_endpoint at = {.port = 53};
    CHECK_EQ(udp_bind(c, &at), 0);
    CHECK_EQ(udp_connect(c, &peer), 0);
    put_udp(9, 53, "for c");
    put_udp(10, 53, "for u");
    CHECK_EQ(udp_get(c, buf, 100, &info), 5);
    CHECK_EQ(udp_get(c, buf, 100, &info), -EAGAIN);
    CHECK_EQ(udp_get(u, buf, 100, &info), 5);
    CHECK_EQ(udp_put(c, "x", NULL), 1);
    wire_drop_all(&w);
    CHECK_EQ(udp_put(u, "x", NULL), -EDESTADDRREQ);
    CHECK_EQ(udp_connect(c, NULL), 0);
    CHECK_EQ(udp_put(c, "x", NULL), -EDESTADDRREQ);
    /* Nobody there. */
    put_udp(9, 54, "nobody");
    p = wire_take(&w);
    CHECK(p);
    if (is_v4) {
        CHECK_EQ(p->data[ETH_HEADER + 9], IP_PROTO_ICMP);
        CHECK_EQ(wire_get16(p->data + ETH_HEADER + 20), 0x0303);
    } else {
        CHECK_EQ(p->data[ETH_HEADER + 6], IP_PROTO_ICMPV6);
        CHECK_EQ(wire_get16(p->data + ETH_HEADER + 40), 0x0104);
    }
    free(p);
    udp_close(u);
    udp_close(c);
    wire_done(&w);
}

static void test_udp_error(void)
{
    struct net_endpoint peer = {.addr = addr_from_v4(0x0a000002), .port = 9};
    struct udp_sock *u;
    struct wire_packet *p;
    uint8_t icmp[36] = {3, 3};

    wire_init(&w, 0);
    u = udp_create(w.net, 4);
    CHECK_EQ(udp_connect(u, &peer), 0);
    CHECK_EQ(udp_put(u, "anybody?", NULL), 8);
    p = wire_take(&w);
    memcpy(icmp + 8, p->data + ETH_HEADER, 28);
    csum_store(icmp + 2, csum_add(0, icmp, 36));
    wire_put_ip(&w, IP_PROTO_ICMP, icmp, 36);
    CHECK(udp_poll(u) & NET_EV_ERR);
    CHECK_EQ(udp_put(u, "x", NULL), -ECONNREFUSED);
    CHECK_EQ(udp_put(u, "x", NULL), 1);
    free(p);
    wire_drop_all(&w);
    /* Broadcast must be asked for. */
    peer.addr = addr_from_v4(0x0a0000ff);
    CHECK_EQ(udp_put(u, "x", &peer), -EACCES);
    u->may_broadcast = true;
    CHECK_EQ(udp_put(u, "x", &peer), 1);
    p = wire_take(&w);
    CHECK(p && p->data[0] == 0xff);
    free(p);
    /* No way there. */
    peer.addr = addr_from_v4(0x08080808);
    CHECK_EQ(udp_put(u, "x", &peer), -ENETUNREACH);
    udp_close(u);
    wire_done(&w);
}

static void test_udp_fragments(bool is_v4)
{
    static uint8_t big[30000], got[30000];
    struct wire_packet *parts[32], *p;
    struct net_endpoint peer = {.port = 7};
    struct udp_sock *u;
    struct udp_info info;
    struct host_iter it;
    uint32_t n = 0;

    wire_init(&w, 0);
    w.is_v4 = is_v4;
    peer.addr = wire_peer(&w);
    u = udp_create(w.net, 6);
    for (uint32_t i = 0; i < sizeof(big); i++)
        big[i] = (uint8_t)rng_next(&rng);
    host_iter_from(&it, big, sizeof(big));
    CHECK_EQ(udp_send(u, &(struct udp_send){.from = &it.it,
                                            .len = sizeof(big),
                                            .to = &peer}),
             sizeof(big));
    while ((p = wire_take(&w)) != NULL) {
        uint8_t *ip = p->data + ETH_HEADER, t[16];

        CHECK(p->len <= 1514);
        /* Sent back: addresses and ports exchanged. */
        memcpy(t, p->data, 6);
        memcpy(p->data, p->data + 6, 6);
        memcpy(p->data + 6, t, 6);
        uint32_t a = is_v4 ? 12 : 8, k = is_v4 ? 4 : 16;
        memcpy(t, ip + a, k);
        memcpy(ip + a, ip + a + k, k);
        memcpy(ip + a + k, t, k);
        parts[n++] = p;
        CHECK(n < 32);
    }
    CHECK(n > 20);
    uint8_t *udp = parts[0]->data + ETH_HEADER + (is_v4 ? 20 : 48);
    uint16_t port = wire_get16(udp);
    wire_put16(udp, 7);
    wire_put16(udp + 2, port);
    for (uint32_t i = 0; i < n; i++) { /* in any order */
        uint32_t k = i + (uint32_t)rng_below(&rng, n - i);
        p = parts[k];
        parts[k] = parts[i];
        parts[i] = p;
    }
    for (uint32_t i = 0; i < n; i++) {
        CHECK_EQ(udp_get(u, (char *)got, sizeof(got), &info), -EAGAIN);
        wire_put(&w, parts[i]->data, parts[i]->len);
        if (i % 5 == 0 && i + 1 < n) /* and some twice */
            wire_put(&w, parts[i]->data, parts[i]->len);
    }
    CHECK_EQ(udp_get(u, (char *)got, sizeof(got), &info), sizeof(got));
    CHECK(memcmp(big, got, sizeof(big)) == 0);
    CHECK_EQ(net_counter_sum(w.net, NET_REASS_DONE), 1);
    /* One missing: given up after 30 s, and told, if the first was there. */
    wire_drop_all(&w);
    for (uint32_t i = 1; i < n; i++)
        wire_put(&w, parts[i]->data, parts[i]->len);
    wire_wait(&w, 40 * NSEC_PER_SEC);
    CHECK_EQ(net_counter_sum(w.net, NET_REASS_FAILED), 1);
    for (uint32_t i = 0; i < n; i++)
        free(parts[i]);
    udp_close(u);
    wire_done(&w);
}

/* ---- ports ---- */

struct bind_case {
    uint32_t family_a;
    const char *a;
    uint32_t family_b;
    const char *b;
    bool reuse_addr, reuse_port, v6only;
    int udp, tcp;
};

static void test_ports(void)
{
    /* What Linux answers to the second bind (checked there). */
    static const struct bind_case cases[] = {
        {4, "0.0.0.0", 4, "0.0.0.0", 0, 0, 0, -EADDRINUSE, -EADDRINUSE},
        {4, "0.0.0.0", 4, "10.0.0.1", 0, 0, 0, -EADDRINUSE, -EADDRINUSE},
        {4, "127.0.0.1", 4, "10.0.0.1", 0, 0, 0, 0, 0},
        {6, "::", 4, "0.0.0.0", 0, 0, 0, -EADDRINUSE, -EADDRINUSE},
        {6, "::", 4, "10.0.0.1", 0, 0, 0, -EADDRINUSE, -EADDRINUSE},
        {6, "::", 4, "0.0.0.0", 0, 0, 1, 0, 0},
        {6, "::1", 4, "0.0.0.0", 0, 0, 0, 0, 0},
        {6, "fd00::1", 6, "::", 0, 0, 0, -EADDRINUSE, -EADDRINUSE},
        {4, "0.0.0.0", 4, "0.0.0.0", 1, 0, 0, 0, 0},
        {4, "0.0.0.0", 4, "0.0.0.0", 0, 1, 0, 0, 0},
    };

    wire_init(&w, 0);
    for (uint32_t i = 0; i < ARRAY_SIZE(cases); i++) {
        const struct bind_case *k = &cases[i];
        struct net_endpoint a = host_endpoint(k->a, 1000);
        struct net_endpoint b = host_endpoint(k->b, 1000);
        struct udp_sock *u = udp_create(w.net, k->family_a);
        struct udp_sock *v = udp_create(w.net, k->family_b);
        struct tcp_conn *c = tcp_create(w.net, k->family_a);
        struct tcp_conn *d = tcp_create(w.net, k->family_b);

        u->s.reuse_addr = v->s.reuse_addr = k->reuse_addr;
        u->s.reuse_port = v->s.reuse_port = k->reuse_port;
        c->s.reuse_addr = d->s.reuse_addr = k->reuse_addr;
        c->s.reuse_port = d->s.reuse_port = k->reuse_port;
        u->s.is_v6only = c->s.is_v6only = k->v6only;
        CHECK_EQ(udp_bind(u, &a), 0);
        CHECK_EQ(udp_bind(v, &b), k->udp);
        CHECK_EQ(tcp_bind(c, &a), 0);
        CHECK_EQ(tcp_bind(d, &b), k->tcp);
        if (!k->tcp && k->reuse_addr) { /* but only one listens */
            CHECK_EQ(tcp_listen(c, 5), 0);
            CHECK_EQ(tcp_listen(d, 5), -EADDRINUSE);
        } else if (!k->tcp) {
            CHECK_EQ(tcp_listen(c, 5), 0);
            CHECK_EQ(tcp_listen(d, 5), 0);
        }
        udp_close(u);
        udp_close(v);
        tcp_close(c, true);
        tcp_close(d, true);
    }
    /* SO_REUSEPORT spreads; one socket gets all of one peer. */
    struct udp_sock *s[4];
    uint32_t got[4] = {0};
    char buf[8];
    struct udp_info info;
    for (uint32_t i = 0; i < 4; i++) {
        struct net_endpoint at = host_endpoint("0.0.0.0", 2000);
        s[i] = udp_create(w.net, 4);
        s[i]->s.reuse_port = true;
        CHECK_EQ(udp_bind(s[i], &at), 0);
    }
    for (uint32_t i = 0; i < 400; i++)
        put_udp(3000 + i, 2000, "x");
    for (uint32_t i = 0; i < 4; i++) {
        while (udp_get(s[i], buf, 8, &info) > 0)
            got[i]++;
        CHECK(got[i] > 50 && got[i] < 150);
        udp_close(s[i]);
    }
    CHECK_EQ(got[0] + got[1] + got[2] + got[3], 400);
    /* Ephemeral ports are different and in range. */
    struct udp_sock *many[300];
    for (uint32_t i = 0; i < 300; i++) {
        many[i] = udp_open(4, "0.0.0.0", 0, 0);
        CHECK(many[i]->s.local.port >= PORT_FIRST);
        for (uint32_t k = 0; k < i; k++)
            CHECK(many[k]->s.local.port != many[i]->s.local.port);
    }
    for (uint32_t i = 0; i < 300; i++)
        udp_close(many[i]);
    struct udp_sock *none = udp_open(4, "10.9.9.9", 5, -EADDRNOTAVAIL);
    udp_close(none);
    wire_done(&w);
}

/* ---- ICMP ---- */

static void test_echo(bool is_v4)
{
    uint8_t ping[40] = {is_v4 ? 8 : 128, 0, 0, 0, 0x12, 0x34, 0, 1, 'h', 'i'};
    struct wire_packet *p;
    struct net_addr us, peer;
    struct udp_sock *u;
    struct net_endpoint to = {.port = 0};
    struct host_iter it;
    struct udp_info info;
    uint8_t *reply;

    wire_init(&w, 0);
    w.is_v4 = is_v4;
    us = wire_us(&w);
    peer = wire_peer(&w);
    csum_store(ping + 2,
               csum_add(is_v4 ? 0 : csum_pseudo(&peer, &us, 58, 40), ping,
                        40));
    wire_put_ip(&w, is_v4 ? 1 : 58, ping, 40);
    p = wire_take(&w);
    CHECK(p);
    reply = p->data + ETH_HEADER + (is_v4 ? 20 : 40);
    CHECK_EQ(reply[0], is_v4 ? 0 : 129);
    CHECK(memcmp(reply + 4, ping + 4, 36) == 0);
    CHECK_EQ(csum_fold(csum_add(is_v4 ? 0 : csum_pseudo(&us, &peer, 58, 40),
                                reply, 40)),
             0);
    free(p);
    /* And the other way. */
    u = ping_create(w.net, is_v4 ? 4 : 6);
    to.addr = peer;
    memset(ping + 2, 0, 6);
    host_iter_from(&it, ping, 40);
    CHECK_EQ(ping_send(u, &(struct udp_send){.from = &it.it, .len = 40,
                                             .to = &to}), 40);
    p = wire_take(&w);
    CHECK(p);
    reply = p->data + ETH_HEADER + (is_v4 ? 20 : 40);
    CHECK_EQ(wire_get16(reply + 4), u->s.local.port);
    reply[0] = is_v4 ? 0 : 129;
    reply[2] = reply[3] = 0;
    csum_store(reply + 2,
               csum_add(is_v4 ? 0 : csum_pseudo(&peer, &us, 58, 40), reply,
                        40));
    wire_put_ip(&w, is_v4 ? 1 : 58, reply, 40);
    free(p);
    host_iter_to(&it, ping, 40);
    CHECK_EQ(udp_recv(u, &it.it, 0, &info), 40);
    CHECK(memcmp(ping + 8, "hi", 2) == 0);
    udp_close(u);
    wire_done(&w);
}

static void test_icmp_limits(void)
{
    uint32_t n = 0;
    struct wire_packet *p;

    wire_init(&w, 0);
    for (uint32_t i = 0; i < 3000; i++)
        put_udp(1, 2, "x");
    while ((p = wire_take(&w)) != NULL) {
        n++;
        free(p);
    }
    CHECK(n <= ICMP_PER_SECOND && n >= ICMP_PER_SECOND / 16 * 15);
    /* Not about an error. */
    uint8_t icmp[36] = {3, 3};
    csum_store(icmp + 2, csum_add(0, icmp, 36));
    wire_wait(&w, NSEC_PER_SEC);
    wire_put_ip(&w, IP_PROTO_ICMP, icmp, 36);
    CHECK(!wire_take(&w));
    wire_put_ip(&w, 99, icmp, 36); /* unknown protocol */
    p = wire_take(&w);
    CHECK(p && wire_get16(p->data + ETH_HEADER + 20) == 0x0302);
    free(p);
    wire_done(&w);
}

/* ---- neighbours ---- */

static void test_arp(void)
{
    struct net_endpoint far = host_endpoint("10.0.0.77", 9);
    struct udp_sock *u;
    struct wire_packet *p;
    uint8_t mac[6], reply[60] = {0};

    wire_init(&w, 0);
    w.keep_questions = true;
    u = udp_create(w.net, 4);
    CHECK_EQ(udp_connect(u, &far), 0);
    CHECK_EQ(udp_put(u, "one", NULL), 3);
    CHECK_EQ(udp_put(u, "two", NULL), 3);
    p = wire_take(&w);
    CHECK(p && p->data[0] == 0xff);
    CHECK_EQ(wire_get16(p->data + 12), ETH_TYPE_ARP);
    CHECK_EQ(wire_get32(p->data + 38), 0x0a00004d);
    CHECK(!wire_take(&w));
    /* The answer releases what waits. */
    memcpy(reply, w.nif.mac, 6);
    memcpy(reply + 6, "\2\0\0\0\0\x4d", 6);
    memcpy(reply + 12, p->data + 12, 8);
    reply[21] = 2;
    memcpy(reply + 22, reply + 6, 6);
    wire_put32(reply + 28, 0x0a00004d);
    memcpy(reply + 32, w.nif.mac, 6);
    wire_put32(reply + 38, 0x0a000001);
    free(p);
    wire_put(&w, reply, 60);
    for (int i = 0; i < 2; i++) {
        p = wire_take(&w);
        CHECK(p && p->data[5] == 0x4d);
        free(p);
    }
    CHECK_EQ(neigh_state_of(&w.nif, &far.addr, mac), NEIGH_REACHABLE);
    /* After a while it is asked again, by name; without an answer it goes. */
    wire_wait(&w, 40 * NSEC_PER_SEC);
    CHECK_EQ(udp_put(u, "x", NULL), 1);
    free(wire_take(&w));
    wire_wait(&w, 6 * NSEC_PER_SEC);
    p = wire_take(&w);
    CHECK(p && p->data[5] == 0x4d && wire_get16(p->data + 12) == 0x0806);
    free(p);
    wire_wait(&w, 6 * NSEC_PER_SEC);
    wire_drop_all(&w);
    CHECK_EQ(neigh_state_of(&w.nif, &far.addr, mac), NEIGH_NEW);
    CHECK_EQ(udp_put(u, "lost", NULL), 4);
    wire_wait(&w, 6 * NSEC_PER_SEC);
    CHECK_EQ(udp_put(u, "x", NULL), -EHOSTUNREACH);
    wire_drop_all(&w);
    /* We answer for our address; a claim that nobody asked for is nothing. */
    reply[21] = 1;
    wire_put(&w, reply, 60);
    p = wire_take(&w);
    CHECK(p && p->data[21] == 2);
    free(p);
    reply[21] = 2;
    wire_put32(reply + 28, 0x0a000063);
    wire_put(&w, reply, 60);
    far = host_endpoint("10.0.0.99", 1);
    CHECK_EQ(neigh_state_of(&w.nif, &far.addr, mac), -1);
    udp_close(u);
    wire_wait(&w, 10 * NSEC_PER_SEC);
    wire_done(&w);
}

/* ---- IPv6 by itself ---- */

static void put_icmp6(const char *src, const char *dst, uint8_t *m, uint32_t n)
{
    uint8_t p[400] = {0x33, 0x33, 0, 0, 0, 1, 2, 0, 0, 0, 0, 9, 0x86, 0xdd,
                      0x60};
    struct net_addr s = host_addr(src), d = host_addr(dst);

    wire_put16(p + 18, n);
    p[20] = 58;
    p[21] = 255;
    memcpy(p + 22, s.b, 16);
    memcpy(p + 38, d.b, 16);
    m[2] = m[3] = 0;
    csum_store(m + 2, csum_add(csum_pseudo(&s, &d, 58, n), m, n));
    memcpy(p + 54, m, n);
    wire_put(&w, p, 54 + n);
}

static void test_slaac(void)
{
    uint8_t ra[16 + 8 + 8 + 32 + 24] = {134, 0, 0, 0, 33, 0, 0x07, 0x08};
    struct net_addr ll = host_addr("fe80::ff:fe00:1");
    struct net_addr global = host_addr("2001:db8::ff:fe00:1");
    struct net_addr out = host_addr("2001:4860::1"), server;
    struct net_route r;
    struct wire_packet *p;
    char text[200];

    wire_init(&w, 0);
    w.keep_questions = true;
    CHECK_EQ(ndp_start(&w.nif), 0);
    wire_wait(&w, 10 * MS);
    p = wire_take(&w); /* is the address free? */
    CHECK(p && p->data[54] == 135);
    CHECK(memcmp(p->data + 62, ll.b, 16) == 0);
    CHECK(p->data[22] == 0 && p->data[37] == 0); /* from :: */
    free(p);
    CHECK(!netif_of_addr(w.net, &ll, ADDR_GOOD));
    wire_wait(&w, 1300 * MS);
    CHECK(netif_of_addr(w.net, &ll, ADDR_GOOD) == &w.nif);
    wire_wait(&w, NSEC_PER_SEC);
    p = wire_take(&w); /* are there routers? */
    CHECK(p && p->data[54] == 133);
    free(p);
    /* A router: MTU 1400, prefix 2001:db8::/64, a name server. */
    memcpy(ra + 16, "\1\1\2\0\0\0\0\x9", 8);
    ra[24] = 5;
    ra[25] = 1;
    wire_put32(ra + 28, 1400);
    ra[32] = 3;
    ra[33] = 4;
    ra[34] = 64;
    ra[35] = 0xc0;
    wire_put32(ra + 36, 86400);
    wire_put32(ra + 40, 3600);
    memcpy(ra + 48, global.b, 8);
    ra[64] = 25;
    ra[65] = 3;
    server = host_addr("2001:db8::53");
    memcpy(ra + 72, server.b, 16);
    put_icmp6("fe80::9", "ff02::1", ra, sizeof(ra));
    CHECK_EQ(route_find(w.net, &out, NULL, 0, &r), 0);
    CHECK(addr_equal(&r.next_hop, &(struct net_addr){.b = {0xfe, 0x80,
                                                           [15] = 9}}));
    CHECK_EQ(r.mtu, 1400);
    CHECK_EQ(w.nif.hop_limit, 33);
    wire_wait(&w, 2 * NSEC_PER_SEC);
    CHECK(netif_of_addr(w.net, &global, ADDR_GOOD) == &w.nif);
    CHECK_EQ(route_find(w.net, &out, NULL, 0, &r), 0);
    CHECK(addr_equal(&r.src, &global));
    CHECK(dns_resolv_conf(w.net, text, sizeof(text)) > 0);
    CHECK(strcmp(text, "nameserver 2001:db8::53\n") == 0);
    /* From afar (hop limit below 255) nothing is believed: see ndp.c; the
     * router's time runs out. */
    wire_wait(&w, 1801 * NSEC_PER_SEC);
    CHECK_EQ(route_find(w.net, &out, NULL, 0, &r), -ENETUNREACH);
    wire_wait(&w, 86400 * NSEC_PER_SEC);
    CHECK(!netif_of_addr(w.net, &global, ADDR_GOOD));
    ndp_stop(&w.nif);
    wire_done(&w);
}

static void test_dad_conflict(void)
{
    struct net_addr ll = host_addr("fe80::ff:fe00:1");
    uint8_t na[24] = {136, 0, 0, 0, 0x20};

    wire_init(&w, 0);
    w.keep_questions = true;
    CHECK_EQ(ndp_start(&w.nif), 0);
    wire_wait(&w, 100 * MS);
    memcpy(na + 8, ll.b, 16);
    put_icmp6("fe80::ff:fe00:1", "ff02::1", na, 24);
    wire_wait(&w, 3 * NSEC_PER_SEC);
    CHECK(!netif_of_addr(w.net, &ll, ADDR_GOOD));
    CHECK(netif_of_addr(w.net, &ll, ADDR_DUPLICATE) == &w.nif);
    ndp_stop(&w.nif);
    wire_done(&w);
}

/* ---- DHCP ---- */

static uint32_t nr_changes;

static void on_change(struct dhcp *d)
{
    (void)d;
    nr_changes++;
}

static uint8_t dhcp_type_of(const struct wire_packet *p)
{
    return p->data[ETH_HEADER + 28 + 240 + 2];
}

/* The server's answer to p. */
static void dhcp_answer(const struct wire_packet *p, uint32_t type,
                        uint32_t addr)
{
    uint8_t b[400] = {0}, *ip = b + 14, *udp = ip + 20, *m = udp + 8, *o;

    memset(b, 0xff, 6);
    b[11] = 9;
    wire_put16(b + 12, ETH_TYPE_IPV4);
    memcpy(m, p->data + ETH_HEADER + 28, 240);
    m[0] = 2;
    wire_put32(m + 16, addr);
    o = m + 240;
    memcpy(o, "\x35\1\0\x36\4\x0a\0\0\xfe\x33\4\0\0\x0e\x10\1\4\xff\xff\xff\0"
              "\3\4\x0a\0\0\xfe\6\4\x0a\0\0\x35\x1a\2\x05\x78\x0f\4test\xff",
           45);
    o[2] = (uint8_t)type;
    wire_put16(udp, 67);
    wire_put16(udp + 2, 68);
    wire_put16(udp + 4, 8 + 300);
    ip[0] = 0x45;
    wire_put16(ip + 2, 20 + 8 + 300);
    ip[8] = 64;
    ip[9] = 17;
    wire_put32(ip + 12, 0x0a0000fe);
    wire_put32(ip + 16, 0xffffffff);
    if (type == DHCP_OFFER) { /* some send to the address that is not ours */
        memcpy(b, w.nif.mac, 6);
        wire_put32(ip + 16, addr);
    }
    csum_store(ip + 10, csum_add(0, ip, 20));
    wire_put(&w, b, 14 + 328);
}

static void test_dhcp(void)
{
    struct net_addr old = addr_from_v4(0x0a000001), mine;
    struct net_addr out = addr_from_v4(0x08080808);
    struct wire_packet *p;
    struct net_route r;
    struct dhcp *d;
    char text[200];

    wire_init(&w, 0);
    netif_del_addr(&w.nif, &old);
    route_del(&w.nif, &(struct net_addr){.b = {[10] = 0xff, 0xff, 10}}, 120,
              NULL);
    nr_changes = 0;
    CHECK_EQ(dhcp_start(&w.nif, "guest", on_change, NULL, &d), 0);
    p = wire_take(&w);
    CHECK(p && dhcp_type_of(p) == DHCP_DISCOVER);
    CHECK_EQ(wire_get32(p->data + ETH_HEADER + 12), 0);
    free(p);
    wire_wait(&w, 1500 * MS); /* again */
    p = wire_take(&w);
    CHECK(p && dhcp_type_of(p) == DHCP_DISCOVER);
    dhcp_answer(p, DHCP_OFFER, 0x0a000042);
    free(p);
    p = wire_take(&w);
    CHECK(p && dhcp_type_of(p) == DHCP_REQUEST);
    CHECK_EQ(nr_changes, 0);
    dhcp_answer(p, DHCP_ACK, 0x0a000042);
    free(p);
    CHECK_EQ(nr_changes, 1);
    mine = addr_from_v4(0x0a000042);
    CHECK(netif_of_addr(w.net, &mine, ADDR_GOOD) == &w.nif);
    CHECK_EQ(route_find(w.net, &out, NULL, 0, &r), 0);
    CHECK_EQ(addr_v4(&r.next_hop), 0x0a0000fe);
    CHECK_EQ(r.mtu, 1400);
    CHECK_EQ(dns_resolv_conf(w.net, text, sizeof(text)), strlen(text));
    CHECK(strcmp(text, "search test\nnameserver 10.0.0.53\n") == 0);
    dns_hosts(w.net, "guest", text, sizeof(text));
    CHECK(strstr(text, "10.0.0.66\tguest.test guest\n"));
    wire_drop_all(&w); /* the announcement */
    /* Half of an hour later it is renewed, at the server itself. */
    wire_wait(&w, 1790 * NSEC_PER_SEC);
    CHECK(!wire_take(&w));
    w.keep_questions = true;
    wire_wait(&w, 20 * NSEC_PER_SEC);
    p = wire_take(&w); /* who is the server? */
    CHECK(p && wire_get16(p->data + 12) == ETH_TYPE_ARP);
    free(p);
    /* Nobody answers: it asks everybody, and in the end the address goes. */
    wire_wait(&w, 1500 * NSEC_PER_SEC);
    wire_drop_all(&w);
    CHECK(netif_of_addr(w.net, &mine, ADDR_GOOD) == &w.nif);
    wire_wait(&w, 400 * NSEC_PER_SEC);
    CHECK(!netif_of_addr(w.net, &mine, ADDR_GOOD));
    CHECK_EQ(nr_changes, 2);
    CHECK_EQ(route_find(w.net, &out, NULL, 0, &r), -ENETUNREACH);
    p = wire_take(&w);
    while (p && wire_get16(p->data + 12) != ETH_TYPE_IPV4) {
        free(p);
        p = wire_take(&w);
    }
    CHECK(p);
    free(p);
    dhcp_stop(d);
    wire_done(&w);
}

/* ---- loopback ---- */

static void test_loopback(void)
{
    struct net_endpoint at = host_endpoint("127.0.0.1", 3333);
    struct tcp_conn *l, *c, *s;
    struct host_env e;
    struct netstack *net;
    static uint8_t data[300000], got[300000];
    struct host_iter from, to;
    uint64_t total = 0;
    size_t before = shim_bytes;

    host_env_init(&e, 5, 77 * NSEC_PER_SEC);
    net = host_stack(&e, 1, 16 << 20); /* no other interface */
    for (uint32_t i = 0; i < sizeof(data); i++)
        data[i] = (uint8_t)rng_next(&rng);
    l = tcp_create(net, 4);
    CHECK_EQ(tcp_bind(l, &at), 0);
    CHECK_EQ(tcp_listen(l, 5), 0);
    c = tcp_create(net, 4);
    CHECK_EQ(tcp_connect(c, &at), -EINPROGRESS);
    while (net_softwork(net, 0))
        continue;
    CHECK_EQ(tcp_accept(l, &s), 0);
    host_iter_from(&from, data, sizeof(data));
    host_iter_to(&to, got, sizeof(got));
    for (int i = 0; total < sizeof(data) && i < 1000; i++) {
        ssize_t n = tcp_send(c, &from.it, 0);

        CHECK(n > 0 || n == -EAGAIN || !from.it.left);
        while (net_softwork(net, 0))
            continue;
        n = tcp_recv(s, &to.it, 0);
        CHECK(n > 0 || n == -EAGAIN);
        total += n > 0 ? (uint64_t)n : 0;
        e.now += MS;
        net_timer_run(net, 0);
    }
    CHECK_EQ(total, sizeof(data));
    CHECK(memcmp(data, got, sizeof(data)) == 0);
    tcp_close(c, false);
    tcp_close(s, false);
    tcp_close(l, false);
    for (int i = 0; i < 3000; i++) {
        e.now += 100 * MS;
        net_timer_run(net, 0);
        while (net_softwork(net, 0))
            continue;
    }
    net_destroy(net);
    CHECK_EQ(shim_bytes, before);
}

int main(void)
{
    for (int v4 = 0; v4 < 2; v4++) {
        test_udp(v4);
        test_udp_fragments(v4);
        test_echo(v4);
    }
    test_udp_error();
    test_ports();
    test_icmp_limits();
    test_arp();
    test_slaac();
    test_dad_conflict();
    test_dhcp();
    test_loopback();
    printf("test_ip: ok\n");
    return 0;
}
