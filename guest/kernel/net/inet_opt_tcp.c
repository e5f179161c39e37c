/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Options of level TCP (man 7 tcp). Numbers and limits are Linux'; what the
 * stack does not have is -ENOPROTOOPT. No locks here.
 */
#include "net/inet_sock.h"

#define LINGER2_MAX 120 /* TCP_FIN_TIMEOUT_MAX, seconds */
#define NAME_MAX_BYTES 16u

/* The classic part of struct tcp_info (linux/tcp.h). */
struct tcp_info_abi {
    uint8_t state, ca_state, retransmits, probes, backoff, options, wscales,
        app_limited;
    uint32_t rto, ato, snd_mss, rcv_mss, unacked, sacked, lost, retrans,
        fackets, last_data_sent, last_ack_sent, last_data_recv,
        last_ack_recv, pmtu, rcv_ssthresh, rtt, rttvar, snd_ssthresh,
        snd_cwnd, advmss, reordering, rcv_rtt, rcv_space, total_retrans;
};
_Static_assert(sizeof(struct tcp_info_abi) == 104, "struct tcp_info");

static const char congestion[NAME_MAX_BYTES] = "cubic";

static int set_congestion(const void *value, uint32_t len)
{
    char name[NAME_MAX_BYTES] = {0};

    if (len < 1)
        return -EINVAL;
    memcpy(name, value, MIN(len, NAME_MAX_BYTES - 1));
    return strcmp(name, congestion) ? -ENOENT : 0;
}

/* Linux keeps a power of two of retransmissions; a program sees seconds. */
static int set_defer_accept(struct inet_sock *i, int32_t v)
{
    uint32_t sum = 0, step = 1;

    while (v > 0 && sum < (uint32_t)v) {
        sum += step;
        step = MIN(step * 2, 120u);
    }
    atomic_store_relaxed(&i->defer_accept, sum);
    return 0;
}

int inet_set_tcp(struct inet_sock *i, int name, const void *value,
                 uint32_t len)
{
    int32_t v;

    if (name == TCP_OPT_CONGESTION)
        return set_congestion(value, len);
    if (len < sizeof(v))
        return -EINVAL;
    memcpy(&v, value, sizeof(v));
    switch (name) {
    case TCP_OPT_LINGER2:
        i->linger2 = (int16_t)(v < 0 ? -1 : MIN(v, LINGER2_MAX));
        return 0;
    case TCP_OPT_DEFER_ACCEPT:
        return set_defer_accept(i, v);
    case TCP_OPT_NODELAY:
    case TCP_OPT_CORK:
    case TCP_OPT_QUICKACK:
        return tcp_set_option(i->tcp, (enum tcp_option)name, v != 0);
    case TCP_OPT_MAXSEG:
    case TCP_OPT_KEEPIDLE:
    case TCP_OPT_KEEPINTVL:
    case TCP_OPT_KEEPCNT:
    case TCP_OPT_SYNCNT:
    case TCP_OPT_USER_TIMEOUT:
        return v < 0 ? -EINVAL
                     : tcp_set_option(i->tcp, (enum tcp_option)name,
                                      (uint32_t)v);
    default:
        return -ENOPROTOOPT;
    }
}

static int get_info(struct inet_sock *i, void *value, uint32_t *len)
{
    struct tcp_status st;
    struct tcp_info_abi o = {.state = 0};
    uint32_t mss;

    tcp_get_status(i->tcp, &st);
    mss = st.mss ? st.mss : TCP_DEFAULT_MSS;
    o.state = st.state;
    o.ca_state = st.recovery == TCP_LOSS ? 4 : st.recovery ? 3 : 0;
    o.backoff = st.backoff;
    o.options = st.options;
    o.rto = st.rto_us;
    o.snd_mss = o.rcv_mss = o.advmss = mss;
    o.unacked = (st.unacked + mss - 1) / mss;
    o.sacked = (st.sacked + mss - 1) / mss;
    o.lost = (st.lost + mss - 1) / mss;
    o.pmtu = mss + (inet_is_v6(i) ? IPV6_HEADER : IPV4_HEADER) + TCP_HEADER;
    o.rcv_ssthresh = st.rcv_wnd;
    o.rtt = st.rtt_us;
    o.rttvar = st.rttvar_us;
    o.snd_ssthresh = st.ssthresh >= INT32_MAX ? INT32_MAX
                                              : st.ssthresh / mss;
    o.snd_cwnd = MAX(st.cwnd / mss, 1u);
    o.reordering = 3;
    o.rcv_space = st.rcv_space;
    o.total_retrans = st.total_retrans;
    return inet_option_put(value, len, &o, sizeof(o));
}

int inet_get_tcp(struct inet_sock *i, int name, void *value, uint32_t *len)
{
    uint32_t v = 0;
    int err = 0;

    switch (name) {
    case TCP_OPT_INFO:
        return get_info(i, value, len);
    case TCP_OPT_CONGESTION:
        return inet_option_put(value, len, congestion, NAME_MAX_BYTES);
    case TCP_OPT_LINGER2:
        v = i->linger2 ? (uint32_t)i->linger2 : 60;
        break;
    case TCP_OPT_DEFER_ACCEPT:
        v = atomic_load_relaxed(&i->defer_accept);
        break;
    case TCP_OPT_WINDOW_CLAMP:
        v = 0;
        break;
    case TCP_OPT_NODELAY:
    case TCP_OPT_MAXSEG:
    case TCP_OPT_CORK:
    case TCP_OPT_KEEPIDLE:
    case TCP_OPT_KEEPINTVL:
    case TCP_OPT_KEEPCNT:
    case TCP_OPT_SYNCNT:
    case TCP_OPT_QUICKACK:
    case TCP_OPT_USER_TIMEOUT:
        err = tcp_get_option(i->tcp, (enum tcp_option)name, &v);
        break;
    default:
        err = -ENOPROTOOPT;
    }
    return err ? err : inet_option_put(value, len, &v, sizeof(v));
}
