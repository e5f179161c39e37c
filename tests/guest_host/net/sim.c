/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Random schedules: two stacks, a bad line, programs that write and read in
 * odd pieces. Every byte is compared, the invariants hold after every event,
 * and in the end nothing is left in memory.
 *
 * usage: sim [--seeds FIRST-LAST] [--bytes N] [--pcap FILE] [-v]
 */
#include "net/link.h"

#include "check.h"
#include "mm/heap.h"
#include "net/tcp.h"

#include <errno.h>
#include <string.h>

#define PORT 4000u
#define MAX_CONNS 4u
#define MAX_VIRTUAL_NS (4 * 3600 * NSEC_PER_SEC)
#define PIECE 70000u

struct peer { /* one end of one connection */
    struct tcp_conn *c;
    uint32_t side;
    uint64_t to_send, to_recv, sent, received;
    nsec_t next_write, next_read;
    bool fin_sent, got_end, is_closed, is_slow;
    bool is_awake; /* an event came, or it is not done with the last one */
    uint32_t write_max, read_max, flow, port;
};

struct sim {
    struct link l;
    uint64_t rng, seed;
    uint32_t nr_conns, nr_done, nr_steps;
    struct tcp_conn *listener;
    struct peer peers[2 * MAX_CONNS];
    bool is_v4;
    bool close_early; /* a closed socket gives up after 100 s of bad luck */
    nsec_t finished_at;
    bool verbose;
};

static uint8_t pattern[1 << 16];

/* Byte `at` of a flow: aperiodic in what a mistake would shift by. */
static void fill(uint8_t *p, uint32_t flow, uint64_t at, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        uint64_t x = at + i;
        p[i] = pattern[(x ^ x >> 13) & 0xffff] ^ (uint8_t)(x >> 16) ^
               (uint8_t)(flow * 31);
    }
}

static uint64_t pick(struct sim *s, uint64_t n)
{
    return rng_below(&s->rng, n);
}

static void choose_line(struct sim *s, struct link_params *p)
{
    static const uint32_t mtus[] = {576, 1280, 1492, 1500, 1500, 4000, 9000};

    memset(p, 0, sizeof(*p));
    p->mtu = mtus[pick(s, 7)];
    if (!s->is_v4)
        p->mtu = MAX(p->mtu, 1280u);
    switch (pick(s, 4)) {
    case 0:
        break;
    case 1:
        p->loss = (uint32_t)pick(s, 20);
        break;
    default:
        p->loss = (uint32_t)pick(s, 201);
    }
    p->dup = pick(s, 2) ? (uint32_t)pick(s, 100) : 0;
    p->reorder = pick(s, 2) ? (uint32_t)pick(s, 300) : 0;
    p->corrupt = pick(s, 3) ? 0 : (uint32_t)pick(s, 20);
    p->delay = (nsec_t)pick(s, pick(s, 2) ? 1000000 : 100000000);
    p->jitter = pick(s, 3) ? 0 : (nsec_t)pick(s, 3000000);
    p->bytes_per_sec = pick(s, 2) ? 0 : 100000 + pick(s, 100000000);
    p->queue_max = 20 + (uint32_t)pick(s, 500);
    p->caps = pick(s, 2) ? NETIF_CSUM : 0;
    if (p->caps && pick(s, 2))
        p->caps |= NETIF_TSO4 | NETIF_TSO6;
    p->keep_large = pick(s, 2);
    p->lazy = pick(s, 2);
    p->no_sack = pick(s, 4) == 0;
    p->no_ts = pick(s, 4) == 0;
    p->no_wscale = pick(s, 6) == 0;
    p->mem_max = pick(s, 6) ? 32 << 20 : 2 << 20;
}

static void choose_options(struct sim *s, struct tcp_conn *c)
{
    if (pick(s, 2))
        CHECK_EQ(tcp_set_option(c, TCP_OPT_NODELAY, 1), 0);
    if (pick(s, 8) == 0)
        CHECK_EQ(tcp_set_option(c, TCP_OPT_CORK, 1), 0);
    if (pick(s, 4) == 0)
        CHECK_EQ(tcp_set_option(c, TCP_OPT_RCVBUF, 2048 << pick(s, 8)), 0);
    if (pick(s, 4) == 0)
        CHECK_EQ(tcp_set_option(c, TCP_OPT_SNDBUF, 2048 << pick(s, 8)), 0);
    if (pick(s, 8) == 0)
        CHECK_EQ(tcp_set_option(c, TCP_OPT_MAXSEG, 100 + pick(s, 1300)), 0);
}

