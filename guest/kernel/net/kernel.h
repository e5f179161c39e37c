/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The network stack inside this kernel: the one instance, its clock and
 * random numbers, its timers, and when its soft work runs.
 *
 * Layers below: net/netstack.h, sched/poller.h, drivers/virtio_net.h. Above:
 * socket glue, start-up.
 *
 * - Nothing exists before the first net_kernel_stack(): a program that opens
 *   no socket in a machine without a card pays nothing. That call makes the
 *   stack, loopback and the card with the addresses of the boot parameters.
 * - A turn (net_kernel_turn) takes frames from the card, runs due timers and
 *   the soft work, and gives the card what is to be sent, with one
 *   notification. It runs in the thread that is about to block and in the
 *   idle loop, both by schedule(). An interrupt that brings work asks for
 *   schedule() with WORK_RESCHED. Never in an interrupt handler, never with
 *   a spinlock held, never nested; it does not sleep.
 * - Who looks for events without blocking (epoll, poll, a read that would
 *   fail with EAGAIN) calls net_kernel_turn first: a busy event loop never
 *   blocks.
 * - Interrupts of the card are off while the program blocks often, because
 *   every turn polls; a timer watches over programs that stop doing so. They
 *   are on while the CPU is halted. An idle CPU polls before it halts for as
 *   long as that has paid off (kernel.c).
 */
#pragma once

#include "sched/poller.h"

struct netstack;

/* kernel.c */

/* The stack, made on first use; NULL: no memory (the log says so). Sleeps. */
struct netstack *net_kernel_stack(void);
/* At start, with the root mounted: makes the stack if the launcher gave the
 * machine a card, and the files /etc/hosts and /etc/resolv.conf. */
void net_kernel_start(void);
void net_kernel_init(void); /* before the first thread */
/* A turn on the calling CPU; costs little when there is nothing to do. */
static inline void net_kernel_turn(void)
{
    poller_turn();
}
/* For a call that found nothing and will not wait: a turn, unless there was
 * one just now. True: there was a turn, looking again may help. A program that
 * reads until EAGAIN must not send each answer on its own. */
bool net_kernel_look(void);
