/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * TCP's rules one by one, each against hand-made segments: opening, closing,
 * resets, time, strangers (RFC 9293, 5961, 7323, 6528, 6191, 5927).
 */
#include "net/script.h"

#include "check.h"
#include "mm/heap.h"

#include <errno.h>
#include <string.h>

static struct tcp_conn *connect_peer(uint32_t port)
{
    struct net_endpoint to = {.addr = wire_peer(&w), .port = (uint16_t)port};
    struct tcp_conn *c = tcp_create(w.net, w.is_v4 ? 4 : 6);

    CHECK_EQ(tcp_connect(c, &to), -EINPROGRESS);
    return c;
}

static void test_handshake(void)
{
    struct seg s = {.wscale = 5, .mss = 1400, .sack_ok = true, .has_ts = true,
                    .ts_val = 77};

    start(0);
    /* Options are answered in kind. */
    s.flags = TCP_SYN;
    s.seq = PEER_ISS;
    s.sport = PEER;
    s.dport = US;
    wire_put_seg(&w, &s);
    s = get();
    CHECK(s.has_ts && s.sack_ok && s.wscale == 7);
    CHECK_EQ(s.ts_ecr, 77);
    CHECK_EQ(s.mss, 1460);
    our_iss = s.seq;
    /* The SYN-ACK is repeated after 1, 2, 4 ... seconds. */
    wire_wait(&w, 900 * MS);
    nothing();
    wire_wait(&w, 900 * MS);
    expect(TCP_SYN | TCP_ACK, our_iss, PEER_ISS + 1, 0);
    wire_wait(&w, 2600 * MS);
    expect(TCP_SYN | TCP_ACK, our_iss, PEER_ISS + 1, 0);
    /* A repeated SYN is answered with the same number. */
    put(TCP_SYN, PEER_ISS, 0, 0);
    expect(TCP_SYN | TCP_ACK, our_iss, PEER_ISS + 1, 0);
    /* A wrong acknowledgement is reset, the right one accepted. */
    put(TCP_ACK, PEER_ISS + 1, our_iss + 2, 0);
    expect(TCP_RST, our_iss + 2, 0, 0);
    CHECK_EQ(tcp_accept(listener, &conn), -EAGAIN);
    s = seg(TCP_ACK, PEER_ISS + 1, our_iss + 1, 5);
    s.has_ts = true;
    s.ts_val = 78;
    wire_put_seg(&w, &s); /* with data at once */
    CHECK_EQ(tcp_accept(listener, &conn), 0);
    expect(TCP_ACK, U(0), P(5), 0);
    char buf[8];
    CHECK_EQ(recv_bytes(buf, 8), 5);
    finish();
}

static void test_syn_gives_up(void)
{
    start(0);
    put(TCP_SYN, PEER_ISS, 0, 0);
    for (int i = 0; i < 6; i++) {
        CHECK_EQ(get().flags, TCP_SYN | TCP_ACK);
        wire_wait(&w, (1200l << i) * MS);
    }
    nothing();
    wire_wait(&w, 100 * NSEC_PER_SEC);
    nothing();
    CHECK_EQ(w.net->tcp->nr_conns, 0);
    finish();
}

static void test_no_listener(void)
{
    start(0);
    struct seg s = seg(TCP_SYN, 7, 0, 0);
    s.dport = 81;
    wire_put_seg(&w, &s);
    expect(TCP_RST | TCP_ACK, 0, 8, 0);
    s = seg(TCP_ACK, 7, 1234, 10);
    s.dport = 81;
    wire_put_seg(&w, &s);
    expect(TCP_RST, 1234, 0, 0);
    s.flags = TCP_RST;
    wire_put_seg(&w, &s);
    nothing();
    put(TCP_SYN | TCP_FIN, 7, 0, 0); /* a scanner */
    nothing();
    /* An ACK to a listener that waits for nobody. */
    put(TCP_ACK, 99, 4321, 0);
    expect(TCP_RST, 4321, 0, 0);
    finish();
}

