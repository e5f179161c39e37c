/* SPDX-License-Identifier: BSD-2-Clause */
/* What one datagram has of its own: hop limit, traffic class, source, told by
 * sendmsg and seen by recvmsg. */
#include "inet.h"

static char control[256];

/* One more header behind `len` bytes; returns the new length. */
static size_t add(size_t len, int level, int type, const void *data, size_t n)
{
    struct cmsghdr *c = (struct cmsghdr *)(control + len);

    memset(c, 0, CMSG_SPACE(n));
    c->cmsg_len = CMSG_LEN(n);
    c->cmsg_level = level;
    c->cmsg_type = type;
    memcpy(CMSG_DATA(c), data, n);
    return len + CMSG_SPACE(n);
}

static size_t add_int(size_t len, int level, int type, int v)
{
    return add(len, level, type, &v, sizeof(v));
}

static long send_with(int fd, const struct sockaddr_storage *to,
                      socklen_t to_len, size_t len)
{
    struct iovec iov = {"hello", 5};
    struct msghdr m = {.msg_name = (void *)to, .msg_namelen = to_len,
                       .msg_iov = &iov, .msg_iovlen = 1,
                       .msg_control = len ? control : NULL,
                       .msg_controllen = len};
    return E(sendmsg(fd, &m, 0));
}

static void show_cmsg(const struct cmsghdr *c)
{
    const uint8_t *p = CMSG_DATA(c);
    char text[64];
    int v = 0;

    if (c->cmsg_type == IP_PKTINFO && c->cmsg_level == IPPROTO_IP) {
        inet_ntop(AF_INET, p + 4, text, sizeof(text));
        printf("  to %s", text);
        inet_ntop(AF_INET, p + 8, text, sizeof(text));
        printf(", header %s\n", text);
        return;
    }
    if (c->cmsg_type == IPV6_PKTINFO && c->cmsg_level == IPPROTO_IPV6) {
        inet_ntop(AF_INET6, p, text, sizeof(text));
        printf("  to %s\n", text);
        return;
    }
    memcpy(&v, p, c->cmsg_len - CMSG_LEN(0) < 4 ? 1 : 4);
    printf("  level %d type %d: %d\n", c->cmsg_level, c->cmsg_type, v);
}

static void receive(int fd)
{
    struct sockaddr_storage from;
    char text[16];
    struct iovec iov = {text, sizeof(text)};
    struct msghdr m = {.msg_name = &from, .msg_namelen = sizeof(from),
                       .msg_iov = &iov, .msg_iovlen = 1,
                       .msg_control = control,
                       .msg_controllen = sizeof(control)};
    struct pollfd p = {fd, POLLIN, 0};

    if (poll(&p, 1, 2000) == 0) {
        printf("  nothing came\n");
        return;
    }
    E(recvmsg(fd, &m, 0));
    show_address("from", &from, m.msg_namelen);
    for (struct cmsghdr *c = CMSG_FIRSTHDR(&m); c; c = CMSG_NXTHDR(&m, c))
        show_cmsg(c);
}

