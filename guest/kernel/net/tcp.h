/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * TCP (RFC 9293) with window scaling and timestamps (7323), SACK (2018, 2883),
 * RACK-TLP (8985), PRR (6937), CUBIC (9438), and the defences of 5961, 6528
 * and 5927.
 *
 * Layer below: ip, ports. Above: the socket glue, through the functions of
 * the first part; the second part is for the stack itself.
 *
 * Data out: tcp_send copies the program's bytes once, into frames of the send
 *   queue, and queues the connection as work. tcp_output builds segments that
 *   point into those frames; a retransmission points there again. Frames go
 *   when all their bytes are acknowledged.
 * Data in: the channel's frames are processed by tcp_recv, tcp_send, tcp_poll
 *   or the soft work, under the socket's lock; what is in order waits in the
 *   receive queue as it came, and is copied once, with no lock held.
 * Sequence numbers are compared with seq_* only.
 *
 * Rules for hooks, readers and writers: sock.h. All functions are non-blocking.
 *
 * States use Linux' numbers (tcp_info). A connection in TIME_WAIT that no
 * program holds is a record of 64 bytes (tcp_tw.c), one that is not open yet
 * is an entry of the half-open table or nothing at all (tcp_listen.c).
 *
 * References of a connection: the program (until tcp_close), the hash table,
 * the armed timer, the work list, a listener's queue.
 */
#pragma once

#include "net/ip.h"
#include "net/sock.h"

enum tcp_state {
    TCP_ESTABLISHED = 1, TCP_SYN_SENT, TCP_SYN_RECV, TCP_FIN_WAIT1,
    TCP_FIN_WAIT2, TCP_TIME_WAIT, TCP_CLOSE, TCP_CLOSE_WAIT, TCP_LAST_ACK,
    TCP_LISTEN, TCP_CLOSING,
};

#define TCP_FIN 0x01u
#define TCP_SYN 0x02u
#define TCP_RST 0x04u
#define TCP_PSH 0x08u
#define TCP_ACK 0x10u
#define TCP_URG 0x20u

#define TCP_MAX_OPTIONS 40u
#define TCP_MAX_SACKS 4u
#define TCP_DEFAULT_MSS 536u
#define TCP_MIN_MSS 88u       /* nobody makes us send tiny segments */
#define TCP_INITIAL_WINDOW 10u /* segments, RFC 6928 */
#define TCP_RCVBUF_START (128u << 10)
#define TCP_RCVBUF_MAX (6u << 20)
#define TCP_SNDBUF_START (128u << 10)
#define TCP_SNDBUF_MAX (4u << 20)
#define TCP_CHANNEL_MAX 8192u

#define TCP_US_PER_SEC 1000000u
#define TCP_RTO_INITIAL_US TCP_US_PER_SEC
#define TCP_RTO_MIN_US 200000u
#define TCP_RTO_MAX_US (120u * TCP_US_PER_SEC)
#define TCP_DELACK_NS 40000000l
#define TCP_CORK_NS 200000000l
#define TCP_NO_MEMORY_NS 10000000l /* try again then */
#define TCP_TIME_WAIT_NS (60 * NSEC_PER_SEC)
#define TCP_FIN_WAIT2_NS (60 * NSEC_PER_SEC)

/* ---- what the program asks for; values as in man 7 tcp ---- */

enum tcp_option {
    TCP_OPT_NODELAY = 1, TCP_OPT_MAXSEG, TCP_OPT_CORK, TCP_OPT_KEEPIDLE,
    TCP_OPT_KEEPINTVL, TCP_OPT_KEEPCNT, TCP_OPT_SYNCNT, TCP_OPT_LINGER2,
    TCP_OPT_DEFER_ACCEPT, TCP_OPT_WINDOW_CLAMP, TCP_OPT_INFO,
    TCP_OPT_QUICKACK, TCP_OPT_CONGESTION, TCP_OPT_USER_TIMEOUT = 18,
    /* of SOL_SOCKET, moved out of the way */
    TCP_OPT_KEEPALIVE = 1000, TCP_OPT_RCVBUF, TCP_OPT_SNDBUF, TCP_OPT_RCVLOWAT,
};

