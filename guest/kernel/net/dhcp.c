/* SPDX-License-Identifier: BSD-2-Clause */
/* The DHCP client's states. See dhcp.h. */
#include "net/dhcp.h"

#include "lib/errno.h"
#include "lib/string.h"
#include "mm/heap.h"
#include "net/neigh.h"
#include "net/resolv.h"

#define BROADCAST 0xffffffffu
#define FIRST_WAIT_NS NSEC_PER_SEC
#define MAX_WAIT_NS (64 * NSEC_PER_SEC)
#define REQUEST_TRIES 4u
#define MIN_RENEW_WAIT_S 60u
#define FOREVER_S 0xffffffffu
#define MIN_MTU 576u

static void dhcp_timer(struct net_timer *timer);

/* From nobody to everybody, or from our address to the server. */
static void send_message(struct dhcp *d, uint32_t type)
{
    struct netstack *net = d->nif->net;
    bool has_addr = d->state >= DHCP_BOUND;
    bool to_server = d->state == DHCP_RENEWING;
    struct net_route r = {.nif = d->nif, .is_broadcast = true,
                          .next_hop = addr_from_v4(BROADCAST),
                          .mtu = atomic_load_relaxed(&d->nif->mtu)};
    struct frame *f = frame_alloc(net, FRAME_SMALL, FRAME_HEADROOM,
                                  FRAME_FOR_CONTROL);
    uint8_t *p;

    if (!f)
        return;
    f->dst = addr_from_v4(to_server ? d->lease.server : BROADCAST);
    f->src = addr_from_v4(has_addr ? d->lease.addr : 0);
    if (to_server && route_find(net, &f->dst, &f->src, d->nif->index, &r)) {
        frame_put(f);
        return;
    }
    p = frame_append(f, UDP_HEADER + DHCP_MESSAGE_MAX);
    f->len = UDP_HEADER + dhcp_build(d, type, p + UDP_HEADER);
    wire_put16(p, DHCP_CLIENT_PORT);
    wire_put16(p + 2, DHCP_SERVER_PORT);
    wire_put16(p + 4, f->len);
    f->proto = IP_PROTO_UDP;
    f->ttl = IP_DEFAULT_TTL;
    ip_partial_checksum(f, 6);
    (void)!ip_output(&r, f, IP_NO_LOOP);
}

static void arm_locked(struct dhcp *d, nsec_t at)
{
    if (d->timer_pending && !net_timer_cancel(&d->timer))
        return; /* about to run: it looks at the state */
    d->timer_pending = true;
    net_arm(d->nif->net, &d->timer, at);
}

/* 1, 2, 4 ... 64 seconds, a little random (RFC 2131 4.1). */
static nsec_t retry_at(struct dhcp *d)
{
    nsec_t wait = FIRST_WAIT_NS << MIN(d->tries, 6u);

    wait = MIN(wait, MAX_WAIT_NS);
    return net_now(d->nif->net) + wait +
           (nsec_t)(net_random32(d->nif->net) % 256) * (wait / 1024);
}

static void discover_locked(struct dhcp *d)
{
    if (d->state != DHCP_SELECTING) {
        d->state = DHCP_SELECTING;
        d->xid = net_random32(d->nif->net);
        d->tries = 0;
        d->started = net_now(d->nif->net);
    }
    send_message(d, DHCP_DISCOVER);
    arm_locked(d, retry_at(d));
    d->tries++;
}

static uint32_t prefix_bits(const struct dhcp_lease *l)
{
    uint32_t mask = l->mask ? l->mask : 0xffffff00u;

    return 32 - (uint32_t)__builtin_ctz(mask);
}

static void unapply(struct dhcp *d, const struct dhcp_lease *l)
{
    struct net_addr addr = addr_from_v4(l->addr);

    if (!l->addr)
        return;
    for (uint32_t i = 0; i < l->nr_routes; i++) {
        struct net_addr p = addr_from_v4(l->routes[i].prefix);
        struct net_addr gw = addr_from_v4(l->routes[i].gateway);

        route_del(d->nif, &p, IPV4_PREFIX(l->routes[i].bits), &gw);
    }
    netif_del_addr(d->nif, &addr);
}

