/* SPDX-License-Identifier: BSD-2-Clause */
/* UDP over loopback: names, connected and not, control data, errors. */
#include "inet.h"

#include <netinet/ip.h>

static char buf[70000];

static void fresh(int family)
{
    struct sockaddr_storage a;
    socklen_t len;
    int s = (int)MUST(socket(family, SOCK_DGRAM, 0)), n = -1;

    SECTION(family == AF_INET ? "fresh v4" : "fresh v6");
    state(s);
    names(s);
    E(recv(s, buf, 1, MSG_DONTWAIT));
    E(send(s, "x", 1, 0));
    E(listen(s, 1));
    E(accept(s, NULL, NULL));
    E(ioctl(s, FIONREAD, &n));
    E(n);
    len = loopback(&a, family, 0);
    E(sendto(s, "x", 1, 0, (void *)&a, len)); /* port 0 */
    E(sendto(s, "x", 1, 0, (void *)&a, 3));
    E(sendto(s, buf, 65536, 0, (void *)&a, len));
    len = loopback(&a, family, htons(9));
    E(sendto(s, "x", 1, MSG_OOB, (void *)&a, len));
    a.ss_family = 77;
    E(sendto(s, "x", 1, 0, (void *)&a, len));
    E(connect(s, (void *)&a, len));
    E(shutdown(s, SHUT_RD));
    E(recv(s, buf, 1, 0));
    state(s);
    close(s);
}

static void unconnected(int family)
{
    struct sockaddr_storage a, from;
    socklen_t len, from_len = sizeof(from);
    int s = listener(family, SOCK_DGRAM, &a, &len), n = -1;
    int c = (int)MUST(socket(family, SOCK_DGRAM, 0));

    SECTION(family == AF_INET ? "unconnected v4" : "unconnected v6");
    E(bind(s, (void *)&a, len));
    E(bind(c, (void *)&a, len));
    E(sendto(c, "one", 3, 0, (void *)&a, len));
    names(c);
    state_after(s, POLLIN);
    E(ioctl(s, FIONREAD, &n));
    E(n);
    E(recvfrom(s, buf, 10, MSG_PEEK, (void *)&from, &from_len));
    show_address("from", &from, from_len);
    SAY("its port", port_of(c) == ((struct sockaddr_in *)&from)->sin_port);
    E(recvfrom(s, buf, 2, 0, NULL, NULL)); /* the rest is lost */
    E(recv(s, buf, 2, MSG_DONTWAIT));
    E(sendto(c, "longer", 6, 0, (void *)&a, len));
    E(recv(s, buf, 2, MSG_TRUNC));
    E(sendto(c, "", 0, 0, (void *)&a, len));
    E(recv(s, buf, 2, 0));
    E(sendto(c, (void *)8, 5, 0, (void *)&a, len));
    E(sendto(c, "x", 1, 0, (void *)8, len));
    for (int i = 0; i < 3; i++)
        MUST(sendto(c, &"abc"[i], 1, 0, (void *)&a, len));
    E(read(s, buf, 10));
    E(read(s, buf + 1, 10));
    E(recv(s, buf + 2, 10, 0));
    printf("  %.3s\n", buf);
    E(sendto(c, buf, 60000, 0, (void *)&a, len));
    E(recv(s, buf, sizeof(buf), 0));
    close(s);
    close(c);
}

static void connected(int family)
{
    struct sockaddr_storage a, b;
    socklen_t len, b_len;
    int s = listener(family, SOCK_DGRAM, &a, &len);
    int c = listener(family, SOCK_DGRAM, &b, &b_len);
    int other = (int)MUST(socket(family, SOCK_DGRAM, 0));

    SECTION(family == AF_INET ? "connected v4" : "connected v6");
    E(connect(c, (void *)&a, len));
    names(c);
    E(send(c, "hi", 2, 0));
    E(recv(s, buf, 10, 0));
    E(sendto(other, "no", 2, 0, (void *)&b, b_len)); /* not from the peer */
    E(recv(c, buf, 10, MSG_DONTWAIT));
    E(sendto(s, "yes", 3, 0, (void *)&b, b_len));
    E(recv(c, buf, 10, 0));
    E(write(c, "w", 1));
    E(read(s, buf, 10));
    E(connect(c, (void *)&b, b_len)); /* itself */
    E(send(c, "me", 2, 0));
    E(recv(c, buf, 10, 0));
    struct sockaddr none = {.sa_family = AF_UNSPEC};
    E(connect(c, &none, sizeof(none)));
    E(send(c, "x", 1, 0));
    struct sockaddr_storage p;
    socklen_t p_len = sizeof(p);
    E(getpeername(c, (void *)&p, &p_len));
    E(connect(c, (void *)&a, 1));
    E(connect(c, (void *)&a, len));
    E(shutdown(c, SHUT_WR));
    E(send(c, "x", 1, MSG_NOSIGNAL));
    E(shutdown(c, SHUT_RD));
    E(recv(c, buf, 1, 0));
    state(c);
    SECTION("nobody there");
    close(s);
    s = (int)MUST(socket(family, SOCK_DGRAM, 0));
    E(connect(s, (void *)&a, len));
    E(send(s, "x", 1, 0));
    state_after(s, POLLERR);
    so_error(s);
    so_error(s);
    E(send(s, "x", 1, 0));
    sleep_ms(20);
    E(recv(s, buf, 1, MSG_DONTWAIT));
    E(recv(s, buf, 1, MSG_DONTWAIT));
    E(send(s, "x", 1, 0));
    sleep_ms(20);
    E(send(s, "x", 1, 0));
    close(s);
    close(c);
    close(other);
}