struct tcp_params { /* a listener's are its children's */
    uint32_t rcvbuf, sndbuf, rcvlowat;
    uint32_t keep_idle, keep_interval; /* seconds */
    uint32_t user_timeout;             /* ms, 0 = by retries */
    uint16_t max_seg;                  /* TCP_MAXSEG, 0 = the path's */
    uint8_t keep_count, syn_count;
    bool nodelay, cork, keepalive, rcvbuf_fixed, sndbuf_fixed;
};

/* One transmission in flight. */
struct tcp_seg {
    struct tcp_seg *next;
    struct frame *chunk; /* where seq lies in the send queue */
    uint32_t chunk_off;
    uint32_t seq, end;
    uint32_t sent_us;
    uint8_t flags; /* SEG_* */
};

#define SEG_SACKED 1u
#define SEG_LOST 2u
#define SEG_RETRANS 4u
#define SEG_FIN 8u
#define SEG_FORGOTTEN 16u /* was SACKed before a time-out */
#define SEG_AGAIN 32u     /* repeated more than once */

enum tcp_recovery { TCP_OPEN, TCP_RECOVERY, TCP_LOSS };
enum tcp_rexmit { REXMIT_NONE, REXMIT_RTO, REXMIT_TLP, REXMIT_REORDER,
                  REXMIT_PERSIST };

struct tcp_cubic {
    uint32_t w_max, cwnd_start; /* bytes */
    uint32_t k_ms, epoch_ms;    /* epoch 0: none yet */
    uint32_t w_est, acked;      /* the Reno-friendly window and its rest */
};

struct tcp_accept { /* of a listener */
    struct tcp_conn *first, *last;
    uint32_t nr, backlog;
};

struct tcp_conn {
    struct net_sock s; /* first member */
    /* --- protected by its hash bucket's lock --- */
    struct tcp_conn *hash_next;
    /* --- protected by s.lock --- */
    uint8_t state, recovery, rexmit_kind;
    bool is_hashed, is_orphan, was_open;
    bool fin_queued, fin_sent, fin_received, fin_seen, is_read_shut;
    bool has_ts, has_sack, has_wscale, ack_now;
    bool is_snd_full, more_coming, is_pingpong, tlp_out;
    bool rack_reorder_seen, tlp_is_retrans, is_cwnd_limited;
    bool is_persisting; /* the window is closed, probes were sent */
    uint8_t snd_wscale, rcv_wscale, quick_left, dup_acks;
    uint8_t backoff, probes, keep_probes, rack_mult;
    uint16_t peer_mss, mss; /* mss: payload without options */
    /* send */
    uint32_t iss, snd_una, snd_nxt, snd_end, snd_wnd, snd_max_wnd;
    uint32_t snd_wl1, snd_wl2, snd_small; /* small: end of last short one */
    struct frame *sndq, *sndq_last;
    struct frame *snd_chunk; /* where snd_nxt lies; NULL: at sndq's end */
    uint32_t snd_chunk_off;
    uint32_t sacked, lost;   /* bytes */
    struct tcp_seg *segs, *segs_last, *seg_spare;
    /* congestion */
    uint32_t cwnd, ssthresh, recover, prr_delivered, prr_out, prr_start;
    struct tcp_cubic cubic;
    /* time; microseconds on a 32-bit clock unless said otherwise */
    uint32_t srtt8, rttvar4, rto_us, min_rtt_us, last_send_us;
    uint32_t rack_us, rack_end, rack_rtt_us, tlp_end, rack_round;
    uint32_t unacked_since_ms; /* since when nothing was acknowledged */
    uint32_t confirmed_ms;     /* neighbour_confirm */
    nsec_t rexmit_at, rto_at, delack_at, aux_at; /* 0: not wanted */
    nsec_t room_at; /* a writer waits for memory; 0: none */
    /* receive */
    uint32_t irs, rcv_nxt, rcv_adv, rcv_unacked, rcv_mss, fin_seq;
    uint32_t rcvq_bytes, rcvq_mem, ooo_bytes, ooo_mem, rcvq_off;
    struct frame *rcvq, *rcvq_last, *ooo, *ooo_latest;
    uint32_t drs_copied, drs_space, drs_ms; /* window tuning */
    uint32_t ts_recent, ts_recent_ms, ts_offset, last_ack_sent;
    uint32_t dsack_start, dsack_end, last_oow_ms;
    uint32_t last_rx_ms, last_data_ms; /* anything; data */
    uint32_t challenges_ms, challenges; /* challenge ACKs since then */
    /* what tcp_clear leaves alone */
    struct tcp_params p;
    struct net_timer timer;
    bool timer_pending; /* armed, or its callback waits for the lock */
    struct net_route route;
    struct tcp_accept *accept;    /* a listener's */
    struct tcp_conn *accept_next; /* in a listener's queue: its lock */
    uint32_t total_retrans;
    uint8_t soft_error; /* errno of an ICMP message, told when time is up */
};

