/* SPDX-License-Identifier: BSD-2-Clause */
/* See services.h. */
#include "net/services.h"

#include "check.h"

#include "lib/errno.h"
#include <string.h>

#define BUF (64u << 10)

enum service { ECHO = 7, DISCARD = 9, CHARGEN = 19, HTTP = 80 };

struct service_conn {
    struct services *sv;
    struct service_conn *next_ready;
    bool is_ready, is_listener, is_closed, peer_done;
    enum service kind;
    struct tcp_conn *c;
    uint32_t have, sent; /* of buf */
    uint64_t produced, left;
    uint8_t *buf;
};

struct services {
    struct netstack *net;
    struct service_conn *ready;
    struct service_conn listeners[4];
    struct udp_sock *udp;
    uint32_t nr_open;
};

static void on_event(struct net_sock *s, uint32_t bits)
{
    struct service_conn *k = s->owner;

    (void)bits;
    if (k->is_ready || k->is_closed)
        return;
    sock_get(s); /* put by services_run */
    k->is_ready = true;
    k->next_ready = k->sv->ready;
    k->sv->ready = k;
}

static void on_release(struct net_sock *s)
{
    struct service_conn *k = s->owner;

    if (!k->is_listener) {
        free(k->buf);
        free(k);
    }
}

static const struct sock_hooks hooks = {on_event, on_release};

static void finish(struct service_conn *k, bool abort)
{
    k->is_closed = true;
    k->sv->nr_open--;
    tcp_close(k->c, abort);
}

/* Sends what is in the buffer; false: not all went. */
static bool flush(struct service_conn *k)
{
    struct host_iter it;
    ssize_t n;

    while (k->sent < k->have) {
        host_iter_from(&it, k->buf + k->sent, k->have - k->sent);
        n = tcp_send(k->c, &it.it, 0);
        if (n == -EAGAIN)
            return false;
        if (n < 0) {
            finish(k, true);
            return false;
        }
        k->sent += (uint32_t)n;
    }
    k->have = k->sent = 0;
    return true;
}

static void produce(struct service_conn *k)
{
    for (uint32_t round = 0; round < 64 && k->left; round++) {
        k->have = (uint32_t)MIN(k->left, (uint64_t)BUF);
        for (uint32_t i = 0; i < k->have; i++)
            k->buf[i] = (uint8_t)('!' + (k->produced + i) % 94);
        k->produced += k->have;
        k->left -= k->have;
        if (!flush(k))
            return;
    }
}

/* "GET /N": N bytes; anything else: a greeting. */
static void answer_http(struct service_conn *k, uint32_t n)
{
    char *end = memmem(k->buf, n, "\r\n\r\n", 4);
    char head[160];
    uint64_t size = 0;

    if (!end || n < 5)
        return;
    size = strtoull((char *)k->buf + 5, NULL, 10);
    k->left = size ? size : 6;
    snprintf(head, sizeof(head),
             "HTTP/1.1 200 OK\r\nContent-Length: %llu\r\n"
             "Connection: close\r\n\r\n",
             (unsigned long long)k->left);
    memcpy(k->buf, head, strlen(head));
    k->have = (uint32_t)strlen(head);
    k->peer_done = true;
    if (flush(k))
        produce(k);
}

static void handle_input(struct service_conn *k, uint32_t n)
{
    switch (k->kind) {
    case ECHO:
        k->have = n;
        k->sent = 0;
        (void)flush(k);
        break;
    case HTTP:
        answer_http(k, n);
        break;
    default:
        break;
    }
}

static void serve_input(struct service_conn *k)
{
    for (uint32_t i = 0; i < 32 && !k->is_closed && !k->have; i++) {
        struct host_iter it;
        ssize_t n;

        host_iter_to(&it, k->buf, BUF);
        n = tcp_recv(k->c, &it.it, 0);
        if (n == -EAGAIN)
            return;
        if (n < 0) {
            finish(k, true);
            return;
        }
        if (n == 0) {
            k->peer_done = true;
            return;
        }
        handle_input(k, (uint32_t)n);
    }
    if (!k->is_closed && !k->have)
        on_event(&k->c->s, NET_EV_IN); /* there may be more */
}

