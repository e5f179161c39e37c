/* SPDX-License-Identifier: BSD-2-Clause */
/* What programs learn about the loopback interface: getifaddrs, names,
 * ioctls, netlink, /proc/net. Other interfaces differ between machines. */
#include "inet.h"

#include <ifaddrs.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <netpacket/packet.h>

static void print_addr(const char *what, const struct sockaddr *a)
{
    char text[64] = "?";

    if (a == NULL)
        return;
    if (a->sa_family == AF_INET)
        inet_ntop(AF_INET, &((const struct sockaddr_in *)a)->sin_addr, text,
                  sizeof(text));
    if (a->sa_family == AF_INET6)
        inet_ntop(AF_INET6, &((const struct sockaddr_in6 *)a)->sin6_addr,
                  text, sizeof(text));
    printf(" %s %s", what, text);
}

static void interfaces(void)
{
    struct ifaddrs *list, *i;

    SECTION("getifaddrs");
    if (getifaddrs(&list) != 0) {
        printf("getifaddrs: %s\n", errno_name(errno));
        return;
    }
    for (i = list; i != NULL; i = i->ifa_next) {
        if (strcmp(i->ifa_name, "lo") != 0 || i->ifa_addr == NULL)
            continue;
        printf("  %s family %d flags %x", i->ifa_name,
               i->ifa_addr->sa_family, i->ifa_flags & 0xffff);
        if (i->ifa_addr->sa_family == AF_PACKET) {
            struct sockaddr_ll *l = (void *)i->ifa_addr;
            printf(" index %d type %d address %d bytes", l->sll_ifindex,
                   l->sll_hatype, l->sll_halen);
        } else {
            print_addr("address", i->ifa_addr);
            print_addr("mask", i->ifa_netmask);
        }
        printf("\n");
    }
    freeifaddrs(list);
    char name[IF_NAMESIZE] = "";
    E(if_nametoindex("lo"));
    E(if_nametoindex("none0"));
    YES(if_indextoname(1, name) != NULL);
    printf("  %s\n", name);
    YES(if_indextoname(9999, name) == NULL);
}

static void ioctls(void)
{
    int s = (int)MUST(socket(AF_INET, SOCK_DGRAM, 0));
    struct ifreq r;

    SECTION("ioctl");
#define ASK(question)                                \
    ({                                               \
        memset(&r, 0, sizeof(r));                    \
        strcpy(r.ifr_name, "lo");                    \
        E(ioctl(s, question, &r));                   \
    })
    ASK(SIOCGIFFLAGS);
    printf("  %x\n", (unsigned)(unsigned short)r.ifr_flags);
    ASK(SIOCGIFMTU);
    printf("  %d\n", r.ifr_mtu);
    ASK(SIOCGIFINDEX);
    printf("  %d\n", r.ifr_ifindex);
    ASK(SIOCGIFADDR);
    print_addr("", &r.ifr_addr);
    ASK(SIOCGIFNETMASK);
    print_addr("", &r.ifr_netmask);
    ASK(SIOCGIFBRDADDR);
    print_addr("", &r.ifr_broadaddr);
    ASK(SIOCGIFHWADDR);
    printf("  %d\n", r.ifr_hwaddr.sa_family);
    memset(&r, 0, sizeof(r));
    r.ifr_ifindex = 1;
    E(ioctl(s, SIOCGIFNAME, &r));
    printf("  %s\n", r.ifr_name);
    strcpy(r.ifr_name, "none0");
    E(ioctl(s, SIOCGIFFLAGS, &r));
    E(ioctl(s, SIOCGIFFLAGS, (void *)8));
    struct ifconf c = {.ifc_len = 0};
    E(ioctl(s, SIOCGIFCONF, &c));
    YES(c.ifc_len >= (int)sizeof(r) && c.ifc_len % (int)sizeof(r) == 0);
    struct ifreq some[2];
    c.ifc_len = sizeof(some);
    c.ifc_req = some;
    E(ioctl(s, SIOCGIFCONF, &c));
    printf("  %s\n", some[0].ifr_name);
    E(ioctl(s, 0x1234, &r));
    close(s);
}

static void netlink(void)
{
    struct {
        struct nlmsghdr h;
        struct rtgenmsg g;
    } ask = {{sizeof(ask), RTM_GETADDR, NLM_F_REQUEST | NLM_F_DUMP, 7, 0},
             {AF_INET}};
    struct sockaddr_nl a = {.nl_family = AF_NETLINK}, got;
    socklen_t len = sizeof(got);
    char buf[16384];
    int s = (int)MUST(socket(AF_NETLINK, SOCK_RAW, NETLINK_ROUTE));
    bool done = false;
    int nr_lo = 0;

    SECTION("netlink");
    E(bind(s, (void *)&a, 4));
    E(bind(s, (void *)&a, sizeof(a)));
    E(getsockname(s, (void *)&got, &len));
    printf("  %d bytes, family %d\n", (int)len, got.nl_family);
    YES(got.nl_pid != 0);
    state(s);
    E(recv(s, buf, sizeof(buf), MSG_DONTWAIT));
    E(send(s, &ask, sizeof(ask), 0));
    while (!done) {
        ssize_t n = recv(s, buf, sizeof(buf), 0);
        struct nlmsghdr *h = (void *)buf;

        if (n <= 0)
            break;
        for (; NLMSG_OK(h, n); h = NLMSG_NEXT(h, n)) {
            struct ifaddrmsg *m = NLMSG_DATA(h);

            if (h->nlmsg_seq != 7 || !(h->nlmsg_flags & NLM_F_MULTI))
                printf("  a strange header\n");
            if (h->nlmsg_type == NLMSG_DONE)
                done = true;
            else if (m->ifa_index == 1 && m->ifa_family == AF_INET)
                nr_lo += m->ifa_prefixlen == 8 && m->ifa_scope == 254;
        }
    }
    printf("  done %d, 127.0.0.1/8 %d\n", done, nr_lo);
    E(recv(s, buf, sizeof(buf), MSG_DONTWAIT));
    ask.h.nlmsg_type = 999; /* no such question */
    E(send(s, &ask, sizeof(ask), 0));
    E(recv(s, buf, sizeof(buf), MSG_PEEK | MSG_TRUNC) > 0);
    YES(recv(s, buf, sizeof(buf), 0) > 0);
    struct nlmsghdr *h = (void *)buf;
    struct nlmsgerr *e = NLMSG_DATA(h);
    printf("  type %d error %s\n", h->nlmsg_type, errno_name(-e->error));
    close(s);
    E(socket(AF_NETLINK, SOCK_STREAM, NETLINK_ROUTE));
}

int main(void)
{
    watchdog();
    interfaces();
    ioctls();
    netlink();
    return 0;
}
