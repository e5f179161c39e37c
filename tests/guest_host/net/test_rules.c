/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Rules against strangers: whose packets are for whom, what forged messages
 * must not do, and bounds on what they can make us keep.
 */
#include "net/script.h"

#include "check.h"
#include "mm/heap.h"
#include "net/dhcp.h"
#include "net/icmp.h"
#include "net/ndp.h"
#include "net/neigh.h"
#include "net/port.h"
#include "net/reass.h"
#include "net/tcp_listen.h"
#include "net/udp.h"

#include <errno.h>
#include <string.h>

#define HOST(n) (0x0a000000u + (n)) /* 10.0.0.n; we are 1, the peer 2 */
#define TO_US 0u
#define TO_ALL 1u /* the frame's address is broadcast */

static struct udp_sock *udp_open(const char *addr, uint32_t port)
{
    struct udp_sock *u = udp_create(w.net, 6);
    struct net_endpoint at = host_endpoint(addr, port);

    u->s.reuse_addr = true;
    CHECK_EQ(udp_bind(u, &at), 0);
    return u;
}

static ssize_t udp_get(struct udp_sock *u)
{
    struct udp_info info;
    struct host_iter it;
    char buf[100];

    host_iter_to(&it, buf, sizeof(buf));
    return udp_recv(u, &it.it, 0, &info);
}

/* An IPv4 packet with these addresses; frag: the word with offset and bits. */
struct v4 {
    uint32_t src, dst, proto, frag, id, kind;
};

static void put_v4(const struct v4 *h, const void *data, uint32_t len)
{
    uint8_t f[1600] = {0}, *ip = f + ETH_HEADER;

    memcpy(f, w.nif.mac, ETH_ADDR);
    if (h->kind == TO_ALL)
        memset(f, 0xff, ETH_ADDR);
    f[6] = 2;
    f[11] = 9;
    wire_put16(f + 12, ETH_TYPE_IPV4);
    ip[0] = 0x45;
    wire_put16(ip + 2, 20 + len);
    wire_put16(ip + 4, h->id);
    wire_put16(ip + 6, h->frag);
    ip[8] = 64;
    ip[9] = (uint8_t)h->proto;
    wire_put32(ip + 12, h->src);
    wire_put32(ip + 16, h->dst);
    csum_store(ip + 10, csum_add(0, ip, 20));
    memcpy(ip + 20, data, len);
    wire_put(&w, f, ETH_HEADER + 20 + len);
}

static void put_udp(uint32_t src, uint32_t dst, uint32_t kind)
{
    uint8_t p[12] = {[8] = 'd', 'a', 't', 'a'};
    struct v4 h = {.src = src, .dst = dst, .proto = 17, .kind = kind};

    wire_put16(p, 4000);
    wire_put16(p + 2, 53);
    wire_put16(p + 4, 12);
    put_v4(&h, p, 12);
}

static void silent(void)
{
    CHECK(!wire_take(&w));
}

/* Several sockets hear a broadcast: each has a packet of its own. */
static void test_many_hear(void)
{
    struct udp_sock *u[3];

    wire_init(&w, 0);
    for (int i = 0; i < 3; i++)
        u[i] = udp_open("::", 53);
    put_udp(HOST(2), HOST(255), TO_ALL);
    put_udp(HOST(2), 0xffffffffu, TO_ALL);
    for (int i = 0; i < 3; i++) {
        CHECK_EQ(udp_get(u[i]), 4);
        CHECK_EQ(udp_get(u[i]), 4);
        CHECK_EQ(udp_get(u[i]), -EAGAIN);
        udp_close(u[i]);
    }
    wire_done(&w);
}

