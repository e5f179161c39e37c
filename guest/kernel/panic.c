/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The end for a broken invariant: message, backtrace (addresses for
 * `guest/tools/symbolize`), all CPUs stopped, exit code 1.
 */
#include "arch/machine.h"
#include "lib/atomic.h"
#include "lib/printk.h"
#include "lib/string.h"
#include "sched/thread.h"

void backtrace_print(uint64_t rip, uint64_t rbp)
{
    printk("backtrace: %lx", rip);
    for (int i = 0; i < 24; i++) {
        if (rbp < DIRECT_MAP || rbp & 7)
            break;
        uint64_t *frame = (uint64_t *)rbp;
        if (frame[1] < KERNEL_VIRT || frame[0] <= rbp)
            break;
        printk(" %lx", frame[1]);
        rbp = frame[0];
    }
    printk("\n");
}

void panic(const char *fmt, ...)
{
    static uint32_t panicking;
    char text[256];
    va_list args;

    irq_off();
    if (atomic_xchg(&panicking, 1u) == 0) {
        struct thread *t = current_thread();
        va_start(args, fmt);
        vsnprintf(text, sizeof(text), fmt, args);
        va_end(args);
        printk("\npanic: %s\ncpu %u, thread %s\n", text, this_cpu()->id,
               t ? t->name : "none");
        backtrace_print((uint64_t)__builtin_return_address(0),
                        (uint64_t)__builtin_frame_address(0));
    }
    machine_exit(1);
}
