/* SPDX-License-Identifier: BSD-2-Clause */
/* TCP over loopback: non-blocking connections, the ways an end comes, what
 * poll and epoll say about each. */
#include "inet.h"

static char buf[1 << 16];
static volatile sig_atomic_t nr_sigpipe;

static void on_sigpipe(int sig, siginfo_t *info, void *context)
{
    (void)sig, (void)info, (void)context;
    nr_sigpipe++;
}

/* A port where nobody listens. */
static socklen_t nobody(struct sockaddr_storage *a, int family)
{
    socklen_t len;
    int s = listener(family, SOCK_STREAM, a, &len);

    close(s);
    return len;
}

static void refused(int family)
{
    struct sockaddr_storage a;
    socklen_t len = nobody(&a, family);
    int s = (int)MUST(socket(family, SOCK_STREAM, 0));

    SECTION(family == AF_INET ? "refused v4" : "refused v6");
    E(connect(s, (void *)&a, len));
    state(s);
    so_error(s);
    names(s);
    E(connect(s, (void *)&a, len)); /* again */
    E(connect(s, (void *)&a, 3));
    E(connect(s, (void *)8, len));
    a.ss_family = AF_UNIX;
    E(connect(s, (void *)&a, len));
    close(s);
    len = nobody(&a, family);
    s = (int)MUST(socket(family, SOCK_STREAM | SOCK_NONBLOCK, 0));
    int r = connect(s, (void *)&a, len);
    SAY("under way or refused at once",
        r == -1 && (errno == EINPROGRESS || errno == ECONNREFUSED));
    if (errno == EINPROGRESS) {
        struct pollfd p = {s, POLLOUT, 0};
        poll(&p, 1, 2000);
        int v;
        socklen_t v_len = sizeof(v);
        getsockopt(s, SOL_SOCKET, SO_ERROR, &v, &v_len);
        SAY("refused", v == ECONNREFUSED);
    } else {
        SAY("refused", true);
    }
    so_error(s);
    E(read(s, buf, 1));
    close(s);
}

static void nonblock(void)
{
    struct sockaddr_storage a;
    socklen_t len;
    int s = listener(AF_INET, SOCK_STREAM, &a, &len), c, d;

    SECTION("non-blocking connect");
    c = (int)MUST(socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0));
    E(connect(c, (void *)&a, len));
    state_after(c, POLLOUT);
    so_error(c);
    E(connect(c, (void *)&a, len));
    E(connect(c, (void *)&a, len));
    state_after(s, POLLIN);
    OK(d = accept4(s, NULL, NULL, SOCK_NONBLOCK));
    E(read(d, buf, 1));
    E(write(c, "abc", 3));
    state_after(d, POLLIN);
    E(read(d, buf, 10));
    E(read(c, buf, 10));
    close(c);
    state_after(d, POLLRDHUP);
    close(d);
    E(fcntl(s, F_SETFL, O_NONBLOCK));
    E(accept(s, NULL, NULL));
    close(s);
}

static void half_closed(int family)
{
    int s[2];

    SECTION(family == AF_INET ? "half closed v4" : "half closed v6");
    tcp_pair(family, s);
    E(write(s[0], "last", 4));
    E(shutdown(s[0], SHUT_WR));
    state(s[0]);
    E(write(s[0], "x", 1));
    printf("  SIGPIPE %d\n", (int)nr_sigpipe);
    E(send(s[0], "x", 1, MSG_NOSIGNAL));
    printf("  SIGPIPE %d\n", (int)nr_sigpipe);
    state_after(s[1], POLLRDHUP);
    E(read(s[1], buf, 10));
    E(read(s[1], buf, 10));
    E(write(s[1], "answer", 6));
    E(recv(s[0], buf, 6, MSG_WAITALL));
    E(shutdown(s[1], SHUT_WR));
    state_after(s[0], POLLHUP);
    E(read(s[0], buf, 10));
    state_after(s[1], POLLHUP);
    E(shutdown(s[0], SHUT_WR));
    close(s[0]);
    close(s[1]);
    tcp_pair(family, s);
    E(shutdown(s[0], SHUT_RD));
    state(s[0]);
    E(read(s[0], buf, 1));
    E(write(s[0], "out", 3));
    E(recv(s[1], buf, 3, MSG_WAITALL));
    E(shutdown(s[0], SHUT_RDWR));
    state_after(s[1], POLLRDHUP);
    E(read(s[1], buf, 1));
    close(s[0]);
    close(s[1]);
}

