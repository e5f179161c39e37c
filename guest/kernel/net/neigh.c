/* SPDX-License-Identifier: BSD-2-Clause */
/* The neighbour cache. See neigh.h. */
#include "net/neigh.h"

#include "lib/errno.h"
#include "lib/string.h"
#include "mm/heap.h"
#include "net/icmp.h"
#include "net/ndp.h"

/* RFC 4861, 10 */
#define REACHABLE_NS (30 * NSEC_PER_SEC)
#define RETRANS_NS NSEC_PER_SEC
#define DELAY_NS (5 * NSEC_PER_SEC)
#define MAX_PROBES 3u

int neighs_init(struct netstack *net)
{
    net->neighs = kzalloc(sizeof(*net->neighs));
    return net->neighs ? 0 : -ENOMEM;
}

void neighs_destroy(struct netstack *net)
{
    if (!net->neighs)
        return;
    for (uint32_t i = 0; i < NEIGH_BUCKETS; i++) {
        while (net->neighs->buckets[i].first) {
            struct neigh *n = net->neighs->buckets[i].first;

            net->neighs->buckets[i].first = n->next;
            net_timer_cancel(&n->timer);
            frame_list_free(&n->waiting);
            kfree(n);
        }
    }
    kfree(net->neighs);
}

static uint32_t bucket_of(struct netif *nif, const struct net_addr *addr)
{
    uint64_t h = addr->q[0] ^ addr->q[1] ^ (uint64_t)nif->index << 32;

    return (uint32_t)(h * 0x9e3779b97f4a7c15ull >> 58) % NEIGH_BUCKETS;
}

static struct neigh *find_locked(struct netif *nif, uint32_t bucket,
                                 const struct net_addr *addr)
{
    struct neigh *n = nif->net->neighs->buckets[bucket].first;

    while (n && (n->nif != nif || !addr_equal(&n->addr, addr)))
        n = n->next;
    return n;
}

/* Somebody who answered a moment ago, or whose answer is being waited for. */
static bool is_needed(const struct neigh *n, nsec_t now)
{
    return n->timer_pending || (n->state > NEIGH_INCOMPLETE && n->confirmed &&
                                now - n->confirmed < REACHABLE_NS);
}

/* Who is known not to answer goes first, then who was heard of longest ago.
 * False: all are needed. */
static bool evict_locked(struct netstack *net, uint32_t bucket)
{
    struct neigh_table *t = net->neighs;
    nsec_t now = net_now(net);
    struct neigh **link = &t->buckets[bucket].first, **worst = NULL, *n;

    for (; (n = *link) != NULL; link = &n->next) {
        if (is_needed(n, now))
            continue;
        if (!worst || n->state == NEIGH_NEW ||
            ((*worst)->state != NEIGH_NEW &&
             n->confirmed <= (*worst)->confirmed))
            worst = link;
    }
    if (!worst)
        return false;
    n = *worst;
    *worst = n->next;
    frame_list_free(&n->waiting);
    kfree(n);
    t->buckets[bucket].nr--;
    return true;
}

static void neigh_timer(struct net_timer *timer);

static struct neigh *create_locked(struct netif *nif, uint32_t bucket,
                                   const struct net_addr *addr)
{
    struct neigh_table *t = nif->net->neighs;
    struct neigh *n;

    if (t->buckets[bucket].nr >= NEIGH_PER_BUCKET &&
        !evict_locked(nif->net, bucket))
        return NULL;
    n = kzalloc(sizeof(*n));
    if (!n)
        return NULL;
    n->nif = nif;
    n->addr = *addr;
    net_timer_init(&n->timer, neigh_timer);
    n->next = t->buckets[bucket].first;
    t->buckets[bucket].first = n;
    t->buckets[bucket].nr++;
    return n;
}

static void arm_locked(struct neigh *n, nsec_t delay)
{
    struct netstack *net = n->nif->net;

    if (n->timer_pending && !net_timer_cancel(&n->timer))
        return; /* its callback is about to run and looks at the state */
    n->timer_pending = true;
    net_arm(net, &n->timer, net_now(net) + delay);
}

/* Asks; the answer comes to neigh_learn. */
static void solicit(struct neigh *n, bool is_unicast)
{
    const uint8_t *mac = is_unicast ? n->mac : NULL;

    n->probes++;
    if (addr_is_v4(&n->addr))
        arp_request(n->nif, &n->addr, mac);
    else
        ndp_solicit(n->nif, &n->addr, mac);
}

