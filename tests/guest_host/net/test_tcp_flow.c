/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * TCP's rules one by one, each against hand-made segments: data, windows,
 * acknowledgements, losses (RFC 9293, 2018, 2883, 6298, 6582, 8985).
 */
#include "net/script.h"

#include "check.h"
#include "mm/heap.h"

#include <errno.h>
#include <string.h>

static void send_segments(uint32_t n)
{
    static uint8_t data[14600];

    CHECK_EQ(send_bytes(data, n * 1460), n * 1460);
    for (uint32_t i = 0; i < n; i++)
        CHECK_EQ(get().len, 1460);
    nothing();
}

static void test_data_and_delayed_ack(void)
{
    uint8_t buf[4000];

    start(0);
    open_plain();
    conn->quick_left = 0;
    put(TCP_ACK, P(0), U(0), 100);
    nothing();
    wire_wait(&w, 30 * MS);
    nothing();
    wire_wait(&w, 20 * MS);
    expect(TCP_ACK, U(0), P(100), 0);
    /* Every second full segment at once. */
    put(TCP_ACK, P(100), U(0), 1460);
    nothing();
    put(TCP_ACK, P(1560), U(0), 1460);
    expect(TCP_ACK, U(0), P(3020), 0);
    CHECK_EQ(recv_bytes(buf, sizeof(buf)), 3020);
    /* An answer carries the acknowledgement. */
    put(TCP_ACK | TCP_PSH, P(3020), U(0), 10);
    nothing();
    CHECK_EQ(recv_bytes(buf, sizeof(buf)), 10);
    CHECK_EQ(send_bytes("answer", 6), 6);
    expect(TCP_ACK | TCP_PSH, U(0), P(3030), 6);
    nothing();
    wire_wait(&w, 45 * MS);
    nothing();
    finish();
}

static void test_deferred_output(void)
{
    start(0);
    open_plain();
    CHECK_EQ(tcp_set_option(conn, TCP_OPT_NODELAY, 1), 0);
    /* 50 writes of one turn are one segment. */
    for (int i = 0; i < 50; i++)
        CHECK_EQ(send_bytes("0123456789", 10), 10);
    expect(TCP_ACK | TCP_PSH, U(0), P(0), 500);
    nothing();
    /* And they do not wait longer than NET_DEFER_NS for its end. */
    CHECK_EQ(send_bytes("x", 1), 1);
    CHECK(net_next_deadline(w.net, 0) <= w.env.now + NET_DEFER_NS);
    finish();
}

static void test_nagle_and_cork(void)
{
    uint8_t data[3000] = {0};

    start(0);
    open_plain();
    CHECK_EQ(send_bytes("a", 1), 1);
    expect(TCP_ACK | TCP_PSH, U(0), P(0), 1);
    CHECK_EQ(send_bytes("b", 1), 1); /* waits: "a" is on the way */
    nothing();
    CHECK_EQ(send_bytes(data, 1500), 1500); /* a full one goes */
    expect(TCP_ACK, U(1), P(0), 1460);
    nothing();
    put(TCP_ACK, P(0), U(1461), 0);
    expect(TCP_ACK | TCP_PSH, U(1461), P(0), 41);
    put(TCP_ACK, P(0), U(1502), 0);
    CHECK_EQ(tcp_set_option(conn, TCP_OPT_NODELAY, 1), 0);
    CHECK_EQ(send_bytes("c", 1), 1);
    expect(TCP_ACK | TCP_PSH, U(1502), P(0), 1);
    CHECK_EQ(send_bytes("d", 1), 1); /* does not wait */
    expect(TCP_ACK | TCP_PSH, U(1503), P(0), 1);
    put(TCP_ACK, P(0), U(1504), 0);
    CHECK_EQ(tcp_set_option(conn, TCP_OPT_CORK, 1), 0);
    CHECK_EQ(send_bytes("e", 1), 1);
    nothing();
    wire_wait(&w, 150 * MS);
    nothing();
    wire_wait(&w, 100 * MS); /* at most 200 ms (man 7 tcp) */
    expect(TCP_ACK | TCP_PSH, U(1504), P(0), 1);
    put(TCP_ACK, P(0), U(1505), 0);
    CHECK_EQ(send_bytes("f", 1), 1);
    nothing();
    CHECK_EQ(tcp_set_option(conn, TCP_OPT_CORK, 0), 0);
    expect(TCP_ACK | TCP_PSH, U(1505), P(0), 1);
    finish();
}

