/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * PCI: finding functions, their capabilities, places for their BARs, MSI-X.
 * Above it: virtio_pci.c.
 *
 * - An access to configuration space or a BAR is an exit to the host (25-55
 *   us): functions are looked for one by one as they are asked for, a
 *   capability is read once, eight bytes at a time (struct pci_config), and a
 *   BAR takes two accesses.
 * - Firmware gave the buses behind bridges their numbers. It may have placed
 *   the BARs (then it has turned memory decoding on) or not (qboot): then
 *   pci_bar_map does.
 * - The caller serialises all calls but those of pci_msix_add for different
 *   functions.
 * - Bad hardware is reported on the serial port, with its address.
 *
 * PCI Local Bus Specification 3.0; PCI Express Base Specification 3.0, ch. 7.
 */
#pragma once

#include "lib/types.h"

#define PCI_CAP_VENDOR 0x09
#define PCI_CAP_MSIX 0x11
#define PCI_NR_BARS 6u

struct pci_window;

struct pci_function {
    /* --- set once, when it is found --- */
    volatile char *config; /* NULL: through the ports */
    uint16_t address;      /* bus << 8 | device << 3 | function */
    uint16_t vendor, device;
    bool has_caps;
    bool by_firmware; /* it has placed the BARs, and may have used them */
    struct pci_window *window; /* where its BARs may go; NULL: nowhere */
    /* --- set by pci_msix_setup --- */
    volatile uint64_t *msix_table;
    uint16_t msix_cap; /* offset of the capability */
    uint16_t msix_size;
    bool is_msix_on;
    /* --- caller's lock --- */
    uint16_t command;
    uint16_t msix_used; /* entries given away */
    bool is_unusable;   /* said by the driver, and why */
};

/* A copy of a function's configuration space, read as far as needed. */
struct pci_config {
    struct pci_function *fn;
    uint32_t have; /* bit n: units[n] was read */
    unsigned nr_caps;
    uint64_t units[32];
};

/* Where a structure of a function is. */
struct pci_place {
    uint32_t len; /* 0: the function has none */
    uint32_t offset, bar;
};

struct msi_message {
    uint64_t address;
    uint32_t data;
};

/* pci.c */
/* Is there a PCI host bridge that we can talk to? Called once, first. */
bool pci_is_present(void);
/* The `nr`th function of the machine, in order of finding; NULL: there are no
 * more. The host bridge is left out. */
struct pci_function *pci_function(unsigned nr);
void pci_config_begin(struct pci_config *c, struct pci_function *fn);
/* `offset`: a multiple of 4 below 256. */
uint32_t pci_config_read(struct pci_config *c, unsigned offset);
void pci_config_write16(struct pci_function *fn, unsigned offset, uint16_t v);
/* The offset of the capability after the one at `at` (0: the first); 0: none.
 * Its first word: ID, next, two bytes of its own. */
unsigned pci_cap_next(struct pci_config *c, unsigned at);
/* A BAR's first `len` bytes as uncached memory, once for each BAR; gives it a
 * place if firmware did not. -ENXIO: it is no memory BAR, -ENOSPC: no place,
 * -EIO: it takes none. */
int pci_bar_map(struct pci_function *fn, unsigned bar, uint64_t len,
                volatile char **out);
/* From now on it answers at its BARs and reaches memory. All BARs that will
 * be used have been mapped. */
void pci_enable(struct pci_function *fn);
/* Says on the serial port, with the function's address, why it is not used. */
void pci_complain(const struct pci_function *fn, const char *fmt, ...)
    __printf(2, 3);
const char *pci_trouble(void); /* the last such message, "" */

/* pci_msix.c */
/* Where the MSI-X capability at offset `cap` says that the table is. */
void pci_msix_place(struct pci_config *c, unsigned cap, struct pci_place *out);
/* `table`: it, mapped by the caller, who also maps what else is in that BAR. */
void pci_msix_setup(struct pci_config *c, unsigned cap, volatile char *table);
/* Takes the next entry of the table for `handler` on that CPU and turns MSI-X
 * on. Returns its number or -ENOSPC, also when the CPUs' vectors are used up.
 */
int pci_msix_add(struct pci_function *fn, void (*handler)(void *), void *arg,
                 unsigned cpu);

/* apic.c: message-signalled interrupts */
/* Makes `handler` run, interrupts off, when *out is written; on that CPU, or
 * the first one when it is not online, or one that has a vector left. -ENOSPC.
 */
int msi_alloc(void (*handler)(void *), void *arg, unsigned cpu,
              struct msi_message *out);
