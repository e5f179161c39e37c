/* SPDX-License-Identifier: BSD-2-Clause */
/* TCP over loopback: making sockets, names, connections, bytes, flags. */
#include "inet.h"

static char buf[1 << 20], back[1 << 20];

static void making(void)
{
    int s;

    SECTION("making");
    OK(s = socket(AF_INET, SOCK_STREAM, 0));
    close(s);
    OK(s = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC,
                  IPPROTO_TCP));
    E(fcntl(s, F_GETFD));
    YES((fcntl(s, F_GETFL) & O_NONBLOCK) != 0);
    close(s);
    E(socket(AF_INET, SOCK_STREAM, IPPROTO_UDP));
    E(socket(AF_INET, SOCK_DGRAM, IPPROTO_TCP));
    E(socket(AF_INET, SOCK_SEQPACKET, 0));
    E(socket(AF_INET, 9, 0));
    E(socket(AF_INET, 11, 0));
    E(socket(AF_INET, SOCK_STREAM, -1));
    E(socket(AF_INET, SOCK_STREAM, 300));
    E(socket(AF_INET6, SOCK_STREAM, IPPROTO_UDP));
    int pair[2];
    E(socketpair(AF_INET, SOCK_STREAM, 0, pair));
}

static void fresh(int family)
{
    int s = (int)MUST(socket(family, SOCK_STREAM, 0)), v;

    SECTION(family == AF_INET ? "fresh v4" : "fresh v6");
    state(s);
    names(s);
    E(read(s, buf, 1));
    E(recv(s, buf, 1, MSG_DONTWAIT));
    signal(SIGPIPE, SIG_IGN);
    E(write(s, "x", 1));
    E(shutdown(s, SHUT_RDWR));
    E(shutdown(s, 5));
    E(accept(s, NULL, NULL));
    E(ioctl(s, FIONREAD, &v));
    E(v);
    so_error(s);
    E(lseek(s, 0, SEEK_SET));
    E(pread(s, buf, 1, 0));
    close(s);
}

static void binding(int family)
{
    struct sockaddr_storage a, other;
    socklen_t len;
    int s = (int)MUST(socket(family, SOCK_STREAM, 0)), t;

    SECTION(family == AF_INET ? "bind v4" : "bind v6");
    len = loopback(&a, family, 0);
    E(bind(s, (void *)&a, 4));
    E(bind(s, (void *)&a, 1000));
    E(bind(s, (void *)8, len));
    a.ss_family = AF_UNIX;
    E(bind(s, (void *)&a, len));
    a.ss_family = (sa_family_t)family;
    if (family == AF_INET)
        ((struct sockaddr_in *)&a)->sin_addr.s_addr = inet_addr("192.0.2.1");
    else
        inet_pton(AF_INET6, "2001:db8::1",
                  &((struct sockaddr_in6 *)&a)->sin6_addr);
    E(bind(s, (void *)&a, len));
    E(listen(s, 1)); /* binds by itself */
    names(s);
    len = loopback(&a, family, 0);
    E(bind(s, (void *)&a, len));
    close(s);
    s = listener(family, SOCK_STREAM, &a, &len);
    names(s);
    state(s);
    E(listen(s, 5));
    E(bind(s, (void *)&a, len));
    E(read(s, buf, 1));
    E(write(s, buf, 1));
    E(connect(s, (void *)&a, len));
    t = (int)MUST(socket(family, SOCK_STREAM, 0));
    E(bind(t, (void *)&a, len));
    other = a;
    E(setsockopt(t, SOL_SOCKET, SO_REUSEADDR, &(int){1}, sizeof(int)));
    E(bind(t, (void *)&other, len));
    close(t);
    E(fcntl(s, F_SETFL, O_NONBLOCK));
    E(accept(s, NULL, NULL));
    E(accept4(s, NULL, NULL, 0x1234));
    E(ioctl(s, FIONREAD, &t));
    close(s);
}

static void reuse_port(void)
{
    struct sockaddr_storage a;
    socklen_t len = loopback(&a, AF_INET, 0);
    int s = (int)MUST(socket(AF_INET, SOCK_STREAM, 0));
    int t = (int)MUST(socket(AF_INET, SOCK_STREAM, 0)), u;

    SECTION("SO_REUSEPORT");
    E(setsockopt(s, SOL_SOCKET, SO_REUSEPORT, &(int){1}, sizeof(int)));
    E(bind(s, (void *)&a, len));
    len = loopback(&a, AF_INET, port_of(s));
    E(bind(t, (void *)&a, len));
    E(setsockopt(t, SOL_SOCKET, SO_REUSEPORT, &(int){1}, sizeof(int)));
    E(bind(t, (void *)&a, len));
    E(listen(s, 3));
    E(listen(t, 3));
    u = (int)MUST(socket(AF_INET, SOCK_STREAM, 0));
    E(connect(u, (void *)&a, len));
    close(s);
    close(t);
    close(u);
}

static void *client(void *arg)
{
    struct sockaddr_storage *a = arg;
    int s = (int)MUST(socket(a->ss_family, SOCK_STREAM, 0));
    char text[8] = "";

    sleep_ms(20);
    MUST(connect(s, (void *)a,
                 a->ss_family == AF_INET ? sizeof(struct sockaddr_in)
                                         : sizeof(struct sockaddr_in6)));
    MUST(write(s, "ping", 4));
    if (recv(s, text, 4, MSG_WAITALL) != 4 || memcmp(text, "pong", 4) != 0)
        printf("no answer\n");
    close(s);
    return NULL;
}

