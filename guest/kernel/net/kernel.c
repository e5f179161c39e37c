/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * When the stack's work is done, and how long an idle CPU polls; see kernel.h.
 *
 * Polling. A halt and an interrupt cost 30 to 70 us here, so an idle CPU polls
 * first, for `window` ns. On a host with fewer CPUs than threads that want one,
 * polling takes the CPU from the very thread of QEMU's that would bring the
 * frame. Both show in what happens: a poll that finds something doubles the
 * window; a halt that a frame ends at once, after a poll in vain, says that
 * nothing could come while we polled: a few of those in a row forbid polling
 * for a while, twice as long each time. A long halt halves the window. An idle
 * machine soon halts at once and burns nothing.
 *
 * The watch. Each turn polls, so interrupts stay off after the first one, and
 * a program that blocks often takes none. What a thread sends leaves in the
 * turn when it blocks. For programs that do not block, a timer looks: when
 * frames wait, the card is told to interrupt again; when output waits, a turn
 * is asked for. A timer interrupt costs more than a request, so it looks the
 * later (WATCH_MIN_NS to WATCH_MAX_NS) the more often it came for nothing.
 */
#include "net/kernel.h"

#include "arch/arch.h"
#include "drivers/drivers.h"
#include "drivers/virtio_net.h"
#include "lib/errno.h"
#include "lib/printk.h"
#include "mm/page.h"
#include "net/kernel_config.h"
#include "net/netstack.h"
#include "param.h"
#include "sched/mutex.h"
#include "sched/thread.h"
#include "sched/timer.h"

#define TURN_ROUNDS 8
#define SOON_NS 50000l
#define WATCH_MIN_NS 250000l
#define WATCH_MAX_NS 8000000l
#define WINDOW_START_NS 25000l
#define WINDOW_MAX_NS 200000l
#define SHORT_HALT_NS 300000l
#define LONG_HALT_NS 2000000l
#define VAIN_MAX 4u
#define PENALTY_MAX 4096u /* halts without polling */
#define MEM_MIN (1ul * MIB)
#define MEM_MAX (256ul * MIB)
#define CONN_BYTES 6144u /* of a connection: 2 KiB of ours, the program's share */

/* All of it is the owner CPU's; interrupt handlers of that CPU also use what
 * is under "timer" and "halting", everybody else with interrupts off. */
struct net_kernel_cpu {
    bool in_turn;
    nsec_t looked_at; /* net_kernel_look */
    /* --- timers --- */
    struct timer timer;
    bool timer_is_due; /* net_timer_run is wanted */
    struct timer watch;
    nsec_t watch_ns;
    /* --- halting --- */
    nsec_t window, halted_at; /* halted_at 0: not halted */
    bool has_polled;          /* before this halt, in vain */
    uint32_t nr_vain, penalty, penalty_left;
    /* --- ring to ring --- */
    uint64_t busy_since, notify_cycles; /* TSC, 0: at rest; counted then */
} __aligned(64);

static struct {
    /* --- set once at init --- */
    struct net_env env;
    struct mutex lock;
    /* --- protected by lock --- */
    bool has_failed;
    /* --- atomic --- */
    struct netstack *net;   /* it exists: turns are done */
    struct netstack *ready; /* it is configured */
    struct net_kernel_pair {
        uint32_t poller; /* CPU + 1 that polls the pair while it is idle */
    } __aligned(64) pairs[MAX_CPUS]; /* of the card's queues */
    struct net_kernel_cpu cpus[MAX_CPUS];
} state;

static struct net_kernel_cpu *this_net_cpu(void)
{
    return &state.cpus[this_cpu()->id];
}

/* Which of the card's pairs of queues is this CPU's. */
static uint32_t my_pair(void)
{
    return this_cpu()->id % virtio_net_pairs();
}

static void ask_for_turn(void)
{
    atomic_or(&current_thread()->work, WORK_RESCHED);
}

