/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * TCP: what its files say to each other. tcp.h has the structures.
 *
 * Everything with a `struct tcp_conn` wants its s.lock held, unless noted.
 * Lock order inside TCP: s.lock of a listener -> of its child; then the
 * half-open table, the TIME_WAIT table, hash buckets.
 */
#pragma once

#include "lib/errno.h"
#include "lib/printk.h"
#include "lib/string.h"
#include "net/tcp.h"
#include "net/tcp_stack.h"

/* A received segment, as parsed. */
struct tcp_in {
    uint32_t seq, ack, wnd, len; /* wnd as on the wire; len without flags */
    uint8_t flags;
    bool has_ts, sack_ok;
    uint8_t wscale; /* 0xff: not there */
    uint8_t nr_sacks;
    uint16_t mss;   /* 0: not there */
    uint32_t ts_val, ts_ecr;
    struct {
        uint32_t start, end;
    } sacks[TCP_MAX_SACKS];
};

/* What of it was acknowledged. */
struct tcp_acked {
    uint32_t bytes;     /* cumulatively */
    uint32_t sacked;    /* newly */
    uint32_t rtt_us;    /* sample, 0 = none */
    uint32_t sack_rtt_us;
    uint32_t prior_flight;
    bool was_retrans;   /* some of it had been repeated: no sample */
    bool was_again;     /* more than once: not even by timestamps */
    bool has_dsack, una_advanced;
};

struct tcp_tw_table;
struct tcp_half_table;
struct tcp_bucket;

struct tcp_table {
    struct netstack *net; /* set once */
    /* --- set once --- */
    struct tcp_half_table *halves;
    struct tcp_tw_table *tw;
    /* --- atomic; grows under grow_lock and all buckets' --- */
    uint32_t mask;
    uint32_t nr_conns;
    uint32_t next_port;
    struct spinlock grow_lock;
    struct tcp_bucket *segments[16];
};

static inline bool seq_lt(uint32_t a, uint32_t b)
{
    return (int32_t)(a - b) < 0;
}
static inline bool seq_le(uint32_t a, uint32_t b)
{
    return (int32_t)(a - b) <= 0;
}
static inline uint32_t seq_max(uint32_t a, uint32_t b)
{
    return seq_lt(a, b) ? b : a;
}
static inline uint32_t seq_min(uint32_t a, uint32_t b)
{
    return seq_lt(a, b) ? a : b;
}

static inline uint32_t tcp_now_us(struct netstack *net)
{
    return (uint32_t)((uint64_t)net_now(net) / 1000);
}
static inline uint32_t tcp_now_ms(struct netstack *net)
{
    return (uint32_t)((uint64_t)net_now(net) / 1000000);
}
static inline uint32_t tcp_ts_now(const struct tcp_conn *c)
{
    return tcp_now_ms(c->s.net) + c->ts_offset;
}

/* Bytes believed to be in the network (RFC 6675: pipe). */
static inline uint32_t tcp_pipe(const struct tcp_conn *c)
{
    return c->snd_nxt - c->snd_una - c->sacked - c->lost;
}
/* Bytes of the queue that were never sent; a FIN comes behind all of them. */
static inline uint32_t tcp_unsent_bytes(const struct tcp_conn *c)
{
    return c->fin_sent ? 0 : c->snd_end - c->snd_nxt;
}
static inline bool tcp_has_unsent(const struct tcp_conn *c)
{
    return tcp_unsent_bytes(c) || (c->fin_queued && !c->fin_sent);
}
static inline bool tcp_is_synced(const struct tcp_conn *c)
{
    return c->state != TCP_CLOSE && c->state != TCP_LISTEN &&
           c->state != TCP_SYN_SENT && c->state != TCP_TIME_WAIT;
}
static inline bool tcp_may_send(const struct tcp_conn *c)
{
    return c->state == TCP_ESTABLISHED || c->state == TCP_CLOSE_WAIT;
}
static inline uint32_t tcp_srtt_us(const struct tcp_conn *c)
{
    return c->srtt8 / 8;
}
static inline struct tcp_conn *to_tcp(struct net_sock *s)
{
    return (struct tcp_conn *)s;
}

/* tcp_conn.c */
/* Returns owned, with the defaults of a new socket. */
struct tcp_conn *tcp_new(struct netstack *net, uint32_t family);
/* Back to the start; queues are empty. */
void tcp_clear(struct tcp_conn *c);
/* The connection is over: frees queues, leaves all tables. error: positive,
 * told to the program. */