static void on_event(struct net_sock *sock, uint32_t bits)
{
    struct peer *p = sock->owner;

    CHECK(bits);
    CHECK_EQ(spin_held(), 0);
    p->is_awake = true;
}

static const struct sock_hooks hooks = {.event = on_event};

static void peer_attach(struct peer *p, struct tcp_conn *c)
{
    p->c = c;
    c->s.owner = p;
    c->s.hooks = &hooks;
    p->is_awake = true;
}

static void peer_init(struct sim *s, struct peer *p, uint32_t side,
                      uint32_t conn)
{
    memset(p, 0, sizeof(*p));
    p->side = side;
    p->flow = conn * 2 + side;
    p->write_max = pick(s, 4) ? PIECE : 1 + (uint32_t)pick(s, 3000);
    p->read_max = pick(s, 4) ? PIECE : 1 + (uint32_t)pick(s, 3000);
    p->is_slow = pick(s, 4) == 0;
}

static void start_client(struct sim *s, uint32_t i)
{
    struct peer *p = &s->peers[2 * i];
    struct net_endpoint to = {.addr = link_addr(1, s->is_v4), .port = PORT};

    struct tcp_conn *c = tcp_create(s->l.side[0].net, s->is_v4 ? 4 : 6);

    CHECK(c);
    peer_attach(p, c);
    choose_options(s, p->c);
    CHECK_EQ(tcp_connect(p->c, &to), -EINPROGRESS);
    p->port = p->c->s.local.port;
}

static nsec_t pause_of(struct sim *s, const struct peer *p)
{
    if (p->is_slow && pick(s, 3) == 0)
        return (nsec_t)pick(s, 50000000);
    return pick(s, 4) ? 0 : (nsec_t)pick(s, 2000000);
}

static bool peer_write(struct sim *s, struct peer *p)
{
    static uint8_t buf[PIECE];
    uint64_t want = 1 + pick(s, p->write_max);
    uint32_t n = (uint32_t)MIN(p->to_send - p->sent, want);
    struct host_iter it;
    ssize_t got;

    if (p->fin_sent || s->l.env.now < p->next_write)
        return false;
    if (p->sent == p->to_send) {
        CHECK_EQ(tcp_shutdown(p->c, false, true), 0);
        p->fin_sent = true;
        return true;
    }
    fill(buf, p->flow, p->sent, n);
    host_iter_from(&it, buf, n);
    got = tcp_send(p->c, &it.it, pick(s, 10) ? 0 : TCP_SEND_MORE);
    p->next_write = s->l.env.now + pause_of(s, p);
    if (got == -EAGAIN || got == -ENOBUFS)
        return false;
    if (got < 0) {
        fprintf(stderr, "seed %llu: send: %zd after %llu of %llu\n",
                (unsigned long long)s->seed, got,
                (unsigned long long)p->sent, (unsigned long long)p->to_send);
        exit(1);
    }
    p->sent += (uint64_t)got;
    return got > 0;
}

static void compare(struct sim *s, struct peer *p, const uint8_t *buf,
                    uint32_t n)
{
    static uint8_t want[PIECE];

    fill(want, p->flow ^ 1, p->received, n);
    if (memcmp(want, buf, n) == 0)
        return;
    for (uint32_t i = 0; i < n; i++)
        if (want[i] != buf[i]) {
            fprintf(stderr, "seed %llu: flow %u byte %llu: %02x not %02x\n",
                    (unsigned long long)s->seed, p->flow,
                    (unsigned long long)p->received + i, buf[i], want[i]);
            exit(1);
        }
}

