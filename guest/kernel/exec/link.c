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

#define MAX_PIECES 8u

/* The ends of the file mapping with code around rip and, when mprotect has cut
 * it, of the pieces after it. Returns how many. */
static unsigned mapping_ends(struct mm *mm, vaddr_t rip,
                             vaddr_t ends[MAX_PIECES])
{
    unsigned n = 0;

    mutex_lock(&mm->lock);
    const struct vma *v = vma_find(mm->vma_root, rip);
    const struct inode *inode = v && v->start <= rip ? v->inode : NULL;
    while (v && inode && n < MAX_PIECES && v->inode == inode &&
           v->flags & VM_EXEC && (n == 0 || v->start == ends[n - 1])) {
        ends[n++] = v->end;
        v = v->next;
    }
    mutex_unlock(&mm->lock);
    return n;
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
    struct capstan_link_trailer *t = &out->trailer;
    vaddr_t ends[MAX_PIECES];
    unsigned n = mm ? mapping_ends(mm, rip, ends) : 0;

    for (unsigned i = 0; i < n; i++) {
        vaddr_t at = ends[i] - sizeof(*t);
        if (copy_from_user(t, (void *)at, sizeof(*t)) || !trailer_fits(t))
            continue;
        out->base = at - t->self;
        out->start = out->base + t->table;
        return rip - out->base >= t->low && rip - out->base < t->high;
    }
    return false;
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
    case CAPSTAN_LINK_W:
        if (into < p.window)
            into = 0;
        return t.base + p.site - (into < p.copied ? p.copied - into : 0u);
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
