/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The stack over a Linux tap device, in a process: the host's own kernel, and
 * programs that know nothing of us, are the other end. See tap.py.
 *
 * usage: tapd [options] TAP
 *   --addr A/BITS     an address of ours (repeat; IPv4 or IPv6)
 *   --gateway A       default route
 *   --slaac           link-local and automatic addresses
 *   --dhcp            address by DHCP
 *   --offload         checksum and TSO to and from the host
 *   --loss PERCENT --dup PERCENT --reorder PERCENT --delay MS   both ways
 *   --seed N --mtu N --mem MIB --cookies
 * Serves what services.h says. Ends at end of file on stdin; prints counters.
 */
#include "net/services.h"

#include "check.h"
#include "net/ndp.h"
#include "net/route.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <linux/virtio_net.h>
#include <poll.h>
#include <time.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/uio.h>
#include <unistd.h>

#define VNET_BYTES 12u /* struct virtio_net_hdr_v1 */
#define MAX_PACKET 65550u

struct late {
    struct late *next;
    nsec_t at;
    bool is_in;
    struct frame *f;
};

struct tap {
    struct netif nif; /* first member */
    int fd;
    bool offload;
    uint32_t loss, dup, reorder;
    nsec_t delay;
    uint64_t rng;
    struct late *late;
    uint64_t dropped;
};

static bool chance(struct tap *t, uint32_t percent)
{
    return percent && rng_below(&t->rng, 100) < percent;
}

static void fill_vnet(const struct frame *f, struct virtio_net_hdr_v1 *h)
{
    memset(h, 0, sizeof(*h));
    if (!(f->flags & FRAME_CSUM_PARTIAL))
        return;
    h->flags = VIRTIO_NET_HDR_F_NEEDS_CSUM;
    h->csum_start = f->csum_start;
    h->csum_offset = f->csum_offset;
    if (f->gso) {
        h->gso_type = f->gso == FRAME_GSO_TCP4 ? VIRTIO_NET_HDR_GSO_TCPV4
                                               : VIRTIO_NET_HDR_GSO_TCPV6;
        h->gso_size = f->gso_size;
        h->hdr_len = (uint16_t)f->len;
    }
}

static void write_now(struct tap *t, struct frame *f)
{
    struct virtio_net_hdr_v1 h;
    struct iovec iov[FRAME_MAX_FRAGS + 2];
    int n = 0;

    if (t->offload) {
        fill_vnet(f, &h);
        iov[n++] = (struct iovec){&h, VNET_BYTES};
    }
    iov[n++] = (struct iovec){f->data, f->len};
    for (uint32_t i = 0; i < f->nr_frags; i++)
        iov[n++] = (struct iovec){frame_frags(f)[i].data,
                                  frame_frags(f)[i].len};
    if (writev(t->fd, iov, n) < 0 && errno != EAGAIN && errno != EIO)
        perror("tapd: write");
    frame_put(f);
}

static void deliver(struct tap *t, struct frame *f, bool is_in)
{
    if (is_in)
        net_classify(&t->nif, f);
    else
        write_now(t, f);
}

/* The line: drops, repeats, delays. */
static void through_line(struct tap *t, struct frame *f, bool is_in)
{
    nsec_t delay = t->delay;

    if (chance(t, t->loss)) {
        t->dropped++;
        frame_put(f);
        return;
    }
    if (chance(t, t->dup)) {
        frame_get(f);
        struct frame *g = frame_linearize(f, FRAME_HEADROOM);
        if (g) {
            g->csum_start = f->csum_start;
            g->csum_offset = f->csum_offset;
            g->gso = f->gso;
            g->gso_size = f->gso_size;
            deliver(t, g, is_in);
        }
    }
    if (chance(t, t->reorder))
        delay += (nsec_t)(1 + rng_below(&t->rng, 5)) * 1000000;
    if (!delay) {
        deliver(t, f, is_in);
        return;
    }
    struct late *l = malloc(sizeof(*l)), **link = &t->late;
    CHECK(l);
    *l = (struct late){NULL, net_now(t->nif.net) + delay, is_in, f};
    while (*link && (*link)->at <= l->at)
        link = &(*link)->next;
    l->next = *link;
    *link = l;
}

static void run_late(struct tap *t)
{
    nsec_t now = net_now(t->nif.net);

    while (t->late && t->late->at <= now) {
        struct late *l = t->late;

        t->late = l->next;
        deliver(t, l->f, l->is_in);
        free(l);
    }
}