static void apply(struct dhcp *d, const struct dhcp_lease *l)
{
    struct netstack *net = d->nif->net;
    struct net_addr addr = addr_from_v4(l->addr), a;

    (void)!route_add_addr(d->nif, &addr, IPV4_PREFIX(prefix_bits(l)));
    for (uint32_t i = 0; i < l->nr_routes; i++) {
        struct net_addr p = addr_from_v4(l->routes[i].prefix);
        struct net_addr gw = addr_from_v4(l->routes[i].gateway);

        /* Of two default routes, which have the same prefix, the first. */
        (void)!route_add(d->nif, &p, IPV4_PREFIX(l->routes[i].bits),
                         l->routes[i].gateway ? &gw : NULL);
    }
    if (l->mtu >= MIN_MTU && l->mtu <= d->nif->max_mtu) {
        atomic_store_relaxed(&d->nif->mtu, l->mtu);
        route_changed(net);
    }
    for (uint32_t i = 0; i < l->nr_dns; i++) {
        a = addr_from_v4(l->dns[i]);
        dns_add_server(net, &a);
    }
    dns_set_domain(net, l->domain, l->domain_len);
    arp_announce(d->nif, &addr);
}

static void default_times(struct dhcp_lease *l)
{
    if (!l->lease_s)
        l->lease_s = FOREVER_S;
    if (!l->renew_s || l->renew_s > l->lease_s)
        l->renew_s = l->lease_s / 2;
    if (!l->rebind_s || l->rebind_s < l->renew_s || l->rebind_s > l->lease_s)
        l->rebind_s = (uint32_t)((uint64_t)l->lease_s * 7 / 8);
}

static nsec_t lease_time(const struct dhcp *d, uint32_t seconds)
{
    return d->granted + (nsec_t)seconds * NSEC_PER_SEC;
}

/* When the state wants to be looked at next. */
static void arm_lease_locked(struct dhcp *d)
{
    nsec_t now = net_now(d->nif->net), end, half;

    if (d->lease.lease_s == FOREVER_S)
        return;
    switch (d->state) {
    case DHCP_BOUND:
        arm_locked(d, lease_time(d, d->lease.renew_s));
        return;
    case DHCP_RENEWING:
        end = lease_time(d, d->lease.rebind_s);
        break;
    default:
        end = lease_time(d, d->lease.lease_s);
        break;
    }
    /* Half of what is left, not too often (RFC 2131 4.4.5). */
    half = MAX((end - now) / 2, (nsec_t)MIN_RENEW_WAIT_S * NSEC_PER_SEC);
    arm_locked(d, MAX(MIN(now + half, end), now + NSEC_PER_SEC / 10));
}

/* True: the configuration is another one. */
static bool bind_locked(struct dhcp *d, const struct dhcp_lease *l)
{
    struct dhcp_lease old = d->lease;
    bool is_same = old.addr == l->addr && old.mask == l->mask &&
                   old.nr_routes == l->nr_routes &&
                   memcmp(old.routes, l->routes, sizeof(old.routes)) == 0;

    d->lease = *l;
    if (!d->lease.server)
        d->lease.server = old.server ? old.server : d->offer.server;
    default_times(&d->lease);
    d->granted = net_now(d->nif->net);
    d->state = DHCP_BOUND;
    d->tries = 0;
    if (!is_same) {
        unapply(d, &old);
        apply(d, &d->lease);
    }
    arm_lease_locked(d);
    return !is_same;
}

static bool lose_locked(struct dhcp *d)
{
    bool had_one = d->lease.addr != 0;

    unapply(d, &d->lease);
    memset(&d->lease, 0, sizeof(d->lease));
    d->state = DHCP_OFF;
    discover_locked(d);
    return had_one;
}

static bool input_locked(struct dhcp *d, const struct dhcp_lease *l)
{
    switch (l->type) {
    case DHCP_OFFER:
        if (d->state != DHCP_SELECTING || !l->addr || !l->server)
            return false;
        d->offer = *l;
        d->state = DHCP_REQUESTING;
        d->tries = 0;
        send_message(d, DHCP_REQUEST);
        arm_locked(d, retry_at(d));
        d->tries++;
        return false;
    case DHCP_ACK:
        if (d->state == DHCP_BOUND || d->state < DHCP_REQUESTING || !l->addr)
            return false;
        return bind_locked(d, l);
    case DHCP_NAK:
        if (d->state == DHCP_BOUND || d->state < DHCP_REQUESTING)
            return false;
        return lose_locked(d);
    default:
        return false;
    }
}