static bool peer_read(struct sim *s, struct peer *p)
{
    static uint8_t buf[PIECE];
    uint32_t n = 1 + (uint32_t)pick(s, p->read_max);
    struct host_iter it;
    ssize_t got;

    if (p->got_end || s->l.env.now < p->next_read)
        return false;
    host_iter_to(&it, buf, n);
    if (pick(s, 16) == 0) {
        got = tcp_recv(p->c, &it.it, TCP_RECV_PEEK);
        if (got > 0)
            compare(s, p, buf, (uint32_t)got);
        host_iter_to(&it, buf, n);
    }
    got = tcp_recv(p->c, &it.it, 0);
    p->next_read = s->l.env.now + pause_of(s, p);
    if (got == -EAGAIN)
        return false;
    if (got < 0) {
        fprintf(stderr, "seed %llu: recv: %zd after %llu of %llu\n",
                (unsigned long long)s->seed, got,
                (unsigned long long)p->received,
                (unsigned long long)p->to_recv);
        exit(1);
    }
    if (got == 0) {
        CHECK_EQ(p->received, p->to_recv);
        p->got_end = true;
        return true;
    }
    compare(s, p, buf, (uint32_t)got);
    p->received += (uint64_t)got;
    CHECK(p->received <= p->to_recv);
    return true;
}

/* On a bad line even three questions for a neighbour's link address may be
 * lost; connect says so, as on Linux. Then the program calls again. */
static bool call_again(struct sim *s, struct peer *p)
{
    struct tcp_conn *c = p->c;

    if (p->side || c->state != TCP_CLOSE || c->was_open ||
        atomic_load_relaxed(&c->s.error) != EHOSTUNREACH)
        return false;
    CHECK_EQ(p->sent, 0);
    c->s.hooks = NULL;
    tcp_close(c, false);
    start_client(s, p->flow / 2);
    return true;
}

/* A program with an event loop; true: it did something. */
static bool run_peer(struct sim *s, struct peer *p)
{
    bool did = false, is_early;
    uint32_t bits;

    if (!p->c || p->is_closed || !p->is_awake)
        return false;
    bits = tcp_poll(p->c);
    if (call_again(s, p))
        return true;
    if (p->c->state == TCP_SYN_SENT) {
        p->is_awake = false;
        return false;
    }
    /* tcp_poll promises readiness: try without it now and then. */
    bool always = pick(s, 16) == 0;
    is_early = s->l.env.now < p->next_write || s->l.env.now < p->next_read;
    if ((bits & NET_EV_OUT) || always)
        did |= peer_write(s, p);
    if ((bits & NET_EV_IN) || always)
        did |= peer_read(s, p);
    if (p->fin_sent && p->got_end && !s->close_early && tcp_unsent(p->c)) {
        p->next_write = s->l.env.now + 50000000;
    } else if (p->fin_sent && p->got_end) {
        p->c->s.hooks = NULL;
        tcp_close(p->c, false);
        p->is_closed = true;
        s->nr_done++;
    } else if (!did && !is_early && !always) {
        p->is_awake = false; /* until an event comes */
    }
    return did;
}

static void accept_all(struct sim *s)
{
    struct tcp_conn *c;

    while (tcp_accept(s->listener, &c) == 0) {
        /* Which client is it? By its port. */
        uint32_t i = 0;
        while (i < s->nr_conns &&
               (s->peers[2 * i].port != c->s.remote.port ||
                s->peers[2 * i + 1].c))
            i++;
        CHECK(i < s->nr_conns);
        peer_attach(&s->peers[2 * i + 1], c);
        choose_options(s, c);
    }
}

static nsec_t next_event(struct sim *s)
{
    nsec_t next = link_next(&s->l), soon = NET_NO_DEADLINE;

    for (uint32_t i = 0; i < 2 * s->nr_conns; i++) {
        struct peer *p = &s->peers[i];
        if (!p->c || p->is_closed || !p->is_awake)
            continue;
        if (p->next_write > s->l.env.now)
            soon = MIN(soon, p->next_write);
        if (!p->got_end && p->next_read > s->l.env.now)
            soon = MIN(soon, p->next_read);
        if (!p->fin_sent || !p->got_end)
            soon = MIN(soon, s->l.env.now + 100000);
    }
    return MIN(next, soon);
}

