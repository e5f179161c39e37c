/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * mcload.c: bounded memcached text-protocol load generator (one thread, epoll).
 *
 *   gcc -O2 -o mcload mcload.c
 *   ./mcload HOST PORT set|get CONNS DEPTH TOTAL     (HOST numeric IPv4)
 *
 * Each connection keeps DEPTH requests in flight, in one write; the latency is
 * that of a whole batch.  Prints ops/s, p50 and p99 in microseconds.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define VAL 32
#define KEYS 1000

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec * 1e-9;
}

struct conn { int fd; long got, want; double t0; };

static int cmp(const void *a, const void *b)
{
    float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

static void die(const char *s)
{
    perror(s);
    exit(1);
}

int main(int argc, char **argv)
{
    if (argc != 7) {
        fprintf(stderr, "usage: %s HOST PORT set|get CONNS DEPTH TOTAL\n", argv[0]);
        return 2;
    }
    int isget = !strcmp(argv[3], "get"), conns = atoi(argv[4]), depth = atoi(argv[5]);
    long total = atol(argv[6]), sent = 0, done = 0, nlat = 0;
    struct sockaddr_in sa = { .sin_family = AF_INET, .sin_port = htons(atoi(argv[2])) };
    inet_pton(AF_INET, argv[1], &sa.sin_addr);
    char val[VAL + 1];
    memset(val, 'v', VAL);
    val[VAL] = 0;
    struct conn *c = calloc(conns, sizeof *c);
    float *lat = malloc(sizeof *lat * (total / depth + conns + 1));
    char *buf = malloc(1 << 20), *rb = malloc(1 << 20);
    /* reply length: "STORED\r\n", or "VALUE kNNNNNN 0 32\r\n" + value + "\r\nEND\r\n" */
    long rlen = isget ? (long)(strlen("VALUE k000000 0 32\r\n") + VAL + strlen("\r\nEND\r\n")) : 8;
    int ep = epoll_create1(0), one = 1;
    unsigned seed = 1;
    for (int i = 0; i < conns; i++) {
        c[i].fd = socket(AF_INET, SOCK_STREAM, 0);
        if (connect(c[i].fd, (void *)&sa, sizeof sa))
            die("connect");
        setsockopt(c[i].fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        struct epoll_event e = { .events = EPOLLIN, .data.u32 = i };
        epoll_ctl(ep, EPOLL_CTL_ADD, c[i].fd, &e);
    }
    if (isget) {        /* make sure every key exists */
        for (int k = 0; k < KEYS; k++) {
            int n = sprintf(buf, "set k%06d 0 0 %d\r\n%s\r\n", k, VAL, val);
            if (write(c[0].fd, buf, n) != n || read(c[0].fd, rb, 8) != 8)
                die("prefill");
        }
    }
    double start = now();
    #define FIRE(x) do { int n_ = 0; for (int d = 0; d < depth; d++) { int k = rand_r(&seed) % KEYS; \
        n_ += isget ? sprintf(buf + n_, "get k%06d\r\n", k) \
                    : sprintf(buf + n_, "set k%06d 0 0 %d\r\n%s\r\n", k, VAL, val); } \
        (x)->got = 0; (x)->want = rlen * depth; (x)->t0 = now(); sent += depth; \
        if (write((x)->fd, buf, n_) != n_) die("write"); } while (0)
    for (int i = 0; i < conns && sent < total; i++)
        FIRE(&c[i]);
    while (done < sent) {
        struct epoll_event ev[64];
        int n = epoll_wait(ep, ev, 64, 5000);
        if (n <= 0)
            die("epoll_wait (5 s without a reply)");
        for (int i = 0; i < n; i++) {
            struct conn *x = &c[ev[i].data.u32];
            ssize_t r = read(x->fd, rb, 1 << 20);
            if (r <= 0)
                die("read");
            x->got += r;
            if (x->got < x->want)
                continue;
            if (x->got > x->want || (isget ? rb[0] != 'V' && depth == 1 : rb[0] != 'S' && depth == 1)) {
                fprintf(stderr, "bad reply\n");
                return 1;
            }
            lat[nlat++] = (now() - x->t0) * 1e6;
            done += depth;
            if (sent < total)
                FIRE(x);
        }
    }
    double s = now() - start;
    qsort(lat, nlat, sizeof *lat, cmp);
    printf("%s conns %d depth %d: %.0f ops/s p50 %.0f us p99 %.0f us\n", argv[3], conns, depth, done / s, lat[nlat / 2], lat[nlat * 99 / 100]);
    return 0;
}
