/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * MSI-X (PCI 3.0, 6.8.2): a function's table of messages. Entries are given
 * away one by one and never taken back.
 */
#include "arch/pci.h"
#include "lib/errno.h"

#define CONTROL_SIZE 0x7ffu /* less one */
#define CONTROL_ENABLE 0x8000u
#define TABLE_BAR 7u

static uint32_t table_size(struct pci_config *c, unsigned cap)
{
    return (pci_config_read(c, cap) >> 16 & CONTROL_SIZE) + 1;
}

void pci_msix_place(struct pci_config *c, unsigned cap, struct pci_place *out)
{
    uint32_t table = pci_config_read(c, cap + 4);

    out->bar = table & TABLE_BAR;
    out->offset = table & ~TABLE_BAR;
    out->len = 16 * table_size(c, cap);
}

void pci_msix_setup(struct pci_config *c, unsigned cap, volatile char *table)
{
    c->fn->msix_table = (volatile uint64_t *)table;
    c->fn->msix_cap = (uint16_t)cap;
    c->fn->msix_size = (uint16_t)table_size(c, cap);
}

/* The second half of an entry: data, then the control word; 0 there: not
 * masked, as entries are after a reset. */
int pci_msix_add(struct pci_function *fn, void (*handler)(void *), void *arg,
                 unsigned cpu)
{
    struct msi_message m;
    int err, n = fn->msix_used;

    if (n == fn->msix_size)
        return -ENOSPC;
    err = msi_alloc(handler, arg, cpu, &m);
    if (err)
        return err;
    fn->msix_used++;
    fn->msix_table[2 * n] = m.address;
    fn->msix_table[2 * n + 1] = m.data;
    if (!fn->is_msix_on) {
        fn->is_msix_on = true;
        pci_config_write16(fn, fn->msix_cap + 2u, CONTROL_ENABLE);
    }
    return n;
}
