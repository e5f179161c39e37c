/* SPDX-License-Identifier: BSD-2-Clause */
/* AF_UNIX stream sockets: pairs, named, abstract; shutdown, peek, errors. */
#include "abi.h"

#include <poll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/un.h>

static char buf[100000];

static socklen_t name(struct sockaddr_un *a, const char *text)
{
    memset(a, 0, sizeof(*a));
    a->sun_family = AF_UNIX;
    strcpy(a->sun_path, text);
    return (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(text) +
                       1);
}

static socklen_t abstract(struct sockaddr_un *a, const char *text)
{
    memset(a, 0, sizeof(*a));
    a->sun_family = AF_UNIX;
    /* The name carries the pid: several may run on one host. */
    return (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 +
                       (size_t)sprintf(a->sun_path + 1, "%s-%d", text,
                                       (int)getpid()));
}

static void state(int fd)
{
    struct pollfd p = {fd, POLLIN | POLLOUT | POLLRDHUP, 0};

    poll(&p, 1, 0);
    printf("  poll:%s%s%s%s%s\n", p.revents & POLLIN ? " IN" : "",
           p.revents & POLLOUT ? " OUT" : "", p.revents & POLLHUP ? " HUP" : "",
           p.revents & POLLRDHUP ? " RDHUP" : "",
           p.revents & POLLERR ? " ERR" : "");
}

static void pairs(void)
{
    int s[2], bad[2], n = -1;

    SECTION("pairs");
    E(socketpair(AF_UNIX, SOCK_STREAM, 0, s));
    E(socketpair(AF_UNIX, SOCK_STREAM, 0, (void *)8));
    E(socketpair(AF_UNIX, 4, 0, bad));
    E(socketpair(AF_UNIX, SOCK_STREAM | 0x100, 0, bad));
    E(socketpair(AF_UNIX, SOCK_STREAM, 9, bad));
    E(socket(999, SOCK_STREAM, 0));
    state(s[0]);
    E(write(s[0], "hello", 5));
    E(send(s[0], " world", 6, 0));
    state(s[1]);
    E(ioctl(s[1], FIONREAD, &n));
    E(n);
    E(recv(s[1], buf, 5, MSG_PEEK));
    E(recv(s[1], buf, 3, 0));
    E(recv(s[1], buf + 3, 100, 0)); /* across the two writes */
    printf("  %.11s\n", buf);
    E(recv(s[1], buf, 1, MSG_DONTWAIT));
    E(send(s[0], "abcdef", 6, 0));
    E(recv(s[1], buf, 2, MSG_TRUNC));
    E(recv(s[1], buf, 4, MSG_WAITALL));
    E(send(s[0], "", 0, 0));
    E(recv(s[1], buf, 1, MSG_DONTWAIT));
    E(send(s[0], (void *)8, 4, 0));
    SECTION("one way shut");
    E(shutdown(s[0], SHUT_WR));
    E(write(s[0], "x", 1));
    state(s[1]);
    E(read(s[1], buf, 10));
    E(write(s[1], "back", 4));
    E(read(s[0], buf, 10));
    E(shutdown(s[0], 7));
    E(shutdown(s[0], SHUT_RD));
    E(write(s[1], "x", 1));
    E(read(s[0], buf, 1));
    state(s[0]);
    close(s[0]);
    close(s[1]);
    SECTION("closed");
    MUST(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, s));
    E(fcntl(s[1], F_GETFD));
    E(write(s[0], "last", 4));
    close(s[0]);
    state(s[1]);
    E(read(s[1], buf, 10));
    E(read(s[1], buf, 10));
    E(write(s[1], "x", 1));
    E(send(s[1], "x", 1, MSG_NOSIGNAL));
    close(s[1]);
    /* Closed with data unread: the other side learns it. */
    MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, s));
    E(write(s[0], "lost", 4));
    close(s[1]);
    E(read(s[0], buf, 10));
    E(read(s[0], buf, 10));
    close(s[0]);
}

static void options(void)
{
    struct timeval tv = {0, 30000};
    socklen_t len = sizeof(int);
    int s[2], v = -1;
    int64_t start;

    SECTION("options");
    MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, s));
    E(getsockopt(s[0], SOL_SOCKET, SO_TYPE, &v, &len));
    printf("  %d\n", v);
    E(getsockopt(s[0], SOL_SOCKET, SO_DOMAIN, &v, &len));
    printf("  %d\n", v);
    E(getsockopt(s[0], SOL_SOCKET, SO_PROTOCOL, &v, &len));
    printf("  %d\n", v);
    E(getsockopt(s[0], SOL_SOCKET, SO_ERROR, &v, &len));
    printf("  %d\n", v);
    E(getsockopt(s[0], SOL_SOCKET, SO_ACCEPTCONN, &v, &len));
    printf("  %d\n", v);
    v = 20000;
    E(setsockopt(s[0], SOL_SOCKET, SO_SNDBUF, &v, sizeof(v)));
    E(getsockopt(s[0], SOL_SOCKET, SO_SNDBUF, &v, &len));
    printf("  %d\n", v); /* doubled */
    E(getsockopt(s[0], SOL_SOCKET, 9999, &v, &len));
    E(setsockopt(s[0], SOL_SOCKET, 9999, &v, sizeof(v)));
    E(setsockopt(s[0], SOL_SOCKET, SO_SNDBUF, &v, 2));
    E(getsockopt(1, SOL_SOCKET, SO_TYPE, &v, &len));
    E(getsockopt(99, SOL_SOCKET, SO_TYPE, &v, &len));
    E(setsockopt(s[0], SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof(tv)));
    start = now_ns(CLOCK_MONOTONIC);
    E(read(s[0], buf, 1));
    SAY("waited", now_ns(CLOCK_MONOTONIC) - start >= 25 * MS);
    MUST(fcntl(s[1], F_SETFL, O_NONBLOCK));
    long total = 0, n;
    while ((n = write(s[1], buf, 4096)) > 0)
        total += n;
    printf("  full: %s, more than 32 KiB %d\n", errno_name(errno),
           total > 32768);
    state(s[1]);
    long back = 0;
    while (back < total && (n = read(s[0], buf, sizeof(buf))) > 0)
        back += n;
    SAY("all of it", back == total);
    state(s[1]);
    close(s[0]);
    close(s[1]);
}

