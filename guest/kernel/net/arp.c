/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * ARP (RFC 826): requests, replies, announcements. Replies are sent only for
 * our own addresses; what is learnt goes to the neighbour cache.
 */
#include "lib/string.h"
#include "net/neigh.h"

#define ARP_BYTES 28u
#define ARP_REQUEST 1u
#define ARP_REPLY 2u

static const uint8_t arp_ethernet_ipv4[6] = {0, 1, 8, 0, ETH_ADDR, 4};
static const uint8_t everybody[ETH_ADDR] = {0xff, 0xff, 0xff,
                                            0xff, 0xff, 0xff};

struct arp_packet {
    uint32_t op;
    struct net_addr sender, target;
    const uint8_t *target_mac; /* NULL: not known */
};

static void arp_send(struct netif *nif, const struct arp_packet *a,
                     const uint8_t *eth_dst)
{
    struct frame *f = frame_alloc(nif->net, FRAME_SMALL, FRAME_HEADROOM,
                                  FRAME_FOR_CONTROL);
    uint8_t *p;

    if (!f)
        return;
    p = frame_append(f, ARP_BYTES);
    memset(p, 0, ARP_BYTES);
    memcpy(p, arp_ethernet_ipv4, sizeof(arp_ethernet_ipv4));
    wire_put16(p + 6, a->op);
    memcpy(p + 8, nif->mac, ETH_ADDR);
    wire_put32(p + 14, addr_v4(&a->sender));
    if (a->target_mac)
        memcpy(p + 18, a->target_mac, ETH_ADDR);
    wire_put32(p + 24, addr_v4(&a->target));
    netif_queue_eth(nif, eth_dst, ETH_TYPE_ARP, f);
}

void arp_request(struct netif *nif, const struct net_addr *addr,
                 const uint8_t *mac)
{
    struct arp_packet a = {.op = ARP_REQUEST, .target = *addr};

    spin_lock(&nif->net->routes->conf_lock);
    bool has_source = netif_pick_source(nif, addr, &a.sender);
    spin_unlock(&nif->net->routes->conf_lock);
    if (!has_source)
        a.sender = addr_from_v4(0);
    arp_send(nif, &a, mac ? mac : everybody);
}

void arp_announce(struct netif *nif, const struct net_addr *addr)
{
    struct arp_packet a = {.op = ARP_REQUEST, .sender = *addr,
                           .target = *addr};

    arp_send(nif, &a, everybody);
}

void arp_input(struct netif *nif, struct frame *f)
{
    const uint8_t *p = f->data;
    struct arp_packet reply = {.op = ARP_REPLY};
    struct neigh_news news = {0};
    struct net_addr sender, target;
    uint32_t op;

    if (f->len < ARP_BYTES ||
        memcmp(p, arp_ethernet_ipv4, sizeof(arp_ethernet_ipv4)) != 0)
        return;
    op = wire_get16(p + 6);
    sender = addr_from_wire4(p + 14);
    target = addr_from_wire4(p + 24);
    /* A link address of many is nobody's (RFC 1812 3.3.2). */
    if ((p[8] & 1) || addr_is_multicast(&sender) ||
        addr_is_broadcast(&sender))
        return;
    bool is_for_us = netif_of_addr(nif->net, &target, ADDR_FREE) == nif;
    if (!addr_is_any(&sender)) {
        news.mac = p + 8;
        news.is_solicited = op == ARP_REPLY && is_for_us;
        news.is_override = true;
        news.may_create = op == ARP_REQUEST && is_for_us;
        neigh_learn(nif, &sender, &news);
    }
    if (op != ARP_REQUEST || !is_for_us || addr_equal(&sender, &target))
        return;
    reply.sender = target;
    reply.target = sender;
    reply.target_mac = p + 8;
    arp_send(nif, &reply, p + 8);
}
