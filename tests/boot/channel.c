/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What capstan/channel.h promises, checked by a program that is server and
 * client at once: the same lines in the guest and over epoll on Linux.
 */
#include <capstan/capstan.h>
#include <capstan/channel.h>

#include <errno.h>
#include <netinet/in.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/wait.h>
#include <unistd.h>

#define BIG (3u << 20)
#define REF_BYTES (1u << 20)

static struct capstan_loop *loop;
static struct capstan_channel *listener, *udp;
static struct sockaddr_in where;
static int failed;

#define CHECK(cond)                                             \
    do {                                                        \
        if (!(cond)) {                                          \
            printf("line %d: not true: %s\n", __LINE__, #cond); \
            failed = 1;                                         \
        }                                                       \
    } while (0)

static uint8_t pattern(size_t i)
{
    return (uint8_t)(i * 7 + (i >> 8) * 13 + (i >> 16));
}

/* Turns until *done, at most ten seconds. */
static void turn_until(const int *done)
{
    uint64_t end = capstan_clock_ns() + 10000000000ull;

    while (!*done && capstan_clock_ns() < end) {
        int n = capstan_loop_turn(loop, 100000000);

        CHECK(n >= 0 || n == -EINTR);
    }
    CHECK(*done);
}

/* ---- a server that sends back what it gets ---- */

static int64_t held[4];
static const uint8_t *held_at[4];
static uint8_t held_copy[4][16];
static int nr_held;

struct echo {
    uint8_t *waiting;
    size_t len, at;
};

static void echo_room(struct capstan_channel *c)
{
    struct echo *e = capstan_channel_arg(c);
    ssize_t n = capstan_send(c, e->waiting + e->at, e->len - e->at);

    if (n > 0)
        e->at += (size_t)n;
    if (e->at == e->len) {
        e->at = e->len = 0;
        capstan_channel_pause(c, false);
    }
}

static void echo_received(struct capstan_channel *c,
                          const struct capstan_data *d)
{
    struct echo *e = capstan_channel_arg(c);
    ssize_t n = e->len ? 0 : capstan_send(c, d->bytes, d->len);

    if (nr_held < 4 && d->len >= 16) {
        held[nr_held] = capstan_hold(loop, d);
        CHECK(held[nr_held] >= 0);
        held_at[nr_held] = d->bytes;
        memcpy(held_copy[nr_held++], d->bytes, 16);
    }
    if (n < 0)
        n = 0;
    if ((size_t)n == d->len)
        return;
    e->waiting = realloc(e->waiting, e->len + d->len);
    memcpy(e->waiting + e->len, (const uint8_t *)d->bytes + n,
           d->len - (size_t)n);
    e->len += d->len - (size_t)n;
    capstan_channel_pause(c, true);
}

static int server_ends;

static void echo_ended(struct capstan_channel *c, int error)
{
    struct echo *e = capstan_channel_arg(c);

    CHECK(error == 0 || error == ECONNRESET);
    server_ends++;
    free(e->waiting);
    free(e);
    capstan_channel_close(c);
}

static const struct capstan_handlers echo = {
    .received = echo_received, .ended = echo_ended, .room = echo_room};

static void echo_accepted(struct capstan_channel *l, struct capstan_channel *c)
{
    struct sockaddr_storage peer;

    CHECK(l == listener);
    CHECK(capstan_channel_peer(c, (struct sockaddr *)&peer) ==
          sizeof(struct sockaddr_in));
    capstan_channel_set(c, &echo, calloc(1, sizeof(struct echo)));
}

static const struct capstan_handlers echo_listener = {
    .accepted = echo_accepted};

/* ---- the client: a long stream there and back ---- */

static struct {
    struct capstan_channel *c;
    size_t sent, got;
    int is_open, is_back, has_ended, error;
} client;

static void client_send(struct capstan_channel *c)
{
    static uint8_t some[50000];

    while (client.sent < BIG) {
        size_t n = BIG - client.sent;
        ssize_t k;

        n = n < sizeof(some) ? n : sizeof(some);
        for (size_t i = 0; i < n; i++)
            some[i] = pattern(client.sent + i);
        k = capstan_send(c, some, n);
        CHECK(k > 0 || k == -EAGAIN);
        if (k > 0)
            client.sent += (size_t)k;
        if (k < (ssize_t)n)
            return; /* `room` comes */
    }
}

static void client_opened(struct capstan_channel *c)
{
    client.is_open = 1;
    client_send(c);
}

static void client_received(struct capstan_channel *c,
                            const struct capstan_data *d)
{
    const uint8_t *p = d->bytes;
    int is_right = 1;

    (void)c;
    for (size_t i = 0; i < d->len; i++)
        is_right &= p[i] == pattern(client.got + i);
    CHECK(is_right);
    client.got += d->len;
    client.is_back = client.got == BIG;
}

static void client_ended(struct capstan_channel *c, int error)
{
    client.has_ended = 1;
    client.error = error;
    capstan_channel_close(c);
}

static const struct capstan_handlers client_handlers = {
    .opened = client_opened,
    .received = client_received,
    .ended = client_ended,
    .room = client_send};

static void streams(void)
{
    CHECK(!capstan_connect(loop, (struct sockaddr *)&where, sizeof(where),
                           &client_handlers, NULL, &client.c));
    turn_until(&client.is_back);
    CHECK(client.is_open && nr_held == 4);
    for (int i = 0; i < nr_held; i++) {
        CHECK(!memcmp(held_at[i], held_copy[i], 16)); /* still as it was */
        CHECK(!capstan_drop(loop, held[i]));
    }
    if (capstan_loop_is_native(loop))
        CHECK(capstan_drop(loop, held[0]) == -EINVAL);
    capstan_channel_close(client.c);
    turn_until(&server_ends);
    printf("streams\n");
}

static void refused(void)
{
    struct sockaddr_in nobody = where;

    nobody.sin_port = htons(1);
    memset(&client, 0, sizeof(client));
    CHECK(!capstan_connect(loop, (struct sockaddr *)&nobody, sizeof(nobody),
                           &client_handlers, NULL, NULL));
    turn_until(&client.has_ended);
    CHECK(client.error == ECONNREFUSED && !client.is_open);
    CHECK(capstan_listen(loop, (struct sockaddr *)&where, sizeof(where), 0,
                         &echo_listener, NULL, NULL) == -EADDRINUSE);
    CHECK(capstan_listen(loop, (struct sockaddr *)&where, 3, 0,
                         &echo_listener, NULL, NULL) == -EINVAL);
    printf("refused\n");
}

/* ---- by reference ---- */

static uint8_t *block;
static size_t ref_got;
static int ref_done, tokens;

static void sent(void *arg, uint64_t token)
{
    CHECK(arg == &tokens && (token == 77 || token == 78));
    tokens++;
}

static void ref_received(struct capstan_channel *c,
                         const struct capstan_data *d)
{
    const uint8_t *p = d->bytes;
    int is_right = 1;

    (void)c;
    for (size_t i = 0; i < d->len; i++)
        is_right &= p[i] == block[(ref_got + i) % REF_BYTES];
    CHECK(is_right);
    ref_got += d->len;
    ref_done = ref_got == REF_BYTES + 100;
}

static const struct capstan_handlers ref_handlers = {
    .received = ref_received};

static void ref_accepted(struct capstan_channel *l, struct capstan_channel *c)
{
    static char mine[10];

    (void)l;
    CHECK(capstan_send_ref(c, mine, sizeof(mine), 1) == -EFAULT);
    CHECK(capstan_send_ref(c, block, 0, 1) == -EINVAL);
    CHECK(capstan_send_ref(c, block + REF_BYTES - 10, 11, 1) == -EFAULT);
    CHECK(!capstan_send_ref(c, block, REF_BYTES, 77));
    CHECK(tokens == 0);
}

static const struct capstan_handlers ref_listener = {
    .accepted = ref_accepted};

static void references(void)
{
    struct sockaddr_in to = where;
    struct capstan_channel *l, *c;
    void *memory;

    to.sin_port = htons(7008);
    CHECK(capstan_loop_memory(loop, 3u << 20, &memory) == -EINVAL);
    CHECK(!capstan_loop_memory(loop, REF_BYTES, &memory));
    block = memory;
    CHECK(block[0] == 0 && block[REF_BYTES - 1] == 0);
    for (size_t i = 0; i < REF_BYTES; i++)
        block[i] = pattern(i);
    capstan_loop_on_sent(loop, sent, &tokens);
    CHECK(!capstan_listen(loop, (struct sockaddr *)&to, sizeof(to), 0,
                          &ref_listener, NULL, &l));
    CHECK(!capstan_connect(loop, (struct sockaddr *)&to, sizeof(to),
                           &ref_handlers, NULL, &c));
    turn_until(&tokens);
    ref_done = ref_got == REF_BYTES;
    if (!ref_done) {
        ref_done = 0;
        for (int i = 0; i < 1000 && ref_got < REF_BYTES; i++)
            CHECK(capstan_loop_turn(loop, 10000000) >= 0);
    }
    CHECK(ref_got == REF_BYTES && tokens == 1);
    capstan_channel_close(c);
    capstan_channel_close(l);
    printf("references\n");
}

/* ---- datagrams ---- */

static int datagrams;

static void udp_received(struct capstan_channel *c,
                         const struct capstan_data *d)
{
    struct sockaddr_in from;

    CHECK(c == udp && d->is_first && d->is_last);
    CHECK(d->from_len == sizeof(from));
    memcpy(&from, d->from, sizeof(from));
    if (d->len == 4 && !memcmp(d->bytes, "ping", 4))
        CHECK(capstan_send_to(c, "pong!", 5, d->from, d->from_len) == 5);
    else
        datagrams = d->len == 5 && !memcmp(d->bytes, "pong!", 5) &&
                    from.sin_port == where.sin_port;
}

static const struct capstan_handlers udp_handlers = {
    .received = udp_received};

static void packets(void)
{
    CHECK(!capstan_datagram(loop, (struct sockaddr *)&where, sizeof(where), 0,
                            &udp_handlers, NULL, &udp));
    CHECK(capstan_send(udp, "x", 1) == -EDESTADDRREQ);
    CHECK(capstan_send_to(udp, "ping", 4, (struct sockaddr *)&where,
                          sizeof(where)) == 4);
    turn_until(&datagrams);
    capstan_channel_close(udp);
    printf("datagrams\n");
}

/* ---- timers, watches, stopping ---- */

static int order[3], nr_fired, watched;

static void fired(struct capstan_timer *t)
{
    order[nr_fired++] = *(int *)t->arg;
}

static void ready(struct capstan_watch *w, uint32_t events)
{
    uint64_t n;

    CHECK(events & EPOLLIN);
    CHECK(read(w->fd, &n, sizeof(n)) == sizeof(n) && n == 5);
    watched = 1;
}

static void on_alarm(int signal)
{
    (void)signal;
    capstan_loop_stop(loop);
}

static void *stopper(void *arg)
{
    (void)arg;
    usleep(30000);
    capstan_loop_stop(loop);
    return NULL;
}

static void times(void)
{
    static int one = 1, two = 2, three = 3;
    struct capstan_timer a = {.fired = fired, .arg = &two};
    struct capstan_timer b = {.fired = fired, .arg = &one};
    struct capstan_timer c = {.fired = fired, .arg = &three};
    uint64_t start = capstan_clock_ns(), five = 5;
    struct capstan_watch w = {.fd = eventfd(0, EFD_NONBLOCK),
                              .events = EPOLLIN, .ready = ready};
    pthread_t thread;

    capstan_timer_start(loop, &a, 40000000);
    capstan_timer_start(loop, &b, 20000000);
    capstan_timer_start(loop, &c, 30000000);
    capstan_timer_stop(loop, &c);
    for (int i = 0; i < 1000 && nr_fired < 2; i++)
        CHECK(capstan_loop_turn(loop, -1) >= 0);
    CHECK(nr_fired == 2 && order[0] == 1 && order[1] == 2);
    CHECK(capstan_clock_ns() - start >= 40000000);
    signal(SIGALRM, on_alarm);
    alarm(1);
    CHECK(capstan_loop_run(loop) == 0); /* stopped by a signal handler */
    CHECK(!pthread_create(&thread, NULL, stopper, NULL));
    CHECK(capstan_loop_run(loop) == 0); /* by another thread */
    pthread_join(thread, NULL);
    CHECK(!capstan_watch_start(loop, &w));
    CHECK(write(w.fd, &five, sizeof(five)) == sizeof(five));
    turn_until(&watched);
    CHECK(!capstan_watch_stop(loop, &w));
    close(w.fd);
    printf("times\n");
}

int main(void)
{
    setvbuf(stdout, NULL, _IONBF, 0);
    where = (struct sockaddr_in){.sin_family = AF_INET,
                                 .sin_port = htons(7007),
                                 .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    CHECK(!capstan_loop_create(&loop));
    CHECK(capstan_loop_is_native(loop) == (capstan_version() > 0));
    CHECK(!capstan_listen(loop, (struct sockaddr *)&where, sizeof(where), 0,
                          &echo_listener, NULL, &listener));
    streams();
    refused();
    references();
    packets();
    times();
    capstan_channel_close(listener);
    capstan_loop_destroy(loop);
    printf("end\n");
    return failed;
}
