/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * mcload.c: load for a server of memcached's text protocol (one thread, epoll).
 *
 *   gcc -O2 -o mcload mcload.c
 *   ./mcload HOST PORT set|get CONNS DEPTH TOTAL     (HOST numeric IPv4)
 *
 * Each connection has DEPTH requests in flight, in one write; the latency is that
 * of the whole batch. Every byte of every reply is compared. Requests and replies
 * are copied from tables: at a million a second, sprintf would be what is measured.
 * Prints ops/s, p50 and p99 in microseconds; status 1 when anything is wrong.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define VALUE "vvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvv" /* 32 bytes */
#define KEYS 1000u
#define TEXT_MAX 96
#define PATIENCE_MS 5000
#define EVENTS 64

struct text {
    char bytes[KEYS][TEXT_MAX];
    size_t len; /* of each */
};

struct conn {
    int fd;
    size_t got;     /* of the batch's replies */
    double start;   /* s */
    char *expected; /* the batch's replies */
};

static struct text requests, replies, prefill;

static void die(const char *what)
{
    fprintf(stderr, "mcload: %s: %s\n", what, strerror(errno));
    exit(1);
}

static double now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static int compare_floats(const void *a, const void *b)
{
    float x = *(const float *)a, y = *(const float *)b;

    return (x > y) - (x < y);
}

static void fill(struct text *t, const char *format)
{
    for (unsigned k = 0; k < KEYS; k++)
        t->len = (size_t)snprintf(t->bytes[k], TEXT_MAX, format, k);
}

static int connect_to(const char *host, const char *port)
{
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(port))};
    struct timeval patience = {.tv_sec = PATIENCE_MS / 1000};
    int fd = socket(AF_INET, SOCK_STREAM, 0), one = 1;

    if (inet_pton(AF_INET, host, &to.sin_addr) != 1) {
        errno = EINVAL;
        die(host);
    }
    if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience)) ||
        setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience)) ||
        connect(fd, (struct sockaddr *)&to, sizeof(to)) ||
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one)))
        die("connect");
    return fd;
}

/* Makes sure that every key exists. */
static void prefill_all(int fd)
{
    char reply[8];

    for (unsigned k = 0; k < KEYS; k++)
        if (write(fd, prefill.bytes[k], prefill.len) != (ssize_t)prefill.len ||
            recv(fd, reply, sizeof(reply), MSG_WAITALL) != (ssize_t)sizeof(reply) ||
            memcmp(reply, "STORED\r\n", sizeof(reply)))
            die("prefill");
}

static unsigned random_key(void)
{
    static uint32_t seed = 1; /* xorshift32, Marsaglia 2003 */

    seed ^= seed << 13;
    seed ^= seed >> 17;
    seed ^= seed << 5;
    return seed % KEYS;
}

static void send_batch(struct conn *c, unsigned depth)
{
    static char out[1 << 20];
    char *to = out, *reply = c->expected;

    for (unsigned d = 0; d < depth; d++) {
        unsigned k = random_key();

        memcpy(to, requests.bytes[k], requests.len);
        memcpy(reply, replies.bytes[k], replies.len);
        to += requests.len;
        reply += replies.len;
    }
    c->got = 0;
    c->start = now();
    if (write(c->fd, out, (size_t)(to - out)) != to - out)
        die("write");
}

/* True: the batch is complete. */
static bool receive(struct conn *c, unsigned depth)
{
    static char in[1 << 20];
    size_t want = replies.len * depth - c->got;
    ssize_t n = read(c->fd, in, want + 1);

    if (n <= 0)
        die("read");
    if ((size_t)n > want || memcmp(in, c->expected + c->got, (size_t)n)) {
        fprintf(stderr, "mcload: bad reply: %.*s\n", (int)(n < 200 ? n : 200), in);
        exit(1);
    }
    c->got += (size_t)n;
    return (size_t)n == want;
}

int main(int argc, char **argv)
{
    bool is_get = argc == 7 && !strcmp(argv[3], "get");
    long nr_conns = argc == 7 ? atol(argv[4]) : 0, depth = argc == 7 ? atol(argv[5]) : 0;
    long total = argc == 7 ? atol(argv[6]) : 0, sent = 0, done = 0, nr_batches = 0;
    int epoll = epoll_create1(0);
    struct conn *conns;
    float *latency;
    double start, took;

    if ((!is_get && (argc != 7 || strcmp(argv[3], "set"))) || nr_conns < 1 || total < 1 ||
        depth < 1 || depth > 10000) {
        fprintf(stderr, "usage: %s HOST PORT set|get CONNS DEPTH TOTAL\n", argv[0]);
        return 2;
    }
    fill(&prefill, "set k%06u 0 0 32\r\n" VALUE "\r\n");
    fill(&requests, is_get ? "get k%06u\r\n" : "set k%06u 0 0 32\r\n" VALUE "\r\n");
    fill(&replies, is_get ? "VALUE k%06u 0 32\r\n" VALUE "\r\nEND\r\n" : "STORED\r\n");
    conns = calloc((size_t)nr_conns, sizeof(*conns));
    latency = malloc(sizeof(*latency) * (size_t)(total / depth + nr_conns + 1));
    if (!conns || !latency || epoll < 0)
        die("start");
    for (long i = 0; i < nr_conns; i++) {
        struct epoll_event e = {.events = EPOLLIN, .data.ptr = &conns[i]};

        conns[i].fd = connect_to(argv[1], argv[2]);
        conns[i].expected = malloc(replies.len * (size_t)depth);
        if (!conns[i].expected || epoll_ctl(epoll, EPOLL_CTL_ADD, conns[i].fd, &e))
            die("start");
    }
    if (is_get)
        prefill_all(conns[0].fd);

    start = now();
    for (long i = 0; i < nr_conns && sent < total; i++, sent += depth)
        send_batch(&conns[i], (unsigned)depth);
    while (done < sent) {
        struct epoll_event events[EVENTS];
        int n = epoll_wait(epoll, events, EVENTS, PATIENCE_MS);

        if (n <= 0) {
            errno = n ? errno : ETIMEDOUT;
            die("no reply");
        }
        for (int i = 0; i < n; i++) {
            struct conn *c = events[i].data.ptr;

            if (!receive(c, (unsigned)depth))
                continue;
            latency[nr_batches++] = (float)((now() - c->start) * 1e6);
            done += depth;
            if (sent < total) {
                send_batch(c, (unsigned)depth);
                sent += depth;
            }
        }
    }
    took = now() - start;
    qsort(latency, (size_t)nr_batches, sizeof(*latency), compare_floats);
    printf("%s conns %ld depth %ld: %.0f ops/s p50 %.0f us p99 %.0f us\n", argv[3], nr_conns, depth,
           (double)done / took, (double)latency[nr_batches / 2],
           (double)latency[nr_batches * 99 / 100]);
    return 0;
}
