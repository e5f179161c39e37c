/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The stack with real threads, for ThreadSanitizer: each thread is one CPU
 * with its soft work and timers; connections between them go over loopback, so
 * that one CPU's output is another one's input. Listeners are shared; routes
 * change, connections are listed and reset meanwhile. Every byte is compared.
 *
 * usage: threads [SECONDS]
 */
#include "net/host.h"

#include "check.h"
#include "mm/heap.h"
#include "net/route.h"
#include "net/tcp_internal.h"
#include "net/udp.h"

#include <errno.h>
#include <pthread.h>
#include <string.h>

#define CPUS 4u
#define CONNS 6u /* clients of each thread */
#define PORT 700u

struct client {
    struct tcp_conn *c;
    uint32_t left, sent, got, seed;
};

struct server {
    struct server *next;
    struct tcp_conn *c;
    uint32_t have, done;
    uint8_t buf[4096];
};

struct worker {
    pthread_t thread;
    uint32_t cpu;
    uint64_t rng, bytes, conns, resets;
    struct client clients[CONNS];
    struct server *servers;
    struct udp_sock *udp;
    uint64_t datagrams;
};

static struct netstack *net;
static struct tcp_conn *listener;
static nsec_t stop_at, deadline;
static struct worker workers[CPUS];
static uint32_t nr_events; /* atomic */

static uint8_t byte_at(uint32_t seed, uint32_t at)
{
    return (uint8_t)(seed * 7 + at * 13 + (at >> 8));
}

static void on_event(struct net_sock *s, uint32_t bits)
{
    (void)s;
    CHECK(bits);
    CHECK_EQ(spin_held(), 0);
    atomic_add(&nr_events, 1u);
}

static const struct sock_hooks hooks = {.event = on_event};

static void client_open(struct worker *w, struct client *k)
{
    struct net_endpoint to = host_endpoint("127.0.0.1", PORT);
    int err;

    memset(k, 0, sizeof(*k));
    k->seed = (uint32_t)rng_next(&w->rng);
    k->left = 1 + (uint32_t)rng_below(&w->rng, 60000);
    k->c = tcp_create(net, 4);
    CHECK(k->c);
    k->c->s.hooks = &hooks;
    err = tcp_connect(k->c, &to);
    CHECK(err == -EINPROGRESS || err == -EADDRNOTAVAIL);
    w->conns++;
}

static void client_send(struct worker *w, struct client *k)
{
    uint8_t buf[3000];
    uint32_t n = 1 + (uint32_t)rng_below(&w->rng, sizeof(buf));
    struct host_iter it;
    ssize_t did;

    n = MIN(n, k->left - k->sent);
    for (uint32_t i = 0; i < n; i++)
        buf[i] = byte_at(k->seed, k->sent + i);
    host_iter_from(&it, buf, n);
    did = tcp_send(k->c, &it.it, 0);
    if (did > 0)
        k->sent += (uint32_t)did;
    else
        CHECK(did == -EAGAIN || did == -ENOBUFS || did == -ECONNRESET ||
              did == -EPIPE || did == -ECONNREFUSED || did == -ETIMEDOUT);
}

static void client_run(struct worker *w, struct client *k)
{
    uint8_t buf[5000];
    struct host_iter it;
    ssize_t n;

    if (!k->c) {
        if (net_now(net) < stop_at)
            client_open(w, k);
        return;
    }
    if (rng_below(&w->rng, 3000) == 0) {
        tcp_close(k->c, true);
        k->c = NULL;
        w->resets++;
        return;
    }
    if (k->sent < k->left)
        client_send(w, k);
    host_iter_to(&it, buf, sizeof(buf));
    n = tcp_recv(k->c, &it.it, 0);
    if (n > 0) {
        for (uint32_t i = 0; i < (uint32_t)n; i++)
            CHECK_EQ(buf[i], byte_at(k->seed, k->got + i));
        k->got += (uint32_t)n;
        w->bytes += (uint64_t)n;
    }
    if (k->got == k->left || (n <= 0 && n != -EAGAIN)) {
        tcp_close(k->c, false);
        k->c = NULL;
    }
}

static void server_run(struct worker *w, struct server **link)
{
    struct server *s = *link;
    struct host_iter it;
    ssize_t n;

    (void)w;
    if (s->done == s->have) {
        host_iter_to(&it, s->buf, sizeof(s->buf));
        n = tcp_recv(s->c, &it.it, 0);
        if (n == -EAGAIN)
            return;
        if (n <= 0)
            goto close;
        s->have = (uint32_t)n;
        s->done = 0;
    }
    host_iter_from(&it, s->buf + s->done, s->have - s->done);
    n = tcp_send(s->c, &it.it, 0);
    if (n > 0)
        s->done += (uint32_t)n;
    if (n >= 0 || n == -EAGAIN || n == -ENOBUFS)
        return;
close:
    tcp_close(s->c, false);
    *link = s->next;
    free(s);
}

