/* SPDX-License-Identifier: BSD-2-Clause */
/* Options and status of TCP sockets (man 7 tcp). See tcp.h. */
#include "net/tcp_internal.h"

#define KEEP_MAX 32767u
#define BUF_MIN 2048u

static int set_number(uint32_t v, uint32_t max, uint32_t *to)
{
    if (v < 1 || v > max)
        return -EINVAL;
    *to = v;
    return 0;
}

static int set_byte(uint32_t v, uint32_t max, uint8_t *to)
{
    if (v < 1 || v > max)
        return -EINVAL;
    *to = (uint8_t)v;
    return 0;
}

static int set_keep(struct tcp_conn *c, enum tcp_option o, uint32_t v)
{
    int err = -EINVAL;

    switch (o) {
    case TCP_OPT_KEEPALIVE:
        c->p.keepalive = v != 0;
        err = 0;
        break;
    case TCP_OPT_KEEPIDLE:
        err = set_number(v, KEEP_MAX, &c->p.keep_idle);
        break;
    case TCP_OPT_KEEPINTVL:
        err = set_number(v, KEEP_MAX, &c->p.keep_interval);
        break;
    case TCP_OPT_KEEPCNT:
        err = set_byte(v, 127, &c->p.keep_count);
        break;
    default:
        break;
    }
    if (!err && tcp_is_synced(c) && !c->is_orphan) {
        tcp_start_keepalive(c);
        tcp_timer_update(c);
    }
    return err;
}

/* Options that let waiting bytes go when they change. */
static int set_push(struct tcp_conn *c, enum tcp_option o, uint32_t v)
{
    if (o == TCP_OPT_NODELAY)
        c->p.nodelay = v != 0;
    else
        c->p.cork = v != 0;
    if (o == TCP_OPT_CORK && !v)
        c->more_coming = false;
    if (tcp_is_synced(c)) {
        sock_queue_work(&c->s);
        net_defer(c->s.net);
    }
    return 0;
}

static int set_quickack(struct tcp_conn *c, uint32_t v)
{
    c->is_pingpong = !v;
    c->quick_left = v ? 16 : 0;
    if (v && c->rcv_unacked && tcp_is_synced(c)) {
        c->ack_now = true;
        sock_queue_work(&c->s);
        net_defer(c->s.net);
    }
    return 0;
}

/* So many bytes have to fit (Linux: half of the buffer is for payload). */
static int set_rcvlowat(struct tcp_conn *c, uint32_t v)
{
    uint32_t max = c->p.rcvbuf_fixed ? c->p.rcvbuf : TCP_RCVBUF_MAX;

    c->p.rcvlowat = MAX(MIN(v, max / 2), 1u);
    if (!c->p.rcvbuf_fixed)
        c->p.rcvbuf = MAX(c->p.rcvbuf, 2 * c->p.rcvlowat);
    return 0;
}

static int set_locked(struct tcp_conn *c, enum tcp_option o, uint32_t v)
{
    switch (o) {
    case TCP_OPT_NODELAY:
    case TCP_OPT_CORK:
        return set_push(c, o, v);
    case TCP_OPT_QUICKACK:
        return set_quickack(c, v);
    case TCP_OPT_KEEPALIVE:
    case TCP_OPT_KEEPIDLE:
    case TCP_OPT_KEEPINTVL:
    case TCP_OPT_KEEPCNT:
        return set_keep(c, o, v);
    case TCP_OPT_SYNCNT:
        return set_byte(v, 127, &c->p.syn_count);
    case TCP_OPT_USER_TIMEOUT:
        if (v > INT32_MAX)
            return -EINVAL;
        c->p.user_timeout = v;
        return 0;
    case TCP_OPT_MAXSEG:
        if (v && (v < TCP_MIN_MSS || v > 32767))
            return -EINVAL;
        c->p.max_seg = (uint16_t)v;
        c->route.nif = NULL; /* mss is computed again */
        return 0;
    case TCP_OPT_RCVBUF:
        c->p.rcvbuf = MIN(MAX(v, BUF_MIN), TCP_RCVBUF_MAX);
        c->p.rcvbuf_fixed = true;
        return 0;
    case TCP_OPT_SNDBUF:
        c->p.sndbuf = MIN(MAX(v, BUF_MIN), TCP_SNDBUF_MAX);
        c->p.sndbuf_fixed = true;
        return 0;
    case TCP_OPT_RCVLOWAT:
        return set_rcvlowat(c, v);
    default:
        return -ENOPROTOOPT;
    }
}

int tcp_set_option(struct tcp_conn *c, enum tcp_option o, uint32_t v)
{
    int err;

    sock_lock(&c->s);
    err = set_locked(c, o, v);
    sock_unlock(&c->s);
    return err;
}

int tcp_get_option(struct tcp_conn *c, enum tcp_option o, uint32_t *v)
{
    const struct tcp_params *p = &c->p;
    int err = 0;

    sock_lock(&c->s);
    switch (o) {
    case TCP_OPT_NODELAY:
        *v = p->nodelay;
        break;
    case TCP_OPT_CORK:
        *v = p->cork;
        break;
    case TCP_OPT_QUICKACK:
        *v = !c->is_pingpong;
        break;
    case TCP_OPT_KEEPALIVE:
        *v = p->keepalive;
        break;
    case TCP_OPT_KEEPIDLE:
        *v = p->keep_idle;
        break;
    case TCP_OPT_KEEPINTVL:
        *v = p->keep_interval;
        break;
    case TCP_OPT_KEEPCNT:
        *v = p->keep_count;
        break;
    case TCP_OPT_SYNCNT:
        *v = p->syn_count;
        break;
    case TCP_OPT_USER_TIMEOUT:
        *v = p->user_timeout;
        break;
    case TCP_OPT_MAXSEG:
        *v = c->mss ? c->mss - (c->has_ts ? 12u : 0)
                    : p->max_seg ? p->max_seg : TCP_DEFAULT_MSS;
        break;
    case TCP_OPT_RCVBUF:
        *v = p->rcvbuf;
        break;
    case TCP_OPT_SNDBUF:
        *v = p->sndbuf;
        break;
    case TCP_OPT_RCVLOWAT:
        *v = p->rcvlowat;
        break;
    default:
        err = -ENOPROTOOPT;
    }
    sock_unlock(&c->s);
    return err;
}

void tcp_get_status(struct tcp_conn *c, struct tcp_status *out)
{
    sock_lock(&c->s);
    memset(out, 0, sizeof(*out));
    out->state = c->state;
    out->recovery = c->recovery;
    out->backoff = c->backoff;
    out->options = (uint8_t)(c->has_ts | c->has_sack << 1 |
                             c->has_wscale << 2);
    out->rto_us = c->rto_us;
    out->rtt_us = c->srtt8 / 8;
    out->rttvar_us = c->rttvar4 / 4;
    out->min_rtt_us = c->min_rtt_us;
    out->mss = c->mss;
    out->cwnd = c->cwnd;
    out->ssthresh = c->ssthresh;
    out->rcv_space = c->drs_space;
    out->unacked = c->snd_nxt - c->snd_una;
    out->sacked = c->sacked;
    out->lost = c->lost;
    out->total_retrans = c->total_retrans;
    out->snd_wnd = c->snd_wnd;
    out->rcv_wnd = seq_lt(c->rcv_nxt, c->rcv_adv) ? c->rcv_adv - c->rcv_nxt
                                                  : 0;
    out->unsent = tcp_unsent_bytes(c);
    out->unread = c->rcvq_bytes;
    sock_unlock(&c->s);
}
