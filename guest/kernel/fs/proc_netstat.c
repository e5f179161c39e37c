/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * proc_netstat.c: counts of the network (/proc/net/sockstat, as Linux prints
 * it, and /proc/net/capstan: all counters of the stack and the card, one a
 * line) and of the kernel heap (/proc/slabinfo). They say what a soak test
 * wants to know: is everything given back?
 *
 * No locks: each number is right by itself, together they are of about the
 * same moment.
 */
#include "drivers/virtio_net.h"
#include "fs/procfs.h"
#include "mm/heap.h"
#include "net/inet_sock.h"
#include "net/kernel.h"
#include "net/netstack.h"
#include "net/tcp_stack.h"

static void count_kind(struct inet_sock *i, void *arg)
{
    uint32_t *n = arg;

    n[i->kind]++;
}

/* "mem" is in pages and belongs to all protocols: frames are shared. */
int proc_show_sockstat(struct synth_inode *i, struct sbuf *s)
{
    struct netstack *net = net_kernel_stack();
    uint32_t kinds[INET_PING + 1] = {0};
    struct tcp_totals t = {0};
    uint64_t pages = 0;
    int err;

    if (net) {
        tcp_totals(net, &t);
        pages = atomic_load_relaxed(&net->mem_used) / PAGE_SIZE;
    }
    err = inet_for_each(count_kind, kinds);
    if (err)
        return err;
    sbuf_printf(s, "sockets: used %u\n",
                kinds[INET_TCP] + kinds[INET_UDP] + kinds[INET_PING]);
    sbuf_printf(s, "TCP: inuse %u orphan %u tw %u alloc %u mem %lu\n",
                kinds[INET_TCP],
                t.nr_conns > kinds[INET_TCP] ? t.nr_conns - kinds[INET_TCP] : 0,
                t.nr_time_wait, t.nr_conns, (unsigned long)pages);
    sbuf_printf(s, "UDP: inuse %u mem 0\nUDPLITE: inuse 0\nRAW: inuse 0\n"
                   "FRAG: inuse 0 memory 0\n",
                kinds[INET_UDP]);
    return 0;
}

/* Free frames that the CPUs keep. */
static uint64_t pooled_bytes(struct netstack *net)
{
    uint64_t n = 0;

    for (uint32_t i = 0; i < net->nr_cpus; i++) {
        struct frame_pool *p = &net->cpus[i].pool;

        for (unsigned c = 0; c < FRAME_CLASSES; c++)
            n += (uint64_t)atomic_load_relaxed(&p->nr_free[c]) *
                 frame_class_bytes(c);
    }
    return n;
}

static void show_pair(struct sbuf *s, uint32_t pair)
{
    struct virtio_net_counts c;

    virtio_net_counts(pair, &c);
    sbuf_printf(s,
                "card%u_polls %lu\ncard%u_interrupts %lu\ncard%u_tx_full "
                "%lu\ncard%u_tx_dropped %lu\ncard%u_rx_no_memory %lu\n"
                "card%u_rx_bad %lu\n",
                pair, (unsigned long)c.polls, pair,
                (unsigned long)c.interrupts, pair, (unsigned long)c.tx_full,
                pair, (unsigned long)c.tx_dropped, pair,
                (unsigned long)c.rx_no_memory, pair, (unsigned long)c.rx_bad);
}

int proc_show_net_capstan(struct synth_inode *i, struct sbuf *s)
{
    struct netstack *net = net_kernel_stack();
    struct tcp_totals t;

    if (!net)
        return 0;
    tcp_totals(net, &t);
    sbuf_printf(s,
                "frame_bytes %lu\nframe_bytes_pooled %lu\n"
                "frame_bytes_max %lu\n",
                (unsigned long)atomic_load_relaxed(&net->mem_used),
                (unsigned long)pooled_bytes(net), (unsigned long)net->mem_max);
    sbuf_printf(s, "tcp_conns %u\ntcp_half_open %u\ntcp_time_wait %u\n",
                t.nr_conns, t.nr_half_open, t.nr_time_wait);
    for (unsigned c = 0; c < NET_NR_COUNTERS; c++)
        sbuf_printf(s, "%s %lu\n", net_counter_name(c),
                    (unsigned long)net_counter_sum(net, c));
    for (uint32_t p = 0; p < virtio_net_pairs(); p++)
        show_pair(s, p);
    return 0;
}

/* man 5 slabinfo; a slab is a page here. */
int proc_show_slabinfo(struct synth_inode *i, struct sbuf *s)
{
    struct heap_class c;

    sbuf_printf(s, "slabinfo - version: 2.1\n"
                   "# name            <active_objs> <num_objs> <objsize> "
                   "<objperslab> <pagesperslab> : tunables <limit> "
                   "<batchcount> <sharedfactor> : slabdata <active_slabs> "
                   "<num_slabs> <sharedavail>\n");
    for (unsigned n = 0; heap_class(n, &c); n++) {
        char name[24];
        unsigned per_page = PAGE_SIZE / c.object_bytes;

        snprintf(name, sizeof(name), "kmalloc-%u", c.object_bytes);
        sbuf_printf(s,
                    "%-17s %6lu %6lu %6u %4u %4u : tunables    0    0    0 : "
                    "slabdata %6lu %6lu      0\n",
                    name, (unsigned long)c.nr_objects,
                    (unsigned long)(c.nr_pages * per_page), c.object_bytes,
                    per_page, 1u, (unsigned long)c.nr_pages,
                    (unsigned long)c.nr_pages);
    }
    return 0;
}