/* ---- the stack's environment ---- */

static nsec_t env_now(struct net_env *e)
{
    return clock_monotonic();
}

static void env_random(struct net_env *e, void *buf, size_t n)
{
    random_bytes(buf, n);
}

static uint32_t env_cpu(struct net_env *e)
{
    return this_cpu()->id;
}

static bool env_is_short(struct net_env *e, uint64_t more)
{
    if (!page_is_short(more))
        return false;
    if (!irq_enabled())
        return true;
    page_reclaim_pending(); /* perhaps it is only files, as for an allocation */
    return page_is_short(more);
}

static void timer_fired(struct timer *t)
{
    struct net_kernel_cpu *k = t->arg;

    k->timer_is_due = true;
    ask_for_turn();
}

/* Called when the stack wants something earlier than what it asked for last;
 * after each firing run_timers asks what is next. */
static void env_arm(struct net_env *e, uint32_t cpu, nsec_t deadline)
{
    struct net_kernel_cpu *k = &state.cpus[cpu];
    bool on = irq_save();

    if (!k->timer.armed || k->timer.deadline > deadline)
        timer_set(&k->timer, deadline);
    irq_restore(on);
}

/* ---- ring to ring: COUNT_NET_CYCLES ---- */

static uint64_t notify_cycles(void)
{
    return atomic_load_relaxed(&this_cpu()->counts[COUNT_NOTIFY_CYCLES]);
}

/* Before frames are taken. */
static void note_busy(struct net_kernel_cpu *k)
{
    if (k->busy_since || !virtio_net_has_frames(my_pair()))
        return;
    k->notify_cycles = notify_cycles();
    k->busy_since = cycles_now();
}

static void note_rest(struct net_kernel_cpu *k)
{
    bool on = irq_save();

    if (k->busy_since)
        count_add(COUNT_NET_CYCLES, cycles_now() - k->busy_since -
                                        (notify_cycles() - k->notify_cycles));
    k->busy_since = 0;
    irq_restore(on);
}

/* ---- the watch ---- */

static bool output_waits(uint32_t cpu)
{
    struct netstack *net = atomic_load_acquire(&state.net);

    return net &&
           atomic_load_relaxed(&net->cpus[cpu].flush_by) != NET_NO_DEADLINE;
}

/* A turn may be long (its notification can cost us the CPU): what waits then
 * is being worked on. */
static void watch_fired(struct timer *t)
{
    struct net_kernel_cpu *k = t->arg;
    uint32_t n = my_pair();
    bool has_frames = !k->in_turn && virtio_net_has_frames(n);
    bool is_of_use = has_frames || (!k->in_turn && output_waits(t->cpu));
    int i = 0;

    for (; has_frames && i < TURN_ROUNDS &&
           (virtio_net_poll(n) || virtio_net_irq_on(n));)
        i++;
    if (i == TURN_ROUNDS) /* too much for here: look again */
        virtio_net_irq_off(n);
    if (is_of_use)
        ask_for_turn();
    k->watch_ns = is_of_use ? MAX(k->watch_ns / 2, WATCH_MIN_NS)
                            : MIN(2 * k->watch_ns, WATCH_MAX_NS);
    if (virtio_net_is_polled(n) || is_of_use)
        timer_set(t, clock_monotonic() + k->watch_ns);
}

static void watch_start(struct net_kernel_cpu *k)
{
    bool on = irq_save();

    if (!k->watch.armed)
        timer_set(&k->watch, clock_monotonic() + k->watch_ns);
    irq_restore(on);
}

static void env_deferred(struct net_env *e, uint32_t cpu)
{
    watch_start(&state.cpus[cpu]);
}

static bool turn_has_work(void)
{
    struct netstack *net = atomic_load_acquire(&state.net);

    uint32_t cpu = this_cpu()->id;

    return atomic_load_relaxed(&state.cpus[cpu].timer_is_due) ||
           virtio_net_has_frames(my_pair()) || net_work_pending(net, cpu) ||
           output_waits(cpu);
}

