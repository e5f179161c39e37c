/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * PCI: access to configuration space, the search for functions, BARs; see
 * pci.h.
 *
 * Configuration space is reached through the window in memory (ECAM) that
 * firmware opens on q35, one exit an access, else through ports 0xcf8/0xcfc,
 * two. Device registers lie in physical windows that boot.S has not mapped;
 * they are mapped by 2 MiB pages where the direct map of the fourth GiB is
 * empty: there is no RAM there, and its page directory is always present.
 *
 * The search begins with function 0 of each device on bus 0; what takes more
 * accesses (other functions, buses behind bridges) comes when it was not among
 * those. Bridges behind bridges are not searched.
 *
 * Locks: port_lock (irq-safe) for the pair of ports; all else is the caller's.
 */
#include "arch/pci.h"

#include "arch/machine.h"
#include "lib/errno.h"
#include "lib/lock.h"
#include "lib/printk.h"
#include "lib/string.h"

/* Offsets in configuration space (PCI 3.0, 6.1) and their bits */
#define CFG_ID 0x00
#define CFG_COMMAND 0x04
#define COMMAND_MEMORY 2u
#define COMMAND_MASTER 4u
#define COMMAND_NO_INTX 0x400u
#define STATUS_CAPS (0x10u << 16)
#define CFG_CLASS 0x08
#define CFG_HEADER 0x0c
#define HEADER_BRIDGE 0x010000u
#define HEADER_TYPE_MASK 0x7f0000u
#define HEADER_MULTI 0x800000u
#define CFG_BAR 0x10
#define BAR_IO 1u
#define BAR_64BIT 4u
#define BAR_FLAGS 15u
#define CFG_BRIDGE_BUSES 0x18
#define CFG_BRIDGE_MEMORY 0x20
#define CFG_BRIDGE_PREFETCH 0x24
#define CFG_CAPS 0x34
#define MAX_CAPS 48 /* as many fit; a broken list may be a circle */

#define PORT_ADDRESS 0xcf8
#define PORT_DATA 0xcfc
#define NOBODY 0xffffffffu /* what an access reads that nobody answers */

/* Q35: the host bridge, and where firmware puts the window first */
#define Q35_HOST_BRIDGE 0x29c08086u
#define Q35_PCIEXBAR 0x60
#define Q35_USUAL_ECAM 0xb0000000ul

#define MAX_FUNCTIONS 32
#define MAX_MAPPED 64 /* 2 MiB pages */
#define NR_SLOTS 32
#define HOLE_BASE 0xc0000000ul
#define HOLE_END 0xfea00000ul
#define IOAPIC 0xfec00000ul
#define BRIDGE_WINDOW LARGE_SIZE
#define PTE_DEVICE 0xfful /* present, writable, U, uncached, A, D, 2 MiB */
#define PTE_NX (1ul << 63)

extern uint64_t boot_pdpt_direct[];

/* Physical addresses that may be given to BARs. */
struct pci_window {
    uint64_t next, end;
};

/* Protected by the caller's lock. */
static struct {
    paddr_t ecam; /* 0: through the ports */
    bool is_wide; /* the window answers eight bytes */
    struct pci_function functions[MAX_FUNCTIONS];
    unsigned nr_functions;
    unsigned next_slot;     /* on bus 0 */
    unsigned next_function; /* whose relatives have not been looked for */
    unsigned nr_first;      /* found on bus 0, all function 0 */
    struct pci_window near; /* mapped by boot.S: costs no page */
    struct pci_window hole;
    struct pci_window behind[4]; /* bridges */
    unsigned nr_behind;
    paddr_t mapped[MAX_MAPPED]; /* what the nth page of the hole shows */
    unsigned nr_mapped;
    char trouble[160];
} pci;

static struct spinlock port_lock;

void pci_complain(const struct pci_function *fn, const char *fmt, ...)
{
    int n = snprintf(pci.trouble, sizeof(pci.trouble), "PCI %02x:%02x.%u: ",
                     fn->address >> 8, fn->address >> 3 & 31u,
                     fn->address & 7u);
    va_list args;

    va_start(args, fmt);
    vsnprintf(pci.trouble + n, sizeof(pci.trouble) - (size_t)n, fmt, args);
    va_end(args);
    printk("capstan: %s\n", pci.trouble);
}

const char *pci_trouble(void)
{
    return pci.trouble;
}

static void outl(uint16_t port, uint32_t v)
{
    __asm__ volatile("outl %0, %1" ::"a"(v), "Nd"(port));
}