static void v4(void)
{
    struct sockaddr_storage a;
    struct in_pktinfo info = {.ipi_ifindex = 0};
    socklen_t len;
    uint8_t byte = 0x28;
    int on = 1, r = listener(AF_INET, SOCK_DGRAM, &a, &len);
    int s = (int)MUST(socket(AF_INET, SOCK_DGRAM, 0));

    SECTION("IPv4");
    MUST(setsockopt(r, IPPROTO_IP, IP_RECVTTL, &on, sizeof(on)));
    MUST(setsockopt(r, IPPROTO_IP, IP_RECVTOS, &on, sizeof(on)));
    MUST(setsockopt(r, IPPROTO_IP, IP_PKTINFO, &on, sizeof(on)));
    send_with(s, &a, len, 0);
    receive(r);
    send_with(s, &a, len, add_int(0, IPPROTO_IP, IP_TTL, 33));
    receive(r);
    send_with(s, &a, len, add_int(0, IPPROTO_IP, IP_TOS, 0x10));
    receive(r);
    send_with(s, &a, len, add(0, IPPROTO_IP, IP_TOS, &byte, 1));
    receive(r);
    send_with(s, &a, len,
              add_int(add_int(0, IPPROTO_IP, IP_TTL, 7), IPPROTO_IP, IP_TOS,
                      0x20));
    receive(r);
    info.ipi_spec_dst.s_addr = htonl(INADDR_LOOPBACK);
    send_with(s, &a, len, add(0, IPPROTO_IP, IP_PKTINFO, &info,
                              sizeof(info)));
    receive(r);
    info.ipi_spec_dst.s_addr = htonl(0x7f000003);
    send_with(s, &a, len, add(0, IPPROTO_IP, IP_PKTINFO, &info,
                              sizeof(info)));
    receive(r);
    info.ipi_spec_dst.s_addr = htonl(0xc6336401); /* 198.51.100.1 */
    send_with(s, &a, len, add(0, IPPROTO_IP, IP_PKTINFO, &info,
                              sizeof(info)));
    /* The socket keeps its own. */
    send_with(s, &a, len, 0);
    receive(r);
    send_with(s, &a, len, add_int(0, IPPROTO_IP, IP_TTL, 0));
    send_with(s, &a, len, add_int(0, IPPROTO_IP, IP_TTL, 256));
    send_with(s, &a, len, add_int(0, IPPROTO_IP, IP_RECVTOS, 1));
    send_with(s, &a, len, add_int(0, IPPROTO_UDP, 9999, 1));
    close(s);
    close(r);
}

static void v6(void)
{
    struct sockaddr_storage a;
    struct in6_pktinfo info = {.ipi6_ifindex = 0};
    socklen_t len;
    int on = 1, r = listener(AF_INET6, SOCK_DGRAM, &a, &len);
    int s = (int)MUST(socket(AF_INET6, SOCK_DGRAM, 0));

    SECTION("IPv6");
    MUST(setsockopt(r, IPPROTO_IPV6, IPV6_RECVHOPLIMIT, &on, sizeof(on)));
    MUST(setsockopt(r, IPPROTO_IPV6, IPV6_RECVTCLASS, &on, sizeof(on)));
    MUST(setsockopt(r, IPPROTO_IPV6, IPV6_RECVPKTINFO, &on, sizeof(on)));
    send_with(s, &a, len, 0);
    receive(r);
    send_with(s, &a, len, add_int(0, IPPROTO_IPV6, IPV6_HOPLIMIT, 33));
    receive(r);
    send_with(s, &a, len, add_int(0, IPPROTO_IPV6, IPV6_TCLASS, 0x10));
    receive(r);
    send_with(s, &a, len,
              add_int(add_int(0, IPPROTO_IPV6, IPV6_HOPLIMIT, 2),
                      IPPROTO_IPV6, IPV6_TCLASS, 0xb8));
    receive(r);
    info.ipi6_addr = in6addr_loopback;
    send_with(s, &a, len, add(0, IPPROTO_IPV6, IPV6_PKTINFO, &info,
                              sizeof(info)));
    receive(r);
    inet_pton(AF_INET6, "2001:db8::1", &info.ipi6_addr);
    send_with(s, &a, len, add(0, IPPROTO_IPV6, IPV6_PKTINFO, &info,
                              sizeof(info)));
    send_with(s, &a, len, add_int(0, IPPROTO_IPV6, IPV6_HOPLIMIT, 256));
    send_with(s, &a, len, add_int(0, IPPROTO_IPV6, IPV6_TCLASS, -2));
    close(s);
    close(r);
}

static void whole_loopback_net(void)
{
    struct sockaddr_in a = {.sin_family = AF_INET};
    socklen_t len = sizeof(a);
    int r = (int)MUST(socket(AF_INET, SOCK_DGRAM, 0));
    int s = (int)MUST(socket(AF_INET, SOCK_DGRAM, 0));
    struct sockaddr_storage to;

    SECTION("127.0.0.0/8");
    a.sin_addr.s_addr = htonl(0x7f000005);
    E(bind(r, (void *)&a, sizeof(a)));
    MUST(getsockname(r, (void *)&a, &len));
    memset(&to, 0, sizeof(to));
    memcpy(&to, &a, sizeof(a));
    send_with(s, &to, sizeof(a), 0);
    receive(r);
    close(s);
    close(r);
}

int main(void)
{
    setvbuf(stdout, NULL, _IOLBF, 0);
    alarm(40);
    v4();
    v6();
    whole_loopback_net();
    return 0;
}
