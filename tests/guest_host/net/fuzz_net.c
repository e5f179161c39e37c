/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Fuzz targets of the network stack, chosen with FUZZ_TARGET:
 *
 * FUZZ_WIRE: the input is a program: packets with headers that are right but
 * for what it says (so that they get past the checks of lengths and sums),
 * raw packets, time, and calls of a program with sockets. Every parser of the
 * stack is behind one of them. The invariants of each connection hold after
 * every step, and in the end nothing is left in memory.
 * FUZZ_DHCP: a server's message. FUZZ_ADDR: an address as text.
 */
#include "net/wire.h"

#include "check.h"
#include "mm/heap.h"
#include "net/dhcp.h"
#include "net/link.h"
#include "net/ndp.h"
#include "net/ping.h"
#include "net/resolv.h"
#include "net/udp.h"

#include <errno.h>
#include <string.h>

#define FUZZ_WIRE 1
#define FUZZ_DHCP 2
#define FUZZ_ADDR 3

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

#if FUZZ_TARGET == FUZZ_DHCP

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    static const uint8_t mac[6] = {2, 0, 0, 0, 0, 1};
    uint8_t *p = malloc(len + 240);
    struct dhcp_lease l;

    /* The fixed part is right; the options are the input. */
    memset(p, 0, 240);
    p[0] = 2;
    p[1] = 1;
    p[2] = 6;
    wire_put32(p + 4, 7);
    wire_put32(p + 16, 0x0a000005);
    memcpy(p + 28, mac, 6);
    wire_put32(p + 236, 0x63825363);
    memcpy(p + 240, data, len);
    if (len > 64)
        memcpy(p + 44, data + len - 64, 64); /* overloaded fields */
    if (dhcp_parse(p, (uint32_t)len + 240, 7, mac, &l) == 0) {
        CHECK(l.type && l.nr_routes <= DHCP_MAX_ROUTES && l.nr_dns <= 3);
        for (uint32_t i = 0; i < l.nr_routes; i++)
            CHECK(l.routes[i].bits <= 32);
    }
    free(p);
    p = malloc(len ? len : 1);
    memcpy(p, data, len);
    (void)!dhcp_parse(p, (uint32_t)len, 7, mac, &l);
    free(p);
    return 0;
}

#elif FUZZ_TARGET == FUZZ_ADDR

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    char *text = malloc(len + 1), out[NET_ADDR_TEXT];
    struct net_addr a, b;

    memcpy(text, data, len);
    text[len] = 0;
    if (addr_from_text(text, &a) == 0) {
        CHECK_EQ(addr_from_text(addr_to_text(&a, out), &b), 0);
        CHECK(addr_equal(&a, &b));
    }
    free(text);
    return 0;
}

#else

struct fuzz {
    const uint8_t *at, *end;
    struct wire w;
    struct tcp_conn *listener, *conns[4];
    struct udp_sock *udp, *ping;
    struct dhcp *dhcp;
    bool is_hopeless;
};

static uint32_t u8(struct fuzz *z)
{
    return z->at < z->end ? *z->at++ : 0;
}

static uint32_t u16(struct fuzz *z)
{
    uint32_t hi = u8(z);

    return hi << 8 | u8(z);
}

static uint32_t take(struct fuzz *z, uint8_t *to, uint32_t max)
{
    uint32_t n = MIN((uint32_t)(z->end - z->at), max);

    memcpy(to, z->at, n);
    z->at += n;
    return n;
}

static struct tcp_conn *pick_conn(struct fuzz *z, uint32_t i)
{
    return z->conns[i % 4];
}

