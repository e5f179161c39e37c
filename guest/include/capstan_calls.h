/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Between libcapstan and the guest: calls with numbers of our own, through
 * cell 0 (capstan_link.h), and what tells that there is a guest.
 *
 * The auxiliary vector's AT_CAPSTAN is the version of the interface. A call
 * a guest does not have returns -ENOSYS.
 */
#pragma once

#define AT_CAPSTAN 0x43415053 /* unknown to Linux: getauxval gives 0 */

#define CAPSTAN_CALL_BASE 0x43000000
#define CAPSTAN_CALL_PAGE_QUERY (CAPSTAN_CALL_BASE + 0) /* address, out */
#define CAPSTAN_CALL_COUNTERS (CAPSTAN_CALL_BASE + 1)   /* out, size */
/* start, length: from now on this thread's calls from that range are not made but
 * answered with capstan_echo. For tests of the way in and out; needs the word
 * `echo` on the kernel's command line, else -ENOSYS. */
#define CAPSTAN_CALL_ECHO (CAPSTAN_CALL_BASE + 2)

/* --- channels (capstan/channel.h; net/channel.h in the guest) --- */
/* out: struct capstan_loop_abi; returns a descriptor. */
#define CAPSTAN_CALL_LOOP_CREATE (CAPSTAN_CALL_BASE + 3)
/* loop, timeout in ns (< 0: none): how many events there are. */
#define CAPSTAN_CALL_LOOP_TURN (CAPSTAN_CALL_BASE + 4)
#define CAPSTAN_CALL_LOOP_WAKE (CAPSTAN_CALL_BASE + 5) /* loop */
/* loop, kind and flags, struct sockaddr, its length; returns a handle. */
#define CAPSTAN_CALL_CHAN_MAKE (CAPSTAN_CALL_BASE + 6)
/* loop, handle, flags */
#define CAPSTAN_CALL_CHAN_CLOSE (CAPSTAN_CALL_BASE + 7)
/* loop, handle, data, length, struct sockaddr or 0, its length */
#define CAPSTAN_CALL_CHAN_SEND (CAPSTAN_CALL_BASE + 8)
/* loop, handle, data, length, token */
#define CAPSTAN_CALL_CHAN_SEND_REF (CAPSTAN_CALL_BASE + 9)
/* loop, number of an event: a number for _DROP */
#define CAPSTAN_CALL_CHAN_HOLD (CAPSTAN_CALL_BASE + 10)
#define CAPSTAN_CALL_CHAN_DROP (CAPSTAN_CALL_BASE + 11) /* loop, number */
/* loop, bytes, out: address */
#define CAPSTAN_CALL_LOOP_MEMORY (CAPSTAN_CALL_BASE + 12)
/* loop, handle, 0: peer, 1: own; out: struct sockaddr_in6 */
#define CAPSTAN_CALL_CHAN_NAME (CAPSTAN_CALL_BASE + 13)
#define CAPSTAN_CALL_CHAN_PAUSE (CAPSTAN_CALL_BASE + 14) /* loop, handle, 0/1 */
#define CAPSTAN_CALL_END (CAPSTAN_CALL_BASE + 15)

#define CAPSTAN_CHAN_LISTEN 0 /* kinds */
#define CAPSTAN_CHAN_CONNECT 1
#define CAPSTAN_CHAN_DATAGRAM 2
#define CAPSTAN_CHAN_KIND 0xf
#define CAPSTAN_CHAN_SHARED 0x10 /* flag: SO_REUSEPORT */
#define CAPSTAN_CHAN_ABORT 1     /* flag of CLOSE */

#define CAPSTAN_EV_ACCEPT 1  /* value: the new channel's handle */
#define CAPSTAN_EV_OPEN 2    /* connected */
#define CAPSTAN_EV_DATA 3
#define CAPSTAN_EV_END 4     /* value: an errno; 0: the peer has sent all */
#define CAPSTAN_EV_ROOM 5    /* after a send that did not take all */
#define CAPSTAN_EV_SENT 6    /* value: the token; no channel */
#define CAPSTAN_EV_SAME 0x100 /* DATA: more of the same datagram */
#define CAPSTAN_EV_MORE 0x200 /* DATA: another piece of it follows */

#ifndef __ASSEMBLER__
#include <stdint.h>

struct capstan_event_abi {
    uint64_t handle;
    const void *data; /* lent until the next turn */
    uint32_t len;
    uint32_t what; /* CAPSTAN_EV_* */
    uint64_t value;
    uint8_t from[28]; /* struct sockaddr_in or _in6: a datagram's source */
    uint32_t from_len;
};
_Static_assert(sizeof(struct capstan_event_abi) == 64, "one cache line");

struct capstan_loop_abi {
    const struct capstan_event_abi *events; /* of the guest: read only */
    uint32_t max_events;
    uint32_t zero;
};
#endif

/* A number from 0 to 2^31 that tells whether number and arguments arrived. */
#define capstan_echo(nr, a, b, c, d, e, f)                                     \
    (((nr) + 3 * (a) + 5 * (b) + 7 * (c) + 11 * (d) + 13 * (e) + 17 * (f)) &   \
     0x7fffffff)