static void accept_some(struct worker *w)
{
    struct tcp_conn *c;
    struct server *s;

    while (tcp_accept(listener, &c) == 0) {
        s = calloc(1, sizeof(*s));
        CHECK(s);
        s->c = c;
        s->next = w->servers;
        w->servers = s;
    }
}

static void look(struct tcp_conn *c, void *arg)
{
    struct tcp_status st;

    tcp_get_status(c, &st);
    *(uint32_t *)arg += st.unacked != 0;
}

static void disturb(struct worker *w)
{
    struct net_addr a = host_addr("10.1.1.0"), gw = host_addr("127.0.0.9");
    uint32_t n = 0;

    switch (rng_below(&w->rng, 400)) {
    case 0:
        (void)!route_add(net->nifs[0], &a, 96 + 24, &gw);
        break;
    case 1:
        route_del(net->nifs[0], &a, 96 + 24, &gw);
        break;
    case 2:
        tcp_for_each(net, look, &n);
        break;
    default:
        break;
    }
}

static void run_udp(struct worker *w)
{
    struct net_endpoint to = host_endpoint(
        "127.0.0.1", 800 + (uint32_t)rng_below(&w->rng, CPUS));
    uint8_t buf[100];
    struct host_iter it;
    struct udp_info info;

    host_iter_from(&it, buf, 10);
    memset(buf, (int)w->cpu, 10);
    (void)!udp_send(w->udp, &(struct udp_send){.from = &it.it, .len = 10,
                                               .to = &to});
    for (;;) {
        host_iter_to(&it, buf, sizeof(buf));
        if (udp_recv(w->udp, &it.it, 0, &info) < 0)
            return;
        CHECK_EQ(info.len, 10);
        CHECK_EQ(buf[9], info.from.port - 800);
        w->datagrams++;
    }
}

static void *work(void *arg)
{
    struct worker *w = arg;

    host_cpu = w->cpu;
    while (net_now(net) < deadline) {
        nsec_t now = net_now(net);

        for (uint32_t i = 0; i < CONNS; i++)
            client_run(w, &w->clients[i]);
        accept_some(w);
        for (struct server **link = &w->servers; *link;) {
            struct server *s = *link;
            server_run(w, link);
            if (*link == s)
                link = &s->next;
        }
        if (now < stop_at) {
            disturb(w);
            run_udp(w);
        }
        net_timer_run(net, w->cpu);
        (void)net_softwork(net, w->cpu);
    }
    return NULL;
}

int main(int argc, char **argv)
{
    uint32_t seconds = argc > 1 ? (uint32_t)atoi(argv[1]) : 3;
    struct net_endpoint at = {.addr = addr_from_v4(0), .port = PORT};
    uint64_t bytes = 0, conns = 0, datagrams = 0;
    struct host_env env;

    host_env_init(&env, 3, 0);
    net = host_stack(&env, CPUS + 1, 64 << 20);
    host_cpu = CPUS;
    stop_at = net_now(net) + seconds * NSEC_PER_SEC;
    deadline = stop_at + NSEC_PER_SEC;
    listener = tcp_create(net, 4);
    CHECK_EQ(tcp_bind(listener, &at), 0);
    CHECK_EQ(tcp_listen(listener, 100), 0);
    for (uint32_t i = 0; i < CPUS; i++) {
        workers[i].cpu = i;
        workers[i].rng = i + 1;
        workers[i].udp = udp_create(net, 4);
        at.port = (uint16_t)(800 + i);
        CHECK_EQ(udp_bind(workers[i].udp, &at), 0);
    }
    for (uint32_t i = 0; i < CPUS; i++)
        CHECK_EQ(pthread_create(&workers[i].thread, NULL, work, &workers[i]),
                 0);
    for (uint32_t i = 0; i < CPUS; i++) {
        pthread_join(workers[i].thread, NULL);
        bytes += workers[i].bytes;
        conns += workers[i].conns;
        datagrams += workers[i].datagrams;
    }
    CHECK(nr_events > conns);
    CHECK(bytes > 0 && conns > CONNS * CPUS && datagrams > 0);
    printf("threads: ok: %llu connections, %llu bytes, %llu datagrams\n",
           (unsigned long long)conns, (unsigned long long)bytes,
           (unsigned long long)datagrams);
    return 0;
}