static void test_who_and_for_whom(void)
{
    struct udp_sock *u;

    wire_init(&w, 0);
    u = udp_open("::", 53);
    put_udp(HOST(1), HOST(1), TO_US); /* from ourselves */
    put_udp(HOST(2), HOST(77), TO_US); /* for somebody else */
    put_udp(0, HOST(1), TO_US); /* from nobody */
    put_udp(0x7f000001, HOST(1), TO_US);
    put_udp(HOST(2), 0x7f000001, TO_US);
    put_udp(0xe0000001, HOST(1), TO_US);
    CHECK_EQ(udp_get(u), -EAGAIN);
    put_udp(HOST(2), HOST(1), TO_US);
    put_udp(HOST(2), HOST(77), TO_US); /* what was right before is no pass */
    put_udp(HOST(1), HOST(1), TO_US);
    put_udp(0, 0xffffffffu, TO_ALL); /* a host that wants an address */
    CHECK_EQ(udp_get(u), 4);
    CHECK_EQ(udp_get(u), 4);
    CHECK_EQ(udp_get(u), -EAGAIN);
    udp_close(u);
    silent();
    /* Errors and resets about broadcasts, also in frames for us alone. */
    put_udp(HOST(2), HOST(255), TO_US);
    put_udp(HOST(2), HOST(255), TO_ALL);
    uint8_t syn[20] = {[12] = 0x50, [13] = TCP_SYN};
    struct net_addr a = addr_from_v4(HOST(2)), b = addr_from_v4(HOST(255));
    csum_store(syn + 16, csum_add(csum_pseudo(&a, &b, 6, 20), syn, 20));
    struct v4 h = {.src = HOST(2), .dst = HOST(255), .proto = 6};
    put_v4(&h, syn, 20);
    uint8_t ping[16] = {8};
    csum_store(ping + 2, csum_add(0, ping, 16));
    h.proto = 1;
    put_v4(&h, ping, 16);
    silent();
    wire_done(&w);
}

/* An ICMP error of a router about a packet that we sent to 10.0.0.2. */
static void put_need_fragment(const uint8_t *transport, uint32_t proto,
                              uint32_t mtu)
{
    uint8_t m[8 + 20 + 8] = {3, 4, [8] = 0x45};
    struct v4 h = {.src = HOST(3), .dst = HOST(1), .proto = 1};

    wire_put16(m + 6, mtu);
    m[8 + 9] = (uint8_t)proto;
    wire_put32(m + 8 + 12, HOST(1));
    wire_put32(m + 8 + 16, HOST(2));
    memcpy(m + 28, transport, 8);
    csum_store(m + 2, csum_add(0, m, sizeof(m)));
    put_v4(&h, m, sizeof(m));
}

static struct net_route route_to_peer(void)
{
    struct net_addr peer = addr_from_v4(HOST(2));
    struct net_route r;

    CHECK_EQ(route_find(w.net, &peer, NULL, 0, &r), 0);
    return r;
}

static void test_forged_pmtu(void)
{
    uint8_t udp[8] = {0, 53, 0, 99}, ping[8] = {8};
    struct udp_sock *u;

    wire_init(&w, 0);
    put_need_fragment(udp, 17, 600); /* nobody has sent this */
    put_need_fragment(ping, 1, 600);
    CHECK_EQ(route_to_peer().mtu, 1500);
    u = udp_open("::", 53);
    put_need_fragment(udp, 17, 600);
    CHECK_EQ(route_to_peer().mtu, 600);
    CHECK(!route_to_peer().may_fragment);
    /* Below the least: no smaller packets, but routers may cut them. */
    put_need_fragment(udp, 17, 80);
    CHECK_EQ(route_to_peer().mtu, PMTU_MIN_V4);
    CHECK(route_to_peer().may_fragment);
    udp_close(u);
    wire_done(&w);
}

/* A small path: segments go without "do not fragment". */
static void test_small_path(void)
{
    struct wire_packet *p;
    char text[700] = {0};

    start(0);
    open_plain();
    CHECK_EQ(send_bytes(text, 700), 700);
    expect(TCP_ACK | TCP_PSH, U(0), P(0), 700);
    uint8_t tcp[8];
    wire_put16(tcp, US);
    wire_put16(tcp + 2, PEER);
    wire_put32(tcp + 4, U(0));
    put_need_fragment(tcp, 6, 100);
    p = wire_take(&w);
    CHECK(p);
    CHECK_EQ(p->len, ETH_HEADER + PMTU_MIN_V4);
    CHECK_EQ(p->data[ETH_HEADER + 6] & 0x40, 0);
    free(p);
    wire_drop_all(&w);
    finish();
}

