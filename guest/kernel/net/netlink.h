/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * AF_NETLINK, protocol NETLINK_ROUTE: questions about interfaces, addresses
 * and routes (man 7 rtnetlink); what getifaddrs, if_nametoindex, Go, Java and
 * iproute2 use. Changes are refused; multicast groups can be joined and stay
 * silent only in the sense that nothing is announced (see netlink.c).
 *
 * Layer below: net (netif, route). Above: linux/socket.c.
 *
 * - A request is answered while it is sent: its replies are queued as
 *   datagrams of up to NETLINK_PAGE bytes before sendmsg returns.
 * - netlink_route.c writes messages through `struct netlink_out` and does not
 *   know sockets.
 *
 * Locks: netlink_sock.lock (spinlock): the queue. conf_lock of the stack is
 * taken inside netlink_route.c, never with the former.
 */
#pragma once

#include "lib/errno.h"
#include "lib/list.h"
#include "lib/string.h"
#include "net/route.h"

#define NETLINK_PAGE 3712u /* bytes of one reply: programs read into 4096 */

#define NLM_F_REQUEST 0x1u
#define NLM_F_MULTI 0x2u
#define NLM_F_ACK 0x4u
#define NLM_F_DUMP 0x300u
#define NLMSG_ERROR 2u
#define NLMSG_DONE 3u

struct nlmsghdr_abi {
    uint32_t len;
    uint16_t type, flags;
    uint32_t seq, pid;
};
_Static_assert(sizeof(struct nlmsghdr_abi) == 16, "struct nlmsghdr");

struct netlink_page {
    struct list link;
    uint32_t len;
    uint8_t data[];
};

/* Where answers go. */
struct netlink_out {
    struct list pages; /* struct netlink_page, owned */
    struct netlink_page *page; /* the last one, NULL = none */
    const struct nlmsghdr_abi *request;
    uint32_t port;   /* of the socket that asked */
    uint32_t at;     /* where the open message starts in page */
    int err;         /* -ENOBUFS: something is missing */
};

/* netlink.c */

/* Opens a message; the body is zeroed and returned, NULL: no memory (noted in
 * err). Attributes follow, then netlink_end. */
void *netlink_begin(struct netlink_out *o, uint32_t type, uint32_t flags,
                    uint32_t body_bytes);
void netlink_attr(struct netlink_out *o, uint32_t type, const void *data,
                  uint32_t len);
static inline void netlink_attr32(struct netlink_out *o, uint32_t type,
                                  uint32_t v)
{
    netlink_attr(o, type, &v, sizeof(v));
}
void netlink_end(struct netlink_out *o);

/* netlink_route.c */

/* Answers one request: 0, or what NLMSG_ERROR says. `body` has `len` bytes. */
int netlink_route(struct netstack *net, struct netlink_out *o,
                  const void *body, uint32_t len);
