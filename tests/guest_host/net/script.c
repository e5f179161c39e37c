/* SPDX-License-Identifier: BSD-2-Clause */
/* See script.h. */
#include "net/script.h"

#include "check.h"

#include <string.h>

struct wire w;
struct tcp_conn *listener, *conn;
uint32_t our_iss;

struct seg seg(uint32_t flags, uint32_t seq, uint32_t ack, uint32_t len)
{
    return (struct seg){.flags = flags, .seq = seq, .ack = ack, .len = len,
                        .wnd = 65535, .sport = PEER, .dport = US,
                        .wscale = -1};
}

void put(uint32_t flags, uint32_t seq, uint32_t ack, uint32_t len)
{
    struct seg s = seg(flags, seq, ack, len);

    wire_put_seg(&w, &s);
}

struct seg get(void)
{
    struct seg s;

    CHECK(wire_get_seg(&w, &s));
    return s;
}

void nothing(void)
{
    struct seg s;

    if (wire_get_seg(&w, &s)) {
        fprintf(stderr, "unexpected segment: flags %x seq %u ack %u len %u\n",
                s.flags, s.seq, s.ack, s.len);
        abort();
    }
}

void expect(uint32_t flags, uint32_t seq, uint32_t ack, uint32_t len)
{
    struct seg s = get();

    CHECK_EQ(s.flags, flags);
    CHECK_EQ(s.seq, seq);
    if (flags & TCP_ACK)
        CHECK_EQ(s.ack, ack);
    CHECK_EQ(s.len, len);
}

ssize_t send_bytes(const void *data, size_t n)
{
    struct host_iter it;

    host_iter_from(&it, data, n);
    return tcp_send(conn, &it.it, 0);
}

ssize_t recv_bytes(void *to, size_t n)
{
    struct host_iter it;

    host_iter_to(&it, to, n);
    return tcp_recv(conn, &it.it, 0);
}

void start(uint32_t caps)
{
    struct net_endpoint at = {.port = US};

    wire_init(&w, caps);
    listener = tcp_create(w.net, 6);
    CHECK_EQ(tcp_bind(listener, &at), 0);
    CHECK_EQ(tcp_listen(listener, 8), 0);
    conn = NULL;
}

void finish(void)
{
    if (conn)
        tcp_close(conn, true);
    tcp_close(listener, true);
    wire_done(&w);
}

/* The peer connects; conn is ours. */
void open_with(const struct seg *options)
{
    struct seg s = *options;

    s.flags = TCP_SYN;
    s.seq = PEER_ISS;
    s.wnd = 65535;
    s.sport = PEER;
    s.dport = US;
    wire_put_seg(&w, &s);
    s = get();
    CHECK_EQ(s.flags, TCP_SYN | TCP_ACK);
    CHECK_EQ(s.ack, PEER_ISS + 1);
    our_iss = s.seq;
    struct seg a = seg(TCP_ACK, PEER_ISS + 1, our_iss + 1, 0);
    a.has_ts = options->has_ts;
    a.ts_val = options->ts_val;
    a.ts_ecr = s.ts_val;
    wire_put_seg(&w, &a);
    nothing();
    CHECK_EQ(tcp_accept(listener, &conn), 0);
    CHECK_EQ(conn->state, TCP_ESTABLISHED);
}

void open_plain(void)
{
    struct seg none = {.wscale = -1, .mss = 1460};

    open_with(&none);
}

void open_sack(void)
{
    struct seg o = {.wscale = 7, .mss = 1460, .sack_ok = true};

    open_with(&o);
}

int script_run(const struct script_test *tests, uint32_t nr, int argc,
               char **argv)
{
    uint32_t n = 0;

    for (uint32_t i = 0; i < nr; i++) {
        if (argc > 1 && strcmp(argv[1], tests[i].name))
            continue;
        if (argc > 1)
            printf("%s\n", tests[i].name);
        tests[i].run();
        n++;
    }
    printf("%s: ok, %u tests\n", strrchr(argv[0], '/') + 1, n);
    return n ? 0 : 1;
}