/* A segment close to what a connection expects. */
static void op_segment(struct fuzz *z)
{
    uint32_t who = u8(z);
    struct tcp_conn *c = pick_conn(z, who);
    struct seg s = {.wscale = -1, .sport = (uint16_t)(5000 + who % 4),
                    .dport = 80};
    uint32_t what = u8(z);

    s.flags = u8(z) & 0x3f;
    s.wnd = u16(z);
    s.len = what & 1 ? u16(z) % 3000 : u8(z) % 8;
    s.seq = u8(z);
    s.ack = u8(z);
    if (c && c->state != TCP_LISTEN) {
        s.sport = c->s.remote.port;
        s.dport = c->s.local.port;
        s.seq = c->rcv_nxt + (uint32_t)(int8_t)s.seq * (what & 2 ? 700 : 1);
        s.ack = c->snd_una + (uint32_t)(int8_t)s.ack * (what & 4 ? 700 : 1);
        if (what & 8)
            s.ack = c->snd_nxt;
        if (what & 16)
            s.seq = c->rcv_nxt;
        s.has_ts = c->has_ts && !(what & 32);
        s.ts_val = c->ts_recent + (uint32_t)(int8_t)u8(z);
        s.ts_ecr = tcp_ts_now(c) - u8(z);
        if (what & 64) {
            s.nr_sacks = 1 + u8(z) % 3;
            for (uint32_t i = 0; i < s.nr_sacks; i++) {
                s.sacks[i][0] = c->snd_una + (uint32_t)(int8_t)u8(z) * 100;
                s.sacks[i][1] = s.sacks[i][0] + u8(z) * 100;
            }
        }
    } else if (s.flags & TCP_SYN) {
        s.mss = (uint16_t)u16(z);
        s.wscale = (int)(u8(z) % 20) - 1;
        s.sack_ok = what & 2;
        s.has_ts = what & 4;
        s.ts_val = u8(z);
    }
    wire_put_seg(&z->w, &s);
}

/* Answers the last thing the stack said as a peer would. */
static void op_polite(struct fuzz *z)
{
    struct wire_packet *p = wire_take(&z->w), *q;
    struct seg s = {.wscale = -1, .flags = TCP_ACK, .wnd = 65000};
    uint8_t *t;

    while (p && (q = wire_take(&z->w)) != NULL) {
        free(p);
        p = q;
    }
    if (!p)
        return;
    t = p->data + ETH_HEADER + (z->w.is_v4 ? 20 : 40);
    if (p->len >= ETH_HEADER + 60 &&
        p->data[ETH_HEADER + (z->w.is_v4 ? 9 : 6)] == IP_PROTO_TCP &&
        wire_get16(p->data + 12) ==
            (z->w.is_v4 ? ETH_TYPE_IPV4 : ETH_TYPE_IPV6)) {
        uint32_t flags = t[13];

        s.sport = wire_get16(t + 2);
        s.dport = wire_get16(t);
        s.seq = wire_get32(t + 8);
        s.ack = wire_get32(t + 4) + !!(flags & TCP_SYN) +
                !!(flags & TCP_FIN) +
                (p->len - (uint32_t)(t - p->data) - (t[12] >> 4) * 4u);
        if ((flags & (TCP_SYN | TCP_ACK)) == TCP_SYN) {
            s.flags |= TCP_SYN;
            s.seq = 777;
            s.mss = 1460;
            s.sack_ok = true;
        }
        wire_put_seg(&z->w, &s);
    }
    free(p);
}

/* IP with our addresses and a right header; the rest is the input's. */
static void op_ip(struct fuzz *z)
{
    static const uint8_t protos[] = {1, 6, 17, 58, 0, 43, 44, 60, 2, 59};
    uint8_t body[600];
    uint32_t proto = protos[u8(z) % sizeof(protos)], fix = u8(z);
    uint32_t n = take(z, body, fix & 128 ? 500 : 60);
    struct net_addr us = wire_us(&z->w), peer = wire_peer(&z->w);
    uint64_t sum = proto == 1 ? 0 : csum_pseudo(&peer, &us, proto, n);

    if (proto == 17 && n >= 8 && (fix & 1)) {
        wire_put16(body + 2, fix & 2 ? 53 : 68);
        wire_put16(body + 4, n);
    }
    if (proto == 6 && n >= 20 && (fix & 1)) {
        wire_put16(body + 2, 80);
        body[12] = (uint8_t)(MIN(n / 4, 15u) << 4);
    }
    if (n >= 20 && (fix & 4)) {
        uint32_t at = proto == 6 ? 16 : proto == 17 ? 6 : 2;
        body[at] = body[at + 1] = 0;
        csum_store(body + at, csum_add(sum, body, n));
    }
    wire_put_ip(&z->w, proto, body, n);
}