static void test_reset_rules(void)
{
    char c;

    start(0);
    open_plain();
    /* RFC 5961 3.2: only the exact number resets. */
    put(TCP_RST, P(10), 0, 0);
    expect(TCP_ACK, U(0), P(0), 0);
    CHECK_EQ(conn->state, TCP_ESTABLISHED);
    put(TCP_RST, P(0x20000), 0, 0);
    nothing();
    /* 4.2: a SYN is answered, whatever its number. */
    put(TCP_SYN, P(5), 0, 0);
    expect(TCP_ACK, U(0), P(0), 0);
    put(TCP_SYN, P(0x900000), 0, 0);
    expect(TCP_ACK, U(0), P(0), 0);
    /* 5.2: acknowledgements out of range. */
    put(TCP_ACK, P(0), U(1), 5);
    expect(TCP_ACK, U(0), P(0), 0);
    put(TCP_ACK, P(0), U(0) - 70000, 5);
    expect(TCP_ACK, U(0), P(0), 0);
    CHECK_EQ(recv_bytes(&c, 1), -EAGAIN);
    put(TCP_RST, P(0), 0, 0);
    nothing();
    CHECK_EQ(recv_bytes(&c, 1), -ECONNRESET);
    CHECK_EQ(recv_bytes(&c, 1), 0);
    CHECK_EQ(send_bytes("x", 1), -EPIPE);
    CHECK(tcp_poll(conn) & NET_EV_HUP);
    finish();
}

static void test_timestamps(void)
{
    struct seg o = {.wscale = 7, .mss = 1460, .has_ts = true, .ts_val = 500};
    struct seg s;
    char c;

    start(0);
    open_with(&o);
    conn->quick_left = 0;
    s = seg(TCP_ACK, P(0), U(0), 1);
    s.has_ts = true;
    s.ts_val = 510;
    wire_put_seg(&w, &s);
    wire_wait(&w, 50 * MS);
    CHECK_EQ(get().ts_ecr, 510);
    CHECK_EQ(recv_bytes(&c, 1), 1);
    /* PAWS: an older stamp is an older segment, but for a reset. */
    s = seg(TCP_ACK, P(1), U(0), 1);
    s.has_ts = true;
    s.ts_val = 509;
    wire_put_seg(&w, &s);
    expect(TCP_ACK, U(0), P(1), 0);
    CHECK_EQ(recv_bytes(&c, 1), -EAGAIN);
    CHECK_EQ(net_counter_sum(w.net, NET_TCP_PAWS), 1);
    /* The stamp of a segment behind a hole is not taken (RFC 7323 4.3). */
    s = seg(TCP_ACK, P(100), U(0), 1);
    s.has_ts = true;
    s.ts_val = 600;
    wire_put_seg(&w, &s);
    CHECK_EQ(get().ts_ecr, 510);
    s = seg(TCP_RST, P(1), U(0), 0);
    s.has_ts = true;
    s.ts_val = 1;
    wire_put_seg(&w, &s);
    CHECK_EQ(conn->state, TCP_CLOSE);
    finish();
}