static void talking(int family)
{
    struct sockaddr_storage a, from;
    socklen_t len, from_len = sizeof(from);
    int s = listener(family, SOCK_STREAM, &a, &len), c, n = -1;
    pthread_t t;
    char text[100];

    SECTION(family == AF_INET ? "talk v4" : "talk v6");
    pthread_create(&t, NULL, client, &a);
    OK(c = accept4(s, (void *)&from, &from_len, SOCK_CLOEXEC));
    show_address("from", &from, from_len);
    E(fcntl(c, F_GETFD));
    names(c);
    E(recv(c, text, 4, MSG_WAITALL));
    printf("  %.4s\n", text);
    state(c);
    E(recv(c, text, 1, MSG_DONTWAIT));
    E(write(c, "po", 2));
    struct iovec iov[2] = {{"n", 1}, {"g", 1}};
    E(writev(c, iov, 2));
    pthread_join(t, NULL);
    state_after(c, POLLRDHUP);
    E(read(c, text, 10));
    E(read(c, text, 10));
    E(ioctl(c, FIONREAD, &n));
    E(n);
    close(c);
    close(s);
}

static void flags(void)
{
    int s[2], n = -1;
    char text[64];

    SECTION("flags");
    tcp_pair(AF_INET, s);
    state(s[0]);
    E(send(s[0], "hello world", 11, 0));
    state_after(s[1], POLLIN);
    E(ioctl(s[1], FIONREAD, &n));
    E(n);
    E(recv(s[1], text, 5, MSG_PEEK));
    E(recv(s[1], text, 5, 0));
    E(recv(s[1], text, 100, MSG_PEEK));
    E(recv(s[1], text, 3, MSG_TRUNC)); /* thrown away */
    E(recv(s[1], text, 100, 0));
    printf("  %.3s\n", text);
    E(recv(s[1], text, 1, MSG_DONTWAIT));
    E(recv(s[1], text, 1, MSG_OOB));
    E(recv(s[1], text, 1, MSG_ERRQUEUE));
    E(recv(s[1], text, 0, MSG_DONTWAIT));
    E(read(s[1], text, 0));
    E(write(s[0], text, 0));
    E(send(s[0], (void *)8, 4, 0));
    E(send(s[0], "more", 4, MSG_MORE));
    E(send(s[0], " and more", 9, 0));
    E(recv(s[1], text, 13, MSG_WAITALL));
    printf("  %.13s\n", text);
    E(send(s[0], "abc", 3, MSG_DONTWAIT | MSG_NOSIGNAL));
    state_after(s[1], POLLIN);
    E(recv(s[1], (void *)8, 3, 0));
    E(recv(s[1], text, 3, 0));
    struct sockaddr_storage a;
    socklen_t len = loopback(&a, AF_INET, htons(9));
    E(sendto(s[0], "x", 1, 0, (void *)&a, len)); /* ignored */
    E(recv(s[1], text, 1, 0));
    len = sizeof(a);
    E(sendto(s[1], "y", 1, 0, NULL, 0));
    E(recvfrom(s[0], text, 1, 0, (void *)&a, &len));
    printf("  no name: %d\n", (int)len);
    E(connect(s[0], (void *)&a, sizeof(struct sockaddr_in)));
    close(s[0]);
    close(s[1]);
}

static void *reader(void *arg)
{
    int fd = *(int *)arg;
    size_t got = 0;
    ssize_t n;

    while (got < sizeof(back) &&
           (n = read(fd, back + got, sizeof(back) - got)) > 0)
        got += (size_t)n;
    return (void *)(long)(got == sizeof(back));
}

static void bulk(int family)
{
    int s[2];
    pthread_t t;
    void *all_came;

    SECTION(family == AF_INET ? "bulk v4" : "bulk v6");
    for (size_t i = 0; i < sizeof(buf); i++)
        buf[i] = (char)(i * 7 ^ i >> 9);
    memset(back, 0, sizeof(back));
    tcp_pair(family, s);
    pthread_create(&t, NULL, reader, &s[1]);
    E(write(s[0], buf, sizeof(buf)));
    pthread_join(t, &all_came);
    YES(all_came != NULL);
    YES(memcmp(buf, back, sizeof(buf)) == 0);
    /* Until it is full, then all of it back. */
    MUST(fcntl(s[0], F_SETFL, O_NONBLOCK));
    long total = 0, n, in = 0;
    for (int quiet = 0; quiet < 3;) {
        n = write(s[0], buf, 30000);
        if (n > 0) {
            total += n;
            quiet = 0;
            continue;
        }
        quiet++;
        sleep_ms(20);
    }
    printf("  full: %s, more than 64 KiB %d\n", errno_name(errno),
           total > 65536);
    state(s[0]);
    while (in < total && (n = read(s[1], back, sizeof(back))) > 0)
        in += n;
    SAY("all of it", in == total);
    state_after(s[0], POLLOUT);
    close(s[0]);
    close(s[1]);
}

int main(void)
{
    watchdog();
    making();
    fresh(AF_INET);
    fresh(AF_INET6);
    binding(AF_INET);
    binding(AF_INET6);
    reuse_port();
    talking(AF_INET);
    talking(AF_INET6);
    flags();
    bulk(AF_INET);
    bulk(AF_INET6);
    return 0;
}