static void *client(void *arg)
{
    int s = (int)MUST(socket(AF_UNIX, SOCK_STREAM, 0));
    struct sockaddr_un *a = arg;
    socklen_t len = a->sun_path[0] == 0 ? abstract(a, "abi-stream")
                                        : name(a, "socket");

    sleep_ms(30);
    if (connect(s, (void *)a, len) != 0)
        printf("connect: %s\n", errno_name(errno));
    MUST(write(s, "ping", 4));
    if (read(s, buf, 4) != 4)
        printf("no answer\n");
    close(s);
    return NULL;
}

static void listening(bool is_abstract)
{
    struct sockaddr_un a, b, got;
    socklen_t len = is_abstract ? abstract(&a, "abi-stream")
                                : name(&a, "socket"),
              got_len;
    int s = (int)MUST(socket(AF_UNIX, SOCK_STREAM, 0)), c, d;
    pthread_t t;
    char text[8];

    SECTION(is_abstract ? "abstract" : "named");
    E(listen(s, 5));
    E(connect(s, (void *)&a, len));
    E(bind(s, (void *)&a, len));
    E(bind(s, (void *)&a, len));
    d = (int)MUST(socket(AF_UNIX, SOCK_STREAM, 0));
    E(bind(d, (void *)&a, len));
    E(connect(d, (void *)&a, len)); /* nobody listens yet */
    E(accept(s, NULL, NULL));
    E(listen(s, 1));
    b = a;
    pthread_create(&t, NULL, client, &b);
    got_len = sizeof(got);
    c = (int)OK(accept4(s, (void *)&got, &got_len, SOCK_CLOEXEC));
    printf("  length of the client's name %d, family %d\n", (int)got_len,
           got.sun_family);
    E(fcntl(c, F_GETFD));
    E(read(c, text, 4));
    printf("  %.4s\n", text);
    got_len = sizeof(got);
    E(getsockname(c, (void *)&got, &got_len));
    SAY("the listener's name",
        got_len == len && memcmp(&got, &a, len) == 0);
    got_len = 3;
    E(getsockname(c, (void *)&got, &got_len));
    SAY("length is the whole one", got_len == len);
    E(write(c, "pong", 4));
    pthread_join(t, NULL);
    E(read(c, text, 4));
    close(c);
    state(s);
    E(fcntl(s, F_SETFL, O_NONBLOCK));
    E(accept(s, NULL, NULL));
    E(accept4(s, NULL, NULL, 0x123));
    E(connect(d, (void *)&a, len));
    E(connect(d, (void *)&a, len));
    E(write(d, "early", 5)); /* before it is accepted */
    state(s);
    E(listen(d, 1));
    E(write(s, "x", 1));
    E(read(s, text, 1));
    close(s);
    E(read(d, buf, 10)); /* never accepted: reset */
    close(d);
    d = (int)MUST(socket(AF_UNIX, SOCK_STREAM, 0));
    E(connect(d, (void *)&a, len));
    if (!is_abstract) {
        struct stat st;
        stat("socket", &st);
        SAY("a socket in the file system", S_ISSOCK(st.st_mode));
        E(unlink("socket"));
        E(connect(d, (void *)&a, len));
        put_file("plain", "x");
        len = name(&a, "plain");
        E(connect(d, (void *)&a, len));
        len = name(&a, "none/x");
        E(bind(d, (void *)&a, len));
        a.sun_family = AF_INET;
        E(bind(d, (void *)&a, len));
        E(connect(d, (void *)&a, len));
        E(bind(d, (void *)&a, 1));
        E(bind(d, (void *)&a, 200));
        E(bind(1, (void *)&a, len));
        E(getpeername(d, (void *)&a, &len));
        E(write(d, "x", 1));
        E(read(d, buf, 1));
    }
    close(d);
}

int main(void)
{
    watchdog();
    scratch_begin();
    signal(SIGPIPE, SIG_IGN);
    pairs();
    options();
    listening(false);
    listening(true);
    return 0;
}
