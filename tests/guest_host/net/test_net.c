/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What the network stack stands on: addresses, checksums, frames, timers; each
 * against a model or a known value.
 */
#include "net/wire.h"

#include "check.h"
#include "mm/heap.h"

#include <errno.h>
#include <string.h>

#define MS 1000000l

static uint64_t rng = 4711;
static struct wire w;

/* ---- pure functions ---- */

static void test_addresses(void)
{
    static const char *const same[] = {
        "10.1.2.3", "::", "::1", "fe80::1:2", "2001:db8::1",
        "1:2:3:4:5:6:7:8", "1:0:0:4::8", "255.255.255.255", "1::",
    };
    static const char *const bad[] = {
        "", "1", "1.2.3", "1.2.3.4.5", "256.1.1.1", "1.2.3.4 ", ":::",
        "1::2::3", "1:2:3:4:5:6:7", "1:2:3:4:5:6:7:8:9", "g::", "12345::",
        ":1", "1:", "1.2.3.", "::1.2.3", "1:2:3:4:5:6:7:8::",
    };
    struct net_addr a, b;
    char text[NET_ADDR_TEXT];

    for (uint32_t i = 0; i < ARRAY_SIZE(same); i++) {
        CHECK_EQ(addr_from_text(same[i], &a), 0);
        CHECK(strcmp(addr_to_text(&a, text), same[i]) == 0);
    }
    for (uint32_t i = 0; i < ARRAY_SIZE(bad); i++)
        CHECK_EQ(addr_from_text(bad[i], &a), -EINVAL);
    CHECK_EQ(addr_from_text("::ffff:1.2.3.4", &a), 0);
    CHECK_EQ(addr_from_text("1.2.3.4", &b), 0);
    CHECK(addr_equal(&a, &b) && addr_is_v4(&a));
    a = host_addr("10.1.255.0");
    b = host_addr("10.1.192.0");
    CHECK(addr_in_prefix(&a, &b, 96 + 18));
    CHECK(!addr_in_prefix(&a, &b, 96 + 19));
    for (int i = 0; i < 2000; i++) {
        for (int k = 0; k < 16; k++)
            a.b[k] = rng_below(&rng, 3) ? 0 : (uint8_t)rng_next(&rng);
        CHECK_EQ(addr_from_text(addr_to_text(&a, text), &b), 0);
        CHECK(addr_equal(&a, &b));
    }
}

static uint16_t slow_sum(const uint8_t *p, size_t n)
{
    uint32_t sum = 0;

    for (size_t i = 0; i < n; i++)
        sum += i & 1 ? p[i] : (uint32_t)p[i] << 8;
    while (sum >> 16)
        sum = (sum & 0xffff) + (sum >> 16);
    return __builtin_bswap16((uint16_t)~sum);
}

static void test_checksum(void)
{
    static const uint8_t rfc1071[] = {0, 1, 0xf2, 3, 0xf4, 0xf5, 0xf6, 0xf7};
    uint8_t buf[3000];

    CHECK_EQ((uint16_t)~csum_fold(csum_add(0, rfc1071, 8)),
             __builtin_bswap16(0xddf2));
    for (int i = 0; i < 3000; i++) {
        size_t n = rng_below(&rng, i % 10 ? 100 : sizeof(buf)), at;

        for (size_t k = 0; k < n; k++)
            buf[k] = rng_below(&rng, 4) ? (uint8_t)rng_next(&rng) : 0xff;
        CHECK_EQ(csum_fold(csum_add(0, buf, n)), slow_sum(buf, n));
        at = n ? rng_below(&rng, n) & ~1ul : 0;
        CHECK_EQ(csum_fold(csum_add(csum_add(0, buf, at), buf + at, n - at)),
                 slow_sum(buf, n));
    }
}