struct message_iter {
    struct net_iter it; /* first member */
    uint8_t *to;
};

static size_t copy_message(struct net_iter *it, void *kernel, size_t n)
{
    struct message_iter *m = (struct message_iter *)it;

    n = MIN(n, it->left);
    memcpy(m->to, kernel, n);
    m->to += n;
    it->left -= n;
    return n;
}

static void dhcp_event(struct net_sock *s, uint32_t bits)
{
    struct dhcp *d = s->owner;
    uint8_t buf[1500];
    struct dhcp_lease l;
    struct udp_info info;
    bool has_changed = false;

    for (;;) {
        struct message_iter m = {{copy_message, sizeof(buf)}, buf};
        ssize_t n = udp_recv(d->sock, &m.it, 0, &info);

        if (n < 0)
            break;
        if (info.from.port != DHCP_SERVER_PORT)
            continue;
        spin_lock(&d->lock);
        if (dhcp_parse(buf, (uint32_t)n, d->xid, d->nif->mac, &l) == 0)
            has_changed |= input_locked(d, &l);
        spin_unlock(&d->lock);
    }
    if (has_changed && d->changed)
        d->changed(d);
}

static bool timer_locked(struct dhcp *d)
{
    nsec_t now = net_now(d->nif->net);

    switch (d->state) {
    case DHCP_REQUESTING:
        if (d->tries >= REQUEST_TRIES) {
            d->state = DHCP_OFF;
            discover_locked(d);
            return false;
        }
        send_message(d, DHCP_REQUEST);
        arm_locked(d, retry_at(d));
        d->tries++;
        return false;
    case DHCP_BOUND:
    case DHCP_RENEWING:
    case DHCP_REBINDING:
        if (now >= lease_time(d, d->lease.lease_s))
            return lose_locked(d);
        d->state = now >= lease_time(d, d->lease.rebind_s) ? DHCP_REBINDING
                                                           : DHCP_RENEWING;
        d->started = now;
        send_message(d, DHCP_REQUEST);
        arm_lease_locked(d);
        return false;
    case DHCP_SELECTING:
        discover_locked(d);
        return false;
    case DHCP_OFF:
        return false;
    }
    return false;
}

static void dhcp_timer(struct net_timer *timer)
{
    struct dhcp *d = container_of(timer, struct dhcp, timer);
    bool has_changed;

    spin_lock(&d->lock);
    d->timer_pending = false;
    has_changed = timer_locked(d);
    spin_unlock(&d->lock);
    if (has_changed && d->changed)
        d->changed(d);
}

static const struct sock_hooks dhcp_hooks = {.event = dhcp_event};

int dhcp_start(struct netif *nif, const char *hostname,
               void (*changed)(struct dhcp *d), void *owner,
               struct dhcp **out)
{
    struct net_endpoint at = {.addr = addr_from_v4(0),
                              .port = DHCP_CLIENT_PORT};
    struct dhcp *d = kzalloc(sizeof(*d));
    int err = -ENOMEM;

    if (!d)
        return -ENOMEM;
    d->nif = nif;
    d->changed = changed;
    d->owner = owner;
    spin_init(&d->lock);
    net_timer_init(&d->timer, dhcp_timer);
    if (hostname)
        memcpy(d->hostname, hostname,
               strnlen(hostname, sizeof(d->hostname) - 1));
    d->sock = udp_create(nif->net, 4);
    if (!d->sock)
        goto err_free;
    d->sock->s.bound_nif = nif->index;
    d->sock->takes_all = true;
    d->sock->s.owner = d;
    d->sock->s.hooks = &dhcp_hooks;
    err = udp_bind(d->sock, &at);
    if (err)
        goto err_close;
    spin_lock(&d->lock);
    discover_locked(d);
    spin_unlock(&d->lock);
    net_defer(nif->net);
    *out = d;
    return 0;
err_close:
    d->sock->s.hooks = NULL;
    udp_close(d->sock);
err_free:
    kfree(d);
    return err;
}

void dhcp_stop(struct dhcp *d)
{
    spin_lock(&d->lock);
    d->state = DHCP_OFF;
    if (d->timer_pending && net_timer_cancel(&d->timer))
        d->timer_pending = false;
    spin_unlock(&d->lock);
    sock_lock(&d->sock->s);
    d->sock->s.hooks = NULL;
    sock_unlock(&d->sock->s);
    udp_close(d->sock);
    kfree(d);
}
