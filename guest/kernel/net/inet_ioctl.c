/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * ioctls of Internet sockets (man 7 tcp, man 7 udp) and questions about
 * interfaces (man 7 netdevice), which any socket answers. Changing an
 * interface is -EPERM: the launcher configures the network.
 *
 * Locks: conf_lock of the stack while addresses are looked at.
 */
#include "net/inet_sock.h"

#include "mm/mm.h"
#include "net/kernel.h"
#include "net/route.h"

enum {
    SIOCINQ = 0x541b, SIOCOUTQ = 0x5411, SIOCATMARK = 0x8905,
    SIOCGSTAMP = 0x8906, SIOCGSTAMPNS, SIOCOUTQNSD = 0x894b,
    SIOCGIFNAME = 0x8910, SIOCGIFCONF = 0x8912, SIOCGIFFLAGS,
    SIOCSIFFLAGS, SIOCGIFADDR, SIOCSIFADDR, SIOCGIFDSTADDR,
    SIOCGIFBRDADDR = 0x8919, SIOCGIFNETMASK = 0x891b,
    SIOCGIFMETRIC = 0x891d, SIOCSIFMETRIC, SIOCGIFMTU = 0x8921, SIOCSIFMTU,
    SIOCGIFHWADDR = 0x8927, SIOCGIFINDEX = 0x8933, SIOCGIFTXQLEN = 0x8942,
    SIOCETHTOOL = 0x8946,
};

#define IFF_UP 0x1u
#define IFF_BROADCAST 0x2u
#define IFF_LOOPBACK 0x8u
#define IFF_RUNNING 0x40u
#define IFF_MULTICAST 0x1000u
#define ARPHRD_ETHER 1u
#define ARPHRD_LOOPBACK 772u

struct ifreq_abi {
    char name[16];
    uint8_t data[24];
};
_Static_assert(sizeof(struct ifreq_abi) == 40, "struct ifreq");

struct ifconf_abi {
    int32_t len, pad;
    uint64_t buf;
};

uint32_t netif_flags(const struct netif *nif)
{
    return IFF_UP | (atomic_load_relaxed(&nif->is_down) ? 0 : IFF_RUNNING) |
           (nif->caps & NETIF_LOOPBACK ? IFF_LOOPBACK
                                       : IFF_BROADCAST | IFF_MULTICAST);
}

/* ---- the socket's own ---- */

static int64_t get_stamp(struct inet_sock *i, uint64_t user, bool is_ns)
{
    int64_t t[2];

    if (!i->last_stamp)
        return -ENOENT;
    t[0] = i->last_stamp / NSEC_PER_SEC;
    t[1] = i->last_stamp % NSEC_PER_SEC / (is_ns ? 1 : 1000);
    return copy_to_user((void __user *)user, t, sizeof(t));
}

int64_t inet_ioctl(struct socket *s, uint32_t cmd, uint64_t arg)
{
    struct inet_sock *i = to_inet(s);
    bool is_tcp = i->kind == INET_TCP;
    struct tcp_status st;
    uint32_t n;

    switch (cmd) {
    case SIOCINQ:
        if (is_tcp && s->is_listening)
            return -EINVAL;
        n = is_tcp ? tcp_unread(i->tcp) : udp_next_len(i->udp);
        break;
    case SIOCOUTQ:
        if (is_tcp && s->is_listening)
            return -EINVAL;
        n = is_tcp ? tcp_unsent(i->tcp) : 0;
        break;
    case SIOCOUTQNSD:
        if (!is_tcp)
            return -ENOTTY;
        tcp_get_status(i->tcp, &st);
        n = st.unsent;
        break;
    case SIOCATMARK:
        if (!is_tcp)
            return -ENOTTY;
        n = 0; /* no urgent data */
        break;
    case SIOCGSTAMP:
    case SIOCGSTAMPNS:
        return get_stamp(i, arg, cmd == SIOCGSTAMPNS);
    default:
        return -ENOTTY;
    }
    return put_user((int32_t __user *)arg, (int32_t)n);
}

/* ---- interfaces ---- */

static struct netif *netif_by_name(struct netstack *net, const char *name)
{
    uint32_t n = atomic_load_acquire(&net->nr_nifs);

    for (uint32_t k = 0; k < n; k++)
        if (!strncmp(net->nifs[k]->name, name, sizeof(net->nifs[k]->name)))
            return net->nifs[k];
    return NULL;
}

/* The first IPv4 address; false: none. */
static bool first_v4(struct netif *nif, struct netif_addr *out)
{
    bool found = false;

    spin_lock(&nif->net->routes->conf_lock);
    for (uint32_t k = 0; k < NETIF_MAX_ADDRS && !found; k++) {
        if (nif->addrs[k].state != ADDR_GOOD ||
            !addr_is_v4(&nif->addrs[k].addr))
            continue;
        *out = nif->addrs[k];
        found = true;
    }
    spin_unlock(&nif->net->routes->conf_lock);
    return found;
}

static void put_sockaddr(uint8_t *to, uint32_t v4)
{
    uint16_t family = AF_INET;

    memset(to, 0, SOCKADDR_IN_BYTES);
    memcpy(to, &family, sizeof(family));
    wire_put32(to + 4, v4);
}