static void test_siphash(void)
{
    /* From the paper: key 00..0f, input 00..0e. */
    struct siphash_key key;
    uint8_t in[15];

    for (uint8_t i = 0; i < 16; i++)
        ((uint8_t *)&key)[i] = i;
    for (uint8_t i = 0; i < 15; i++)
        in[i] = i;
    CHECK(siphash(&key, in, 15) == 0xa129ca6149be45e5ull);
}

/* ---- frames against a flat copy ---- */

static void check_frame(struct frame *f, const uint8_t *model, uint32_t n)
{
    static uint8_t buf[70000];
    uint32_t off = n ? (uint32_t)rng_below(&rng, n) : 0;

    CHECK_EQ(frame_total(f), n);
    frame_copy_out(f, 0, buf, n);
    CHECK(memcmp(buf, model, n) == 0);
    frame_copy_out(f, off, buf, n - off);
    CHECK(memcmp(buf, model + off, n - off) == 0);
    CHECK_EQ(csum_fold(csum_add_frame(0, f, off, n - off)),
             slow_sum(model + off, n - off));
}

static void test_frames(void)
{
    static uint8_t bytes[70000];
    struct frame *f, *g, *more;

    wire_init(&w, 0);
    for (uint32_t i = 0; i < sizeof(bytes); i++)
        bytes[i] = (uint8_t)rng_next(&rng);
    for (int round = 0; round < 2000; round++) {
        uint8_t *model = bytes;
        uint32_t n = (uint32_t)rng_below(&rng, 300), k;

        f = frame_alloc(w.net, FRAME_SMALL, FRAME_HEADROOM, FRAME_FOR_DATA);
        CHECK(f);
        memcpy(frame_append(f, n), model, n);
        while (rng_below(&rng, 4) && n < 60000) {
            k = 1 + (uint32_t)rng_below(&rng, 4000);
            more = frame_alloc(w.net, FRAME_LARGE, 0, FRAME_FOR_DATA);
            memcpy(more->data, model + n, k);
            CHECK(frame_add_frag(f, more, more->data, k));
            frame_put(more);
            n += k;
        }
        check_frame(f, model, n);
        k = (uint32_t)rng_below(&rng, n + 1);
        frame_trim_head(f, k);
        model += k;
        n -= k;
        check_frame(f, model, n);
        k = (uint32_t)rng_below(&rng, n + 1);
        frame_trim_to(f, k);
        n = k;
        check_frame(f, model, n);
        if (n) { /* a part of it, by reference */
            uint32_t off = (uint32_t)rng_below(&rng, n);

            k = 1 + (uint32_t)rng_below(&rng, n - off);
            g = frame_alloc(w.net, FRAME_SMALL, FRAME_HEADROOM,
                            FRAME_FOR_DATA);
            CHECK(frame_share(g, f, off, k));
            check_frame(g, model + off, k);
            frame_put(f);
            check_frame(g, model + off, k);
            f = frame_linearize(g, 64);
            CHECK(!f == (k > frame_room(FRAME_LARGE, 64)));
            if (f)
                check_frame(f, model + off, k);
        }
        if (f)
            frame_put(f);
    }
    wire_done(&w);
}

static void test_frame_limit(void)
{
    struct host_env e;
    struct netstack *net;
    struct frame *held[64];
    uint32_t n = 0;

    host_env_init(&e, 1, 5);
    net = host_stack(&e, 1, 64 << 10);
    while ((held[n] = frame_alloc(net, FRAME_SMALL, 0, FRAME_FOR_DATA)))
        n++;
    CHECK_EQ(n, 24); /* three quarters */
    while ((held[n] = frame_alloc(net, FRAME_SMALL, 0, FRAME_FOR_CONTROL)))
        n++;
    CHECK_EQ(n, 32);
    while ((held[n] = frame_alloc(net, FRAME_SMALL, 0, FRAME_FOR_RECEIVE)))
        n++;
    CHECK_EQ(n, 36);
    while (n > 26) /* two of them wait in the pool: not for data */
        frame_put(held[--n]);
    CHECK_EQ(net->cpus[0].pool.nr_free[FRAME_SMALL], 2);
    CHECK(!frame_alloc(net, FRAME_SMALL, 0, FRAME_FOR_DATA));
    while (n)
        frame_put(held[--n]);
    held[0] = frame_alloc(net, FRAME_SMALL, 0, FRAME_FOR_DATA);
    CHECK(held[0]);
    frame_put(held[0]);
    net_destroy(net);
}