/* Who connects to a neighbour that is not there hears of it. */
static void test_no_neighbour(void)
{
    struct net_endpoint to = host_endpoint("10.0.0.99", 80);
    struct tcp_conn *c;

    wire_init(&w, 0);
    w.keep_questions = true;
    c = tcp_create(w.net, 4);
    CHECK_EQ(tcp_connect(c, &to), -EINPROGRESS);
    wire_wait(&w, 5 * NSEC_PER_SEC);
    CHECK_EQ(sock_take_error(&c->s), EHOSTUNREACH);
    tcp_close(c, false);
    to = host_endpoint("fd00::99", 80);
    c = tcp_create(w.net, 6);
    CHECK_EQ(tcp_connect(c, &to), -EINPROGRESS);
    wire_wait(&w, 5 * NSEC_PER_SEC);
    CHECK_EQ(sock_take_error(&c->s), EHOSTUNREACH);
    tcp_close(c, false);
    wire_drop_all(&w);
    wire_wait(&w, 5 * NSEC_PER_SEC);
    wire_done(&w);
}

static void put_arp(uint32_t from)
{
    uint8_t a[42] = {[6] = 2, [12] = 8, 6, 0, 1, 8, 0, 6, 4, 0, 1, 2};

    memcpy(a, w.nif.mac, ETH_ADDR);
    wire_put32(a + 28, from);
    wire_put32(a + 38, HOST(1));
    wire_put(&w, a, sizeof(a));
}

static uint32_t bucket_of(uint32_t v4)
{
    struct net_addr a = addr_from_v4(v4);
    struct neigh_news news = {.mac = w.nif.mac, .may_create = true};

    neigh_learn(&w.nif, &a, &news);
    for (uint32_t i = 0; i < NEIGH_BUCKETS; i++)
        if (w.net->neighs->buckets[i].first &&
            addr_equal(&w.net->neighs->buckets[i].first->addr, &a))
            return i;
    return NEIGH_BUCKETS;
}

/* Strangers that ask for us: bounded, they push nobody out who is used, and
 * everybody can still be reached. */
static void test_neighbour_flood(void)
{
    static uint32_t others[20000];
    struct net_addr gateway = addr_from_v4(HOST(5));
    struct neigh_news news = {.mac = w.nif.mac, .is_solicited = true,
                              .is_override = true, .may_create = true};
    uint32_t nr = 0, target;
    size_t before = 0;
    uint8_t mac[6];

    wire_init(&w, 0);
    target = bucket_of(HOST(5));
    for (uint32_t i = 0; nr < ARRAY_SIZE(others); i++)
        if (bucket_of(HOST(256 + i)) != target)
            others[nr++] = HOST(256 + i);
    wire_done(&w);
    wire_init(&w, 0);
    for (uint32_t i = 0; i < nr; i++) {
        put_arp(others[i]);
        if (i % 100 == 0)
            wire_wait(&w, 1000000);
        wire_drop_all(&w);
        if (i == 10000)
            before = shim_bytes;
    }
    CHECK(shim_bytes <= before + 64 * 1024);
    neigh_learn(&w.nif, &gateway, &news);
    CHECK_EQ(neigh_state_of(&w.nif, &gateway, mac), NEIGH_REACHABLE);
    for (uint32_t i = 0; i < 20000; i++) {
        put_arp(HOST(256 + i)); /* its neighbours in the table as well */
        if (i % 100 == 0) {
            wire_wait(&w, 1000000);
            neigh_confirm(&w.nif, &gateway);
        }
        wire_drop_all(&w);
    }
    CHECK_EQ(neigh_state_of(&w.nif, &gateway, mac), NEIGH_REACHABLE);
    wire_done(&w);
}