static int get_address(struct netif *nif, uint32_t cmd, struct ifreq_abi *r)
{
    struct netif_addr a;
    uint32_t v4, mask;

    if (!first_v4(nif, &a))
        return -EADDRNOTAVAIL;
    v4 = addr_v4(&a.addr);
    mask = a.prefix > 96 ? ~0u << (128 - a.prefix) : 0;
    if (cmd == SIOCGIFNETMASK)
        v4 = mask;
    else if (cmd == SIOCGIFBRDADDR)
        v4 = nif->caps & NETIF_LOOPBACK ? 0 : v4 | ~mask;
    put_sockaddr(r->data, v4);
    return 0;
}

static int answer(struct netif *nif, uint32_t cmd, struct ifreq_abi *r)
{
    bool is_lo = nif->caps & NETIF_LOOPBACK;
    uint16_t type = is_lo ? ARPHRD_LOOPBACK : ARPHRD_ETHER;
    uint32_t v = 0;

    memset(r->data, 0, sizeof(r->data));
    switch (cmd) {
    case SIOCGIFFLAGS:
        v = netif_flags(nif);
        break;
    case SIOCGIFMTU:
        v = atomic_load_relaxed(&nif->mtu);
        break;
    case SIOCGIFINDEX:
        v = nif->index;
        break;
    case SIOCGIFTXQLEN:
        v = 1000;
        break;
    case SIOCGIFMETRIC:
        break;
    case SIOCGIFHWADDR:
        memcpy(r->data, &type, sizeof(type));
        memcpy(r->data + 2, nif->mac, ETH_ADDR);
        return 0;
    default:
        return get_address(nif, cmd, r);
    }
    memcpy(r->data, &v, sizeof(v));
    return 0;
}

static int64_t get_name(struct netstack *net, uint64_t arg)
{
    struct ifreq_abi r;
    struct netif *nif;
    uint32_t index;

    if (copy_from_user(&r, (void __user *)arg, sizeof(r)))
        return -EFAULT;
    memcpy(&index, r.data, sizeof(index));
    nif = netif_by_index(net, index);
    if (!nif)
        return -ENODEV;
    memcpy(r.name, nif->name, sizeof(r.name));
    return copy_to_user((void __user *)arg, &r, sizeof(r));
}

/* One ifreq per IPv4 address; a NULL buffer asks for the length. */
static int64_t get_conf(struct netstack *net, uint64_t arg)
{
    uint32_t n = atomic_load_acquire(&net->nr_nifs), done = 0;
    struct ifconf_abi c;

    if (copy_from_user(&c, (void __user *)arg, sizeof(c)))
        return -EFAULT;
    for (uint32_t k = 0; k < n; k++) {
        struct ifreq_abi r = {.name = {0}};

        if (get_address(net->nifs[k], SIOCGIFADDR, &r))
            continue;
        memcpy(r.name, net->nifs[k]->name, sizeof(r.name));
        if (c.buf) {
            if (c.len - (int64_t)done < (int64_t)sizeof(r))
                break;
            if (copy_to_user((void __user *)(c.buf + done), &r, sizeof(r)))
                return -EFAULT;
        }
        done += sizeof(r);
    }
    c.len = (int32_t)done;
    return copy_to_user((void __user *)arg, &c, sizeof(c));
}

static bool is_question(uint32_t cmd)
{
    static const uint32_t known[] = {
        SIOCGIFFLAGS, SIOCGIFADDR, SIOCGIFDSTADDR, SIOCGIFBRDADDR,
        SIOCGIFNETMASK, SIOCGIFMETRIC, SIOCGIFMTU, SIOCGIFHWADDR,
        SIOCGIFINDEX, SIOCGIFTXQLEN,
    };

    for (size_t k = 0; k < ARRAY_SIZE(known); k++)
        if (known[k] == cmd)
            return true;
    return false;
}

int64_t netif_ioctl(uint32_t cmd, uint64_t arg)
{
    struct ifreq_abi r;
    struct netstack *net;
    struct netif *nif;
    int err;

    if (cmd < SIOCGIFNAME || cmd > SIOCETHTOOL)
        return -ENOTTY;
    net = net_kernel_stack();
    if (!net)
        return -ENOMEM;
    if (cmd == SIOCGIFNAME)
        return get_name(net, arg);
    if (cmd == SIOCGIFCONF)
        return get_conf(net, arg);
    if (cmd == SIOCSIFFLAGS || cmd == SIOCSIFADDR || cmd == SIOCSIFMTU ||
        cmd == SIOCSIFMETRIC)
        return -EPERM;
    if (!is_question(cmd))
        return cmd == SIOCETHTOOL ? -ENOTSUP : -ENOTTY;
    if (copy_from_user(&r, (void __user *)arg, sizeof(r)))
        return -EFAULT;
    r.name[sizeof(r.name) - 1] = 0;
    nif = netif_by_name(net, r.name);
    err = nif ? answer(nif, cmd, &r) : -ENODEV;
    return err ? err : copy_to_user((void __user *)arg, &r, sizeof(r));
}
