/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Kernel messages on COM1. Each byte is an exit to QEMU; nothing is printed
 * in a normal run.
 */
#include "lib/printk.h"

#include "arch/machine.h"
#include "lib/lock.h"
#include "lib/string.h"

int log_level = LOG_PANIC;
static struct spinlock serial_lock;

static void serial_write(const char *s)
{
    bool was_on = irq_save();
    bool locked = false;

    /* A CPU that died with the lock must not silence the report. */
    for (int i = 0; i < 1000000 && !locked; i++)
        locked = spin_trylock(&serial_lock);
    for (; *s; s++) {
        if (*s == '\n')
            outb(0x3f8, '\r');
        outb(0x3f8, (uint8_t)*s);
    }
    if (locked)
        spin_unlock(&serial_lock);
    irq_restore(was_on);
}

void printk(const char *fmt, ...)
{
    char line[256];
    va_list args;

    va_start(args, fmt);
    vsnprintf(line, sizeof(line), fmt, args);
    va_end(args);
    serial_write(line);
}

void klog(int level, const char *fmt, ...)
{
    char line[256];
    va_list args;

    if (level > log_level)
        return;
    va_start(args, fmt);
    int n = snprintf(line, sizeof(line), "[%6ld.%06ld] ",
                     clock_monotonic() / NSEC_PER_SEC,
                     clock_monotonic() % NSEC_PER_SEC / 1000);
    vsnprintf(line + n, sizeof(line) - (size_t)n - 1, fmt, args);
    va_end(args);
    strlcpy(line + strlen(line), "\n", 2);
    serial_write(line);
}

static struct {
    const char *where;
    uint64_t tsc;
} marks[24];
static unsigned nr_marks;

void boot_mark(const char *where)
{
    unsigned n = atomic_add(&nr_marks, 1u) - 1;

    if (n < ARRAY_SIZE(marks)) {
        marks[n].tsc = rdtsc();
        marks[n].where = where;
    }
}

void boot_marks_print(void)
{
    for (unsigned i = 0; i < MIN(nr_marks, (unsigned)ARRAY_SIZE(marks)); i++)
        klog(LOG_INFO, "boot: %6lu us  %s",
             (marks[i].tsc - marks[0].tsc) * 1000 / tsc_khz(),
             marks[i].where);
}