static uint32_t inl(uint16_t port)
{
    uint32_t v;
    __asm__ volatile("inl %1, %0" : "=a"(v) : "Nd"(port));
    return v;
}

/* ---- mapping ---- */

static volatile char *pci_map(paddr_t base, uint64_t len)
{
    volatile char *v = arch_mmio_map(base, len);
    paddr_t first = ALIGN_DOWN(base, LARGE_SIZE);
    unsigned n =
        (unsigned)((ALIGN_UP(base + len, LARGE_SIZE) - first) >> LARGE_SHIFT);
    unsigned at = 0;
    uint64_t *pd =
        phys_to_virt(boot_pdpt_direct[HOLE_BASE / GIB] & 0xffffffffff000);

    if (v)
        return v;
    while (at < pci.nr_mapped && (n > 1 || pci.mapped[at] != first))
        at++;
    if (at == pci.nr_mapped) {
        if (n > MAX_MAPPED - at)
            return NULL;
        for (unsigned i = 0; i < n; i++) {
            pci.mapped[at + i] = first + i * LARGE_SIZE;
            pd[at + i] = pci.mapped[at + i] | PTE_DEVICE | PTE_NX;
        }
        pci.nr_mapped += n;
    }
    return (volatile char *)phys_to_virt(HOLE_BASE + at * LARGE_SIZE) +
           (base - first);
}

/* ---- configuration space ---- */

static uint32_t port_address(uint16_t address, unsigned offset)
{
    return 1u << 31 | (uint32_t)address << 8 | (offset & 0xfc);
}

static uint32_t port_read(uint16_t address, unsigned offset)
{
    bool was_on = spin_lock_irqsave(&port_lock);
    uint32_t v;

    outl(PORT_ADDRESS, port_address(address, offset));
    v = inl(PORT_DATA);
    spin_unlock_irqrestore(&port_lock, was_on);
    return v;
}

static uint32_t config_read32(const struct pci_function *fn, unsigned offset)
{
    if (fn->config)
        return *(volatile uint32_t *)(fn->config + offset);
    return port_read(fn->address, offset);
}

/* Two words in one access where the machine can. */
static uint64_t config_read64(const struct pci_function *fn, unsigned offset)
{
    if (fn->config && pci.is_wide)
        return *(volatile uint64_t *)(fn->config + offset);
    return config_read32(fn, offset) | (uint64_t)config_read32(fn, offset + 4)
                                           << 32;
}

static void config_write32(struct pci_function *fn, unsigned offset, uint32_t v)
{
    bool was_on;

    if (fn->config) {
        *(volatile uint32_t *)(fn->config + offset) = v;
        return;
    }
    was_on = spin_lock_irqsave(&port_lock);
    outl(PORT_ADDRESS, port_address(fn->address, offset));
    outl(PORT_DATA, v);
    spin_unlock_irqrestore(&port_lock, was_on);
}

void pci_config_write16(struct pci_function *fn, unsigned offset, uint16_t v)
{
    bool was_on;

    if (fn->config) {
        *(volatile uint16_t *)(fn->config + offset) = v;
        return;
    }
    was_on = spin_lock_irqsave(&port_lock);
    outl(PORT_ADDRESS, port_address(fn->address, offset));
    outw((uint16_t)(PORT_DATA + (offset & 2)), v);
    spin_unlock_irqrestore(&port_lock, was_on);
}

void pci_config_begin(struct pci_config *c, struct pci_function *fn)
{
    c->fn = fn;
    c->have = 0;
    c->nr_caps = 0;
}

uint32_t pci_config_read(struct pci_config *c, unsigned offset)
{
    unsigned n = offset / 8 % 32;

    if (!(c->have >> n & 1)) {
        c->units[n] = config_read64(c->fn, 8 * n);
        c->have |= 1u << n;
    }
    return (uint32_t)(c->units[n] >> (offset & 4) * 8);
}

unsigned pci_cap_next(struct pci_config *c, unsigned at)
{
    uint32_t next =
        at ? pci_config_read(c, at) >> 8 : pci_config_read(c, CFG_CAPS);

    next &= 0xfc;
    if (!c->fn->has_caps || next < 0x40 || c->nr_caps++ == MAX_CAPS)
        return 0;
    return next;
}

/* ---- the search ---- */

