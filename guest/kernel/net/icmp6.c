/* SPDX-License-Identifier: BSD-2-Clause */
/* ICMPv6 (RFC 4443); neighbour discovery is in ndp.c. See icmp.h. */
#include "lib/errno.h"
#include "lib/string.h"
#include "net/icmp.h"
#include "net/ndp.h"
#include "net/ping.h"

#define UNREACHABLE 1u
#define TOO_BIG 2u
#define TIME_EXCEEDED 3u
#define PARAMETER_PROBLEM 4u
#define ECHO_REQUEST 128u
#define ECHO_REPLY 129u
#define QUOTE_V6 (IPV6_MIN_MTU - IPV6_HEADER - ICMP_HEADER)

void icmp6_output(const struct net_route *r, struct frame *f)
{
    uint64_t sum;

    f->proto = IP_PROTO_ICMPV6;
    f->data[2] = f->data[3] = 0;
    sum = csum_pseudo(&f->src, &f->dst, IP_PROTO_ICMPV6, frame_total(f));
    csum_store(f->data + 2, csum_add_frame(sum, f, 0, frame_total(f)));
    net_count(f->net, NET_ICMP_OUT);
    (void)!ip_output(r, f, 0);
}

static bool may_complain(struct netstack *net, const struct frame *f,
                         enum ip_error e)
{
    if (addr_is_any(&f->src) || addr_is_multicast(&f->src))
        return false;
    /* RFC 4443 2.4 e: unknown options are told even about multicast. */
    if (e != IP_ERR_OPTION &&
        (addr_is_multicast(&f->dst) || (f->flags & FRAME_BROADCAST)))
        return false;
    if (f->proto == IP_PROTO_ICMPV6 && (!f->len || f->data[0] < 128))
        return false;
    if (!net_rate_allows(net, &net->icmp_rate, ICMP_PER_SECOND)) {
        net_count(net, NET_ICMP_LIMITED);
        return false;
    }
    return true;
}

static void send_error(struct netstack *net, struct frame *f, uint32_t type,
                       uint32_t code, uint32_t word)
{
    uint32_t header = (uint32_t)(f->data - f->l3);
    struct net_addr any = {.q = {0, 0}};
    uint32_t quote;
    struct net_route r;
    struct frame *g;
    uint8_t *p;

    header = MIN(header, QUOTE_V6);
    quote = MIN(frame_total(f), QUOTE_V6 - header);
    if (route_find(net, &f->src, addr_is_multicast(&f->dst) ? &any : &f->dst,
                   addr_is_link_local(&f->src) ? f->nif->index : 0, &r))
        return;
    g = frame_alloc(net, FRAME_SMALL, FRAME_HEADROOM, FRAME_FOR_CONTROL);
    if (!g)
        return;
    g->src = r.src;
    g->dst = f->src;
    g->ttl = 0;
    p = frame_append(g, ICMP_HEADER + header + quote);
    p[0] = (uint8_t)type;
    p[1] = (uint8_t)code;
    wire_put32(p + 4, word);
    memcpy(p + ICMP_HEADER, f->l3, header);
    frame_copy_out(f, 0, p + ICMP_HEADER + header, quote);
    icmp6_output(&r, g);
}

void icmp6_error(struct netstack *net, struct frame *f, enum ip_error e,
                 uint32_t extra)
{
    if (!may_complain(net, f, e))
        return;
    switch (e) {
    case IP_ERR_PORT:
        send_error(net, f, UNREACHABLE, 4, 0);
        break;
    case IP_ERR_PROTO:
        send_error(net, f, PARAMETER_PROBLEM, 1, extra);
        break;
    case IP_ERR_REASSEMBLY:
        send_error(net, f, TIME_EXCEEDED, 1, 0);
        break;
    case IP_ERR_HEADER:
        send_error(net, f, PARAMETER_PROBLEM, 0, extra);
        break;
    case IP_ERR_OPTION:
        send_error(net, f, PARAMETER_PROBLEM, 2, extra);
        break;
    }
}

static bool parse_quote(const struct frame *f, struct frame *quoted)
{
    const uint8_t *p = f->data + ICMP_HEADER;
    uint32_t left = f->len - ICMP_HEADER;

    if (left < IPV6_HEADER + 8 || p[0] >> 4 != 6)
        return false;
    quoted->src = addr_from_wire6(p + 8);
    quoted->dst = addr_from_wire6(p + 24);
    quoted->proto = p[6];
    quoted->l3 = (uint8_t *)p;
    quoted->l4 = quoted->data = (uint8_t *)p + IPV6_HEADER;
    quoted->len = left - IPV6_HEADER;
    quoted->nif = f->nif;
    if (p[6] == IP_PROTO_FRAGMENT) {
        if (wire_get16(quoted->l4 + 2) & 0xfff8 || quoted->len < 16)
            return false;
        quoted->proto = quoted->l4[0];
        quoted->l4 += 8;
        quoted->data += 8;
        quoted->len -= 8;
    }
    quoted->sport = wire_get16(quoted->l4);
    quoted->dport = wire_get16(quoted->l4 + 2);
    return addr_equal(&quoted->src, &f->dst);
}

static int unreachable_errno(uint32_t code)
{
    static const uint8_t map[] = {ENETUNREACH,  EACCES,       EHOSTUNREACH,
                                  EHOSTUNREACH, ECONNREFUSED, EACCES,
                                  EACCES};
    return code < sizeof(map) ? map[code] : EPROTO;
}

static void input_error(struct netstack *net, struct frame *f)
{
    uint32_t mtu = 0;
    struct frame quoted;
    int error = EPROTO;

    memset(&quoted, 0, sizeof(quoted));
    if (!parse_quote(f, &quoted))
        return;
    switch (f->data[0]) {
    case UNREACHABLE:
        error = unreachable_errno(f->data[1]);
        break;
    case TOO_BIG:
        mtu = MAX(wire_get32(f->data + 4), IPV6_MIN_MTU); /* RFC 8201 4 */
        error = EMSGSIZE;
        break;
    case TIME_EXCEEDED:
        error = EHOSTUNREACH;
        break;
    default:
        break;
    }
    icmp_tell_socket(net, &quoted, error, mtu);
}

static void echo(struct netstack *net, struct frame *f)
{
    struct net_addr us = f->dst, any = {.q = {0, 0}};
    struct net_route r;
    bool is_group = addr_is_multicast(&us);

    if (route_find(net, &f->src, is_group ? &any : &us,
                   addr_is_link_local(&f->src) ? f->nif->index : 0, &r) ||
        !net_rate_allows(net, &net->icmp_rate, ICMP_PER_SECOND * 10)) {
        frame_put(f);
        return;
    }
    if (frame_headroom(f) < ECHO_HEADROOM)
        f = frame_linearize(f, FRAME_HEADROOM);
    if (!f)
        return;
    f->dst = f->src;
    f->src = r.src;
    f->ttl = 0;
    f->flags = 0;
    f->data[0] = ECHO_REPLY;
    icmp6_output(&r, f);
}

void icmp6_input(struct netstack *net, struct frame *f)
{
    if (f->len < ICMP_HEADER || !csum_check_transport(f)) {
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
    case TOO_BIG:
    case TIME_EXCEEDED:
    case PARAMETER_PROBLEM:
        input_error(net, f);
        break;
    case NDP_RS ... NDP_REDIRECT:
        ndp_input(f->nif, f);
        break;
    default:
        break;
    }
    frame_put(f);
}