/* A fragment; the input chooses where it lies. */
static void op_fragment(struct fuzz *z)
{
    uint8_t p[14 + 48 + 256] = {2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2};
    uint8_t *ip = p + 14;
    uint32_t off = u8(z), more = u8(z) & 1, id = u8(z) & 3, n, head = 20;

    if (z->w.is_v4) {
        wire_put16(p + 12, ETH_TYPE_IPV4);
        n = take(z, ip + 20, u8(z));
        ip[0] = 0x45;
        wire_put16(ip + 2, 20 + n);
        wire_put16(ip + 4, id);
        wire_put16(ip + 6, more << 13 | off);
        ip[8] = 9;
        ip[9] = 17;
        wire_put32(ip + 12, 0x0a000002);
        wire_put32(ip + 16, 0x0a000001);
        csum_store(ip + 10, csum_add(0, ip, 20));
    } else {
        struct net_addr us = wire_us(&z->w), peer = wire_peer(&z->w);

        head = 48;
        wire_put16(p + 12, ETH_TYPE_IPV6);
        n = take(z, ip + 48, u8(z));
        ip[0] = 0x60;
        wire_put16(ip + 4, 8 + n);
        ip[6] = 44;
        ip[7] = 9;
        memcpy(ip + 8, peer.b, 16);
        memcpy(ip + 24, us.b, 16);
        ip[40] = 17;
        wire_put16(ip + 42, off << 3 | more);
        wire_put32(ip + 44, id);
    }
    wire_put(&z->w, p, 14 + head + n);
}

/* Neighbour discovery, with a right checksum and hop limit. */
static void op_ndp(struct fuzz *z)
{
    uint8_t p[14 + 40 + 256] = {2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 9, 0x86, 0xdd,
                                0x60};
    struct net_addr src = {.b = {0xfe, 0x80, [15] = (uint8_t)u8(z)}};
    struct net_addr dst = u8(z) & 1 ? wire_us(&z->w)
                                    : (struct net_addr){.b = {0xff, 2,
                                                              [15] = 1}};
    uint8_t *m = p + 54;
    uint32_t n;

    if (addr_is_v4(&dst))
        dst = (struct net_addr){.b = {0xfd, [15] = 1}};
    if (src.b[15] == 0)
        memset(&src, 0, sizeof(src));
    m[0] = (uint8_t)(133 + u8(z) % 5);
    m[4] = (uint8_t)u8(z);
    n = 8 + take(z, m + 8, 248);
    wire_put16(p + 18, n);
    p[20] = 58;
    p[21] = 255;
    memcpy(p + 22, src.b, 16);
    memcpy(p + 38, dst.b, 16);
    csum_store(m + 2, csum_add(csum_pseudo(&src, &dst, 58, n), m, n));
    wire_put(&z->w, p, 54 + n);
}

/* An ICMP error that quotes what we might have sent. */
static void op_icmp_error(struct fuzz *z)
{
    uint8_t m[64] = {0};
    struct tcp_conn *c = pick_conn(z, u8(z));

    if (!z->w.is_v4)
        return;
    m[0] = (uint8_t)u8(z);
    m[1] = (uint8_t)u8(z);
    wire_put16(m + 6, u16(z));
    m[8] = 0x45;
    m[17] = 6;
    wire_put32(m + 20, 0x0a000001);
    wire_put32(m + 24, 0x0a000002);
    if (c) {
        wire_put16(m + 28, c->s.local.port);
        wire_put16(m + 30, c->s.remote.port);
        wire_put32(m + 32, c->snd_una + u8(z));
    }
    csum_store(m + 2, csum_add(0, m, 36));
    wire_put_ip(&z->w, IP_PROTO_ICMP, m, 36);
}

static void op_raw(struct fuzz *z)
{
    uint8_t p[400];
    uint32_t n = take(z, p, u8(z) + 14);

    wire_put(&z->w, p, n);
}