/* Tiny fragments hold a frame each: it is frames that are counted. */
static void test_tiny_fragments(void)
{
    struct v4 h = {.src = HOST(2), .dst = HOST(1), .proto = 17};
    uint8_t p[8] = {0};

    wire_init(&w, 0);
    for (uint32_t i = 0; i < 60000; i++) {
        h.id = i / 1500;
        h.frag = 0x2000 | (i % 1500 * 2);
        put_v4(&h, p, 8);
    }
    CHECK(w.net->reass->mem <= REASS_MAX_BYTES);
    CHECK(w.net->mem_used < REASS_MAX_BYTES + (1u << 20));
    wire_wait(&w, 40 * NSEC_PER_SEC);
    for (int i = 0; i < 70; i++)
        wire_wait(&w, NSEC_PER_SEC);
    CHECK_EQ(w.net->reass->mem, 0);
    wire_drop_all(&w);
    wire_done(&w);
}

/* A ping of several fragments comes back with a right checksum. */
static void test_long_ping(void)
{
    static uint8_t m[3000] = {8, 0, 0, 0, 0, 7, 0, 1}, back[3000];
    struct v4 h = {.src = HOST(2), .dst = HOST(1), .proto = 1, .id = 3};
    uint32_t got = 0;
    struct wire_packet *p;

    wire_init(&w, 0);
    for (uint32_t i = 8; i < sizeof(m); i++)
        m[i] = (uint8_t)(i * 7);
    csum_store(m + 2, csum_add(0, m, sizeof(m)));
    h.frag = 0x2000;
    put_v4(&h, m, 1400);
    h.frag = 0x2000 | 1400 / 8;
    put_v4(&h, m + 1400, 1400);
    h.frag = 2800 / 8;
    put_v4(&h, m + 2800, 200);
    while ((p = wire_take(&w)) != NULL) {
        const uint8_t *ip = p->data + ETH_HEADER;
        uint32_t off = (wire_get16(ip + 6) & 0x1fffu) * 8;
        uint32_t n = wire_get16(ip + 2) - 20u;

        CHECK(off + n <= sizeof(back));
        memcpy(back + off, ip + 20, n);
        got += n;
        free(p);
    }
    CHECK_EQ(got, sizeof(m));
    CHECK_EQ(back[0], 0);
    CHECK_EQ(csum_fold(csum_add(0, back, sizeof(back))), 0);
    CHECK(memcmp(back + 4, m + 4, sizeof(m) - 4) == 0);
    wire_done(&w);
}

/* Challenges: ten in five seconds and connection, resets not counted. */
static void test_challenges(void)
{
    struct seg s;
    uint32_t n = 0;

    start(0);
    open_plain();
    for (uint32_t i = 0; i < 100; i++)
        put(TCP_RST, P(10 + i), 0, 0);
    while (wire_get_seg(&w, &s))
        n++;
    CHECK_EQ(n, 10);
    wire_wait(&w, 6 * NSEC_PER_SEC);
    put(TCP_RST, P(10), 0, 0);
    expect(TCP_ACK, U(0), P(0), 0);
    put(TCP_RST, P(0), 0, 0);
    nothing();
    CHECK_EQ(conn->state, TCP_CLOSE);
    finish();
}

/* Thousands of half-open connections do not repeat their SYN-ACKs at once, and
 * are forgotten sooner than a few would be. */
static void test_flood_repeats(void)
{
    struct seg s, r;
    uint32_t total = 0;

    start(0);
    for (uint32_t i = 0; i < 5000; i++) {
        s = seg(TCP_SYN, 1, 0, 0);
        s.sport = (uint16_t)(1024 + i);
        wire_put_seg(&w, &s);
        CHECK(wire_get_seg(&w, &r));
    }
    for (uint32_t i = 0; i < 300; i++) {
        uint32_t n = 0;

        wire_wait(&w, NSEC_PER_SEC / 2);
        while (wire_get_seg(&w, &r))
            n++;
        CHECK(n <= 300);
        total += n;
        if (i == 100)
            CHECK(w.net->tcp->halves->nr <= HALF_MAX / 2);
    }
    CHECK(total > 4096);
    CHECK_EQ(w.net->tcp->halves->nr, 0);
    finish();
}

