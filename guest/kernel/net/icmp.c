/* SPDX-License-Identifier: BSD-2-Clause */
/* ICMP for IPv4, and the way of errors to sockets. See icmp.h. */
#include "net/icmp.h"

#include "lib/errno.h"
#include "lib/string.h"
#include "net/ping.h"
#include "net/tcp_stack.h"
#include "net/udp.h"

#define ECHO_REPLY 0u
#define UNREACHABLE 3u
#define ECHO_REQUEST 8u
#define TIME_EXCEEDED 11u
#define PARAMETER_PROBLEM 12u
#define NEED_FRAGMENT 4u
#define QUOTE_V4 548u /* RFC 1812 4.3.2.3: up to 576 bytes in all */

static bool may_complain(struct netstack *net, const struct frame *f)
{
    const uint8_t *p = f->l3;

    if ((f->flags & FRAME_BROADCAST) || addr_is_multicast(&f->dst) ||
        addr_is_any(&f->src) || addr_is_broadcast(&f->dst))
        return false;
    if (wire_get16(p + 6) & 0x1fff)
        return false; /* not the first fragment */
    if (f->proto == IP_PROTO_ICMP &&
        (!f->len || (f->data[0] != ECHO_REPLY && f->data[0] != ECHO_REQUEST)))
        return false;
    if (!net_rate_allows(net, &net->icmp_rate, ICMP_PER_SECOND)) {
        net_count(net, NET_ICMP_LIMITED);
        return false;
    }
    return true;
}

/* Builds the message and sends it back to f's source. */
static void send_error(struct netstack *net, struct frame *f, uint32_t type,
                       uint32_t code)
{
    uint32_t header = (uint32_t)(f->data - f->l3);
    uint32_t quote = MIN(frame_total(f), QUOTE_V4 - MIN(header, 60u));
    struct net_route r;
    struct frame *g;
    uint8_t *p;

    if (route_find(net, &f->src, &f->dst, 0, &r))
        return;
    g = frame_alloc(net, FRAME_SMALL, FRAME_HEADROOM, FRAME_FOR_CONTROL);
    if (!g)
        return;
    g->src = r.src;
    g->dst = f->src;
    g->proto = IP_PROTO_ICMP;
    g->ttl = 0;
    p = frame_append(g, ICMP_HEADER + header + quote);
    memset(p, 0, ICMP_HEADER);
    p[0] = (uint8_t)type;
    p[1] = (uint8_t)code;
    memcpy(p + ICMP_HEADER, f->l3, header);
    frame_copy_out(f, 0, p + ICMP_HEADER + header, quote);
    csum_store(p + 2, csum_add(0, p, g->len));
    net_count(net, NET_ICMP_OUT);
    (void)!ip_output(&r, g, 0);
}

void icmp_error(struct netstack *net, struct frame *f, enum ip_error e,
                uint32_t extra)
{
    if (!addr_is_v4(&f->dst)) {
        icmp6_error(net, f, e, extra);
        return;
    }
    if (!may_complain(net, f))
        return;
    switch (e) {
    case IP_ERR_PORT:
        send_error(net, f, UNREACHABLE, 3);
        break;
    case IP_ERR_PROTO:
        send_error(net, f, UNREACHABLE, 2);
        break;
    case IP_ERR_REASSEMBLY:
        send_error(net, f, TIME_EXCEEDED, 1);
        break;
    case IP_ERR_HEADER:
    case IP_ERR_OPTION:
        break;
    }
}

void icmp_tell_socket(struct netstack *net, const struct frame *quoted,
                      int error, uint32_t mtu)
{
    switch (quoted->proto) {
    case IP_PROTO_TCP:
        tcp_icmp(net, quoted, error, mtu);
        break;
    case IP_PROTO_UDP:
        udp_icmp(net, quoted, error, mtu);
        break;
    case IP_PROTO_ICMP:
    case IP_PROTO_ICMPV6:
        ping_icmp(net, quoted, error, mtu);
        break;
    default:
        break;
    }
}

/* The errno of a destination-unreachable code (RFC 1122 3.2.2.1 and what
 * programs on Linux see). */