static void show_control(struct msghdr *m)
{
    printf("  flags %x, control %s\n", m->msg_flags,
           m->msg_controllen ? "some" : "none");
    for (struct cmsghdr *c = CMSG_FIRSTHDR(m); c; c = CMSG_NXTHDR(m, c)) {
        int v = 0;

        if (c->cmsg_len >= CMSG_LEN(4))
            memcpy(&v, CMSG_DATA(c), 4);
        else
            v = *CMSG_DATA(c);
        if (c->cmsg_level == IPPROTO_IP && c->cmsg_type == IP_PKTINFO) {
            struct in_pktinfo *p = (void *)CMSG_DATA(c);
            char text[64];

            printf("  IP_PKTINFO interface %d, to %s", p->ipi_ifindex,
                   inet_ntop(AF_INET, &p->ipi_addr, text, sizeof(text)));
            printf(", spec %s\n",
                   inet_ntop(AF_INET, &p->ipi_spec_dst, text, sizeof(text)));
        } else if (c->cmsg_level == IPPROTO_IPV6 &&
                   c->cmsg_type == IPV6_PKTINFO) {
            struct in6_pktinfo *p = (void *)CMSG_DATA(c);
            char text[64];

            printf("  IPV6_PKTINFO interface %d, to %s\n", p->ipi6_ifindex,
                   inet_ntop(AF_INET6, &p->ipi6_addr, text, sizeof(text)));
        } else if (c->cmsg_level == SOL_SOCKET) {
            printf("  SOL_SOCKET %d, %d bytes\n", c->cmsg_type,
                   (int)c->cmsg_len);
        } else {
            printf("  level %d type %d, %d bytes, value %d\n", c->cmsg_level,
                   c->cmsg_type, (int)c->cmsg_len, v);
        }
    }
}

static void on(int fd, int level, int name)
{
    MUST(setsockopt(fd, level, name, &(int){1}, sizeof(int)));
}

static void control(int family)
{
    struct sockaddr_storage a, from;
    socklen_t len;
    int s = listener(family, SOCK_DGRAM, &a, &len);
    int c = (int)MUST(socket(family, SOCK_DGRAM, 0));
    char text[16], anc[256];
    struct iovec iov = {text, sizeof(text)};
    struct msghdr m = {&from, sizeof(from), &iov, 1, anc, sizeof(anc), 0};

    SECTION(family == AF_INET ? "control v4" : "control v6");
    MUST(sendto(c, "plain", 5, 0, (void *)&a, len));
    E(recvmsg(s, &m, 0));
    show_control(&m);
    show_address("from", &from, m.msg_namelen);
    if (family == AF_INET) {
        on(s, IPPROTO_IP, IP_PKTINFO);
        on(s, IPPROTO_IP, IP_RECVTTL);
        on(s, IPPROTO_IP, IP_RECVTOS);
        MUST(setsockopt(c, IPPROTO_IP, IP_TTL, &(int){33}, sizeof(int)));
        MUST(setsockopt(c, IPPROTO_IP, IP_TOS, &(int){0x10}, sizeof(int)));
    } else {
        on(s, IPPROTO_IPV6, IPV6_RECVPKTINFO);
        on(s, IPPROTO_IPV6, IPV6_RECVHOPLIMIT);
        on(s, IPPROTO_IPV6, IPV6_RECVTCLASS);
        MUST(setsockopt(c, IPPROTO_IPV6, IPV6_UNICAST_HOPS, &(int){33},
                        sizeof(int)));
        MUST(setsockopt(c, IPPROTO_IPV6, IPV6_TCLASS, &(int){0x10},
                        sizeof(int)));
    }
    MUST(sendto(c, "info", 4, 0, (void *)&a, len));
    m.msg_controllen = sizeof(anc);
    m.msg_namelen = sizeof(from);
    E(recvmsg(s, &m, 0));
    show_control(&m);
    MUST(sendto(c, "again", 5, 0, (void *)&a, len));
    m.msg_controllen = 20; /* too little room */
    E(recvmsg(s, &m, 0));
    printf("  flags %x\n", m.msg_flags);
    on(s, SOL_SOCKET, SO_TIMESTAMP);
    MUST(sendto(c, "time", 4, 0, (void *)&a, len));
    m.msg_controllen = sizeof(anc);
    E(recvmsg(s, &m, 0));
    show_control(&m);
    MUST(sendto(c, "seventeen or more", 17, 0, (void *)&a, len));
    m.msg_controllen = sizeof(anc);
    E(recvmsg(s, &m, 0));
    printf("  flags %x\n", m.msg_flags);
    close(s);
    close(c);
}