static void test_close_active(void)
{
    struct seg s;

    start(0);
    open_plain();
    CHECK_EQ(send_bytes("bye", 3), 3);
    CHECK_EQ(tcp_shutdown(conn, false, true), 0);
    expect(TCP_ACK | TCP_PSH | TCP_FIN, U(0), P(0), 3);
    CHECK_EQ(conn->state, TCP_FIN_WAIT1);
    CHECK_EQ(send_bytes("x", 1), -EPIPE);
    put(TCP_ACK, P(0), U(4), 0);
    CHECK_EQ(conn->state, TCP_FIN_WAIT2);
    put(TCP_ACK | TCP_FIN, P(0), U(4), 2); /* data may still come */
    expect(TCP_ACK, U(4), P(3), 0);
    char buf[8];
    CHECK_EQ(recv_bytes(buf, 8), 2);
    CHECK_EQ(recv_bytes(buf, 8), 0);
    CHECK_EQ(tcp_tw_count(w.net), 1);
    CHECK_EQ(w.net->tcp->nr_conns, 0);
    /* TIME_WAIT: a repeated FIN is acknowledged, a reset ignored. */
    put(TCP_ACK | TCP_FIN, P(2), U(4), 0);
    expect(TCP_ACK, U(4), P(3), 0);
    put(TCP_RST, P(3), 0, 0);
    CHECK_EQ(tcp_tw_count(w.net), 1);
    /* A new SYN above the old numbers opens again (RFC 9293 3.6.1). */
    put(TCP_SYN, P(2), 0, 0);
    expect(TCP_ACK, U(4), P(3), 0);
    s = seg(TCP_SYN, P(3000), 0, 0);
    s.mss = 1460;
    wire_put_seg(&w, &s);
    s = get();
    CHECK_EQ(s.flags, TCP_SYN | TCP_ACK);
    CHECK(seq_lt(U(4), s.seq));
    CHECK_EQ(tcp_tw_count(w.net), 0);
    finish();
}

/* Its wait is begun anew by a repeated FIN; those behind it go in time. */
static void test_time_wait_renewed(void)
{
    start(0);
    open_plain();
    CHECK_EQ(tcp_shutdown(conn, false, true), 0);
    expect(TCP_ACK | TCP_FIN, U(0), P(0), 0);
    put(TCP_ACK | TCP_FIN, P(0), U(1), 0);
    expect(TCP_ACK, U(1), P(1), 0);
    conn->s.remote.port++;
    tcp_tw_add(conn); /* as another connection that ends now */
    conn->s.remote.port--;
    CHECK_EQ(tcp_tw_count(w.net), 2);
    wire_wait(&w, 30000 * MS);
    put(TCP_ACK | TCP_FIN, P(0), U(1), 0);
    expect(TCP_ACK, U(1), P(1), 0);
    wire_wait(&w, 42000 * MS); /* long timers are coarse: net_timer.h */
    CHECK_EQ(tcp_tw_count(w.net), 1);
    wire_wait(&w, 45000 * MS);
    CHECK_EQ(tcp_tw_count(w.net), 0);
    finish();
}

static void test_close_passive(void)
{
    char c;

    start(0);
    open_plain();
    put(TCP_ACK | TCP_FIN, P(0), U(0), 0);
    expect(TCP_ACK, U(0), P(1), 0);
    CHECK_EQ(conn->state, TCP_CLOSE_WAIT);
    CHECK_EQ(tcp_poll(conn), NET_EV_IN | NET_EV_RDHUP | NET_EV_OUT);
    CHECK_EQ(recv_bytes(&c, 1), 0);
    CHECK_EQ(send_bytes("z", 1), 1); /* half closed */
    expect(TCP_ACK | TCP_PSH, U(0), P(1), 1);
    put(TCP_ACK, P(1), U(1), 0);
    tcp_close(conn, false);
    conn = NULL;
    expect(TCP_ACK | TCP_FIN, U(1), P(1), 0);
    put(TCP_ACK, P(1), U(2), 0);
    CHECK_EQ(w.net->tcp->nr_conns, 0);
    CHECK_EQ(tcp_tw_count(w.net), 0);
    finish();
}

static void test_close_together(void)
{
    start(0);
    open_plain();
    tcp_close(conn, false);
    expect(TCP_ACK | TCP_FIN, U(0), P(0), 0);
    put(TCP_ACK | TCP_FIN, P(0), U(0), 0); /* crossed */
    expect(TCP_ACK, U(1), P(1), 0);
    CHECK_EQ(conn->state, TCP_CLOSING);
    put(TCP_ACK, P(1), U(1), 0);
    conn = NULL;
    CHECK_EQ(tcp_tw_count(w.net), 1);
    finish();
}

