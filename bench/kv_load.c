/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Load for servers that speak memcached's text protocol: one thread, epoll.
 *
 *     kv_load HOST PORT set|get CONNECTIONS DEPTH REQUESTS
 *
 * Each connection keeps DEPTH requests for one of 1,000 keys (values of 32
 * bytes) on the way, in one write; the time counted is that of such a batch.
 * Every byte of the answers is checked. Prints requests per second and the
 * median and 99th percentile in microseconds.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define VALUE "vvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvv"
#define KEYS 1000
#define DEPTH_MAX 256
#define LINE_MAX 96
#define DEADLINE_MS 10000

struct connection {
    int fd;
    char want[DEPTH_MAX * LINE_MAX]; /* the answers to come */
    size_t want_len, got;
    double since;
};

static struct {
    int is_get, depth;
    long total, sent, done, nr_times;
    unsigned seed;
    float *times;
} load = {.seed = 1};

static void die(const char *what)
{
    perror(what);
    exit(1);
}

static double now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static void write_all(int fd, const char *p, size_t n)
{
    while (n) {
        ssize_t k = write(fd, p, n);

        if (k <= 0)
            die("write");
        p += k;
        n -= (size_t)k;
    }
}

static void fire(struct connection *c)
{
    char out[DEPTH_MAX * LINE_MAX];
    size_t n = 0;

    c->want_len = c->got = 0;
    for (int i = 0; i < load.depth; i++) {
        int key = rand_r(&load.seed) % KEYS;

        n += (size_t)(load.is_get
                          ? sprintf(out + n, "get k%06d\r\n", key)
                          : sprintf(out + n, "set k%06d 0 0 %zu\r\n%s\r\n",
                                    key, strlen(VALUE), VALUE));
        c->want_len += (size_t)(load.is_get
                                    ? sprintf(c->want + c->want_len,
                                              "VALUE k%06d 0 %zu\r\n%s\r\nEND\r\n",
                                              key, strlen(VALUE), VALUE)
                                    : sprintf(c->want + c->want_len,
                                              "STORED\r\n"));
    }
    load.sent += load.depth;
    c->since = now();
    write_all(c->fd, out, n);
}

static void receive(struct connection *c)
{
    static char in[1 << 16];
    ssize_t n = read(c->fd, in, sizeof(in));

    if (n <= 0)
        die("read");
    if (c->got + (size_t)n > c->want_len ||
        memcmp(in, c->want + c->got, (size_t)n) != 0) {
        fprintf(stderr, "kv_load: a wrong answer: %.*s\n", (int)n, in);
        exit(1);
    }
    c->got += (size_t)n;
    if (c->got < c->want_len)
        return;
    load.times[load.nr_times++] = (float)((now() - c->since) * 1e6);
    load.done += load.depth;
    if (load.sent < load.total)
        fire(c);
}

/* Every key has a value. */
static void fill(int fd)
{
    char line[LINE_MAX], answer[8];

    for (int i = 0; i < KEYS; i++) {
        write_all(fd, line, (size_t)sprintf(line, "set k%06d 0 0 %zu\r\n%s\r\n",
                                            i, strlen(VALUE), VALUE));
        if (recv(fd, answer, sizeof(answer), MSG_WAITALL) != sizeof(answer) ||
            memcmp(answer, "STORED\r\n", sizeof(answer)) != 0) {
            fprintf(stderr, "kv_load: the server did not store a value\n");
            exit(1);
        }
    }
}

static int compare(const void *a, const void *b)
{
    float x = *(const float *)a, y = *(const float *)b;

    return (x > y) - (x < y);
}

static void run(int poll, struct connection *all, int nr)
{
    struct epoll_event events[64];

    for (int i = 0; i < nr && load.sent < load.total; i++)
        fire(&all[i]);
    while (load.done < load.sent) {
        int n = epoll_wait(poll, events, 64, DEADLINE_MS);

        if (n == 0) {
            fprintf(stderr, "kv_load: no answer for %d ms\n", DEADLINE_MS);
            exit(1);
        }
        if (n < 0 && errno != EINTR)
            die("epoll_wait");
        for (int i = 0; i < n; i++)
            receive(events[i].data.ptr);
    }
}

int main(int argc, char **argv)
{
    int poll = epoll_create1(0), nr = argc == 7 ? atoi(argv[4]) : 0, one = 1;
    struct sockaddr_in to = {.sin_family = AF_INET};
    struct connection *all;
    double start;

    load.depth = argc == 7 ? atoi(argv[5]) : 0;
    load.total = argc == 7 ? atol(argv[6]) : 0;
    if (nr < 1 || load.depth < 1 || load.depth > DEPTH_MAX || load.total < 1 ||
        inet_pton(AF_INET, argv[1], &to.sin_addr) != 1) {
        fprintf(stderr, "usage: %s IPV4-ADDRESS PORT set|get CONNECTIONS "
                        "DEPTH REQUESTS\n", argv[0]);
        return 2;
    }
    load.is_get = !strcmp(argv[3], "get");
    to.sin_port = htons((unsigned short)atoi(argv[2]));
    all = calloc((size_t)nr, sizeof(*all));
    load.times = calloc((size_t)(load.total / load.depth + nr + 1),
                        sizeof(*load.times));
    if (!all || !load.times)
        die("memory");
    for (int i = 0; i < nr; i++) {
        struct epoll_event e = {.events = EPOLLIN, .data.ptr = &all[i]};

        all[i].fd = socket(AF_INET, SOCK_STREAM, 0);
        if (connect(all[i].fd, (struct sockaddr *)&to, sizeof(to)))
            die("connect");
        setsockopt(all[i].fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
        epoll_ctl(poll, EPOLL_CTL_ADD, all[i].fd, &e);
    }
    if (load.is_get)
        fill(all[0].fd);
    start = now();
    run(poll, all, nr);
    start = now() - start;
    qsort(load.times, (size_t)load.nr_times, sizeof(*load.times), compare);
    printf("%.0f requests/s, p50 %.0f us, p99 %.0f us\n",
           (double)load.done / start, load.times[load.nr_times / 2],
           load.times[load.nr_times * 99 / 100]);
    return 0;
}
