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
 * a program that blocks often takes none. WATCH_NS later a timer looks: when
 * frames wait, the program is busy with something else, and the card is told
 * to interrupt again.
 *
 * Deferred output. A send asks for softwork within NET_DEFER_NS in case its
 * thread goes on without blocking. Most threads block, and a timer interrupt
 * costs as much as a packet, so the timer is set later (up to FLUSH_SLACK_NS)
 * the more often it found nothing to do, and earlier when it did.
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
#define WATCH_NS 2000000l
#define WINDOW_START_NS 25000l
#define WINDOW_MAX_NS 200000l
#define SHORT_HALT_NS 300000l
#define LONG_HALT_NS 2000000l
#define VAIN_MAX 4u
#define PENALTY_MAX 4096u /* halts without polling */
#define FLUSH_SLACK_STEP_NS 250000l
#define FLUSH_SLACK_NS 4000000l
#define MEM_MIN (1ul * MIB)
#define MEM_MAX (256ul * MIB)

/* All of it is the owner CPU's; interrupt handlers of that CPU also use what
 * is under "timer" and "halting", everybody else with interrupts off. */
struct net_kernel_cpu {
    bool in_turn;
    nsec_t looked_at; /* net_kernel_look */
    /* --- timer --- */
    struct timer timer;
    bool timer_is_due;  /* net_timer_run is wanted */
    bool timer_is_flush; /* set for deferred output */
    nsec_t flush_slack;
    /* --- halting --- */
    nsec_t window, halted_at; /* halted_at 0: not halted */
    bool has_polled;          /* before this halt, in vain */
    uint32_t nr_vain, penalty, penalty_left;
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
    uint32_t watching; /* the watch's timer is armed */
    uint32_t poller;   /* CPU + 1 that polls the card while it is idle */
    /* --- whoever set `watching` --- */
    struct timer watch;
    struct net_kernel_cpu cpus[MAX_CPUS];
} state;

static struct net_kernel_cpu *this_net_cpu(void)
{
    return &state.cpus[this_cpu()->id];
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

static void timer_fired(struct timer *t)
{
    struct net_kernel_cpu *k = t->arg;
    struct netstack *net = atomic_load_acquire(&state.net);

    if (k->timer_is_flush && net) {
        struct net_cpu *c = &net->cpus[this_cpu()->id];
        /* A turn may be long: its notification can cost us the CPU. */
        bool is_of_use = !k->in_turn &&
                         atomic_load_relaxed(&c->flush_by) != NET_NO_DEADLINE;

        k->flush_slack = is_of_use ? k->flush_slack / 2
                                   : MIN(2 * k->flush_slack +
                                             FLUSH_SLACK_STEP_NS,
                                         FLUSH_SLACK_NS);
    }
    k->timer_is_flush = false;
    k->timer_is_due = true;
    ask_for_turn();
}

/* Called when the stack wants something earlier than what it asked for last;
 * after each firing run_timers asks what is next. So what the stack wants is
 * at most FLUSH_SLACK_NS late. */
static void env_arm(struct net_env *e, uint32_t cpu, nsec_t deadline)
{
    struct net_kernel_cpu *k = &state.cpus[cpu];
    struct netstack *net = atomic_load_acquire(&state.net);
    bool on = irq_save(), is_flush;

    is_flush = net && net->cpus[cpu].flush_by == deadline;
    if (is_flush)
        deadline += k->flush_slack;
    if (!k->timer.armed || k->timer.deadline > deadline) {
        k->timer_is_flush = is_flush;
        timer_set(&k->timer, deadline);
    }
    irq_restore(on);
}

/* ---- the watch ---- */

static void watch_fired(struct timer *t)
{
    if (virtio_net_has_frames()) {
        int i = 0;

        for (; i < TURN_ROUNDS && (virtio_net_poll() || virtio_net_irq_on());)
            i++;
        if (i == TURN_ROUNDS) /* too much for here: look again */
            virtio_net_irq_off();
        ask_for_turn();
    }
    if (virtio_net_is_polled())
        timer_set(&state.watch, clock_monotonic() + WATCH_NS);
    else
        atomic_store_release(&state.watching, 0u); /* pairs with watch_start */
}

/* A poll that turns the interrupt off does this afterwards, so the store above
 * is never the last word. */
static void watch_start(void)
{
    if (!virtio_net_is_polled() || atomic_load_relaxed(&state.watching) ||
        atomic_xchg(&state.watching, 1u))
        return;
    timer_set(&state.watch, clock_monotonic() + WATCH_NS);
}

static bool turn_has_work(void)
{
    struct netstack *net = atomic_load_acquire(&state.net);

    uint32_t cpu = this_cpu()->id;

    return atomic_load_relaxed(&state.cpus[cpu].timer_is_due) ||
           virtio_net_has_frames() || net_work_pending(net, cpu) ||
           atomic_load_relaxed(&net->cpus[cpu].flush_by) != NET_NO_DEADLINE;
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

static void card_interrupted(void)
{
    struct net_kernel_cpu *k = this_net_cpu();

    if (k->halted_at)
        judge_halt(k);
    virtio_net_poll();
    watch_start();
    ask_for_turn();
}

static nsec_t turn_idle(nsec_t until)
{
    struct net_kernel_cpu *k = this_net_cpu();
    uint32_t me = this_cpu()->id + 1;
    uint32_t poller = atomic_load_relaxed(&state.poller);

    k->halted_at = 0;
    k->has_polled = false;
    if (!k->window ||
        (poller && poller != me && cpus[poller - 1]->idle == 1) ||
        !atomic_cmpxchg(&state.poller, &poller, me))
        return until;
    k->has_polled = true;
    virtio_net_irq_off();
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
    if (virtio_net_irq_on())
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
    uint32_t cpu = this_cpu()->id;
    bool more = turn_has_work();
    bool on;

    if (!more || k->in_turn)
        return;
    k->in_turn = true;
    k->looked_at = clock_monotonic();
    for (int i = 0; i < TURN_ROUNDS && more; i++) {
        more = virtio_net_poll();
        more |= net_softwork(net, cpu);
        more |= run_timers(net, k);
    }
    watch_start();
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

    state.env = (struct net_env){env_now, env_random, env_cpu, env_arm};
    for (unsigned i = 0; i < MAX_CPUS; i++)
        timer_init(&state.cpus[i].timer, timer_fired, &state.cpus[i]);
    timer_init(&state.watch, watch_fired, NULL);
    memory_stats(&m);
    config.mem_max = m.total_pages * PAGE_SIZE / 4;
    config.mem_max = MIN(MAX(config.mem_max, MEM_MIN), MEM_MAX);
    return net_create(&config, out);
}

/* REQUIRES(state.lock) */
static void make_locked(void)
{
    struct netstack *net;
    struct netif *card = NULL;
    int err = make_stack(&net);

    if (err) {
        klog(LOG_ERROR, "network: cannot be started: error %d", -err);
        state.has_failed = true;
        return;
    }
    err = virtio_net_start(net, card_interrupted, &card);
    if (err && err != -ENODEV)
        klog(LOG_ERROR, "network: only loopback is there");
    atomic_store_release(&state.net, net); /* DHCP needs turns */
    atomic_store_release(&sched_poller, &poller);
    if (card)
        net_configure(card);
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
    struct netstack *net;

    if (!boot_params.net.is_wanted)
        return;
    net = net_kernel_stack();
    if (net)
        net_write_files(net);
}