static void op_program(struct fuzz *z)
{
    static uint8_t buf[20000];
    uint32_t what = u8(z), who = u8(z) % 4;
    struct tcp_conn *c = z->conns[who];
    struct net_endpoint peer = {.addr = wire_peer(&z->w),
                                .port = (uint16_t)(7000 + who)};
    struct host_iter it;
    struct udp_info info;

    switch (what % 12) {
    case 0:
        if (!c && tcp_accept(z->listener, &c) == 0)
            z->conns[who] = c;
        break;
    case 1:
        if (!c) {
            z->conns[who] = c = tcp_create(z->w.net, z->w.is_v4 ? 4 : 6);
            (void)!tcp_connect(c, &peer);
        }
        break;
    case 2:
    case 3:
        host_iter_from(&it, buf, u16(z) % sizeof(buf));
        if (c)
            (void)!tcp_send(c, &it.it, what & 16 ? TCP_SEND_MORE : 0);
        break;
    case 4:
    case 5:
        host_iter_to(&it, buf, u16(z) % sizeof(buf));
        if (c)
            (void)!tcp_recv(c, &it.it, what & 16 ? TCP_RECV_PEEK : 0);
        break;
    case 6:
        if (c)
            (void)!tcp_shutdown(c, what & 16, true);
        break;
    case 7:
        if (c)
            tcp_close(c, what & 16);
        z->conns[who] = NULL;
        break;
    case 8:
        if (c)
            (void)!tcp_set_option(c, u8(z) % 2 ? u8(z) % 19
                                               : 1000 + u8(z) % 4,
                                  u16(z));
        break;
    case 9:
        host_iter_to(&it, buf, u16(z));
        it.it.left = MIN(it.it.left, sizeof(buf));
        (void)!udp_recv(what & 16 ? z->ping : z->udp, &it.it, 0, &info);
        break;
    case 10:
        host_iter_from(&it, buf, u16(z) % 5000);
        (void)!udp_send(z->udp, &(struct udp_send){
                                    .from = &it.it,
                                    .len = (uint32_t)it.it.left,
                                    .to = &peer});
        break;
    default:
        if (c)
            (void)!tcp_poll(c);
        break;
    }
}

static void start(struct fuzz *z)
{
    struct net_endpoint at = {.port = 80};

    memset(z->conns, 0, sizeof(z->conns));
    wire_init(&z->w, u8(z) & 1 ? NETIF_CSUM | NETIF_TSO4 | NETIF_TSO6 : 0);
    z->w.is_v4 = u8(z) & 1;
    z->listener = tcp_create(z->w.net, 6);
    CHECK_EQ(tcp_bind(z->listener, &at), 0);
    CHECK_EQ(tcp_listen(z->listener, 4), 0);
    z->udp = udp_create(z->w.net, 6);
    at.port = 53;
    CHECK_EQ(udp_bind(z->udp, &at), 0);
    z->ping = ping_create(z->w.net, 4);
    CHECK_EQ(ping_bind(z->ping, &(struct net_endpoint){
                                    .addr = addr_from_v4(0), .port = 7}),
             0);
    CHECK_EQ(ndp_start(&z->w.nif), 0);
    CHECK_EQ(dhcp_start(&z->w.nif, "fuzz", NULL, NULL, &z->dhcp), 0);
}

static void finish(struct fuzz *z)
{
    dhcp_stop(z->dhcp);
    for (uint32_t i = 0; i < 4; i++)
        if (z->conns[i])
            tcp_close(z->conns[i], true);
    tcp_close(z->listener, true);
    udp_close(z->udp);
    udp_close(z->ping);
    ndp_stop(&z->w.nif);
    wire_done(&z->w);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    static void (*const ops[])(struct fuzz *) = {
        op_segment, op_segment, op_segment, op_polite, op_polite, op_ip,
        op_fragment, op_ndp, op_icmp_error, op_raw, op_program, op_program,
        op_program, op_program,
    };
    static const nsec_t waits[] = {1000000, 50000000, 300000000, 5000000000};
    struct fuzz z = {.at = data, .end = data + len};

    start(&z);
    while (z.at < z.end) {
        uint32_t op = u8(&z);

        if (op & 128)
            wire_wait(&z.w, waits[op & 3]);
        else
            ops[op % ARRAY_SIZE(ops)](&z);
        if (op & 64)
            wire_drop_all(&z.w);
        check_stack(z.w.net);
    }
    finish(&z);
    return 0;
}

#endif

#ifdef FUZZ_DRIVER
/* Without libFuzzer: random programs, and the seeds with changes. */
int main(int argc, char **argv)
{
    uint64_t rng = argc > 1 ? strtoull(argv[1], NULL, 0) : 1;
    uint64_t rounds = argc > 2 ? strtoull(argv[2], NULL, 0) : 3000;
    uint8_t *buf;

    for (uint64_t round = 0; round < rounds; round++) {
        size_t len = rng_below(&rng, 600);

        buf = malloc(len ? len : 1);
        for (size_t i = 0; i < len; i++)
            buf[i] = (uint8_t)(rng_next(&rng) >> 13);
        LLVMFuzzerTestOneInput(buf, len);
        free(buf);
    }
    return 0;
}
#endif
