/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The contended path of spinlocks. A holder can only lose its CPU to the
 * host, so there is nothing better to do than to wait quietly; a wait of
 * seconds is a deadlock of ours.
 */
#include "lib/lock.h"

#include "arch/arch.h"
#include "lib/printk.h"

#define DEADLOCK_NS (20 * NSEC_PER_SEC)

void spin_lock_slow(struct spinlock *l)
{
    nsec_t give_up = 0;
    uint32_t spins = 0;

    for (;;) {
        while (atomic_load_relaxed(&l->locked)) {
            cpu_relax();
            if (++spins & 0xffff)
                continue;
            nsec_t now = clock_monotonic();
            if (!give_up)
                give_up = now + DEADLOCK_NS;
            else if (now > give_up)
                panic("spinlock %p: deadlock", (void *)l);
        }
        if (spin_trylock(l))
            return;
    }
}
