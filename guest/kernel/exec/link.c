/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Program counters inside the stubs of linked system-call sites. The table that
 * maps them back lies in the program's own memory, behind the stubs; its
 * layout and the rules are in capstan_link.h.
 *
 * Everything here reads the program's memory: it may sleep, and a table that
 * makes no sense means only that nothing is translated.
 */
#include "capstan_link.h"
#include "exec/exec.h"
#include "lib/lock.h"
#include "lib/string.h"
#include "linux/task.h"
#include "mm/vma.h"

struct link_table {
    vaddr_t base;  /* of the image */
    vaddr_t start; /* of the places */
    struct capstan_link_trailer trailer;
};

/* The end of the file mapping with code around rip; 0: there is none. */
static vaddr_t mapping_end(struct mm *mm, vaddr_t rip)
{
    vaddr_t end = 0;

    mutex_lock(&mm->lock);
    const struct vma *v = vma_find(mm->vma_root, rip);
    if (v && v->start <= rip && v->inode && v->flags & VM_EXEC)
        end = v->end;
    mutex_unlock(&mm->lock);
    return end;
}

static bool trailer_fits(const struct capstan_link_trailer *t)
{
    return memcmp(t->magic, CAPSTAN_LINK_MAGIC, sizeof(t->magic)) == 0 &&
           t->version == CAPSTAN_LINK_VERSION &&
           t->flavour == CAPSTAN_LINK_GUEST && t->table <= t->self &&
           t->places <= (t->self - t->table) / CAPSTAN_LINK_PLACE_SIZE;
}

/* The table for a program counter that one of its places may cover. */
static bool find_table(vaddr_t rip, struct link_table *out)
{
    struct mm *mm = current_thread()->mm;
    vaddr_t end = mm ? mapping_end(mm, rip) : 0, at = end - sizeof(out->trailer);

    if (!end || copy_from_user(&out->trailer, (void *)at, sizeof(out->trailer)) ||
        !trailer_fits(&out->trailer))
        return false;
    out->base = at - out->trailer.self;
    out->start = out->base + out->trailer.table;
    return rip - out->base >= out->trailer.low &&
           rip - out->base < out->trailer.high;
}

/* The last place with at <= pc, if it covers pc. */
static bool find_place(vaddr_t rip, struct link_table *t,
                       struct capstan_link_place *out)
{
    uint32_t low = 0, high;
    vaddr_t pc;

    if (!find_table(rip, t))
        return false;
    pc = rip - t->base;
    high = t->trailer.places;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        const struct capstan_link_place *p = (void *)t->start;
        struct capstan_link_place place;
        if (copy_from_user(&place, (void *)(p + middle), sizeof(place)))
            return false;
        if (place.at > pc) {
            high = middle;
            continue;
        }
        *out = place;
        low = middle + 1;
    }
    return low && pc < out->at + out->size;
}

vaddr_t rip_to_original(vaddr_t rip)
{
    struct capstan_link_place p;
    struct link_table t;
    uint32_t into;

    if (!find_place(rip, &t, &p))
        return rip;
    into = (uint32_t)(rip - t.base) - p.at;
    switch (p.class) {
    case CAPSTAN_LINK_A:
        return t.base + p.site - (into < p.copied ? p.copied - into : 0u);
    case CAPSTAN_LINK_W:
        return t.base + p.site - (into < p.copied ? p.copied : 0u);
    case CAPSTAN_LINK_P:
    case CAPSTAN_LINK_HOP:
        return t.base + p.site;
    default:
        return rip;
    }
}

bool link_is_trap(vaddr_t at)
{
    struct capstan_link_place p;
    struct link_table t;

    return find_place(at, &t, &p) && p.class == CAPSTAN_LINK_TRAP &&
           t.base + p.at == at;
}