static int unreachable_errno(uint32_t code)
{
    static const uint8_t map[] = {
        ENETUNREACH, EHOSTUNREACH, ENOPROTOOPT, ECONNREFUSED,
        EMSGSIZE, EOPNOTSUPP, ENETUNREACH, EHOSTDOWN,
        ENONET, ENETUNREACH, EHOSTUNREACH, ENETUNREACH,
        EHOSTUNREACH, EHOSTUNREACH, EHOSTUNREACH, EHOSTUNREACH,
    };
    return code < sizeof(map) ? map[code] : EHOSTUNREACH;
}

/* A packet of ours came back in an error message: what was it? */
static bool parse_quote(const struct frame *f, struct frame *quoted)
{
    const uint8_t *p = f->data + ICMP_HEADER;
    uint32_t left = f->len - ICMP_HEADER, header;

    if (left < IPV4_HEADER + 8 || p[0] >> 4 != 4)
        return false;
    header = (p[0] & 0xfu) * 4;
    if (header < IPV4_HEADER || left < header + 8 ||
        (wire_get16(p + 6) & 0x1fff))
        return false;
    quoted->src = addr_from_wire4(p + 12);
    quoted->dst = addr_from_wire4(p + 16);
    quoted->proto = p[9];
    quoted->l3 = (uint8_t *)p;
    quoted->l4 = quoted->data = (uint8_t *)p + header;
    quoted->len = left - header;
    quoted->nif = f->nif;
    quoted->sport = wire_get16(quoted->l4);
    quoted->dport = wire_get16(quoted->l4 + 2);
    return addr_equal(&quoted->src, &f->dst);
}

static void input_error(struct netstack *net, struct frame *f)
{
    uint32_t type = f->data[0], code = f->data[1], mtu = 0;
    struct frame quoted;
    int error = EPROTO;

    memset(&quoted, 0, sizeof(quoted));
    if (!parse_quote(f, &quoted))
        return;
    if (type == UNREACHABLE) {
        error = unreachable_errno(code);
        if (code == NEED_FRAGMENT) {
            mtu = wire_get16(f->data + 6);
            if (mtu < IPV4_MIN_MTU) /* an old router: RFC 1191 5 */
                mtu = MAX(576u, IPV4_MIN_MTU);
        }
    } else if (type == TIME_EXCEEDED) {
        error = EHOSTUNREACH;
    }
    icmp_tell_socket(net, &quoted, error, mtu);
}

/* Turns the request into its reply, in place when nobody else has it. Pings
 * to everybody are not answered (RFC 1122 3.2.2.6 allows it): they are for
 * flooding others. */
static void echo(struct netstack *net, struct frame *f)
{
    struct net_addr us = f->dst;
    struct net_route r;

    if (addr_is_multicast(&us) || (f->flags & FRAME_BROADCAST) ||
        route_find(net, &f->src, &us, 0, &r) ||
        !net_rate_allows(net, &net->icmp_rate, ICMP_PER_SECOND * 10)) {
        frame_put(f);
        return;
    }
    if (frame_headroom(f) < ECHO_HEADROOM)
        f = frame_linearize(f, FRAME_HEADROOM);
    if (!f)
        return;
    f->dst = f->src;
    f->src = us;
    f->ttl = 0;
    f->flags = 0;
    f->data[0] = ECHO_REPLY;
    f->data[2] = f->data[3] = 0;
    csum_store(f->data + 2, csum_add_frame(0, f, 0, frame_total(f)));
    net_count(net, NET_ICMP_OUT);
    (void)!ip_output(&r, f, 0);
}

void icmp_input(struct netstack *net, struct frame *f)
{
    if (f->len < ICMP_HEADER ||
        csum_fold(csum_add_frame(0, f, 0, frame_total(f))) != 0) {
        net_count(net, NET_BAD_CHECKSUM);
        frame_put(f);
        return;
    }
    net_count(net, NET_ICMP_IN);
    switch (f->data[0]) {
    case ECHO_REQUEST:
        echo(net, f);
        return;
    case ECHO_REPLY:
        ping_input(net, f);
        return;
    case UNREACHABLE:
    case TIME_EXCEEDED:
    case PARAMETER_PROBLEM:
        input_error(net, f);
        break;
    default:
        break;
    }
    frame_put(f);
}