static void test_close_with_unread(void)
{
    start(0);
    open_plain();
    put(TCP_ACK, P(0), U(0), 10);
    wire_drop_all(&w);
    tcp_close(conn, false); /* RFC 2525 2.17 */
    conn = NULL;
    CHECK_EQ(get().flags, TCP_RST | TCP_ACK);
    nothing();
    finish();
    start(0);
    open_plain();
    tcp_close(conn, false);
    conn = NULL;
    expect(TCP_ACK | TCP_FIN, U(0), P(0), 0);
    put(TCP_ACK, P(0), U(1), 10); /* data for nobody */
    CHECK_EQ(get().flags, TCP_RST | TCP_ACK);
    finish();
}

static void test_orphan_waits(void)
{
    start(0);
    open_plain();
    tcp_close(conn, false);
    conn = NULL;
    expect(TCP_ACK | TCP_FIN, U(0), P(0), 0);
    put(TCP_ACK, P(0), U(1), 0); /* FIN_WAIT2, and the peer goes away */
    CHECK_EQ(w.net->tcp->nr_conns, 1);
    wire_wait(&w, 70 * NSEC_PER_SEC);
    CHECK_EQ(w.net->tcp->nr_conns, 0);
    finish();
}

static void test_keepalive(void)
{
    start(0);
    open_plain();
    CHECK_EQ(tcp_set_option(conn, TCP_OPT_KEEPIDLE, 10), 0);
    CHECK_EQ(tcp_set_option(conn, TCP_OPT_KEEPINTVL, 2), 0);
    CHECK_EQ(tcp_set_option(conn, TCP_OPT_KEEPCNT, 3), 0);
    CHECK_EQ(tcp_set_option(conn, TCP_OPT_KEEPALIVE, 1), 0);
    wire_wait(&w, 9 * NSEC_PER_SEC);
    nothing();
    wire_wait(&w, 3 * NSEC_PER_SEC);
    expect(TCP_ACK, U(0) - 1, P(0), 0);
    put(TCP_ACK, P(0), U(0), 0); /* alive */
    wire_wait(&w, 5 * NSEC_PER_SEC);
    CHECK_EQ(conn->state, TCP_ESTABLISHED);
    wire_drop_all(&w);
    wire_wait(&w, 60 * NSEC_PER_SEC); /* three without an answer */
    CHECK_EQ(conn->state, TCP_CLOSE);
    CHECK_EQ(sock_take_error(&conn->s), ETIMEDOUT);
    for (int i = 0; i < 3; i++)
        CHECK_EQ(get().seq, U(0) - 1);
    CHECK_EQ(get().flags, TCP_RST | TCP_ACK);
    nothing();
    finish();
}

static void test_connect(void)
{
    struct seg s, a;

    start(0);
    conn = connect_peer(PEER);
    s = get();
    CHECK_EQ(s.flags, TCP_SYN);
    CHECK(s.has_ts && s.sack_ok && s.wscale == 7 && s.mss == 1460);
    CHECK_EQ(tcp_poll(conn), 0);
    CHECK_EQ(send_bytes("x", 1), -EAGAIN);
    /* Acknowledges something else: reset, and go on. */
    a = seg(TCP_SYN | TCP_ACK, 9000, s.seq + 2, 0);
    a.dport = s.sport;
    wire_put_seg(&w, &a);
    expect(TCP_RST, s.seq + 2, 0, 0);
    a.ack = s.seq + 1;
    a.mss = 1000;
    wire_put_seg(&w, &a);
    expect(TCP_ACK, s.seq + 1, 9001, 0);
    CHECK_EQ(conn->state, TCP_ESTABLISHED);
    CHECK_EQ(tcp_poll(conn), NET_EV_OUT);
    CHECK_EQ(conn->mss, 1000);
    CHECK(!conn->has_ts && !conn->has_sack && conn->rcv_wscale == 0);
    finish();
    /* Refused; then the same socket again. */
    start(0);
    conn = connect_peer(PEER);
    s = get();
    a = seg(TCP_RST | TCP_ACK, 0, s.seq + 1, 0);
    a.dport = s.sport;
    wire_put_seg(&w, &a);
    CHECK_EQ(sock_take_error(&conn->s), ECONNREFUSED);
    CHECK(tcp_poll(conn) & NET_EV_HUP);
    struct net_endpoint to = {.addr = wire_peer(&w), .port = PEER};
    CHECK_EQ(tcp_connect(conn, &to), -EINPROGRESS);
    s = get();
    CHECK_EQ(s.flags, TCP_SYN);
    /* Nobody there: 1, 2, 4 ... 64 s, then ETIMEDOUT. */
    wire_wait(&w, 120 * NSEC_PER_SEC);
    CHECK_EQ(conn->state, TCP_SYN_SENT);
    wire_wait(&w, 20 * NSEC_PER_SEC);
    CHECK_EQ(sock_take_error(&conn->s), ETIMEDOUT);
    uint32_t syns = 0;
    while (wire_get_seg(&w, &a))
        syns += a.flags == TCP_SYN;
    CHECK_EQ(syns, 6);
    finish();
}