static void send_waiting(struct neigh *n, struct frame_list *l)
{
    struct frame *f;

    while ((f = frame_list_take(l)) != NULL)
        netif_queue_eth(n->nif, n->mac, f->eth_type, f);
}

/* Is the transport header behind the IP header? Not in later fragments, and
 * in IPv6 not in the first one either. */
static bool has_transport(const struct frame *f)
{
    if (addr_is_v4(&f->dst))
        return (wire_get16(f->data + 6) & 0x1fff) == 0;
    return f->data[6] == f->proto;
}

/* The senders of frames that cannot go out get an error, as if a router had
 * sent it. */
static void fail_waiting(struct netstack *net, struct frame_list *l)
{
    struct frame *f;

    while ((f = frame_list_take(l)) != NULL) {
        net_count(net, NET_NEIGH_FAILED);
        if (has_transport(f)) {
            frame_trim_head(f, ip_header_bytes(&f->dst));
            f->sport = wire_get16(f->data);
            f->dport = wire_get16(f->data + 2);
            icmp_tell_socket(net, f, EHOSTUNREACH, 0);
        }
        frame_put(f);
    }
}

static void neigh_timer(struct net_timer *timer)
{
    struct neigh *n = container_of(timer, struct neigh, timer);
    struct netstack *net = n->nif->net;
    struct frame_list failed = {0};
    uint32_t bucket = bucket_of(n->nif, &n->addr);

    spin_lock(&net->neighs->buckets[bucket].lock);
    n->timer_pending = false;
    switch (n->state) {
    case NEIGH_DELAY:
        n->state = NEIGH_PROBE;
        n->probes = 0;
        /* fall through */
    case NEIGH_PROBE:
    case NEIGH_INCOMPLETE:
        if (n->probes < MAX_PROBES) {
            solicit(n, n->state == NEIGH_PROBE);
            arm_locked(n, RETRANS_NS);
            break;
        }
        n->state = NEIGH_NEW;
        failed = n->waiting;
        n->waiting = (struct frame_list){0};
        break;
    default:
        break;
    }
    spin_unlock(&net->neighs->buckets[bucket].lock);
    fail_waiting(net, &failed);
}

static void wait_locked(struct neigh *n, struct frame *f)
{
    if (n->waiting.nr >= NEIGH_WAITING_MAX)
        frame_put(frame_list_take(&n->waiting));
    frame_list_add(&n->waiting, f);
    if (n->state == NEIGH_NEW) {
        n->state = NEIGH_INCOMPLETE;
        n->probes = 0;
        solicit(n, false);
        arm_locked(n, RETRANS_NS);
    }
}

static void output_unicast(const struct net_route *r, struct frame *f)
{
    struct netstack *net = r->nif->net;
    uint32_t bucket = bucket_of(r->nif, &r->next_hop);
    struct spinlock *lock = &net->neighs->buckets[bucket].lock;
    struct neigh *n;
    uint8_t mac[ETH_ADDR];

    spin_lock(lock);
    n = find_locked(r->nif, bucket, &r->next_hop);
    if (!n)
        n = create_locked(r->nif, bucket, &r->next_hop);
    if (!n || n->state <= NEIGH_INCOMPLETE) {
        if (n)
            wait_locked(n, f);
        spin_unlock(lock);
        if (!n)
            frame_put(f);
        return;
    }
    memcpy(mac, n->mac, ETH_ADDR);
    if (n->state == NEIGH_REACHABLE &&
        net_now(net) > n->confirmed + REACHABLE_NS)
        n->state = NEIGH_STALE;
    if (n->state == NEIGH_STALE) {
        n->state = NEIGH_DELAY;
        arm_locked(n, DELAY_NS);
    }
    spin_unlock(lock);
    netif_queue_eth(r->nif, mac, f->eth_type, f);
}

static void multicast_mac(const struct net_addr *group, uint8_t *mac)
{
    if (addr_is_v4(group)) { /* RFC 1112 6.4 */
        mac[0] = 0x01;
        mac[1] = 0x00;
        mac[2] = 0x5e;
        mac[3] = group->b[13] & 0x7f;
        mac[4] = group->b[14];
        mac[5] = group->b[15];
        return;
    }
    mac[0] = mac[1] = 0x33; /* RFC 2464 7 */
    memcpy(mac + 2, group->b + 12, 4);
}