void tcp_done(struct tcp_conn *c, int error);
/* Sends RST, then tcp_done. */
void tcp_abort(struct tcp_conn *c, int error);
/* Both FINs are acknowledged. */
void tcp_enter_time_wait(struct tcp_conn *c);
void tcp_free_send_queue(struct tcp_conn *c);
void tcp_free_recv_queue(struct tcp_conn *c);

/* tcp_hash.c */
int tcp_hash_init(struct tcp_table *t) __must_check;
void tcp_hash_destroy(struct tcp_table *t);
/* -EADDRNOTAVAIL: the four numbers are in use. Takes a reference. */
int tcp_hash_insert(struct tcp_conn *c) __must_check;
void tcp_hash_remove(struct tcp_conn *c);
bool tcp_hash_has(struct netstack *net, const struct net_endpoint *local,
                  const struct net_endpoint *remote);
/* Returns owned or NULL; no lock needed. */
struct tcp_conn *tcp_hash_find(struct netstack *net, const struct frame *f);
/* Gives f to its connection; false: there is none. Takes f when true. */
bool tcp_hash_give(struct netstack *net, struct frame *f);
/* Calls back for each connection, one reference held, no lock. */
void tcp_for_each(struct netstack *net,
                  void (*visit)(struct tcp_conn *c, void *arg), void *arg);

/* tcp_open.c: no lock for the first three */
uint32_t tcp_isn(struct netstack *net, const struct net_endpoint *local,
                 const struct net_endpoint *remote);
uint32_t tcp_ts_offset(struct netstack *net, const struct net_endpoint *local,
                       const struct net_endpoint *remote);
uint32_t tcp_mss_of_mtu(uint32_t mtu, const struct net_addr *dst);
void tcp_input_syn_sent(struct tcp_conn *c, struct frame *f,
                        const struct tcp_in *in);
void tcp_send_syn(struct tcp_conn *c);
/* Looks the route up again when it is old, and sets mss. False: none. */
bool tcp_check_route(struct tcp_conn *c);
/* Handshake done: state, windows, timers. */
void tcp_established(struct tcp_conn *c);
void tcp_start_keepalive(struct tcp_conn *c);

/* tcp_opts.c */
void tcp_parse(const struct frame *f, struct tcp_in *in);
uint32_t tcp_option_bytes(const struct tcp_conn *c);
void tcp_put_options(struct tcp_conn *c, uint8_t *to, uint32_t n);
/* SYN options; ts_ecr as given. Returns bytes. */
struct tcp_syn_options {
    uint32_t ts_val, ts_ecr;
    uint16_t mss;
    uint8_t wscale; /* 0xff: none */
    bool has_ts, has_sack;
};
uint32_t tcp_put_syn_options(const struct tcp_syn_options *o, uint8_t *to);

/* tcp_reply.c: segments that belong to no connection; no lock */
struct tcp_reply {
    struct net_endpoint local, remote;
    uint32_t seq, ack, wnd;
    uint8_t flags, tos;
    const struct tcp_syn_options *syn; /* NULL: none */
    bool has_ts;
    uint32_t ts_val, ts_ecr;
};
void tcp_reply_send(struct netstack *net, const struct tcp_reply *r);
/* The reset that answers f (RFC 9293 3.10.7.1). Borrows f. */
void tcp_reply_reset(struct netstack *net, const struct frame *f,
                     const struct tcp_in *in);

/* tcp_in.c: takes f */
void tcp_input(struct tcp_conn *c, struct frame *f);
void tcp_work(struct net_sock *s);  /* no lock */
/* Processes what the channel holds. */
void tcp_drain(struct tcp_conn *c);
void tcp_challenge_ack(struct tcp_conn *c);

/* tcp_ack.c */
void tcp_process_ack(struct tcp_conn *c, const struct tcp_in *in);
/* tcp_sack.c */
void tcp_mark_sacked(struct tcp_conn *c, const struct tcp_in *in,
                     struct tcp_acked *a);
