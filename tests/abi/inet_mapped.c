/* SPDX-License-Identifier: BSD-2-Clause */
/* IPv6 sockets that talk IPv4, and those that do not. */
#include "inet.h"

static char buf[100];

static void mapped(struct sockaddr_in6 *a, in_port_t port)
{
    memset(a, 0, sizeof(*a));
    a->sin6_family = AF_INET6;
    a->sin6_port = port;
    inet_pton(AF_INET6, "::ffff:127.0.0.1", &a->sin6_addr);
}

static void dual(int type)
{
    struct sockaddr_in6 any = {.sin6_family = AF_INET6};
    struct sockaddr_storage a, from;
    socklen_t len, from_len = sizeof(from);
    int s = (int)MUST(socket(AF_INET6, type, 0)), c, d;

    SECTION(type == SOCK_STREAM ? "both families, TCP" : "both, UDP");
    MUST(setsockopt(s, IPPROTO_IPV6, IPV6_V6ONLY, &(int){0}, 4));
    E(bind(s, (void *)&any, sizeof(any)));
    if (type == SOCK_STREAM)
        E(listen(s, 5));
    len = loopback(&a, AF_INET, port_of(s));
    d = (int)MUST(socket(AF_INET, type, 0));
    E(bind(d, (void *)&a, len)); /* taken */
    close(d);
    c = (int)MUST(socket(AF_INET, type, 0));
    E(connect(c, (void *)&a, len));
    E(send(c, "hi", 2, 0));
    d = type == SOCK_STREAM ? (int)MUST(accept(s, (void *)&from, &from_len))
                            : s;
    if (type == SOCK_STREAM) {
        names(d);
        E(recv(d, buf, 2, MSG_WAITALL));
    } else {
        E(recvfrom(s, buf, 10, 0, (void *)&from, &from_len));
    }
    show_address("from", &from, from_len);
    if (type == SOCK_DGRAM) {
        E(sendto(s, "answer", 6, 0, (void *)&from, from_len));
        E(recv(c, buf, 10, 0));
    }
    close(c);
    if (d != s)
        close(d);
    close(s);
}

static void to_mapped(int type)
{
    struct sockaddr_storage a;
    struct sockaddr_in6 m;
    socklen_t len;
    int s = listener(AF_INET, type, &a, &len);
    int c = (int)MUST(socket(AF_INET6, type, 0));

    SECTION(type == SOCK_STREAM ? "to a mapped address, TCP" : "UDP");
    MUST(setsockopt(c, IPPROTO_IPV6, IPV6_V6ONLY, &(int){0}, 4));
    mapped(&m, port_of(s));
    E(connect(c, (void *)&m, sizeof(m)));
    names(c);
    E(send(c, "x", 1, 0));
    close(c);
    c = (int)MUST(socket(AF_INET6, type, 0));
    MUST(setsockopt(c, IPPROTO_IPV6, IPV6_V6ONLY, &(int){1}, 4));
    E(connect(c, (void *)&m, sizeof(m)));
    E(bind(c, (void *)&m, sizeof(m)));
    E(connect(c, (void *)&a, len)); /* sockaddr_in */
    close(c);
    c = (int)MUST(socket(AF_INET, type, 0));
    E(connect(c, (void *)&m, sizeof(m)));
    E(bind(c, (void *)&m, sizeof(m)));
    close(c);
    close(s);
}

static void only_v6(void)
{
    struct sockaddr_in6 any = {.sin6_family = AF_INET6};
    struct sockaddr_storage a;
    socklen_t len;
    int s = (int)MUST(socket(AF_INET6, SOCK_STREAM, 0)), t;

    SECTION("IPV6_V6ONLY");
    MUST(setsockopt(s, IPPROTO_IPV6, IPV6_V6ONLY, &(int){1}, 4));
    E(bind(s, (void *)&any, sizeof(any)));
    E(listen(s, 1));
    len = loopback(&a, AF_INET, port_of(s));
    t = (int)MUST(socket(AF_INET, SOCK_STREAM, 0));
    E(connect(t, (void *)&a, len));
    close(t);
    t = (int)MUST(socket(AF_INET, SOCK_STREAM, 0));
    E(bind(t, (void *)&a, len)); /* free for IPv4 */
    E(listen(t, 1));
    close(t);
    close(s);
}

static void nowhere(int family)
{
    struct sockaddr_storage a, any;
    socklen_t len;
    int s = listener(family, SOCK_STREAM, &a, &len);
    int c = (int)MUST(socket(family, SOCK_STREAM, 0));

    SECTION(family == AF_INET ? "to 0.0.0.0" : "to ::");
    memset(&any, 0, sizeof(any));
    any.ss_family = (sa_family_t)family;
    ((struct sockaddr_in *)&any)->sin_port = port_of(s);
    E(connect(c, (void *)&any, len));
    names(c);
    close(c);
    close(s);
}

static void link_local(void)
{
    struct sockaddr_in6 a = {.sin6_family = AF_INET6, .sin6_port = htons(9)};
    int s = (int)MUST(socket(AF_INET6, SOCK_STREAM, 0));

    SECTION("link-local");
    inet_pton(AF_INET6, "fe80::1", &a.sin6_addr);
    E(connect(s, (void *)&a, sizeof(a))); /* which link? */
    E(bind(s, (void *)&a, sizeof(a)));
    close(s);
}

int main(void)
{
    watchdog();
    signal(SIGPIPE, SIG_IGN);
    dual(SOCK_STREAM);
    dual(SOCK_DGRAM);
    to_mapped(SOCK_STREAM);
    to_mapped(SOCK_DGRAM);
    only_v6();
    nowhere(AF_INET);
    nowhere(AF_INET6);
    link_local();
    return 0;
}