void neigh_output(const struct net_route *r, uint32_t eth_type,
                  struct frame *f)
{
    uint8_t mac[ETH_ADDR] = {0};

    f->eth_type = (uint16_t)eth_type;
    if (r->is_broadcast)
        memset(mac, 0xff, ETH_ADDR);
    else if (addr_is_multicast(&r->next_hop))
        multicast_mac(&r->next_hop, mac);
    else if (!(r->nif->caps & NETIF_NO_ARP)) {
        output_unicast(r, f);
        return;
    }
    netif_queue_eth(r->nif, mac, eth_type, f);
}

static void learn_locked(struct neigh *n, const struct neigh_news *news)
{
    bool is_same = news->mac && memcmp(n->mac, news->mac, ETH_ADDR) == 0;

    n->is_router = news->is_router;
    if (n->state <= NEIGH_INCOMPLETE) {
        if (!news->mac)
            return;
        memcpy(n->mac, news->mac, ETH_ADDR);
        n->state = news->is_solicited ? NEIGH_REACHABLE : NEIGH_STALE;
    } else if (news->mac && !is_same && !news->is_override) {
        if (n->state == NEIGH_REACHABLE) /* RFC 4861 7.2.5 */
            n->state = NEIGH_STALE;
        return;
    } else {
        if (news->mac)
            memcpy(n->mac, news->mac, ETH_ADDR);
        if (news->is_solicited)
            n->state = NEIGH_REACHABLE;
        else if (news->mac && !is_same)
            n->state = NEIGH_STALE;
    }
    if (n->state == NEIGH_REACHABLE)
        n->confirmed = net_now(n->nif->net);
    n->probes = 0;
}

void neigh_learn(struct netif *nif, const struct net_addr *addr,
                 const struct neigh_news *news)
{
    uint32_t bucket = bucket_of(nif, addr);
    struct spinlock *lock = &nif->net->neighs->buckets[bucket].lock;
    struct frame_list ready = {0};
    struct neigh *n;

    spin_lock(lock);
    n = find_locked(nif, bucket, addr);
    if (!n && news->may_create)
        n = create_locked(nif, bucket, addr);
    if (n) {
        learn_locked(n, news);
        if (n->state > NEIGH_INCOMPLETE) {
            ready = n->waiting;
            n->waiting = (struct frame_list){0};
            send_waiting(n, &ready);
        }
    }
    spin_unlock(lock);
}

void neigh_confirm(struct netif *nif, const struct net_addr *addr)
{
    uint32_t bucket = bucket_of(nif, addr);
    struct spinlock *lock = &nif->net->neighs->buckets[bucket].lock;
    struct neigh *n;

    if (nif->caps & NETIF_NO_ARP)
        return;
    spin_lock(lock);
    n = find_locked(nif, bucket, addr);
    if (n && n->state > NEIGH_INCOMPLETE) {
        n->state = NEIGH_REACHABLE;
        n->confirmed = net_now(nif->net);
    }
    spin_unlock(lock);
}

int neigh_state_of(struct netif *nif, const struct net_addr *addr,
                   uint8_t *mac)
{
    uint32_t bucket = bucket_of(nif, addr);
    struct spinlock *lock = &nif->net->neighs->buckets[bucket].lock;
    struct neigh *n;
    int state = -1;

    spin_lock(lock);
    n = find_locked(nif, bucket, addr);
    if (n) {
        state = n->state;
        memcpy(mac, n->mac, ETH_ADDR);
    }
    spin_unlock(lock);
    return state;
}

uint32_t neigh_list(struct netstack *net, struct neigh_info *out,
                    uint32_t max)
{
    uint32_t nr = 0;

    for (uint32_t i = 0; i < NEIGH_BUCKETS; i++) {
        struct spinlock *lock = &net->neighs->buckets[i].lock;

        spin_lock(lock);
        for (struct neigh *n = net->neighs->buckets[i].first; n && nr < max;
             n = n->next, nr++) {
            out[nr] = (struct neigh_info){.nif = n->nif, .addr = n->addr,
                                          .state = n->state};
            memcpy(out[nr].mac, n->mac, ETH_ADDR);
        }
        spin_unlock(lock);
    }
    return nr;
}