static bool ecam_is_at(paddr_t base)
{
    volatile char *config = pci_map(base, PAGE_SIZE);
    volatile uint64_t *wide = (volatile uint64_t *)config;
    volatile uint32_t *narrow = (volatile uint32_t *)config;

    if (!config)
        return false;
    if ((uint32_t)*wide != Q35_HOST_BRIDGE) {
        if (*narrow != Q35_HOST_BRIDGE)
            return false;
        pci.is_wide = false;
    }
    pci.ecam = base;
    return true;
}

bool pci_is_present(void)
{
    uint32_t id, at;

    pci.is_wide = true;
    pci.near = (struct pci_window){HOLE_END, IOAPIC};
    pci.hole = (struct pci_window){HOLE_BASE, HOLE_END};
    pci.next_slot = 1; /* 0 is the host bridge */
    if (ecam_is_at(Q35_USUAL_ECAM))
        return true;
    id = port_read(0, CFG_ID);
    if (id == Q35_HOST_BRIDGE) {
        at = port_read(0, Q35_PCIEXBAR);
        if (at & 1)
            ecam_is_at(at & 0xfc000000);
    }
    return id != NOBODY && id != 0;
}

/* The second word of configuration space. When it says that there are no
 * capabilities, that may be a host that answers four bytes only. */
static uint32_t read_command(struct pci_function *fn, uint64_t first)
{
    uint32_t command = (uint32_t)(first >> 32);

    if (!pci.is_wide || (command & STATUS_CAPS && command != NOBODY))
        return command;
    command = config_read32(fn, CFG_COMMAND);
    if (command != first >> 32)
        pci.is_wide = false;
    return command;
}

static bool add_function(unsigned address, struct pci_window *window)
{
    struct pci_function *fn = &pci.functions[pci.nr_functions];
    uint64_t first;
    uint32_t command;

    if (pci.nr_functions == MAX_FUNCTIONS)
        return false;
    fn->address = (uint16_t)address;
    if (pci.ecam) {
        fn->config = pci_map(pci.ecam + address * PAGE_SIZE, PAGE_SIZE);
        if (!fn->config)
            return false;
    }
    first = config_read64(fn, CFG_ID);
    if ((uint32_t)first == NOBODY || (uint32_t)first == 0)
        return false;
    command = read_command(fn, first);
    fn->vendor = (uint16_t)first;
    fn->device = (uint16_t)(first >> 16);
    fn->command = (uint16_t)command;
    fn->has_caps = command & STATUS_CAPS;
    fn->by_firmware = command & COMMAND_MEMORY;
    fn->window = window;
    pci.nr_functions++;
    return true;
}

/* Memory for what is behind a bridge; NULL when firmware gave it some, and has
 * placed everything there. */
static struct pci_window *open_bridge(struct pci_function *fn)
{
    struct pci_window *w;
    uint64_t at;

    if (fn->by_firmware || pci.nr_behind == ARRAY_SIZE(pci.behind))
        return NULL;
    at = ALIGN_UP(pci.hole.next, BRIDGE_WINDOW);
    if (at + BRIDGE_WINDOW > pci.hole.end)
        return NULL;
    pci.hole.next = at + BRIDGE_WINDOW;
    w = &pci.behind[pci.nr_behind++];
    w->next = at;
    w->end = at + BRIDGE_WINDOW;
    /* PCI-to-PCI Bridge 1.2, 3.2.5.8: bits 31-20 of first and last byte */
    config_write32(fn, CFG_BRIDGE_MEMORY,
                   (uint32_t)(at >> 16 | ((w->end - 1) & 0xfff00000)));
    config_write32(fn, CFG_BRIDGE_PREFETCH, 0x0000fff0); /* none */
    pci_config_write16(fn, CFG_COMMAND, COMMAND_MEMORY | COMMAND_MASTER);
    return w;
}

static void search_behind(struct pci_function *bridge)
{
    unsigned bus = config_read32(bridge, CFG_BRIDGE_BUSES) >> 8 & 0xff;
    struct pci_window *w;

    if (!bus) {
        pci_complain(bridge, "firmware gave the bridge no bus number; what is "
                             "behind it is not found");
        return;
    }
    w = open_bridge(bridge);
    for (unsigned slot = 0; slot < NR_SLOTS; slot++)
        add_function(bus << 8 | slot << 3, w);
}

/* Other functions of a device of which function 0 was found, or the bus behind
 * it. */
