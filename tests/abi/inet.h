/* SPDX-License-Identifier: BSD-2-Clause */
/* What the programs about Internet sockets share. Ports are picked by the
 * kernel and never printed. */
#pragma once
#include "abi.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

/* 127.0.0.1 or ::1 with this port */
UNUSED static socklen_t loopback(struct sockaddr_storage *a, int family,
                                 in_port_t port)
{
    struct sockaddr_in *v4 = (void *)a;
    struct sockaddr_in6 *v6 = (void *)a;

    memset(a, 0, sizeof(*a));
    a->ss_family = (sa_family_t)family;
    if (family == AF_INET) {
        v4->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        v4->sin_port = port;
        return sizeof(*v4);
    }
    v6->sin6_addr = in6addr_loopback;
    v6->sin6_port = port;
    return sizeof(*v6);
}

UNUSED static in_port_t port_of(int fd)
{
    struct sockaddr_storage a;
    socklen_t len = sizeof(a);

    MUST(getsockname(fd, (void *)&a, &len));
    return a.ss_family == AF_INET ? ((struct sockaddr_in *)&a)->sin_port
                                  : ((struct sockaddr_in6 *)&a)->sin6_port;
}

/* Prints an address with the port as zero or not. */
UNUSED static void show_address(const char *what,
                                const struct sockaddr_storage *a,
                                socklen_t len)
{
    const struct sockaddr_in *v4 = (const void *)a;
    const struct sockaddr_in6 *v6 = (const void *)a;
    char text[64] = "?";
    bool is_v4 = a->ss_family == AF_INET;

    if (is_v4)
        inet_ntop(AF_INET, &v4->sin_addr, text, sizeof(text));
    else if (a->ss_family == AF_INET6)
        inet_ntop(AF_INET6, &v6->sin6_addr, text, sizeof(text));
    printf("  %s: family %d, %d bytes, %s, port %s\n", what, a->ss_family,
           (int)len, text,
           (is_v4 ? v4->sin_port : v6->sin6_port) ? "given" : "none");
}

UNUSED static void names(int fd)
{
    struct sockaddr_storage a;
    socklen_t len = sizeof(a);

    memset(&a, 0, sizeof(a));
    if (E(getsockname(fd, (void *)&a, &len)) == 0)
        show_address("own", &a, len);
    len = sizeof(a);
    memset(&a, 0, sizeof(a));
    if (E(getpeername(fd, (void *)&a, &len)) == 0)
        show_address("peer", &a, len);
}

UNUSED static void state(int fd)
{
    struct pollfd p = {fd, POLLIN | POLLOUT | POLLRDHUP | POLLPRI, 0};

    poll(&p, 1, 0);
    printf("  poll:%s%s%s%s%s%s\n", p.revents & POLLIN ? " IN" : "",
           p.revents & POLLPRI ? " PRI" : "",
           p.revents & POLLOUT ? " OUT" : "",
           p.revents & POLLHUP ? " HUP" : "",
           p.revents & POLLRDHUP ? " RDHUP" : "",
           p.revents & POLLERR ? " ERR" : "");
}

/* Waits (2 s) until one of the events is there, then shows the state. */
UNUSED static void state_after(int fd, short events)
{
    struct pollfd p = {fd, events, 0};

    if (poll(&p, 1, 2000) == 0)
        printf("  nothing came\n");
    state(fd);
}

UNUSED static int listener(int family, int type, struct sockaddr_storage *a,
                           socklen_t *len)
{
    int s = (int)MUST(socket(family, type, 0));

    *len = loopback(a, family, 0);
    MUST(bind(s, (void *)a, *len));
    if (type == SOCK_STREAM)
        MUST(listen(s, 16));
    *len = loopback(a, family, port_of(s));
    return s;
}

/* A connected pair through the loopback interface. */
UNUSED static void tcp_pair(int family, int fds[2])
{
    struct sockaddr_storage a;
    socklen_t len;
    int s = listener(family, SOCK_STREAM, &a, &len);

    fds[0] = (int)MUST(socket(family, SOCK_STREAM, 0));
    MUST(connect(fds[0], (void *)&a, len));
    fds[1] = (int)MUST(accept(s, NULL, NULL));
    close(s);
}

UNUSED static void so_error(int fd)
{
    socklen_t len = sizeof(int);
    int v = -1;

    MUST(getsockopt(fd, SOL_SOCKET, SO_ERROR, &v, &len));
    printf("  SO_ERROR %s\n", v == 0 ? "0" : errno_name(v));
}