/* ---- the timer wheel against a list ---- */

struct test_timer {
    struct net_timer t;
    nsec_t due;
    bool armed;
};

static nsec_t wheel_time;
static uint32_t fired;

static void on_timer(struct net_timer *t)
{
    struct test_timer *x = container_of(t, struct test_timer, t);

    CHECK(x->armed);
    CHECK(x->due <= wheel_time);
    x->armed = false;
    fired++;
}

static void test_timers(void)
{
    static struct test_timer timers[200];
    struct net_wheel wheel;
    static const nsec_t spans[] = {2000000, 100000000, 5000000000,
                                   300000000000, 20000000000000};

    wheel_time = 7777777777;
    net_wheel_init(&wheel, wheel_time);
    for (uint32_t i = 0; i < 200; i++)
        net_timer_init(&timers[i].t, on_timer);
    for (int step = 0; step < 200000; step++) {
        struct test_timer *x = &timers[rng_below(&rng, 200)];
        uint32_t what = (uint32_t)rng_below(&rng, 8);

        if (what < 4 && !x->armed) {
            x->due = wheel_time +
                     (nsec_t)rng_below(&rng, (uint64_t)spans[step % 5]);
            x->armed = true;
            net_timer_arm(&wheel, &x->t, wheel_time, x->due);
        } else if (what == 4) {
            CHECK_EQ(net_timer_cancel(&x->t), x->armed);
            x->armed = false;
        } else if (what > 5) {
            nsec_t next = net_wheel_next(&wheel);

            wheel_time += (nsec_t)rng_below(&rng, (uint64_t)spans[step % 3]);
            if (what == 7 && next != NET_NO_DEADLINE && next > wheel_time)
                wheel_time = next;
            net_wheel_run(&wheel, wheel_time);
        }
        for (uint32_t i = step % 64; i < 200; i += 64)
            if (timers[i].armed) {
                nsec_t late = wheel_time - timers[i].due;
                nsec_t span = timers[i].due - timers[i].t.deadline;
                (void)span;
                /* Never lost: at most an eighth of its distance late. */
                CHECK(late < 0 || net_wheel_next(&wheel) != NET_NO_DEADLINE);
                CHECK(net_wheel_next(&wheel) <=
                      timers[i].due + (timers[i].due / 8) + 4000000);
            }
    }
    wheel_time += 40000000000000;
    net_wheel_run(&wheel, wheel_time);
    for (uint32_t i = 0; i < 200; i++)
        CHECK(!timers[i].armed);
    CHECK(fired > 1000);
    CHECK_EQ(net_wheel_next(&wheel), NET_NO_DEADLINE);
    /* Precision: within an eighth, and never early. */
    for (int i = 0; i < 2000; i++) {
        struct test_timer *x = &timers[0];
        nsec_t span = 1 + (nsec_t)rng_below(&rng, (uint64_t)spans[i % 5]);

        x->due = wheel_time + span;
        x->armed = true;
        net_timer_arm(&wheel, &x->t, wheel_time, x->due);
        while (x->armed) {
            wheel_time = net_wheel_next(&wheel);
            net_wheel_run(&wheel, wheel_time);
        }
        CHECK(wheel_time - x->due <= span / 7 + 2200000);
    }
}

int main(void)
{
    test_addresses();
    test_checksum();
    test_siphash();
    test_frames();
    test_frame_limit();
    test_timers();
    printf("test_net: ok\n");
    return 0;
}