/* A host that begins anew while the old handshake waits. */
static void test_half_open_anew(void)
{
    struct seg s;

    start(0);
    put(TCP_SYN, PEER_ISS, 0, 0);
    s = get();
    our_iss = s.seq;
    put(TCP_SYN, PEER_ISS + 70000, 0, 0);
    expect(TCP_ACK, U(0), P(0), 0);
    put(TCP_RST, P(0), 0, 0);
    put(TCP_SYN, PEER_ISS + 70000, 0, 0);
    s = get();
    CHECK_EQ(s.flags, TCP_SYN | TCP_ACK);
    CHECK_EQ(s.ack, PEER_ISS + 70001);
    finish();
}

/* Without a program, a closed window is waited for only so long, whatever the
 * peer answers; with one, as long as it answers. */
static void closed_window(bool is_orphan)
{
    struct seg s, a;
    char text[100] = {0};
    uint32_t probes = 0;
    bool is_reset = false;

    start(0);
    open_plain();
    a = seg(TCP_ACK, P(0), U(0), 0);
    a.wnd = 0;
    wire_put_seg(&w, &a);
    CHECK_EQ(send_bytes(text, 100), 100);
    if (is_orphan) {
        tcp_close(conn, false);
        conn = NULL;
    }
    for (uint32_t i = 0; i < 600 && !is_reset; i++) {
        wire_wait(&w, NSEC_PER_SEC);
        while (wire_get_seg(&w, &s)) {
            is_reset = s.flags & TCP_RST;
            probes++;
            if (!is_reset)
                wire_put_seg(&w, &a);
        }
    }
    CHECK_EQ(is_reset, is_orphan);
    CHECK(probes >= 5);
    finish();
}

static void test_closed_window(void)
{
    closed_window(false);
    closed_window(true);
}

/* Routes whose time has passed leave their place to others. */
static void test_route_slots(void)
{
    struct net_addr gw = host_addr("fe80::1");

    wire_init(&w, 0);
    for (uint32_t i = 0; i < 10 * ROUTE_MAX; i++) {
        struct route_entry e = {.prefix = host_addr("2001:db8::"),
                                .gateway = gw, .nif = &w.nif, .bits = 64,
                                .is_auto = true};
        e.prefix.b[6] = (uint8_t)(i >> 8);
        e.prefix.b[7] = (uint8_t)i;
        e.valid_until = net_now(w.net) + NSEC_PER_SEC;
        CHECK_EQ(route_add_until(&w.nif, &e), 0);
        wire_wait(&w, NSEC_PER_SEC / 4);
    }
    wire_drop_all(&w);
    wire_done(&w);
}

/* No memory at all, not even what is kept for control, and nothing in flight:
 * no acknowledgement will wake the writer. */
static void test_no_memory(void)
{
    struct frame *hog[4096];
    uint32_t n = 0;
    char text[100] = {0};

    start(0);
    open_plain();
    while (n < 4096 && (hog[n] = frame_alloc(w.net, FRAME_LARGE, 0,
                                             FRAME_FOR_CONTROL)) != NULL)
        n++;
    CHECK(n && n < 4096);
    while (n && (hog[n] = frame_alloc(w.net, FRAME_SMALL, 0,
                                      FRAME_FOR_CONTROL)) != NULL)
        n++;
    CHECK_EQ(send_bytes(text, 100), -EAGAIN);
    CHECK(!(tcp_poll(conn) & NET_EV_OUT));
    wire_wait(&w, 50 * MS);
    CHECK_EQ(send_bytes(text, 100), -EAGAIN);
    while (n)
        frame_put(hog[--n]);
    wire_wait(&w, 50 * MS);
    CHECK(tcp_poll(conn) & NET_EV_OUT);
    CHECK_EQ(send_bytes(text, 100), 100);
    expect(TCP_ACK | TCP_PSH, U(0), P(0), 100);
    finish();
}

/* With all memory of frames taken, what comes in is not kept, but what it
 * acknowledges is given back: else the stack would stay full for good. */