static void test_simultaneous_open(void)
{
    struct seg s, a;

    start(0);
    conn = connect_peer(PEER);
    s = get();
    a = seg(TCP_SYN, 7000, 0, 0);
    a.dport = s.sport;
    wire_put_seg(&w, &a);
    expect(TCP_SYN | TCP_ACK, s.seq, 7001, 0);
    /* A wrong acknowledgement is reset, and the attempt goes on. */
    a = seg(TCP_ACK, 7001, s.seq + 4, 0);
    a.dport = s.sport;
    wire_put_seg(&w, &a);
    expect(TCP_RST, s.seq + 4, 0, 0);
    a = seg(TCP_SYN | TCP_ACK, 7000, s.seq + 1, 0);
    a.dport = s.sport;
    wire_put_seg(&w, &a);
    CHECK_EQ(conn->state, TCP_ESTABLISHED);
    wire_drop_all(&w);
    CHECK_EQ(send_bytes("x", 1), 1);
    expect(TCP_ACK | TCP_PSH, s.seq + 1, 7001, 1);
    finish();
}

static void test_syn_flood(void)
{
    struct seg s = {.flags = TCP_SYN, .seq = 1, .dport = US, .wscale = 9,
                    .mss = 1460, .sack_ok = true, .has_ts = true,
                    .ts_val = 3};
    struct seg a, r;
    size_t before;

    start(0);
    before = shim_bytes;
    for (uint32_t i = 0; i < 20000; i++) {
        s.sport = (uint16_t)(1024 + i);
        wire_put_seg(&w, &s);
        CHECK(wire_get_seg(&w, &r));
    }
    CHECK(shim_bytes - before < 2 << 20);
    CHECK(net_counter_sum(w.net, NET_TCP_COOKIE_OUT) > 15000);
    /* A cookie comes back; options are remembered. */
    a = seg(TCP_ACK, 2, r.seq + 1, 0);
    a.sport = s.sport;
    a.has_ts = true;
    a.ts_val = 4;
    a.ts_ecr = r.ts_val;
    a.ack++; /* not quite */
    wire_put_seg(&w, &a);
    CHECK_EQ(get().flags, TCP_RST);
    a.ack--;
    /* Data that has overtaken it is no reason to reset. */
    a.seq = 5;
    a.len = 3;
    wire_put_seg(&w, &a);
    nothing();
    a.seq = 2;
    wire_put_seg(&w, &a);
    CHECK_EQ(tcp_accept(listener, &conn), 0);
    CHECK_EQ(conn->snd_wscale, 9);
    CHECK(conn->has_sack && conn->has_ts);
    CHECK_EQ(conn->peer_mss, 1460);
    char c[4];
    CHECK_EQ(recv_bytes(c, 4), 3);
    finish();
}