static void tap_transmit(struct netif *nif, struct frame_list *frames)
{
    struct frame *f;

    while ((f = frame_list_take(frames)) != NULL)
        through_line((struct tap *)nif, f, false);
}

static const struct netif_ops tap_ops = {.transmit = tap_transmit};

/* A packet as a driver with mergeable buffers would make it: headers in a
 * small frame, what does not fit there in fragments. */
static struct frame *make_frame(struct netstack *net, uint8_t *p, uint32_t n)
{
    struct frame *f = frame_alloc(net, FRAME_SMALL, FRAME_HEADROOM,
                                  FRAME_FOR_RECEIVE), *more;
    uint32_t head = n;

    if (!f)
        return NULL;
    if (n > frame_room(FRAME_SMALL, FRAME_HEADROOM))
        head = 128;
    memcpy(frame_append(f, head), p, head);
    for (p += head, n -= head; n;) {
        uint32_t k = MIN(n, frame_room(FRAME_LARGE, 0));

        more = frame_alloc(net, FRAME_LARGE, 0, FRAME_FOR_RECEIVE);
        if (!more) {
            frame_put(f);
            return NULL;
        }
        memcpy(more->data, p, k);
        CHECK(frame_add_frag(f, more, more->data, k));
        frame_put(more);
        p += k;
        n -= k;
    }
    return f;
}

static void read_some(struct tap *t)
{
    static uint8_t buf[MAX_PACKET + VNET_BYTES];
    uint32_t skip = t->offload ? VNET_BYTES : 0;

    for (int i = 0; i < 64; i++) {
        ssize_t n = read(t->fd, buf, sizeof(buf));
        struct virtio_net_hdr_v1 h;
        struct frame *f;

        if (n <= (ssize_t)skip)
            return;
        f = make_frame(t->nif.net, buf + skip, (uint32_t)n - skip);
        if (!f)
            continue;
        if (t->offload) {
            memcpy(&h, buf, VNET_BYTES);
            if (h.flags &
                (VIRTIO_NET_HDR_F_NEEDS_CSUM | VIRTIO_NET_HDR_F_DATA_VALID))
                f->flags |= FRAME_CSUM_OK;
            f->gso_size = h.gso_type ? h.gso_size : 0;
        }
        through_line(t, f, true);
    }
}

static void open_tap(struct tap *t, const char *name)
{
    struct ifreq r;
    int size = VNET_BYTES;

    t->fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK);
    memset(&r, 0, sizeof(r));
    r.ifr_flags = IFF_TAP | IFF_NO_PI | (t->offload ? IFF_VNET_HDR : 0);
    strncpy(r.ifr_name, name, IFNAMSIZ - 1);
    if (t->fd < 0 || ioctl(t->fd, TUNSETIFF, &r) < 0) {
        fprintf(stderr, "tapd: cannot open tap %s: %s\n", name,
                strerror(errno));
        exit(2);
    }
    if (t->offload &&
        (ioctl(t->fd, TUNSETVNETHDRSZ, &size) < 0 ||
         ioctl(t->fd, TUNSETOFFLOAD, TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6) <
             0)) {
        perror("tapd: offload");
        exit(2);
    }
}

static void add_addr(struct tap *t, char *text)
{
    char *slash = strchr(text, '/');
    struct net_addr a;
    uint32_t bits;

    CHECK(slash);
    *slash = 0;
    a = host_addr(text);
    bits = (uint32_t)atoi(slash + 1) + (addr_is_v4(&a) ? 96 : 0);
    CHECK_EQ(route_add_addr(&t->nif, &a, bits), 0);
}

static void add_gateway(struct tap *t, const char *text)
{
    struct net_addr gw = host_addr(text);
    struct net_addr any = addr_is_v4(&gw) ? addr_from_v4(0)
                                          : (struct net_addr){.q = {0}};

    CHECK_EQ(route_add(&t->nif, &any, addr_is_v4(&gw) ? 96 : 0, &gw), 0);
}

static void print_counters(struct tap *t)
{
    for (int i = 0; i < NET_NR_COUNTERS; i++)
        if (net_counter_sum(t->nif.net, i))
            printf("%s %llu\n", net_counter_name(i),
                   (unsigned long long)net_counter_sum(t->nif.net, i));
    printf("line_dropped %llu\n", (unsigned long long)t->dropped);
    fflush(stdout);
}