/* ---- polling and halting ---- */

/* Interrupts off: a frame ended a halt that began at halted_at. */
static void judge_halt(struct net_kernel_cpu *k)
{
    nsec_t halted = clock_monotonic() - k->halted_at;

    k->halted_at = 0;
    if (halted > LONG_HALT_NS) {
        k->window = k->window / 2 < WINDOW_START_NS ? 0 : k->window / 2;
        k->nr_vain = 0;
    } else if (halted > SHORT_HALT_NS) {
        k->nr_vain = 0;
    } else if (!k->has_polled) {
        if (k->penalty_left)
            k->penalty_left--;
        else
            k->window = MAX(k->window, WINDOW_START_NS);
    } else if (++k->nr_vain < VAIN_MAX) {
        k->window = MIN(2 * k->window, WINDOW_MAX_NS);
    } else {
        k->nr_vain = 0;
        k->window = 0;
        k->penalty = MIN(2 * k->penalty + 16, PENALTY_MAX);
        k->penalty_left = k->penalty;
    }
}

static void card_interrupted(uint32_t pair)
{
    struct net_kernel_cpu *k = this_net_cpu();

    if (k->halted_at)
        judge_halt(k);
    note_busy(k);
    virtio_net_poll(pair);
    if (virtio_net_is_polled(my_pair()))
        watch_start(k);
    ask_for_turn();
}

static nsec_t turn_idle(nsec_t until)
{
    struct net_kernel_cpu *k = this_net_cpu();
    uint32_t me = this_cpu()->id + 1, n = my_pair();
    struct net_kernel_pair *p = &state.pairs[n];
    uint32_t poller = atomic_load_relaxed(&p->poller);

    note_rest(k);
    k->halted_at = 0;
    k->has_polled = false;
    if (!k->window ||
        (poller && poller != me && cpus[poller - 1]->idle == 1) ||
        !atomic_cmpxchg(&p->poller, &poller, me))
        return until;
    k->has_polled = true;
    virtio_net_irq_off(n);
    return MAX(until, clock_monotonic() + k->window);
}

static bool turn_may_halt(void)
{
    struct net_kernel_cpu *k = this_net_cpu();

    if (turn_has_work()) {
        if (k->has_polled) { /* it paid off */
            k->window = MIN(2 * k->window, WINDOW_MAX_NS);
            k->nr_vain = 0;
            k->penalty /= 2;
        }
        return false;
    }
    if (virtio_net_irq_on(my_pair()))
        return false;
    k->halted_at = clock_monotonic();
    return true;
}

/* ---- turns ---- */

static bool run_timers(struct netstack *net, struct net_kernel_cpu *k)
{
    nsec_t next;

    if (!atomic_load_relaxed(&k->timer_is_due))
        return false;
    atomic_store_relaxed(&k->timer_is_due, false);
    net_timer_run(net, this_cpu()->id);
    next = net_next_deadline(net, this_cpu()->id);
    if (next != NET_NO_DEADLINE)
        env_arm(net->env, this_cpu()->id, next);
    return true;
}

/* The work is done in rounds: timers make work, loopback brings frames. What
 * is left after the last waits until SOON_NS, so that the program gets on. */
