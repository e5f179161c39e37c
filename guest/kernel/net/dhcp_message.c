/* SPDX-License-Identifier: BSD-2-Clause */
/* DHCP messages: building and reading. See dhcp.h. */
#include "lib/errno.h"
#include "lib/string.h"
#include "net/dhcp.h"

#define HEADER 240u /* with the magic number */
#define MAGIC 0x63825363u
#define FLAG_BROADCAST 0x8000u
#define AT_SNAME 44u
#define AT_FILE 108u
#define END 255u

enum { OPT_MASK = 1, OPT_ROUTER = 3, OPT_DNS = 6, OPT_HOSTNAME = 12,
       OPT_DOMAIN = 15, OPT_MTU = 26, OPT_REQUESTED = 50, OPT_LEASE = 51,
       OPT_OVERLOAD = 52, OPT_TYPE = 53, OPT_SERVER = 54, OPT_WANTED = 55,
       OPT_MAX_SIZE = 57, OPT_RENEW = 58, OPT_REBIND = 59, OPT_CLIENT = 61,
       OPT_ROUTES = 121 };

static uint8_t *put_option(uint8_t *at, uint32_t code, const void *data,
                           uint32_t n)
{
    at[0] = (uint8_t)code;
    at[1] = (uint8_t)n;
    memcpy(at + 2, data, n);
    return at + 2 + n;
}

static uint8_t *put_u32(uint8_t *at, uint32_t code, uint32_t v)
{
    uint8_t wire[4];

    wire_put32(wire, v);
    return put_option(at, code, wire, 4);
}

uint32_t dhcp_build(const struct dhcp *d, uint32_t type, uint8_t *to)
{
    static const uint8_t wanted[] = {OPT_MASK, OPT_ROUTER, OPT_DNS,
                                     OPT_DOMAIN, OPT_MTU, OPT_LEASE,
                                     OPT_RENEW, OPT_REBIND, OPT_ROUTES};
    uint8_t client[7] = {1}, *at, kind = (uint8_t)type;
    static const uint8_t max_size[2] = {0x05, 0xc0}; /* 1472 */
    bool has_addr = d->state >= DHCP_BOUND;
    nsec_t waited = net_now(d->nif->net) - d->started;

    memset(to, 0, DHCP_MESSAGE_MAX);
    to[0] = 1; /* request */
    to[1] = 1; /* Ethernet */
    to[2] = ETH_ADDR;
    wire_put32(to + 4, d->xid);
    wire_put16(to + 8, (uint32_t)MIN(waited / NSEC_PER_SEC, 65535));
    wire_put16(to + 10, has_addr ? 0 : FLAG_BROADCAST);
    if (has_addr)
        wire_put32(to + 12, d->lease.addr);
    memcpy(to + 28, d->nif->mac, ETH_ADDR);
    wire_put32(to + 236, MAGIC);
    memcpy(client + 1, d->nif->mac, ETH_ADDR);
    at = put_option(to + HEADER, OPT_TYPE, &kind, 1);
    at = put_option(at, OPT_CLIENT, client, sizeof(client));
    if (d->state == DHCP_REQUESTING) {
        at = put_u32(at, OPT_REQUESTED, d->offer.addr);
        at = put_u32(at, OPT_SERVER, d->offer.server);
    }
    at = put_option(at, OPT_MAX_SIZE, max_size, 2);
    at = put_option(at, OPT_WANTED, wanted, sizeof(wanted));
    if (d->hostname[0])
        at = put_option(at, OPT_HOSTNAME, d->hostname,
                        (uint32_t)strlen(d->hostname));
    *at++ = END;
    return (uint32_t)MAX(at - to, 300); /* BOOTP relays want that much */
}

static void add_route(struct dhcp_lease *l, uint32_t prefix, uint32_t bits,
                      uint32_t gateway)
{
    if (l->nr_routes == DHCP_MAX_ROUTES)
        return;
    l->routes[l->nr_routes].prefix = prefix;
    l->routes[l->nr_routes].bits = bits;
    l->routes[l->nr_routes++].gateway = gateway;
}