static void test_out_of_order(void)
{
    uint8_t buf[200];
    struct seg s;

    start(0);
    open_sack();
    put(TCP_ACK, P(20), U(0), 10);
    s = get();
    CHECK_EQ(s.ack, P(0));
    CHECK_EQ(s.nr_sacks, 1);
    CHECK_EQ(s.sacks[0][0], P(20));
    CHECK_EQ(s.sacks[0][1], P(30));
    put(TCP_ACK, P(40), U(0), 10);
    s = get();
    CHECK_EQ(s.nr_sacks, 2); /* the latest first (RFC 2018 4) */
    CHECK_EQ(s.sacks[0][0], P(40));
    CHECK_EQ(s.sacks[1][0], P(20));
    put(TCP_ACK, P(25), U(0), 20); /* overlaps with both */
    s = get();
    CHECK_EQ(s.sacks[0][0], P(25)); /* what came twice (RFC 2883) */
    CHECK_EQ(s.sacks[0][1], P(30));
    CHECK_EQ(s.sacks[1][0], P(20));
    CHECK_EQ(s.sacks[1][1], P(50));
    put(TCP_ACK, P(0), U(0), 20);
    s = get();
    CHECK_EQ(s.ack, P(50));
    CHECK_EQ(s.nr_sacks, 0);
    CHECK_EQ(recv_bytes(buf, sizeof(buf)), 50);
    put(TCP_ACK, P(0), U(0), 20); /* all of it old */
    s = get();
    CHECK_EQ(s.ack, P(50));
    CHECK_EQ(s.nr_sacks, 1);
    CHECK_EQ(s.sacks[0][0], P(0));
    CHECK_EQ(s.sacks[0][1], P(20));
    put(TCP_ACK, P(40), U(0), 20); /* half old */
    CHECK_EQ(get().ack, P(60));
    CHECK_EQ(recv_bytes(buf, sizeof(buf)), 10);
    finish();
}

static void test_data_behind_fin(void)
{
    char buf[64];

    start(0);
    open_sack();
    put(TCP_ACK, P(20), U(0), 10);
    put(TCP_ACK, P(40), U(0), 10);
    wire_drop_all(&w);
    put(TCP_ACK | TCP_FIN, P(15), U(0), 10); /* ends at 25: 40 was a lie */
    wire_drop_all(&w);
    put(TCP_ACK, P(0), U(0), 20);
    CHECK_EQ(get().ack, P(26));
    CHECK_EQ(recv_bytes(buf, sizeof(buf)), 25);
    CHECK_EQ(recv_bytes(buf, sizeof(buf)), 0);
    CHECK(conn->ooo == NULL && conn->ooo_bytes == 0);
    finish();
}

static void test_window(void)
{
    static uint8_t big[70000];
    struct seg s;

    start(0);
    open_plain();
    CHECK_EQ(tcp_set_option(conn, TCP_OPT_RCVBUF, 4096), 0);
    /* The window shrinks with what is unread, never below what was said. */
    for (uint32_t at = 0; at < 65535;) {
        uint32_t n = MIN(1460u, 65535 - at);
        put(TCP_ACK, P(at), U(0), n);
        at += n;
        while (wire_get_seg(&w, &s))
            CHECK(seq_le(P(65535), s.ack + s.wnd));
    }
    wire_wait(&w, 100 * MS);
    wire_drop_all(&w);
    /* Nothing beyond it is taken; a probe is answered with zero. */
    put(TCP_ACK, P(65535), U(0), 1);
    s = get();
    CHECK_EQ(s.ack, P(65535));
    CHECK_EQ(s.wnd, 0);
    /* Reading opens it. */
    CHECK_EQ(recv_bytes(big, sizeof(big)), 65535);
    s = get();
    CHECK_EQ(s.wnd, 4096);
    finish();
}

static void test_zero_window_probe(void)
{
    struct seg s;

    start(0);
    open_plain();
    s = seg(TCP_ACK, P(0), U(0), 0);
    s.wnd = 0;
    wire_put_seg(&w, &s);
    CHECK_EQ(send_bytes("hello", 5), 5);
    nothing();
    /* Probes, further and further apart, for ever while they are answered. */
    for (int i = 0; i < 20; i++) {
        wire_wait(&w, 121 * NSEC_PER_SEC);
        s = get();
        CHECK_EQ(s.seq, U(0) - 1);
        CHECK_EQ(s.len, 0);
        wire_drop_all(&w);
        s = seg(TCP_ACK, P(0), U(0), 0);
        s.wnd = 0;
        wire_put_seg(&w, &s);
    }
    CHECK_EQ(conn->state, TCP_ESTABLISHED);
    put(TCP_ACK, P(0), U(0), 0);
    expect(TCP_ACK | TCP_PSH, U(0), P(0), 5);
    finish();
}