static void test_full_memory(void)
{
    struct frame *hog[4096];
    uint32_t n = 0;
    char text[100] = {0};

    start(0);
    open_plain();
    CHECK_EQ(send_bytes(text, 100), 100);
    expect(TCP_ACK | TCP_PSH, U(0), P(0), 100);
    while (n < 4096 && (hog[n] = frame_alloc(w.net, FRAME_LARGE, 0,
                                             FRAME_FOR_CONTROL)) != NULL)
        n++;
    while (n < 4096 && (hog[n] = frame_alloc(w.net, FRAME_SMALL, 0,
                                             FRAME_FOR_CONTROL)) != NULL)
        n++;
    CHECK(n && n < 4096);
    put(TCP_ACK, P(0), U(100), 50);
    CHECK_EQ(recv_bytes(text, sizeof(text)), -EAGAIN);
    CHECK_EQ(conn->snd_una, U(100));
    while (n)
        frame_put(hog[--n]);
    put(TCP_ACK, P(0), U(100), 50);
    CHECK_EQ(recv_bytes(text, sizeof(text)), 50);
    wire_wait(&w, 50 * MS);
    wire_drop_all(&w);
    finish();
}

/* The longest datagram to ourselves is longer than loopback's MTU: it comes in
 * fragments, and from our own address. */
static void test_long_to_ourselves(void)
{
    static uint8_t out[UDP_MAX_PAYLOAD], in[UDP_MAX_PAYLOAD];
    struct net_endpoint to = host_endpoint("::1", 53);
    struct udp_info info;
    struct host_iter it;
    struct udp_sock *u;

    wire_init(&w, 0);
    u = udp_open("::", 53);
    for (uint32_t i = 0; i < sizeof(out); i++)
        out[i] = (uint8_t)(i * 5);
    host_iter_from(&it, out, sizeof(out));
    CHECK_EQ(udp_send(u, &(struct udp_send){.from = &it.it,
                                            .len = sizeof(out), .to = &to}),
             (ssize_t)sizeof(out));
    wire_run(&w);
    CHECK_EQ(net_counter_sum(w.net, NET_REASS_DONE), 1);
    host_iter_to(&it, in, sizeof(in));
    CHECK_EQ(udp_recv(u, &it.it, 0, &info), (ssize_t)sizeof(in));
    CHECK(memcmp(in, out, sizeof(in)) == 0);
    udp_close(u);
    wire_done(&w);
}

/* A lease of an address that no host can have is none. */
static void test_lease(void)
{
    static const struct {
        uint32_t addr;
        int result;
    } leases[] = {{0x7f000001, -EINVAL}, {0xe0000001, -EINVAL},
                  {0xffffffff, -EINVAL}, {0x00000005, -EINVAL},
                  {0, 0}, {HOST(9), 0}, {0xdfffffff, 0}};
    uint8_t m[260] = {2, 1, 6}, mac[6] = {2};
    struct dhcp_lease l;

    wire_put32(m + 4, 77);
    wire_put32(m + 236, 0x63825363);
    m[28] = 2;
    memcpy(m + 240, (uint8_t[]){53, 1, DHCP_OFFER, 255}, 4);
    for (uint32_t i = 0; i < ARRAY_SIZE(leases); i++) {
        wire_put32(m + 16, leases[i].addr);
        CHECK_EQ(dhcp_parse(m, sizeof(m), 77, mac, &l), leases[i].result);
    }
}

static const struct script_test tests[] = {
    {"many hear a broadcast", test_many_hear},
    {"who, and for whom", test_who_and_for_whom},
    {"forged path MTU", test_forged_pmtu},
    {"small path", test_small_path},
    {"no neighbour", test_no_neighbour},
    {"neighbour flood", test_neighbour_flood},
    {"tiny fragments", test_tiny_fragments},
    {"long ping", test_long_ping},
    {"challenges", test_challenges},
    {"half open, anew", test_half_open_anew},
    {"flood: repeats", test_flood_repeats},
    {"closed window", test_closed_window},
    {"route slots", test_route_slots},
    {"no memory", test_no_memory},
    {"full memory", test_full_memory},
    {"lease", test_lease},
    {"long datagram to ourselves", test_long_to_ourselves},
};

int main(int argc, char **argv)
{
    return script_run(tests, ARRAY_SIZE(tests), argc, argv);
}