static void search_around(struct pci_function *fn)
{
    uint32_t header = config_read32(fn, CFG_HEADER);

    for (unsigned i = 1; header & HEADER_MULTI && i < 8; i++)
        add_function(fn->address + i, &pci.near);
    if ((header & HEADER_TYPE_MASK) == HEADER_BRIDGE)
        search_behind(fn);
}

struct pci_function *pci_function(unsigned nr)
{
    while (nr >= pci.nr_functions) {
        if (pci.next_slot < NR_SLOTS) {
            add_function(pci.next_slot++ << 3, &pci.near);
            pci.nr_first = pci.nr_functions;
        } else if (pci.next_function < pci.nr_first) {
            search_around(&pci.functions[pci.next_function++]);
        } else {
            return NULL;
        }
    }
    return &pci.functions[nr];
}

/* ---- BARs ---- */

/* An address for `size` bytes, a power of two, that is an odd multiple of it:
 * BAR bits below a BAR's own size read as zero, so one that keeps such an
 * address is no larger. 0: no room. */
static uint64_t window_take(struct pci_window *w, uint64_t size)
{
    uint64_t at = 0;

    if (w == &pci.near && (ALIGN_UP(w->next, 2 * size) | size) + size > w->end)
        w = &pci.hole;
    if (w) {
        at = ALIGN_UP(w->next, 2 * size) | size;
        if (at + size <= w->end)
            w->next = at + size;
        else
            at = 0;
    }
    return at;
}

/* Both words at a BAR; the second one is the upper half of a 64-bit one. */
static uint64_t bar_read(struct pci_function *fn, unsigned bar)
{
    unsigned at = CFG_BAR + 4 * bar;
    uint64_t v = config_read64(fn, at & ~7u);

    if (!(bar & 1))
        return v;
    v >>= 32;
    if ((v & (BAR_IO | BAR_64BIT)) == BAR_64BIT && bar + 1 < PCI_NR_BARS)
        v |= (uint64_t)config_read32(fn, at + 4) << 32;
    return v;
}

/* One that did not keep its place. */
static uint64_t bar_size(struct pci_function *fn, unsigned bar)
{
    uint32_t v;

    config_write32(fn, CFG_BAR + 4 * bar, ~0u);
    v = (uint32_t)(bar_read(fn, bar) & ~(uint64_t)BAR_FLAGS);
    return v ? v & -v : 4 * GIB;
}

static int bar_place(struct pci_function *fn, unsigned bar, uint64_t len,
                     paddr_t *out)
{
    uint64_t size = PAGE_SIZE, at, v;

    while (size < len)
        size *= 2;
    for (int tries = 0; tries < 2; tries++) {
        at = window_take(fn->window, size);
        if (!at)
            return -ENOSPC;
        config_write32(fn, CFG_BAR + 4 * bar, (uint32_t)at);
        v = bar_read(fn, bar);
        if (v & BAR_IO)
            return -ENXIO;
        if (((uint32_t)v & ~BAR_FLAGS) == at) {
            if (v & BAR_64BIT && v >> 32)
                config_write32(fn, CFG_BAR + 4 * bar + 4, 0);
            *out = at;
            return 0;
        }
        size = bar_size(fn, bar);
        if (size >= 4 * GIB)
            break;
    }
    return -EIO;
}

int pci_bar_map(struct pci_function *fn, unsigned bar, uint64_t len,
                volatile char **out)
{
    paddr_t at = 0;
    uint64_t v;
    int err = 0;

    if (fn->by_firmware) {
        v = bar_read(fn, bar);
        at = v & ~(uint64_t)BAR_FLAGS & (v & BAR_64BIT ? ~0ul : NOBODY);
        err = v & BAR_IO ? -ENXIO : at ? 0 : -EIO;
    } else {
        err = bar_place(fn, bar, len, &at);
    }
    if (!err) {
        *out = pci_map(at, len);
        err = *out ? 0 : -ENOSPC;
    }
    if (err)
        pci_complain(fn, "BAR %u cannot be used for %llu bytes: %s", bar,
                     (unsigned long long)len,
                     err == -ENXIO    ? "it is in I/O space"
                     : err == -ENOSPC ? "there is no room below 4 GiB"
                                      : "it has no address");
    return err;
}

void pci_enable(struct pci_function *fn)
{
    uint16_t command =
        fn->command | COMMAND_MEMORY | COMMAND_MASTER | COMMAND_NO_INTX;

    if (command == fn->command)
        return;
    fn->command = command;
    pci_config_write16(fn, CFG_COMMAND, command);
}