void tcp_forget_sacks(struct tcp_conn *c);
/* tcp_rack.c */
void tcp_rack_delivered(struct tcp_conn *c, const struct tcp_seg *seg);
/* Marks segments lost; true: some were. Arms the reorder timer. */
bool tcp_rack_detect(struct tcp_conn *c);
void tcp_seg_lost(struct tcp_conn *c, struct tcp_seg *seg);
void tcp_all_lost(struct tcp_conn *c);
void tcp_enter_recovery(struct tcp_conn *c);
void tcp_enter_loss(struct tcp_conn *c);
/* tcp_cc.c */
void tcp_cc_init(struct tcp_conn *c);
void tcp_cc_acked(struct tcp_conn *c, uint32_t bytes);
uint32_t tcp_cc_reduce(struct tcp_conn *c); /* new ssthresh, notes w_max */
void tcp_prr_begin(struct tcp_conn *c);
void tcp_prr_update(struct tcp_conn *c, uint32_t delivered, bool is_progress);
void tcp_cc_idle(struct tcp_conn *c);
uint32_t tcp_initial_cwnd(const struct tcp_conn *c);

/* tcp_seg.c: records of what is in flight */
struct tcp_seg *tcp_seg_new(struct tcp_conn *c, uint32_t seq, uint32_t end);
void tcp_seg_free(struct tcp_conn *c, struct tcp_seg *seg);
/* Cuts at `seq`; false: no memory. */
bool tcp_seg_split(struct tcp_conn *c, struct tcp_seg *seg, uint32_t seq);
void tcp_segs_free(struct tcp_conn *c);
/* Removes what una covers from segments and queue. */
void tcp_segs_acked(struct tcp_conn *c, uint32_t una, struct tcp_acked *a);

/* tcp_out.c */
void tcp_output(struct tcp_conn *c);
void tcp_send_ack(struct tcp_conn *c);
/* A segment below the window that makes the peer answer. */
void tcp_send_probe(struct tcp_conn *c);
/* Sends one segment of new data, or the last again (TLP). */
void tcp_send_tail_probe(struct tcp_conn *c);
/* One byte of new data into a closed window, or a plain probe. */
void tcp_send_window_probe(struct tcp_conn *c);
void tcp_send_reset(struct tcp_conn *c);
/* tcp_emit.c */
struct tcp_emit {
    struct frame *chunk;
    uint32_t chunk_off, seq, len;
    uint8_t flags;
};
/* Builds and queues one segment; bytes sent (may be fewer), or -ENOBUFS. */
int tcp_emit(struct tcp_conn *c, const struct tcp_emit *e);
/* How many bytes one segment may have now. */
uint32_t tcp_emit_max(struct tcp_conn *c, uint32_t *eff_mss);
uint32_t tcp_window_field(struct tcp_conn *c);

/* tcp_data.c */
/* Takes f, payload only. */
void tcp_receive_data(struct tcp_conn *c, struct frame *f, bool has_fin);
uint32_t tcp_receive_window(struct tcp_conn *c);
/* After the program took bytes: does the peer have to be told? */
bool tcp_window_grew(struct tcp_conn *c);
uint32_t tcp_fill_sacks(const struct tcp_conn *c, uint32_t (*blocks)[2],
                        uint32_t max);
void tcp_prune_ooo(struct tcp_conn *c);

/* tcp_timer.c */
void tcp_timer_fired(struct net_timer *t); /* no lock */
/* Arms the one timer for the earliest of the three deadlines. */
void tcp_timer_update(struct tcp_conn *c);
/* RTO or, before that, TLP; from now. */
void tcp_arm_rexmit(struct tcp_conn *c);
/* More was sent: the tail is younger; the RTO stays where it is. */
void tcp_postpone_tail_probe(struct tcp_conn *c);
void tcp_rtt_sample(struct tcp_conn *c, uint32_t rtt_us);
nsec_t tcp_rto_ns(const struct tcp_conn *c);

/* tcp_listen.c */
int tcp_halves_init(struct tcp_table *t) __must_check;
void tcp_halves_destroy(struct tcp_table *t);
/* tcp_accept.c */
void tcp_listener_closed(struct tcp_conn *c); /* no lock */
/* tcp_tw.c */
int tcp_tw_init(struct tcp_table *t) __must_check;
void tcp_tw_destroy(struct tcp_table *t);
void tcp_tw_add(struct tcp_conn *c);
enum tcp_tw_verdict { TW_NONE, TW_TAKEN, TW_REOPEN };
/* REOPEN: the segment is a SYN that may start anew; *isn: from where. */
enum tcp_tw_verdict tcp_tw_input(struct netstack *net, const struct frame *f,
                                 const struct tcp_in *in, uint32_t *isn);
/* May these four numbers be used for a new connection? Then the record is
 * gone and *isn says where to start (0: anywhere). */
bool tcp_tw_may_reuse(struct netstack *net, const struct net_endpoint *local,
                      const struct net_endpoint *remote, uint32_t *isn);
uint32_t tcp_tw_count(struct netstack *net);