static void turn_run(void)
{
    struct netstack *net = atomic_load_acquire(&state.net);
    struct net_kernel_cpu *k = this_net_cpu();
    uint32_t cpu = this_cpu()->id, pair = my_pair();
    bool more = turn_has_work();
    bool on;

    if (k->in_turn)
        return;
    if (!more) { /* the idle loop turned interrupts off, and a thread woke up */
        if (virtio_net_is_polled(pair))
            watch_start(k);
        return;
    }
    k->in_turn = true;
    note_busy(k);
    page_reclaim_pending(); /* the card's ring is filled with interrupts off */
    k->looked_at = clock_monotonic();
    for (int i = 0; i < TURN_ROUNDS && more; i++) {
        more = virtio_net_poll(pair);
        more |= net_softwork(net, cpu);
        more |= run_timers(net, k);
    }
    if (virtio_net_is_polled(pair))
        watch_start(k);
    on = irq_save();
    if (more && !k->timer.armed)
        timer_set(&k->timer, clock_monotonic() + SOON_NS);
    irq_restore(on);
    k->in_turn = false;
}

bool net_kernel_look(void)
{
    struct net_kernel_cpu *k = this_net_cpu();
    nsec_t now = clock_monotonic();

    if (now - k->looked_at < SOON_NS)
        return false;
    k->looked_at = now;
    turn_run();
    return true;
}

static const struct sched_poller poller = {
    .turn = turn_run,
    .has_work = turn_has_work,
    .idle = turn_idle,
    .may_halt = turn_may_halt,
};

/* ---- making it ---- */

void net_kernel_init(void)
{
    mutex_init(&state.lock);
}

static int make_stack(struct netstack **out)
{
    struct net_config config = {.env = &state.env, .nr_cpus = MAX_CPUS};
    struct memory_stats m;

    state.env = (struct net_env){env_now, env_random, env_cpu, env_arm,
                                 env_deferred, env_is_short};
    for (unsigned i = 0; i < MAX_CPUS; i++) {
        timer_init(&state.cpus[i].timer, timer_fired, &state.cpus[i]);
        timer_init(&state.cpus[i].watch, watch_fired, &state.cpus[i]);
        state.cpus[i].watch_ns = WATCH_MIN_NS;
    }
    memory_stats(&m);
    config.conns_max = (uint32_t)(m.total_pages * PAGE_SIZE / 4 / CONN_BYTES);
    config.mem_max = m.total_pages * PAGE_SIZE / 8;
    config.mem_max = MIN(MAX(config.mem_max, MEM_MIN), MEM_MAX);
    return net_create(&config, out);
}

/* The cards, in the order of eth0, eth1. Returns how many. */
static unsigned start_cards(struct netstack *net, struct netif **cards)
{
    unsigned want = boot_params.net.lan.nr, n;

    _Static_assert(PARAM_LIST_MAX + 1 == VIRTIO_NET_CARDS, "one for each --lan");
    if (boot_params.net.ip.nr || !want)
        want++;

    for (n = 0; n < want; n++) {
        int err = virtio_net_start(net, n, card_interrupted, &cards[n]);
        if (err && (err != -ENODEV || n))
            klog(LOG_ERROR, "network: only loopback and %u cards are there", n);
        if (err)
            break;
    }
    return n;
}

/* REQUIRES(state.lock) */
static void make_locked(void)
{
    struct netstack *net;
    struct netif *cards[VIRTIO_NET_CARDS];
    unsigned nr_cards;
    int err = make_stack(&net);

    if (err) {
        klog(LOG_ERROR, "network: cannot be started: error %d", -err);
        state.has_failed = true;
        return;
    }
    nr_cards = start_cards(net, cards);
    atomic_store_release(&state.net, net); /* DHCP needs turns */
    atomic_store_release(&sched_poller, &poller);
    for (unsigned n = 0; n < nr_cards; n++)
        net_configure(cards[n]);
    atomic_store_release(&state.ready, net);
}

struct netstack *net_kernel_stack(void)
{
    struct netstack *net = atomic_load_acquire(&state.ready);

    if (net)
        return net;
    mutex_lock(&state.lock);
    if (!state.ready && !state.has_failed)
        make_locked();
    mutex_unlock(&state.lock);
    return atomic_load_acquire(&state.ready);
}

void net_kernel_start(void)
{
    net_write_files(boot_params.net.is_wanted ? net_kernel_stack() : NULL);
}
