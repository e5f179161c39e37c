// SPDX-License-Identifier: BSD-2-Clause
/* The life of a connection. */
#define _GNU_SOURCE
#include <errno.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "load.h"

#ifndef IP_BIND_ADDRESS_NO_PORT
#define IP_BIND_ADDRESS_NO_PORT 24
#endif

static int epoll_fd;
static unsigned long nr_opened;

static const struct protocol *protocol(void)
{
    return opt.is_redis ? &redis_protocol : &http_protocol;
}

int conn_init(void)
{
    epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    return epoll_fd;
}

void slot_close(struct slot *s)
{
    if (s->state != SLOT_FREE)
        close(s->fd);
    s->state = SLOT_FREE;
}

static void fail(struct slot *s, enum error_kind kind, const char *why)
{
    report_error(s, kind, why);
    slot_close(s);
}

static void fail_errno(struct slot *s, enum error_kind kind, int err)
{
    char why[128];

    snprintf(why, sizeof(why), "%s", strerror(err));
    fail(s, err == ECONNRESET || err == EPIPE ? ERR_RESET : kind, why);
}

static bool bind_source(int fd)
{
    int on = 1;
    struct sockaddr_in a = {.sin_family = AF_INET};

    if (!opt.nr_sources)
        return true;
    a.sin_addr = opt.sources[nr_opened % opt.nr_sources];
    return setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on,
                      sizeof(on)) == 0 &&
           bind(fd, (struct sockaddr *)&a, sizeof(a)) == 0;
}

static void note_port(struct slot *s)
{
    struct sockaddr_in a = {0};
    socklen_t len = sizeof(a);

    if (getsockname(s->fd, (struct sockaddr *)&a, &len) == 0)
        s->local_port = ntohs(a.sin_port);
}

void slot_start(struct slot *s)
{
    struct epoll_event e = {.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET,
                            .data.ptr = s};
    int on = 1;

    s->began = now_ns();
    s->local_port = 0;
    s->server_closes =
        opt.closer == CLOSE_SERVER || (opt.closer == CLOSE_TURNS && nr_opened & 1);
    s->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (s->fd < 0) {
        fail_errno(s, ERR_LOCAL, errno);
        return;
    }
    s->state = SLOT_CONNECTING;
    setsockopt(s->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    if (!bind_source(s->fd) || epoll_ctl(epoll_fd, EPOLL_CTL_ADD, s->fd, &e)) {
        fail_errno(s, ERR_LOCAL, errno);
        return;
    }
    nr_opened++;
    protocol()->ask(s);
    if (connect(s->fd, (struct sockaddr *)&opt.server, sizeof(opt.server)) !=
            0 &&
        errno != EINPROGRESS)
        fail_errno(s, errno == EADDRNOTAVAIL ? ERR_LOCAL : ERR_CONNECT, errno);
}

static void send_some(struct slot *s)
{
    while (s->out_len) {
        ssize_t n = send(s->fd, s->out, s->out_len, MSG_NOSIGNAL);

        if (n < 0) {
            if (errno != EAGAIN)
                fail_errno(s, ERR_RESET, errno);
            return;
        }
        s->out += n;
        s->out_len -= (size_t)n;
    }
}

void slot_ask(struct slot *s)
{
    s->began = now_ns();
    s->state = SLOT_BUSY;
    protocol()->ask(s);
    send_some(s);
}

/* The answer is complete. */
static void answered(struct slot *s)
{
    report_done(s, now_ns());
    s->requests++;
    if (opt.mode == MODE_SHORT && s->server_closes) {
        s->state = SLOT_ENDING;
        return;
    }
    if (opt.mode == MODE_SHORT) {
        slot_close(s);
        return;
    }
    s->state = SLOT_IDLE;
    if (opt.mode == MODE_KEEP && begin_request())
        slot_ask(s);
}

/* The end of the peer's bytes. */
static void ended(struct slot *s)
{
    if (s->state == SLOT_ENDING)
        slot_close(s);
    else
        fail(s, ERR_EARLY_END,
             s->state == SLOT_IDLE ? "the server closed an idle connection"
                                   : "the connection ended within an answer");
}

static void got(struct slot *s, const char *data, size_t n)
{
    enum error_kind kind;
    char why[128];

    if (s->state != SLOT_BUSY) {
        fail(s, ERR_EXTRA, "bytes that nobody asked for");
        return;
    }
    switch (protocol()->take(s, data, n, &kind, why)) {
    case COMPLETE:
        answered(s);
        break;
    case WRONG:
        fail(s, kind, why);
        break;
    case MORE:
        break;
    }
}

static void receive(struct slot *s)
{
    static char data[65537];

    while (s->state == SLOT_BUSY || s->state == SLOT_ENDING ||
           s->state == SLOT_IDLE) {
        ssize_t n = recv(s->fd, data, sizeof(data) - 1, 0);

        if (n < 0) {
            if (errno != EAGAIN)
                fail_errno(s, ERR_RESET, errno);
            return;
        }
        if (n == 0) {
            ended(s);
            return;
        }
        data[n] = '\0';
        got(s, data, (size_t)n);
    }
}

void slot_event(struct slot *s, uint32_t events)
{
    if (s->state == SLOT_FREE)
        return;
    if (s->state == SLOT_CONNECTING && events & (EPOLLOUT | EPOLLERR)) {
        int err = 0;
        socklen_t len = sizeof(err);

        getsockopt(s->fd, SOL_SOCKET, SO_ERROR, &err, &len);
        note_port(s);
        if (err) {
            fail_errno(s, ERR_CONNECT, err);
            return;
        }
        s->state = SLOT_BUSY;
    }
    if (s->state == SLOT_BUSY)
        send_some(s);
    if (events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR))
        receive(s);
}

void slot_check(struct slot *s, nsec_t now)
{
    char why[128];

    if (s->state == SLOT_FREE || s->state == SLOT_IDLE ||
        now - s->began < opt.patience ||
        now - s->began - gaps_within(s->began, now) < opt.patience)
        return;
    snprintf(why, sizeof(why), "%s for %.1f s",
             s->state == SLOT_CONNECTING ? "connecting"
             : s->state == SLOT_ENDING   ? "waiting for the server's end"
                                         : "waiting for an answer",
             (double)(now - s->began) / SECOND);
    if (!s->local_port)
        note_port(s);
    fail(s, ERR_TIMEOUT, why);
}