static void reset(void)
{
    struct linger l = {1, 0};
    int s[2];

    SECTION("reset by SO_LINGER 0");
    tcp_pair(AF_INET, s);
    MUST(setsockopt(s[0], SOL_SOCKET, SO_LINGER, &l, sizeof(l)));
    close(s[0]);
    state_after(s[1], POLLERR);
    E(read(s[1], buf, 1));
    E(read(s[1], buf, 1));
    E(send(s[1], buf, 1, MSG_NOSIGNAL));
    state(s[1]);
    close(s[1]);
    SECTION("reset by unread bytes");
    tcp_pair(AF_INET, s);
    MUST(write(s[1], "unread", 6));
    state_after(s[0], POLLIN);
    close(s[0]);
    state_after(s[1], POLLERR);
    so_error(s[1]);
    so_error(s[1]);
    E(read(s[1], buf, 1));
    E(send(s[1], buf, 1, MSG_NOSIGNAL));
    close(s[1]);
    SECTION("writing to the closed");
    tcp_pair(AF_INET, s);
    close(s[0]);
    state_after(s[1], POLLRDHUP);
    E(send(s[1], "x", 1, MSG_NOSIGNAL)); /* is answered by a reset */
    state_after(s[1], POLLHUP);
    E(send(s[1], "x", 1, MSG_NOSIGNAL));
    E(read(s[1], buf, 1));
    close(s[1]);
}

static void lingering(void)
{
    struct linger l = {1, 5};
    int s[2];
    int64_t start;

    SECTION("SO_LINGER 5");
    tcp_pair(AF_INET, s);
    MUST(setsockopt(s[0], SOL_SOCKET, SO_LINGER, &l, sizeof(l)));
    MUST(write(s[0], "bytes", 5));
    start = now_ns(CLOCK_MONOTONIC);
    E(close(s[0]));
    SAY("soon", now_ns(CLOCK_MONOTONIC) - start < 2000 * MS);
    E(recv(s[1], buf, 5, MSG_WAITALL));
    E(read(s[1], buf, 5));
    close(s[1]);
}

static void *blocked_reader(void *arg)
{
    errno = 0;
    long n = read(*(int *)arg, buf, 10);

    return (void *)(n < 0 ? -(long)errno : n);
}

static void *blocked_accept(void *arg)
{
    errno = 0;
    long n = accept(*(int *)arg, NULL, NULL);

    return (void *)(n < 0 ? -(long)errno : 0);
}

static void woken(void)
{
    struct sockaddr_storage a;
    socklen_t len;
    pthread_t t;
    void *r;
    int s[2], l;

    SECTION("blocked calls");
    tcp_pair(AF_INET, s);
    pthread_create(&t, NULL, blocked_reader, &s[0]);
    sleep_ms(50);
    E(shutdown(s[0], SHUT_RDWR));
    pthread_join(t, &r);
    printf("  read gave %ld\n", (long)r);
    close(s[0]);
    close(s[1]);
    l = listener(AF_INET, SOCK_STREAM, &a, &len);
    pthread_create(&t, NULL, blocked_accept, &l);
    sleep_ms(50);
    E(shutdown(l, SHUT_RDWR));
    pthread_join(t, &r);
    printf("  accept gave %s\n", errno_name((int)-(long)r));
    state(l);
    E(accept(l, NULL, NULL));
    close(l);
    struct timeval tv = {0, 30000};
    tcp_pair(AF_INET, s);
    MUST(setsockopt(s[0], SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof(tv)));
    E(read(s[0], buf, 1));
    MUST(write(s[1], "ab", 2));
    E(recv(s[0], buf, 5, MSG_WAITALL)); /* what there was */
    MUST(setsockopt(s[0], SOL_SOCKET, SO_SNDTIMEO, &tv, sizeof(tv)));
    long n, total = 0;
    while ((n = write(s[0], buf, sizeof(buf))) == sizeof(buf))
        total += n;
    SAY("a short write or EAGAIN", n > 0 || errno == EAGAIN);
    E(write(s[0], buf, sizeof(buf)));
    close(s[0]);
    close(s[1]);
}

