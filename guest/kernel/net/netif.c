/* SPDX-License-Identifier: BSD-2-Clause */
/* Interfaces: registration and the batch of frames to send. See netif.h. */
#include "net/netif.h"

#include "lib/errno.h"
#include "lib/string.h"
#include "net/netstack.h"

int netif_add(struct netstack *net, struct netif *nif)
{
    uint32_t n = atomic_load_relaxed(&net->nr_nifs);

    if (!nif->ops || nif->max_mtu < IPV4_MIN_MTU)
        return -EINVAL;
    if (n == NET_MAX_NIFS)
        return -ENOSPC;
    nif->net = net;
    nif->index = n + 1;
    nif->mtu = nif->max_mtu;
    nif->hop_limit = IP_DEFAULT_TTL;
    if (!nif->max_gso || nif->max_gso > 65535)
        nif->max_gso = 65535;
    net->nifs[n] = nif;
    atomic_store_release(&net->nr_nifs, n + 1); /* pairs with loads of it */
    return 0;
}

struct netif *netif_by_index(struct netstack *net, uint32_t index)
{
    uint32_t n = atomic_load_acquire(&net->nr_nifs);

    return index && index <= n ? net->nifs[index - 1] : NULL;
}

void netif_queue(struct netif *nif, struct frame *f)
{
    struct net_cpu *c = net_this_cpu(nif->net);

    f->nif = nif;
    frame_list_add(&c->tx, f);
    if (c->tx.nr >= NET_TX_BATCH)
        netif_flush(nif->net);
}

static void count_out(struct netif *nif, const struct frame_list *l)
{
    uint64_t bytes = 0;

    for (const struct frame *f = l->head; f; f = f->next)
        bytes += frame_total(f);
    atomic_add(&nif->frames_out, (uint64_t)l->nr);
    atomic_add(&nif->bytes_out, bytes);
}

void netif_flush(struct netstack *net)
{
    struct net_cpu *c = net_this_cpu(net);

    while (c->tx.head) {
        struct netif *nif = c->tx.head->nif;
        struct frame_list batch = {0};

        while (c->tx.head && c->tx.head->nif == nif)
            frame_list_add(&batch, frame_list_take(&c->tx));
        count_out(nif, &batch);
        nif->ops->transmit(nif, &batch);
    }
}

void netif_queue_eth(struct netif *nif, const uint8_t *dst_mac,
                     uint32_t type, struct frame *f)
{
    uint8_t *eth = frame_push(f, ETH_HEADER);

    memcpy(eth, dst_mac, ETH_ADDR);
    memcpy(eth + ETH_ADDR, nif->mac, ETH_ADDR);
    wire_put16(eth + 2 * ETH_ADDR, type);
    f->csum_start += ETH_HEADER;
    netif_queue(nif, f);
}