static void test_silly_window(void)
{
    static uint8_t data[5000];
    struct seg s;

    start(0);
    open_plain();
    s = seg(TCP_ACK, P(0), U(0), 0);
    s.wnd = 2000;
    wire_put_seg(&w, &s);
    conn->snd_max_wnd = 2000;
    CHECK_EQ(send_bytes(data, 5000), 5000);
    expect(TCP_ACK, U(0), P(0), 1460);
    nothing(); /* 540 bytes of room are not worth a segment */
    s = seg(TCP_ACK, P(0), U(1460), 0);
    s.wnd = 1000; /* half of the largest window ever is */
    wire_put_seg(&w, &s);
    expect(TCP_ACK, U(1460), P(0), 1000);
    finish();
}

static void test_fast_retransmit(void)
{
    struct seg s;

    start(0);
    open_sack();
    conn->min_rtt_us = 10000;
    conn->srtt8 = 80000;
    send_segments(10);
    wire_wait(&w, 5 * MS);
    /* Three segments behind the hole arrived: the first goes again. */
    for (uint32_t i = 2; i <= 3; i++) {
        s = seg(TCP_ACK, P(0), U(0), 0);
        s.nr_sacks = 1;
        s.sacks[0][0] = U(1460);
        s.sacks[0][1] = U(1460 * i);
        wire_put_seg(&w, &s);
        nothing();
    }
    s.sacks[0][1] = U(1460 * 4);
    wire_put_seg(&w, &s);
    expect(TCP_ACK, U(0), P(0), 1460);
    CHECK_EQ(conn->recovery, TCP_RECOVERY);
    CHECK(conn->ssthresh >= 10220 - 1460 && conn->ssthresh <= 10220);
    put(TCP_ACK, P(0), U(14600), 0);
    CHECK_EQ(conn->recovery, TCP_OPEN);
    CHECK_EQ(conn->segs == NULL, 1);
    finish();
}

static void test_fast_retransmit_no_sack(void)
{
    start(0);
    open_plain();
    send_segments(10);
    put(TCP_ACK, P(0), U(0), 0);
    put(TCP_ACK, P(0), U(0), 0);
    nothing();
    put(TCP_ACK, P(0), U(0), 0);
    expect(TCP_ACK, U(0), P(0), 1460);
    /* A partial acknowledgement shows the next hole (RFC 6582). */
    put(TCP_ACK, P(0), U(1460 * 5), 0);
    expect(TCP_ACK, U(1460 * 5), P(0), 1460);
    put(TCP_ACK, P(0), U(14600), 0);
    CHECK_EQ(conn->recovery, TCP_OPEN);
    finish();
}

static void test_time_outs(void)
{
    nsec_t last = 0, gap = 0;

    start(0);
    open_plain();
    CHECK_EQ(send_bytes("x", 1), 1);
    expect(TCP_ACK | TCP_PSH, U(0), P(0), 1);
    last = w.env.now;
    for (int i = 0; i < 8; i++) {
        struct seg s;
        nsec_t d;

        while (!wire_get_seg(&w, &s))
            wire_wait(&w, 10 * MS);
        CHECK_EQ(s.seq, U(0));
        d = w.env.now - last;
        CHECK(d >= gap * 7 / 4 || d > 110 * NSEC_PER_SEC);
        gap = d;
        last = w.env.now;
    }
    CHECK_EQ(conn->cwnd, conn->mss);
    put(TCP_ACK, P(0), U(1), 0);
    CHECK_EQ(conn->backoff, 0);
    /* For ever unanswered: 15 minutes, then ETIMEDOUT. */
    CHECK_EQ(send_bytes("y", 1), 1);
    wire_wait(&w, 1100 * NSEC_PER_SEC);
    CHECK_EQ(conn->state, TCP_CLOSE);
    CHECK_EQ(sock_take_error(&conn->s), ETIMEDOUT);
    finish();
}

static void test_user_timeout(void)
{
    start(0);
    open_plain();
    CHECK_EQ(tcp_set_option(conn, TCP_OPT_USER_TIMEOUT, 5000), 0);
    CHECK_EQ(send_bytes("y", 1), 1);
    wire_wait(&w, 4 * NSEC_PER_SEC);
    CHECK_EQ(conn->state, TCP_ESTABLISHED);
    wire_wait(&w, 6 * NSEC_PER_SEC);
    CHECK_EQ(conn->state, TCP_CLOSE);
    finish();
}

static void test_tail_loss_probe(void)
{
    start(0);
    open_sack();
    conn->srtt8 = 8 * 20000;
    conn->rttvar4 = 4 * 5000;
    conn->rto_us = 200000;
    send_segments(3);
    wire_wait(&w, 30 * MS);
    nothing();
    wire_wait(&w, 15 * MS); /* two round trips: the last one again */
    expect(TCP_ACK | TCP_PSH, U(2920), P(0), 1460);
    CHECK_EQ(net_counter_sum(w.net, NET_TCP_TLP), 1);
    nothing();
    finish();
}

