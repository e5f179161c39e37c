/* SPDX-License-Identifier: BSD-2-Clause */
/* Options of TCP and UDP sockets: values, limits, errors. Sizes of buffers
 * and windows are not shown: they differ between kernels. */
#include "inet.h"

#include <netinet/udp.h>

static void get(int fd, const char *name, int level, int option)
{
    int v = -7;
    socklen_t len = sizeof(v);

    errno = 0;
    if (getsockopt(fd, level, option, &v, &len) != 0)
        printf("  get %s: %s\n", name, errno_name(errno));
    else
        printf("  get %s: %d (%d bytes)\n", name, v, (int)len);
}

static void set(int fd, const char *name, int level, int option, int v)
{
    errno = 0;
    if (setsockopt(fd, level, option, &v, sizeof(v)) != 0)
        printf("  set %s %d: %s\n", name, v, errno_name(errno));
    else
        printf("  set %s %d\n", name, v);
}

#define GET(fd, level, option) get(fd, #option, level, option)
#define SET(fd, level, option, v) set(fd, #option, level, option, v)
/* Sets, then shows what it became. */
#define BOTH(fd, level, option, v)        \
    do {                                  \
        set(fd, #option, level, option, v); \
        get(fd, #option, level, option);  \
    } while (0)

static void socket_level(int s, const char *what)
{
    SECTION(what);
    GET(s, SOL_SOCKET, SO_TYPE);
    GET(s, SOL_SOCKET, SO_PROTOCOL);
    GET(s, SOL_SOCKET, SO_DOMAIN);
    GET(s, SOL_SOCKET, SO_ERROR);
    GET(s, SOL_SOCKET, SO_ACCEPTCONN);
    GET(s, SOL_SOCKET, SO_RCVLOWAT);
    GET(s, SOL_SOCKET, SO_SNDLOWAT);
    BOTH(s, SOL_SOCKET, SO_REUSEADDR, 1);
    BOTH(s, SOL_SOCKET, SO_REUSEADDR, 0);
    BOTH(s, SOL_SOCKET, SO_REUSEPORT, 5);
    BOTH(s, SOL_SOCKET, SO_KEEPALIVE, 1);
    BOTH(s, SOL_SOCKET, SO_BROADCAST, 1);
    BOTH(s, SOL_SOCKET, SO_OOBINLINE, 1);
    BOTH(s, SOL_SOCKET, SO_DONTROUTE, 0);
    BOTH(s, SOL_SOCKET, SO_PRIORITY, 3);
    BOTH(s, SOL_SOCKET, SO_RCVBUF, 20000);
    BOTH(s, SOL_SOCKET, SO_SNDBUF, 20000);
    BOTH(s, SOL_SOCKET, SO_RCVBUF, 0);
    BOTH(s, SOL_SOCKET, SO_RCVLOWAT, 0);
    BOTH(s, SOL_SOCKET, SO_TIMESTAMP, 1);
    BOTH(s, SOL_SOCKET, SO_TIMESTAMPNS, 1);
    GET(s, SOL_SOCKET, SO_TIMESTAMP);
    SET(s, SOL_SOCKET, SO_TYPE, 1);
    SET(s, SOL_SOCKET, 9999, 1);
    GET(s, SOL_SOCKET, 9999);
    E(setsockopt(s, SOL_SOCKET, SO_REUSEADDR, &(int){1}, 1));
    E(setsockopt(s, SOL_SOCKET, SO_REUSEADDR, (void *)8, 4));
    struct linger l = {1, 3};
    E(setsockopt(s, SOL_SOCKET, SO_LINGER, &l, sizeof(l)));
    memset(&l, 0, sizeof(l));
    socklen_t len = sizeof(l);
    E(getsockopt(s, SOL_SOCKET, SO_LINGER, &l, &len));
    printf("  linger %d %d\n", l.l_onoff, l.l_linger);
    l.l_onoff = 0;
    E(setsockopt(s, SOL_SOCKET, SO_LINGER, &l, sizeof(l)));
    struct timeval tv = {2, 500000};
    E(setsockopt(s, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof(tv)));
    memset(&tv, 0, sizeof(tv));
    len = sizeof(tv);
    E(getsockopt(s, SOL_SOCKET, SO_RCVTIMEO, &tv, &len));
    printf("  time-out %ld.%06ld\n", (long)tv.tv_sec, (long)tv.tv_usec);
    E(setsockopt(s, SOL_SOCKET, SO_BINDTODEVICE, "none0", 5));
    E(setsockopt(s, SOL_SOCKET, SO_BINDTODEVICE, "lo", 2));
    char name[32] = "";
    len = sizeof(name);
    E(getsockopt(s, SOL_SOCKET, SO_BINDTODEVICE, name, &len));
    printf("  %s %d\n", name, (int)len);
    E(setsockopt(s, SOL_SOCKET, SO_BINDTODEVICE, "", 0));
    len = sizeof(name);
    E(getsockopt(s, SOL_SOCKET, SO_BINDTODEVICE, name, &len));
    printf("  %d\n", (int)len);
}

static void tcp_level(void)
{
    int s = (int)MUST(socket(AF_INET, SOCK_STREAM, 0));
    char name[32] = "";
    socklen_t len = sizeof(name);

    SECTION("TCP");
    GET(s, IPPROTO_TCP, TCP_NODELAY);
    BOTH(s, IPPROTO_TCP, TCP_NODELAY, 7);
    BOTH(s, IPPROTO_TCP, TCP_CORK, 1);
    BOTH(s, IPPROTO_TCP, TCP_CORK, 0);
    GET(s, IPPROTO_TCP, TCP_KEEPIDLE);
    GET(s, IPPROTO_TCP, TCP_KEEPINTVL);
    GET(s, IPPROTO_TCP, TCP_KEEPCNT);
    BOTH(s, IPPROTO_TCP, TCP_KEEPIDLE, 30);
    SET(s, IPPROTO_TCP, TCP_KEEPIDLE, 0);
    SET(s, IPPROTO_TCP, TCP_KEEPIDLE, 40000);
    BOTH(s, IPPROTO_TCP, TCP_KEEPINTVL, 5);
    SET(s, IPPROTO_TCP, TCP_KEEPINTVL, -1);
    BOTH(s, IPPROTO_TCP, TCP_KEEPCNT, 3);
    SET(s, IPPROTO_TCP, TCP_KEEPCNT, 200);
    GET(s, IPPROTO_TCP, TCP_SYNCNT);
    BOTH(s, IPPROTO_TCP, TCP_SYNCNT, 4);
    SET(s, IPPROTO_TCP, TCP_SYNCNT, 0);
    BOTH(s, IPPROTO_TCP, TCP_USER_TIMEOUT, 5000);
    SET(s, IPPROTO_TCP, TCP_USER_TIMEOUT, -1);
    GET(s, IPPROTO_TCP, TCP_LINGER2);
    BOTH(s, IPPROTO_TCP, TCP_LINGER2, 20);
    BOTH(s, IPPROTO_TCP, TCP_LINGER2, -3);
    GET(s, IPPROTO_TCP, TCP_DEFER_ACCEPT);
    BOTH(s, IPPROTO_TCP, TCP_DEFER_ACCEPT, 1);
    BOTH(s, IPPROTO_TCP, TCP_DEFER_ACCEPT, 5);
    GET(s, IPPROTO_TCP, TCP_MAXSEG);
    SET(s, IPPROTO_TCP, TCP_MAXSEG, 10);
    BOTH(s, IPPROTO_TCP, TCP_QUICKACK, 1);
    E(setsockopt(s, IPPROTO_TCP, TCP_CONGESTION, "cubic", 5));
    E(getsockopt(s, IPPROTO_TCP, TCP_CONGESTION, name, &len));
    printf("  %s\n", name);
    E(setsockopt(s, IPPROTO_TCP, TCP_CONGESTION, "nonesuch", 8));
    SET(s, IPPROTO_TCP, 9999, 1);
    GET(s, IPPROTO_TCP, 9999);
    E(setsockopt(s, IPPROTO_TCP, TCP_NODELAY, &(int){1}, 1));
    struct tcp_info info;
    len = sizeof(info);
    memset(&info, 0, sizeof(info));
    E(getsockopt(s, IPPROTO_TCP, TCP_INFO, &info, &len));
    printf("  state %d\n", info.tcpi_state);
    int pair[2];
    tcp_pair(AF_INET, pair);
    len = sizeof(info);
    E(getsockopt(pair[1], IPPROTO_TCP, TCP_INFO, &info, &len));
    printf("  state %d, retransmissions %d\n", info.tcpi_state,
           info.tcpi_total_retrans);
    close(pair[0]);
    close(pair[1]);
    close(s);
}

/* What a listener is told, its children have. */
static void inherited(void)
{
    struct sockaddr_storage a;
    socklen_t len;
    int s = listener(AF_INET, SOCK_STREAM, &a, &len), c, d;

    SECTION("inherited");
    SET(s, SOL_SOCKET, SO_KEEPALIVE, 1);
    SET(s, IPPROTO_TCP, TCP_NODELAY, 1);
    SET(s, IPPROTO_TCP, TCP_KEEPIDLE, 77);
    SET(s, SOL_SOCKET, SO_RCVBUF, 30000);
    SET(s, IPPROTO_IP, IP_TTL, 99);
    GET(s, SOL_SOCKET, SO_ACCEPTCONN);
    c = (int)MUST(socket(AF_INET, SOCK_STREAM, 0));
    MUST(connect(c, (void *)&a, len));
    d = (int)MUST(accept(s, NULL, NULL));
    GET(d, SOL_SOCKET, SO_KEEPALIVE);
    GET(d, IPPROTO_TCP, TCP_NODELAY);
    GET(d, IPPROTO_TCP, TCP_KEEPIDLE);
    GET(d, SOL_SOCKET, SO_RCVBUF);
    GET(d, IPPROTO_IP, IP_TTL);
    GET(d, SOL_SOCKET, SO_ACCEPTCONN);
    close(s);
    close(c);
    close(d);
}

static void ip_level(int type)
{
    int s = (int)MUST(socket(AF_INET, type, 0));
    unsigned char byte = 9;
    socklen_t len = 1;

    SECTION(type == SOCK_STREAM ? "IP of TCP" : "IP of UDP");
    GET(s, IPPROTO_IP, IP_TTL);
    BOTH(s, IPPROTO_IP, IP_TTL, 12);
    SET(s, IPPROTO_IP, IP_TTL, 0);
    SET(s, IPPROTO_IP, IP_TTL, 256);
    BOTH(s, IPPROTO_IP, IP_TTL, -1);
    BOTH(s, IPPROTO_IP, IP_TOS, 0x10);
    E(getsockopt(s, IPPROTO_IP, IP_TOS, &byte, &len));
    printf("  one byte: %d\n", byte);
    E(setsockopt(s, IPPROTO_IP, IP_TTL, &byte, 1));
    GET(s, IPPROTO_IP, IP_TTL);
    BOTH(s, IPPROTO_IP, IP_PKTINFO, 1);
    BOTH(s, IPPROTO_IP, IP_RECVTTL, 1);
    BOTH(s, IPPROTO_IP, IP_RECVTOS, 1);
    BOTH(s, IPPROTO_IP, IP_RECVERR, 1);
    BOTH(s, IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_DO);
    SET(s, IPPROTO_IP, IP_MTU_DISCOVER, 9);
    GET(s, IPPROTO_IP, IP_MTU);
    SET(s, IPPROTO_IP, 9999, 1);
    GET(s, IPPROTO_IP, 9999);
    GET(s, IPPROTO_IP, IP_MULTICAST_TTL);
    GET(s, IPPROTO_IP, IP_MULTICAST_LOOP);
    SET(s, IPPROTO_IPV6, IPV6_V6ONLY, 1);
    if (type == SOCK_DGRAM) {
        BOTH(s, IPPROTO_IP, IP_MULTICAST_TTL, 4);
        SET(s, IPPROTO_IP, IP_MULTICAST_TTL, 300);
        BOTH(s, IPPROTO_IP, IP_MULTICAST_LOOP, 0);
        SET(s, IPPROTO_TCP, TCP_NODELAY, 1);
        struct ip_mreq m = {{inet_addr("224.9.9.9")},
                            {htonl(INADDR_LOOPBACK)}};
        E(setsockopt(s, IPPROTO_IP, IP_ADD_MEMBERSHIP, &m, sizeof(m)));
        E(setsockopt(s, IPPROTO_IP, IP_ADD_MEMBERSHIP, &m, sizeof(m)));
        E(setsockopt(s, IPPROTO_IP, IP_DROP_MEMBERSHIP, &m, sizeof(m)));
        E(setsockopt(s, IPPROTO_IP, IP_DROP_MEMBERSHIP, &m, sizeof(m)));
        m.imr_multiaddr.s_addr = inet_addr("10.0.0.1");
        E(setsockopt(s, IPPROTO_IP, IP_ADD_MEMBERSHIP, &m, sizeof(m)));
        E(setsockopt(s, IPPROTO_IP, IP_ADD_MEMBERSHIP, &m, 4));
    }
    close(s);
}

static void ipv6_level(int type)
{
    int s = (int)MUST(socket(AF_INET6, type, 0));
    struct sockaddr_storage a;
    socklen_t len;

    SECTION(type == SOCK_STREAM ? "IPv6 of TCP" : "IPv6 of UDP");
    GET(s, IPPROTO_IPV6, IPV6_V6ONLY);
    BOTH(s, IPPROTO_IPV6, IPV6_V6ONLY, 1);
    GET(s, IPPROTO_IPV6, IPV6_UNICAST_HOPS);
    BOTH(s, IPPROTO_IPV6, IPV6_UNICAST_HOPS, 12);
    SET(s, IPPROTO_IPV6, IPV6_UNICAST_HOPS, 256);
    BOTH(s, IPPROTO_IPV6, IPV6_TCLASS, 0x10);
    SET(s, IPPROTO_IPV6, IPV6_TCLASS, 256);
    BOTH(s, IPPROTO_IPV6, IPV6_RECVPKTINFO, 1);
    BOTH(s, IPPROTO_IPV6, IPV6_RECVHOPLIMIT, 1);
    BOTH(s, IPPROTO_IPV6, IPV6_RECVTCLASS, 1);
    BOTH(s, IPPROTO_IPV6, IPV6_RECVERR, 1);
    BOTH(s, IPPROTO_IPV6, IPV6_MTU_DISCOVER, IPV6_PMTUDISC_DO);
    SET(s, IPPROTO_IPV6, IPV6_MTU_DISCOVER, 9);
    SET(s, IPPROTO_IPV6, IPV6_MTU, 1279);
    SET(s, IPPROTO_IPV6, IPV6_MTU, 1280);
    SET(s, IPPROTO_IPV6, IPV6_MTU, 0);
    SET(s, IPPROTO_IPV6, 9999, 1);
    GET(s, IPPROTO_IPV6, 9999);
    E(setsockopt(s, IPPROTO_IPV6, IPV6_V6ONLY, &(int){1}, 1));
    len = loopback(&a, AF_INET6, 0);
    MUST(bind(s, (void *)&a, len));
    SET(s, IPPROTO_IPV6, IPV6_V6ONLY, 0);
    close(s);
}

int main(void)
{
    int s;

    watchdog();
    s = (int)MUST(socket(AF_INET, SOCK_STREAM, 0));
    socket_level(s, "SOL_SOCKET of TCP");
    close(s);
    s = (int)MUST(socket(AF_INET6, SOCK_DGRAM, 0));
    socket_level(s, "SOL_SOCKET of UDP");
    close(s);
    tcp_level();
    inherited();
    ip_level(SOCK_STREAM);
    ip_level(SOCK_DGRAM);
    ipv6_level(SOCK_STREAM);
    ipv6_level(SOCK_DGRAM);
    return 0;
}