static void show_events(int ep)
{
    struct epoll_event e[4];
    int n = epoll_wait(ep, e, 4, 300);

    if (n <= 0)
        printf("  epoll: nothing\n");
    for (int i = 0; i < n; i++)
        printf("  epoll %d:%s%s%s%s%s\n", e[i].data.fd,
               e[i].events & EPOLLIN ? " IN" : "",
               e[i].events & EPOLLOUT ? " OUT" : "",
               e[i].events & EPOLLRDHUP ? " RDHUP" : "",
               e[i].events & EPOLLHUP ? " HUP" : "",
               e[i].events & EPOLLERR ? " ERR" : "");
}

static void watch(int ep, int fd, uint32_t events, int number)
{
    struct epoll_event e = {.events = events, .data.fd = number};

    E(epoll_ctl(ep, EPOLL_CTL_ADD, fd, &e));
}

static void edges(void)
{
    int s[2], ep = (int)MUST(epoll_create1(0));

    SECTION("epoll, edges");
    tcp_pair(AF_INET, s);
    watch(ep, s[1], EPOLLIN | EPOLLRDHUP | EPOLLET, 1);
    show_events(ep);
    MUST(write(s[0], "abc", 3));
    show_events(ep);
    show_events(ep); /* told once */
    E(read(s[1], buf, 1));
    show_events(ep);
    MUST(write(s[0], "d", 1)); /* more came */
    show_events(ep);
    E(read(s[1], buf, 10));
    E(shutdown(s[0], SHUT_WR));
    show_events(ep);
    show_events(ep);
    E(read(s[1], buf, 10));
    close(s[0]);
    close(s[1]);
    close(ep);
    SECTION("epoll, levels");
    ep = (int)MUST(epoll_create1(0));
    tcp_pair(AF_INET6, s);
    watch(ep, s[1], EPOLLIN | EPOLLOUT, 1);
    show_events(ep);
    MUST(write(s[0], "abc", 3));
    state_after(s[1], POLLIN);
    show_events(ep);
    show_events(ep);
    E(read(s[1], buf, 10));
    show_events(ep);
    close(s[0]);
    state_after(s[1], POLLRDHUP);
    show_events(ep);
    close(s[1]);
    close(ep);
}

static void listening(void)
{
    struct sockaddr_storage a;
    socklen_t len;
    int s = listener(AF_INET, SOCK_STREAM, &a, &len);
    int ep = (int)MUST(epoll_create1(0)), c, d;

    SECTION("epoll, a listener");
    watch(ep, s, EPOLLIN | EPOLLEXCLUSIVE, 1);
    show_events(ep);
    c = (int)MUST(socket(AF_INET, SOCK_STREAM, 0));
    MUST(connect(c, (void *)&a, len));
    show_events(ep);
    OK(d = accept(s, NULL, NULL));
    show_events(ep);
    close(c);
    close(d);
    close(s);
    close(ep);
}

int main(void)
{
    watchdog();
    on_signal(SIGPIPE, on_sigpipe, 0);
    refused(AF_INET);
    refused(AF_INET6);
    nonblock();
    half_closed(AF_INET);
    half_closed(AF_INET6);
    reset();
    lingering();
    woken();
    edges();
    listening();
    return 0;
}