static void test_pmtu(void)
{
    static uint8_t data[2920];
    uint8_t icmp[36] = {3, 4};
    struct wire_packet *p;
    struct seg s;

    start(0);
    open_sack();
    CHECK_EQ(send_bytes(data, 2920), 2920);
    wire_run(&w);
    p = wire_take(&w);
    CHECK(p && (wire_get16(p->data + ETH_HEADER + 6) & 0x4000)); /* DF */
    wire_put16(icmp + 6, 1000);
    memcpy(icmp + 8, p->data + ETH_HEADER, 28);
    /* Quotes a number that is not in flight: ignored. */
    wire_put32(icmp + 8 + 24, U(900000));
    csum_store(icmp + 2, csum_add(0, icmp, 36));
    wire_drop_all(&w);
    wire_put_ip(&w, IP_PROTO_ICMP, icmp, 36);
    nothing();
    CHECK_EQ(conn->mss, 1460);
    wire_put32(icmp + 8 + 24, U(0));
    icmp[2] = icmp[3] = 0;
    csum_store(icmp + 2, csum_add(0, icmp, 36));
    wire_put_ip(&w, IP_PROTO_ICMP, icmp, 36);
    CHECK_EQ(conn->mss, 960);
    s = get();
    CHECK_EQ(s.seq, U(0));
    CHECK_EQ(s.len, 960);
    CHECK_EQ(get().seq, U(960));
    CHECK_EQ(conn->recovery, TCP_OPEN);
    free(p);
    finish();
}

static void test_tso(void)
{
    static uint8_t data[100000];
    struct wire_packet *p;
    uint64_t total = 0;

    start(NETIF_CSUM | NETIF_TSO4 | NETIF_TSO6);
    open_sack();
    struct seg s = seg(TCP_ACK, P(0), U(0), 0);
    s.wnd = 65535; /* << 7 */
    wire_put_seg(&w, &s);
    conn->cwnd = 200000;
    CHECK_EQ(send_bytes(data, sizeof(data)), sizeof(data));
    while ((p = wire_take(&w)) != NULL) {
        CHECK(p->len <= 65535 + ETH_HEADER);
        total += p->len - ETH_HEADER - 40;
        CHECK((p->len - ETH_HEADER - 40) % 1460 == 0 ||
              total == sizeof(data));
        free(p);
    }
    CHECK_EQ(total, sizeof(data));
    finish();
}

static void test_bad_checksum(void)
{
    start(0);
    open_plain();
    uint8_t p[21] = {0};
    wire_put16(p, PEER);
    wire_put16(p + 2, US);
    wire_put32(p + 4, P(0));
    wire_put32(p + 8, U(0));
    p[12] = 0x50;
    p[13] = TCP_ACK;
    wire_put16(p + 14, 100);
    wire_put16(p + 16, 0x1234);
    wire_put_ip(&w, IP_PROTO_TCP, p, 21);
    nothing();
    CHECK_EQ(conn->rcv_nxt, P(0));
    CHECK_EQ(net_counter_sum(w.net, NET_BAD_CHECKSUM), 1);
    finish();
}

static void test_fault(void)
{
    struct host_iter it;
    char buf[100];

    start(0);
    open_plain();
    host_iter_from(&it, "0123456789", 10);
    it.fault_after = 4;
    CHECK_EQ(tcp_send(conn, &it.it, 0), 4);
    expect(TCP_ACK | TCP_PSH, U(0), P(0), 4);
    put(TCP_ACK, P(0), U(4), 50);
    host_iter_to(&it, buf, 100);
    it.fault_after = 20;
    CHECK_EQ(tcp_recv(conn, &it.it, 0), 20);
    it.fault_after = 0;
    CHECK_EQ(tcp_recv(conn, &it.it, 0), -EFAULT);
    CHECK_EQ(recv_bytes(buf, 100), 30); /* nothing was lost */
    finish();
}

static const struct script_test tests[] = {
    {"data, delayed ACK", test_data_and_delayed_ack},
    {"deferred output", test_deferred_output},
    {"Nagle, CORK", test_nagle_and_cork},
    {"out of order, SACK", test_out_of_order},
    {"data behind FIN", test_data_behind_fin},
    {"window", test_window},
    {"zero window probe", test_zero_window_probe},
    {"silly window", test_silly_window},
    {"fast retransmit", test_fast_retransmit},
    {"fast retransmit without SACK", test_fast_retransmit_no_sack},
    {"time-outs", test_time_outs},
    {"user timeout", test_user_timeout},
    {"tail loss probe", test_tail_loss_probe},
    {"path MTU", test_pmtu},
    {"TSO", test_tso},
    {"bad checksum", test_bad_checksum},
    {"bad memory", test_fault},
};

int main(int argc, char **argv)
{
    return script_run(tests, ARRAY_SIZE(tests), argc, argv);
}