static void serve_conn(struct service_conn *k)
{
    if (k->have && !flush(k))
        return;
    if (k->left)
        produce(k);
    if (k->is_closed)
        return;
    if (k->kind != CHARGEN && !k->have && !k->left)
        serve_input(k);
    if (k->is_closed)
        return;
    if (k->peer_done && !k->have && !k->left)
        finish(k, false);
    else if (k->kind == CHARGEN && (tcp_poll(k->c) & NET_EV_HUP))
        finish(k, true);
}

static void serve_listener(struct service_conn *l)
{
    struct tcp_conn *c;

    while (tcp_accept(l->c, &c) == 0) {
        struct service_conn *k = calloc(1, sizeof(*k));

        CHECK(k);
        k->sv = l->sv;
        k->kind = l->kind;
        k->c = c;
        k->buf = malloc(BUF);
        CHECK(k->buf);
        if (k->kind == CHARGEN)
            k->left = UINT64_MAX;
        l->sv->nr_open++;
        c->s.owner = k;
        CHECK_EQ(tcp_set_option(c, TCP_OPT_NODELAY, 1), 0);
        atomic_store_release(&c->s.hooks, &hooks);
        on_event(&c->s, NET_EV_IN);
    }
}

static bool serve_udp(struct services *sv)
{
    static uint8_t buf[65536];
    bool did = false;

    for (;;) {
        struct host_iter it;
        struct udp_info info;
        ssize_t n;

        host_iter_to(&it, buf, sizeof(buf));
        n = udp_recv(sv->udp, &it.it, 0, &info);
        if (n < 0)
            return did;
        did = true;
        host_iter_from(&it, buf, (size_t)n);
        (void)!udp_send(sv->udp, &(struct udp_send){.from = &it.it,
                                                    .len = (uint32_t)n,
                                                    .to = &info.from});
    }
}

bool services_run(struct services *sv)
{
    struct service_conn *k = sv->ready;
    bool did = serve_udp(sv);

    sv->ready = NULL;
    while (k) {
        struct service_conn *next = k->next_ready;
        struct net_sock *s = &k->c->s;

        k->is_ready = false;
        if (k->is_listener)
            serve_listener(k);
        else if (!k->is_closed)
            serve_conn(k);
        sock_put(s); /* k may be gone */
        k = next;
        did = true;
    }
    return did;
}

struct services *services_start(struct netstack *net)
{
    static const enum service kinds[4] = {ECHO, DISCARD, CHARGEN, HTTP};
    struct services *sv = calloc(1, sizeof(*sv));
    struct net_endpoint at = {.port = 7};

    CHECK(sv);
    sv->net = net;
    for (uint32_t i = 0; i < 4; i++) {
        struct service_conn *l = &sv->listeners[i];

        l->sv = sv;
        l->is_listener = true;
        l->kind = kinds[i];
        l->c = tcp_create(net, 6);
        CHECK(l->c);
        l->c->s.reuse_addr = true;
        l->c->s.owner = l;
        l->c->s.hooks = &hooks;
        at.port = (uint16_t)kinds[i];
        CHECK_EQ(tcp_bind(l->c, &at), 0);
        CHECK_EQ(tcp_listen(l->c, 1024), 0);
    }
    sv->udp = udp_create(net, 6);
    at.port = ECHO;
    CHECK_EQ(udp_bind(sv->udp, &at), 0);
    return sv;
}

uint32_t services_open(const struct services *sv)
{
    return sv->nr_open;
}

void services_stop(struct services *sv)
{
    while (services_run(sv))
        continue;
    for (uint32_t i = 0; i < 4; i++) {
        sv->listeners[i].is_closed = true; /* no more events */
        tcp_close(sv->listeners[i].c, true);
    }
    udp_close(sv->udp);
    free(sv);
}