static void test_backlog(void)
{
    struct tcp_conn *c;
    struct seg r;
    uint32_t accepted = 0;

    start(0);
    for (uint32_t i = 0; i < 20; i++) {
        struct seg s = seg(TCP_SYN, 5, 0, 0);
        s.sport = (uint16_t)(2000 + i);
        wire_put_seg(&w, &s);
        if (!wire_get_seg(&w, &r))
            continue;
        s = seg(TCP_ACK, 6, r.seq + 1, 0);
        s.sport = (uint16_t)(2000 + i);
        wire_put_seg(&w, &s);
    }
    while (tcp_accept(listener, &c) == 0) {
        accepted++;
        tcp_close(c, true);
    }
    CHECK_EQ(accepted, 9); /* Linux: backlog + 1 */
    finish();
}

static void test_unreachable(void)
{
    uint8_t icmp[36] = {3, 1};
    struct wire_packet *p;

    start(0);
    conn = connect_peer(PEER);
    p = wire_take(&w);
    memcpy(icmp + 8, p->data + ETH_HEADER, 28);
    csum_store(icmp + 2, csum_add(0, icmp, 36));
    wire_put_ip(&w, IP_PROTO_ICMP, icmp, 36);
    CHECK_EQ(sock_take_error(&conn->s), EHOSTUNREACH);
    free(p);
    finish();
    /* Once open it is only remembered. */
    start(0);
    open_plain();
    CHECK_EQ(send_bytes("x", 1), 1);
    p = wire_take(&w);
    memcpy(icmp + 8, p->data + ETH_HEADER, 28);
    icmp[2] = icmp[3] = 0;
    csum_store(icmp + 2, csum_add(0, icmp, 36));
    wire_put_ip(&w, IP_PROTO_ICMP, icmp, 36);
    CHECK_EQ(conn->state, TCP_ESTABLISHED);
    CHECK_EQ(conn->soft_error, EHOSTUNREACH);
    free(p);
    finish();
}

static void test_shutdown_listener(void)
{
    start(0);
    put(TCP_SYN, PEER_ISS, 0, 0);
    our_iss = get().seq;
    put(TCP_ACK, P(0), our_iss + 1, 0);
    tcp_close(listener, false); /* resets who was not accepted */
    CHECK_EQ(get().flags, TCP_RST | TCP_ACK);
    put(TCP_SYN, 1, 0, 0);
    CHECK_EQ(get().flags, TCP_RST | TCP_ACK);
    /* Shut down and listening again. */
    struct net_endpoint at = {.port = US};
    listener = tcp_create(w.net, 6);
    CHECK_EQ(tcp_bind(listener, &at), 0);
    CHECK_EQ(tcp_listen(listener, 1), 0);
    CHECK_EQ(tcp_shutdown(listener, true, false), 0);
    CHECK_EQ(tcp_accept(listener, &conn), -EINVAL);
    CHECK_EQ(tcp_listen(listener, 1), 0);
    put(TCP_SYN, PEER_ISS, 0, 0);
    CHECK_EQ(get().flags, TCP_SYN | TCP_ACK);
    finish();
}

static const struct script_test tests[] = {
    {"handshake", test_handshake},
    {"syn gives up", test_syn_gives_up},
    {"no listener", test_no_listener},
    {"reset rules", test_reset_rules},
    {"timestamps, PAWS", test_timestamps},
    {"close: active, TIME_WAIT", test_close_active},
    {"TIME_WAIT begun anew", test_time_wait_renewed},
    {"close: passive", test_close_passive},
    {"close: together", test_close_together},
    {"close: unread data", test_close_with_unread},
    {"close: orphan", test_orphan_waits},
    {"keep-alive", test_keepalive},
    {"connect", test_connect},
    {"simultaneous open", test_simultaneous_open},
    {"SYN flood, cookies", test_syn_flood},
    {"backlog", test_backlog},
    {"unreachable", test_unreachable},
    {"listener closes", test_shutdown_listener},
};

int main(int argc, char **argv)
{
    return script_run(tests, ARRAY_SIZE(tests), argc, argv);
}
