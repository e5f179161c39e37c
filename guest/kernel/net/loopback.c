/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The loopback interface: what is sent is received, by reference. A segment's
 * bytes stay where the sender's queue has them until the reader copies them.
 */
#include "lib/errno.h"
#include "lib/string.h"
#include "mm/heap.h"
#include "net/netstack.h"
#include "net/route.h"

#define LOOPBACK_MTU 65536u

static void loopback_transmit(struct netif *nif, struct frame_list *frames)
{
    struct frame *f;

    while ((f = frame_list_take(frames)) != NULL) {
        /* A partial checksum is good as it is: nothing was on a wire. */
        f->flags |= FRAME_LOOPED | FRAME_CSUM_OK;
        net_classify(nif, f);
    }
}

static const struct netif_ops loopback_ops = {.transmit = loopback_transmit};

int loopback_create(struct netstack *net)
{
    struct netif *nif = kzalloc(sizeof(*nif));
    struct net_addr v6 = {.b = {[15] = 1}};
    int err;

    if (!nif)
        return -ENOMEM;
    nif->ops = &loopback_ops;
    memcpy(nif->name, "lo", 3);
    nif->caps = NETIF_CSUM | NETIF_TSO4 | NETIF_TSO6 | NETIF_LOOPBACK |
                NETIF_NO_ARP;
    nif->max_mtu = LOOPBACK_MTU;
    err = netif_add(net, nif);
    if (err) {
        kfree(nif);
        return err;
    }
    struct net_addr v4 = addr_from_v4(0x7f000001);
    err = route_add_addr(nif, &v4, 96 + 8);
    return err ? err : route_add_addr(nif, &v6, 128);
}

void loopback_destroy(struct netstack *net)
{
    kfree(net->nifs[0]);
}
