/* SPDX-License-Identifier: BSD-2-Clause */
/* The text of /etc/resolv.conf and /etc/hosts. See resolv.h. */
#include "net/resolv.h"

#include "lib/errno.h"
#include "lib/string.h"
#include "mm/heap.h"
#include "net/route.h"

int dns_init(struct netstack *net)
{
    net->dns = kzalloc(sizeof(*net->dns));
    if (!net->dns)
        return -ENOMEM;
    spin_init(&net->dns->lock);
    return 0;
}

void dns_destroy(struct netstack *net)
{
    kfree(net->dns);
}

void dns_on_change(struct netstack *net, void (*changed)(void))
{
    atomic_store_release(&net->dns->changed, changed);
}

uint32_t dns_generation(struct netstack *net)
{
    return atomic_load_acquire(&net->dns->gen);
}

static void dns_change(struct dns_config *d)
{
    void (*changed)(void) = atomic_load_acquire(&d->changed);

    atomic_add(&d->gen, 1u);
    if (changed)
        changed();
}

void dns_clear(struct netstack *net)
{
    spin_lock(&net->dns->lock);
    net->dns->nr_servers = 0;
    net->dns->domain[0] = 0;
    spin_unlock(&net->dns->lock);
    dns_change(net->dns);
}

void dns_add_server(struct netstack *net, const struct net_addr *server)
{
    struct dns_config *d = net->dns;
    bool is_new = d->nr_servers < DNS_MAX_SERVERS;

    spin_lock(&d->lock);
    for (uint32_t i = 0; i < d->nr_servers; i++)
        is_new &= !addr_equal(&d->servers[i], server);
    if (is_new && d->nr_servers < DNS_MAX_SERVERS)
        d->servers[d->nr_servers++] = *server;
    spin_unlock(&d->lock);
    if (is_new)
        dns_change(d);
}

void dns_set_domain(struct netstack *net, const uint8_t *name, size_t n)
{
    struct dns_config *d = net->dns;

    while (n && name[n - 1] == 0)
        n--;
    if (!n || n >= DNS_DOMAIN_MAX)
        return;
    for (size_t i = 0; i < n; i++) {
        uint8_t c = name[i] | 0x20;
        if (!(c >= 'a' && c <= 'z') && !(name[i] >= '0' && name[i] <= '9') &&
            name[i] != '-' && name[i] != '.' && name[i] != '_')
            return;
    }
    spin_lock(&d->lock);
    memcpy(d->domain, name, n);
    d->domain[n] = 0;
    spin_unlock(&d->lock);
    dns_change(d);
}

/* Appends as snprintf counts: what did not fit is counted too. */
#define APPEND(...)                                                        \
    (n += (size_t)snprintf(n < size ? buf + n : NULL, n < size ? size - n : 0, \
                           __VA_ARGS__))

size_t dns_resolv_conf(struct netstack *net, char *buf, size_t size)
{
    uint32_t nr = atomic_load_acquire(&net->nr_nifs);
    struct dns_config copy;
    char text[NET_ADDR_TEXT];
    size_t n = 0;

    spin_lock(&net->dns->lock);
    copy = *net->dns;
    spin_unlock(&net->dns->lock);
    if (size)
        buf[0] = 0;
    if (copy.domain[0])
        APPEND("search %s\n", copy.domain);
    for (uint32_t i = 0; i < copy.nr_servers; i++) {
        APPEND("nameserver %s", addr_to_text(&copy.servers[i], text));
        /* Routers announce such ones; libc wants to know on which link. */
        if (addr_is_link_local(&copy.servers[i]) && nr > 1)
            APPEND("%%%s", net->nifs[1]->name);
        APPEND("\n");
    }
    return n;
}

size_t dns_hosts(struct netstack *net, const char *hostname, char *buf,
                 size_t size)
{
    uint32_t nr = atomic_load_acquire(&net->nr_nifs);
    struct net_addr own;
    char text[NET_ADDR_TEXT], domain[DNS_DOMAIN_MAX];
    size_t n = 0;

    spin_lock(&net->dns->lock);
    memcpy(domain, net->dns->domain, sizeof(domain));
    spin_unlock(&net->dns->lock);
    APPEND("127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost "
           "ip6-loopback\n");
    own = nr > 1 ? netif_first_addr(net->nifs[1], true)
                 : addr_from_v4(0x7f000101);
    if (addr_is_any(&own))
        own = addr_from_v4(0x7f000101); /* 127.0.1.1, Debian's habit */
    addr_to_text(&own, text);
    if (domain[0])
        APPEND("%s\t%s.%s %s\n", text, hostname, domain, hostname);
    else
        APPEND("%s\t%s\n", text, hostname);
    return n;
}