/* RFC 3442: these replace the routers of option 3. */
static void read_routes(struct dhcp_lease *l, const uint8_t *p, uint32_t n)
{
    l->nr_routes = 0;
    while (n) {
        uint32_t bits = p[0], bytes = (bits + 7) / 8, prefix = 0;

        if (bits > 32 || n < 5 + bytes)
            return;
        for (uint32_t i = 0; i < bytes; i++)
            prefix |= (uint32_t)p[1 + i] << (24 - 8 * i);
        add_route(l, prefix, bits, wire_get32(p + 1 + bytes));
        p += 5 + bytes;
        n -= 5 + bytes;
    }
}

static void read_dns(struct dhcp_lease *l, const uint8_t *p, uint32_t n)
{
    for (l->nr_dns = 0; n >= 4 && l->nr_dns < 3; n -= 4, p += 4)
        l->dns[l->nr_dns++] = wire_get32(p);
}

static void read_option(struct dhcp_lease *l, uint32_t code, const uint8_t *p,
                        uint32_t n, uint32_t *router)
{
    uint32_t v = n >= 4 ? wire_get32(p) : 0;

    switch (code) {
    case OPT_TYPE:
        l->type = p[0];
        break;
    case OPT_MASK:
        l->mask = v;
        break;
    case OPT_ROUTER:
        *router = v;
        break;
    case OPT_DNS:
        read_dns(l, p, n);
        break;
    case OPT_DOMAIN:
        l->domain_len = (uint8_t)n;
        memcpy(l->domain, p, n);
        break;
    case OPT_MTU:
        l->mtu = n >= 2 ? wire_get16(p) : 0;
        break;
    case OPT_LEASE:
        l->lease_s = v;
        break;
    case OPT_RENEW:
        l->renew_s = v;
        break;
    case OPT_REBIND:
        l->rebind_s = v;
        break;
    case OPT_SERVER:
        l->server = v;
        break;
    case OPT_ROUTES:
        read_routes(l, p, n);
        break;
    default:
        break;
    }
}

/* Reads one field of options; returns the overload bits it saw. */
static uint32_t read_field(struct dhcp_lease *l, const uint8_t *p, uint32_t n,
                           uint32_t *router)
{
    uint32_t at = 0, overload = 0;

    while (at < n && p[at] != END) {
        uint32_t len;

        if (p[at] == 0) {
            at++;
            continue;
        }
        if (at + 2 > n || at + 2 + p[at + 1] > n)
            break;
        len = p[at + 1];
        if (p[at] == OPT_OVERLOAD && len == 1)
            overload = p[at + 2];
        else if (len)
            read_option(l, p[at], p + at + 2, len, router);
        at += 2 + len;
    }
    return overload;
}

/* Can a host have this address? None at all (0) is for other messages. */
static bool is_host_address(uint32_t v4)
{
    return v4 >> 24 != 127 && v4 < 0xe0000000u && (v4 >> 24 || !v4);
}

int dhcp_parse(const uint8_t *p, uint32_t n, uint32_t xid, const uint8_t *mac,
               struct dhcp_lease *out)
{
    struct dhcp_lease l;
    uint32_t router = 0, overload;

    memset(&l, 0, sizeof(l));
    if (n < HEADER || p[0] != 2 || p[1] != 1 || p[2] != ETH_ADDR ||
        wire_get32(p + 4) != xid || wire_get32(p + 236) != MAGIC ||
        memcmp(p + 28, mac, ETH_ADDR) != 0)
        return -EINVAL;
    l.addr = wire_get32(p + 16);
    overload = read_field(&l, p + HEADER, n - HEADER, &router);
    if (overload & 1)
        (void)read_field(&l, p + AT_FILE, 128, &router);
    if (overload & 2)
        (void)read_field(&l, p + AT_SNAME, 64, &router);
    if (router && !l.nr_routes)
        add_route(&l, 0, 0, router);
    if (!l.type || !is_host_address(l.addr))
        return -EINVAL;
    *out = l;
    return 0;
}