static void fail(struct sim *s, const char *why)
{
    fprintf(stderr, "seed %llu: %s at %.3f s\n", (unsigned long long)s->seed,
            why, (double)(s->l.env.now - 1000 * NSEC_PER_SEC) / 1e9);
    for (uint32_t i = 0; i < 2 * s->nr_conns; i++) {
        struct peer *p = &s->peers[i];
        struct tcp_status st = {0};

        if (p->c && !p->is_closed)
            tcp_get_status(p->c, &st);
        fprintf(stderr,
                "  flow %u: sent %llu/%llu received %llu/%llu fin %d end %d "
                "closed %d state %u unacked %u unsent %u wnd %u cwnd %u\n",
                p->flow, (unsigned long long)p->sent,
                (unsigned long long)p->to_send,
                (unsigned long long)p->received,
                (unsigned long long)p->to_recv, p->fin_sent, p->got_end,
                p->is_closed, st.state, st.unacked, st.unsent, st.snd_wnd,
                st.cwnd);
    }
    exit(1);
}

/* What the programs hold, always; what they closed, now and then (to look at
 * the whole table takes longer than everything else). */
static void check_all(struct sim *s)
{
    for (uint32_t i = 0; i < 2 * s->nr_conns; i++)
        if (s->peers[i].c && !s->peers[i].is_closed)
            check_conn(s->peers[i].c);
    if (s->nr_steps++ % 16)
        return;
    check_stack(s->l.side[0].net);
    check_stack(s->l.side[1].net);
}

static void run(struct sim *s)
{
    nsec_t end = s->l.env.now + MAX_VIRTUAL_NS;

    while (s->nr_done < 2 * s->nr_conns) {
        nsec_t next;
        bool did = link_run(&s->l);

        accept_all(s);
        for (uint32_t i = 0; i < 2 * s->nr_conns; i++)
            did |= run_peer(s, &s->peers[i]);
        check_all(s);
        if (did)
            continue;
        next = next_event(s);
        if (next == NET_NO_DEADLINE)
            fail(s, "nothing will ever happen");
        if (next > end)
            fail(s, "not finished in four hours");
        s->l.env.now = MAX(s->l.env.now, next);
    }
}

static void start(struct sim *s, uint64_t bytes)
{
    struct net_endpoint at = {.addr = {.q = {0}}, .port = PORT};
    struct link_params line;

    s->is_v4 = pick(s, 2);
    s->nr_conns = pick(s, 3) ? 1 : 1 + (uint32_t)pick(s, MAX_CONNS);
    choose_line(s, &line);
    s->close_early = line.loss + line.corrupt < 100 && pick(s, 2);
    link_init(&s->l, s->seed, &line);
    s->listener = tcp_create(s->l.side[1].net, 6);
    CHECK_EQ(tcp_bind(s->listener, &at), 0);
    CHECK_EQ(tcp_listen(s->listener, 16), 0);
    for (uint32_t i = 0; i < s->nr_conns; i++) {
        struct peer *a = &s->peers[2 * i], *b = a + 1;
        uint64_t each = bytes / s->nr_conns;

        peer_init(s, a, 0, i);
        peer_init(s, b, 1, i);
        /* Mostly both ways; sometimes little or nothing one way. */
        a->to_send = b->to_recv = pick(s, 8) ? each : pick(s, 5000);
        b->to_send = a->to_recv = pick(s, 8) ? each : pick(s, 5000);
        start_client(s, i);
    }
    if (s->verbose)
        printf("seed %llu: v%d conns %u mtu %u loss %u dup %u reorder %u "
               "corrupt %u delay %.1f ms rate %llu caps %x lazy %d "
               "no_sack %d no_ts %d no_wscale %d mem %llu\n",
               (unsigned long long)s->seed, s->is_v4 ? 4 : 6, s->nr_conns,
               line.mtu, line.loss, line.dup, line.reorder, line.corrupt,
               (double)line.delay / 1e6,
               (unsigned long long)line.bytes_per_sec, line.caps, line.lazy,
               line.no_sack, line.no_ts, line.no_wscale,
               (unsigned long long)line.mem_max);
}

struct totals {
    uint64_t bytes, packets, lost, retrans, rto, tlp, recovery, schedules;
    double virtual_s;
};

