/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The interrupt flag, the same on every host.
 *
 * %gs:0 is the first byte of the per-CPU page and holds the flag (1 = on). On
 * kvm_pvm the host reads that byte and sets %gs:1 when an interrupt is
 * pending, `cli` and `sti` are only expensive; elsewhere the real flag is what
 * counts. The code below is the kvm_pvm form; arch/cpu.c patches the sites on
 * other hosts (section .altirq) before interrupts are first enabled.
 * One instruction turns the flag off, so a thread that migrates in between
 * cannot clear another CPU's flag (core.md 1).
 */
#pragma once

#include "lib/types.h"

#define ALT_IRQ_OFF 1
#define ALT_IRQ_ON 2

static inline void irq_off(void)
{
    __asm__ volatile("661: nop\n\t"
                     "movb $0, %%gs:0\n\t"
                     ".pushsection .altirq, \"a\"\n\t"
                     ".quad 661b\n\t.short 1, 1\n\t.long 0\n\t"
                     ".popsection" ::
                         : "memory");
}

static inline void irq_on(void)
{
    __asm__ volatile("movb $1, %%gs:0\n"
                     "661: cmpb $0, %%gs:1\n\t"
                     "jne 663f\n"
                     "662:\n\t"
                     ".pushsection .altirq, \"a\"\n\t"
                     ".quad 661b\n\t.short 2, 662b - 661b\n\t.long 0\n\t"
                     ".popsection\n\t"
                     ".subsection 1\n"
                     "663: outb %%al, $0x80\n\t"
                     "jmp 662b\n\t"
                     ".previous" ::
                         : "memory", "cc");
}

static inline bool irq_enabled(void)
{
    uint8_t v;
    __asm__ volatile("movb %%gs:0, %0" : "=q"(v)::"memory");
    return v != 0;
}

static inline bool irq_save(void)
{
    bool was_on = irq_enabled();
    irq_off();
    return was_on;
}

static inline void irq_restore(bool was_on)
{
    if (was_on)
        irq_on();
}