/* IP_PKTINFO as servers use it: the answer from where the question went. */
static void answer_from(void)
{
    struct sockaddr_storage a, from;
    socklen_t len;
    int s = (int)MUST(socket(AF_INET, SOCK_DGRAM, 0));
    int c = (int)MUST(socket(AF_INET, SOCK_DGRAM, 0));
    char text[16], anc[CMSG_SPACE(sizeof(struct in_pktinfo))];
    struct sockaddr_in any = {.sin_family = AF_INET};
    struct iovec iov = {text, sizeof(text)};
    struct msghdr m = {&from, sizeof(from), &iov, 1, anc, sizeof(anc), 0};

    SECTION("answer from");
    MUST(bind(s, (void *)&any, sizeof(any)));
    on(s, IPPROTO_IP, IP_PKTINFO);
    len = loopback(&a, AF_INET, port_of(s));
    MUST(sendto(c, "question", 8, 0, (void *)&a, len));
    E(recvmsg(s, &m, 0));
    iov.iov_len = 6;
    E(sendmsg(s, &m, 0));
    len = sizeof(from);
    E(recvfrom(c, text, sizeof(text), 0, (void *)&from, &len));
    show_address("from", &from, len);
    close(s);
    close(c);
}

static void many(void)
{
    struct sockaddr_storage a;
    socklen_t len;
    int s = listener(AF_INET, SOCK_DGRAM, &a, &len);
    int c = (int)MUST(socket(AF_INET, SOCK_DGRAM, 0));
    struct mmsghdr out[4], in[6];
    struct iovec iov[4], in_iov[6];
    char text[6][8];

    SECTION("sendmmsg and recvmmsg");
    MUST(connect(c, (void *)&a, len));
    memset(out, 0, sizeof(out));
    memset(in, 0, sizeof(in));
    for (int i = 0; i < 4; i++) {
        iov[i] = (struct iovec){"abcd", (size_t)i + 1};
        out[i].msg_hdr.msg_iov = &iov[i];
        out[i].msg_hdr.msg_iovlen = 1;
    }
    for (int i = 0; i < 6; i++) {
        in_iov[i] = (struct iovec){text[i], 8};
        in[i].msg_hdr.msg_iov = &in_iov[i];
        in[i].msg_hdr.msg_iovlen = 1;
    }
    E(sendmmsg(c, out, 4, 0));
    printf("  %u %u %u %u\n", out[0].msg_len, out[1].msg_len, out[2].msg_len,
           out[3].msg_len);
    E(recvmmsg(s, in, 2, 0, NULL));
    E(recvmmsg(s, in + 2, 4, MSG_WAITFORONE, NULL));
    printf("  %u %u %u %u\n", in[0].msg_len, in[1].msg_len, in[2].msg_len,
           in[3].msg_len);
    E(recvmmsg(s, in, 2, MSG_DONTWAIT, NULL));
    close(s);
    close(c);
}

static void waiting(void)
{
    struct sockaddr_storage a;
    socklen_t len;
    int s = listener(AF_INET, SOCK_DGRAM, &a, &len);
    struct timeval tv = {0, 40000};
    int64_t start = now_ns(CLOCK_MONOTONIC);

    SECTION("time-out");
    E(setsockopt(s, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof(tv)));
    E(recv(s, buf, 1, 0));
    SAY("waited", now_ns(CLOCK_MONOTONIC) - start >= 35 * MS);
    close(s);
}

/* Does a request come back as it should? */
static bool echo_works(int s)
{
    struct sockaddr_storage a;
    socklen_t len = loopback(&a, AF_INET, 0);
    unsigned char ask[16] = {8, 0, 0, 0, 0, 0, 0, 1, 'p', 'i', 'n', 'g'};

    if (sendto(s, ask, 3, 0, (void *)&a, len) != -1 || errno != EINVAL)
        return false;
    if (sendto(s, ask, 16, 0, (void *)&a, len) != 16 ||
        recv(s, buf, sizeof(buf), 0) != 16)
        return false;
    ask[0] = 0;
    return buf[0] == 0 && buf[7] == 1 && memcmp(buf + 8, "ping", 4) == 0 &&
           sendto(s, ask, 16, 0, (void *)&a, len) == -1 && errno == EINVAL;
}

/* Not every host lets everybody (ping_group_range). */
static void echo(void)
{
    int s = socket(AF_INET, SOCK_DGRAM, IPPROTO_ICMP);

    SECTION("echo");
    SAY("works or is not allowed", s < 0 ? errno == EACCES : echo_works(s));
    if (s >= 0)
        close(s);
}

int main(void)
{
    watchdog();
    signal(SIGPIPE, SIG_IGN);
    fresh(AF_INET);
    fresh(AF_INET6);
    unconnected(AF_INET);
    unconnected(AF_INET6);
    connected(AF_INET);
    connected(AF_INET6);
    control(AF_INET);
    control(AF_INET6);
    answer_from();
    many();
    waiting();
    echo();
    return 0;
}