static void add_totals(struct sim *s, struct totals *t, nsec_t from)
{
    for (uint32_t i = 0; i < 2; i++) {
        struct netstack *net = s->l.side[i].net;
        t->retrans += net_counter_sum(net, NET_TCP_RETRANS);
        t->rto += net_counter_sum(net, NET_TCP_RTO);
        t->tlp += net_counter_sum(net, NET_TCP_TLP);
        t->recovery += net_counter_sum(net, NET_TCP_RECOVERY);
    }
    for (uint32_t i = 0; i < 2 * s->nr_conns; i++)
        t->bytes += s->peers[i].received;
    t->packets += s->l.nr_sent;
    t->lost += s->l.nr_lost;
    t->virtual_s += (double)(s->l.env.now - from) / 1e9;
    t->schedules++;
}

static void one(uint64_t seed, uint64_t bytes, const char *pcap, bool verbose,
                struct totals *t)
{
    struct sim *s = calloc(1, sizeof(*s));
    size_t before = shim_bytes;
    static const uint32_t pcap_head[6] = {0xa1b2c3d4, 4u << 16 | 2, 0, 0,
                                          65535, 1};

    CHECK(s);
    s->seed = seed;
    s->rng = seed * 0x9e3779b97f4a7c15ull | 1;
    s->verbose = verbose;
    start(s, bytes);
    if (pcap) {
        s->l.pcap = fopen(pcap, "wb");
        CHECK(s->l.pcap);
        uint32_t head[6];
        memcpy(head, pcap_head, sizeof(head));
        head[1] = 2 | 4u << 16;
        fwrite(head, sizeof(head), 1, s->l.pcap);
    }
    nsec_t from = s->l.env.now;
    run(s);
    add_totals(s, t, from);
    tcp_close(s->listener, false);
    /* FIN_WAIT, TIME_WAIT, retransmissions to nobody: all end. */
    link_run_until(&s->l, s->l.env.now + 400 * NSEC_PER_SEC);
    check_stack(s->l.side[0].net);
    check_stack(s->l.side[1].net);
    if (s->l.pcap)
        fclose(s->l.pcap);
    link_destroy(&s->l);
    CHECK_EQ(shim_bytes, before);
    free(s);
}

int main(int argc, char **argv)
{
    uint64_t first = 1, last = 100, bytes = 1 << 20;
    const char *pcap = NULL;
    struct totals t = {0};
    bool verbose = false;

    for (int i = 1; i < argc; i++) {
        if (!strcmp(argv[i], "-v")) {
            verbose = true;
        } else if (i + 1 == argc) {
            fprintf(stderr, "sim: %s needs a value\n", argv[i]);
            return 2;
        } else if (!strcmp(argv[i], "--seeds")) {
            char *end;
            first = last = strtoull(argv[++i], &end, 10);
            if (*end == '-')
                last = strtoull(end + 1, NULL, 10);
        } else if (!strcmp(argv[i], "--bytes")) {
            bytes = strtoull(argv[++i], NULL, 0);
        } else if (!strcmp(argv[i], "--pcap")) {
            pcap = argv[++i];
        } else {
            fprintf(stderr, "sim: unknown option %s\n", argv[i]);
            return 2;
        }
    }
    uint64_t rng = 99;
    for (uint32_t i = 0; i < sizeof(pattern); i++)
        pattern[i] = (uint8_t)(rng_next(&rng) >> 32);
    for (uint64_t seed = first; seed <= last; seed++)
        one(seed, bytes, pcap, verbose, &t);
    printf("sim: ok: %llu schedules, %llu MiB compared, %llu packets, "
           "%llu lost, %llu repeated, %llu recoveries, %llu time-outs, "
           "%llu tail probes, %.0f s of simulated time\n",
           (unsigned long long)t.schedules,
           (unsigned long long)(t.bytes >> 20), (unsigned long long)t.packets,
           (unsigned long long)t.lost, (unsigned long long)t.retrans,
           (unsigned long long)t.recovery, (unsigned long long)t.rto,
           (unsigned long long)t.tlp, t.virtual_s);
    return 0;
}