static void loop(struct tap *t, struct services *sv)
{
    struct pollfd p[2] = {{.fd = t->fd, .events = POLLIN},
                          {.fd = 0, .events = POLLIN}};
    struct netstack *net = t->nif.net;
    char c;

    for (;;) {
        nsec_t now = net_now(net), next = net_next_deadline(net, 0);
        nsec_t wait = net_work_pending(net, 0) ? 0 : NSEC_PER_SEC;
        struct timespec ts;

        if (next != NET_NO_DEADLINE)
            wait = MIN(wait, MAX(next - now, 0));
        if (t->late)
            wait = MIN(wait, MAX(t->late->at - now, 0));
        ts = (struct timespec){wait / NSEC_PER_SEC, wait % NSEC_PER_SEC};
        ppoll(p, 2, &ts, NULL);
        if (p[1].revents) {
            if (read(0, &c, 1) <= 0)
                return;
            print_counters(t);
        }
        read_some(t);
        run_late(t);
        net_timer_run(net, 0);
        net_softwork(net, 0);
        while (services_run(sv))
            net_softwork(net, 0);
    }
}

struct options {
    uint64_t mem;
    bool slaac;
    int nr_addrs;
    char *addrs[8], *gateway;
};

static void parse(struct tap *t, struct options *o, int argc, char **argv)
{
    for (int i = 1; i < argc - 1; i++) {
        char *a = argv[i], *v = argv[i + 1];

        if (!strcmp(a, "--slaac")) {
            o->slaac = true;
            continue;
        }
        if (!strcmp(a, "--offload")) {
            t->offload = true;
            continue;
        }
        i++;
        if (!strcmp(a, "--addr") && o->nr_addrs < 8)
            o->addrs[o->nr_addrs++] = v;
        else if (!strcmp(a, "--gateway"))
            o->gateway = v;
        else if (!strcmp(a, "--loss"))
            t->loss = (uint32_t)atoi(v);
        else if (!strcmp(a, "--dup"))
            t->dup = (uint32_t)atoi(v);
        else if (!strcmp(a, "--reorder"))
            t->reorder = (uint32_t)atoi(v);
        else if (!strcmp(a, "--delay"))
            t->delay = (nsec_t)atoi(v) * 1000000;
        else if (!strcmp(a, "--seed"))
            t->rng = strtoull(v, NULL, 0);
        else if (!strcmp(a, "--mtu"))
            t->nif.max_mtu = (uint32_t)atoi(v);
        else if (!strcmp(a, "--mem"))
            o->mem = strtoull(v, NULL, 0) << 20;
        else {
            fprintf(stderr, "tapd: unknown option %s; see tapd.c\n", a);
            exit(2);
        }
    }
}

int main(int argc, char **argv)
{
    static struct tap t = {.rng = 1};
    struct options o = {.mem = 64 << 20};
    struct host_env env;
    struct services *sv;
    static const uint8_t mac[6] = {0x52, 0x54, 0, 0xca, 0x57, 0xa4};

    if (argc < 2) {
        fprintf(stderr, "usage: tapd [options] TAP (see tapd.c)\n");
        return 2;
    }
    t.nif.max_mtu = 1500;
    parse(&t, &o, argc, argv);
    open_tap(&t, argv[argc - 1]);
    host_env_init(&env, (uint64_t)time(NULL) ^ (uint64_t)getpid() << 32, 0);
    t.nif.ops = &tap_ops;
    strcpy(t.nif.name, "eth0");
    memcpy(t.nif.mac, mac, sizeof(mac));
    if (t.offload)
        t.nif.caps = NETIF_CSUM | NETIF_TSO4 | NETIF_TSO6;
    struct netstack *net = host_stack(&env, 1, o.mem);
    CHECK_EQ(netif_add(net, &t.nif), 0);
    for (int i = 0; i < o.nr_addrs; i++)
        add_addr(&t, o.addrs[i]);
    if (o.gateway)
        add_gateway(&t, o.gateway);
    if (o.slaac)
        CHECK_EQ(ndp_start(&t.nif), 0);
    sv = services_start(net);
    printf("ready\n");
    fflush(stdout);
    loop(&t, sv);
    print_counters(&t);
    services_stop(sv);
    return 0;
}