struct tcp_status { /* for TCP_INFO and tests */
    uint8_t state, recovery, backoff, options;
    uint32_t rto_us, rtt_us, rttvar_us, mss, cwnd, ssthresh, rcv_space;
    uint32_t unacked, sacked, lost, total_retrans, snd_wnd, rcv_wnd, min_rtt_us;
    uint32_t unsent, unread;
};

/* tcp_conn.c */
struct tcp_conn *tcp_create(struct netstack *net, uint32_t family);
int tcp_bind(struct tcp_conn *c, const struct net_endpoint *local)
    __must_check;
/* Sends FIN (or RST, when data is lost or `abort`); the program's reference
 * is gone afterwards. */
void tcp_close(struct tcp_conn *c, bool abort);
int tcp_shutdown(struct tcp_conn *c, bool read, bool write) __must_check;
uint32_t tcp_poll(struct tcp_conn *c); /* NET_EV_* that are true now */
/* tcp_open.c */
/* -EINPROGRESS: NET_EV_OUT comes, then sock_take_error tells. */
int tcp_connect(struct tcp_conn *c, const struct net_endpoint *remote)
    __must_check;
/* Back to a socket that is not connected, by a reset; options and a port that
 * bind gave stay. No reader or writer may be in a call that copies. */
void tcp_disconnect(struct tcp_conn *c); /* tcp_conn.c */
/* tcp_listen.c */
int tcp_listen(struct tcp_conn *c, uint32_t backlog) __must_check;
/* Returns owned; -EAGAIN, -EINVAL (does not listen). */
int tcp_accept(struct tcp_conn *listener, struct tcp_conn **out) __must_check;
/* tcp_send.c */
#define TCP_SEND_MORE 1u
/* Of both: bytes were moved for this call, an error is for the next one. */
#define TCP_KEEP_ERROR 4u
/* Bytes taken; -EAGAIN, -EPIPE, -ENOTCONN, -EFAULT, or the socket's error. */
ssize_t tcp_send(struct tcp_conn *c, struct net_iter *from, uint32_t flags);
/* Queues all of f's bytes, as a piece of their own: 0; -EAGAIN (no room) or as
 * above: f was not taken. One segment's worth at most may lie over sndbuf. */
int tcp_send_frame(struct tcp_conn *c, struct frame *f) __must_check;
uint32_t tcp_unsent(struct tcp_conn *c); /* SIOCOUTQ: not acknowledged */
/* tcp_recv.c */
#define TCP_RECV_PEEK 1u
#define TCP_RECV_DISCARD 2u /* MSG_TRUNC */
/* Bytes; 0 at the end; -EAGAIN, -ENOTCONN, -EFAULT, or the error. */
ssize_t tcp_recv(struct tcp_conn *c, struct net_iter *to, uint32_t flags);
/* Moves up to `max` frames of data from the receive queue to the end of `to`,
 * as they came. What tcp_recv returns. The window counts them as read. */
ssize_t tcp_take(struct tcp_conn *c, struct frame_list *to, uint32_t max);
uint32_t tcp_unread(struct tcp_conn *c); /* SIOCINQ */
/* tcp_sockopt.c: 0, -EINVAL, -ENOPROTOOPT */
int tcp_set_option(struct tcp_conn *c, enum tcp_option o, uint32_t v)
    __must_check;
int tcp_get_option(struct tcp_conn *c, enum tcp_option o, uint32_t *v)
    __must_check;
void tcp_get_status(struct tcp_conn *c, struct tcp_status *out);
/* Not connected any more: what getpeername says. */
bool tcp_is_connected(struct tcp_conn *c);
