/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Bounds-checked parsing of ELF headers; rules in elf.h. No locks, no
 * allocation, no other part of the kernel.
 */
#include "exec/elf.h"

#include "lib/errno.h"
#include "lib/string.h"

static uint64_t page_down(uint64_t v)
{
    return v & ~(ELF_PAGE - 1);
}

static uint64_t page_up(uint64_t v)
{
    return (v + ELF_PAGE - 1) & ~(ELF_PAGE - 1);
}

int elf_parse_header(const void *buf, size_t len, uint64_t file_size,
                     struct elf_image *out, size_t *phdrs_bytes)
{
    struct elf_ehdr_disk h;
    size_t bytes;

    memset(out, 0, sizeof(*out));
    if (len < sizeof(h))
        return -ENOEXEC;
    memcpy(&h, buf, sizeof(h));
    /* Magic, 64-bit, little-endian, version 1. */
    if (memcmp(h.ident, "\177ELF\2\1\1", 7) != 0)
        return -ENOEXEC;
    if (h.machine != EM_X86_64 || (h.type != ET_EXEC && h.type != ET_DYN))
        return -ENOEXEC;
    if (h.phentsize != sizeof(struct elf_phdr_disk) || h.phnum == 0)
        return -ENOEXEC;
    bytes = (size_t)h.phnum * sizeof(struct elf_phdr_disk);
    if (bytes > ELF_MAX_PHDRS_BYTES)
        return -ENOEXEC;
    if (h.phoff > file_size || bytes > file_size - h.phoff)
        return -ENOEXEC;
    out->is_dyn = h.type == ET_DYN;
    out->entry = h.entry;
    out->phoff = h.phoff;
    out->phnum = h.phnum;
    *phdrs_bytes = bytes;
    return 0;
}

static int add_segment(struct elf_image *out, const struct elf_phdr_disk *p,
                       uint64_t file_size)
{
    struct elf_segment *s;
    const struct elf_segment *prev;

    if (p->memsz == 0)
        return 0;
    if (p->filesz > p->memsz || p->offset > file_size ||
        p->filesz > file_size - p->offset)
        return -ENOEXEC;
    if (p->vaddr >= ELF_MAX_SPAN || p->memsz > ELF_MAX_SPAN - p->vaddr)
        return -ENOEXEC;
    if (p->vaddr % ELF_PAGE != p->offset % ELF_PAGE && p->filesz != 0)
        return -ENOEXEC;
    if (out->nr_segments == ELF_MAX_SEGMENTS)
        return -ENOEXEC;
    if (out->nr_segments != 0) {
        prev = &out->segments[out->nr_segments - 1];
        if (p->vaddr < prev->vaddr + prev->memsz)
            return -ENOEXEC;
    }
    s = &out->segments[out->nr_segments++];
    s->vaddr = p->vaddr;
    s->offset = p->offset;
    s->filesz = p->filesz;
    s->memsz = p->memsz;
    s->flags = p->flags;
    if (p->align > out->max_align && (p->align & (p->align - 1)) == 0 &&
        p->align <= (1ul << 30))
        out->max_align = p->align;
    /* The headers are in memory when a segment's file part holds them. */
    if (out->phdr_vaddr == 0 && out->phoff >= p->offset &&
        out->phoff - p->offset < p->filesz)
        out->phdr_vaddr = p->vaddr + (out->phoff - p->offset);
    return 0;
}

int elf_parse_phdrs(const void *buf, size_t len, uint64_t file_size,
                    struct elf_image *out)
{
    struct elf_phdr_disk p;
    const struct elf_segment *last;
    int err;

    if (len < (size_t)out->phnum * sizeof(p))
        return -ENOEXEC;
    out->exec_stack = true;
    out->max_align = ELF_PAGE;
    for (unsigned i = 0; i < out->phnum; i++) {
        memcpy(&p, (const char *)buf + i * sizeof(p), sizeof(p));
        if (p.type == PT_LOAD) {
            err = add_segment(out, &p, file_size);
            if (err != 0)
                return err;
        } else if (p.type == PT_GNU_STACK) {
            out->exec_stack = (p.flags & PF_X) != 0;
        } else if (p.type == PT_INTERP && out->interp_size == 0) {
            if (p.filesz < 2 || p.filesz > 4096 || p.offset > file_size ||
                p.filesz > file_size - p.offset)
                return -ENOEXEC;
            out->interp_offset = p.offset;
            out->interp_size = p.filesz;
        }
    }
    if (out->nr_segments == 0)
        return -ENOEXEC;
    last = &out->segments[out->nr_segments - 1];
    out->start = page_down(out->segments[0].vaddr);
    out->end = page_up(last->vaddr + last->memsz);
    /* Page 0 is never mapped. */
    if (!out->is_dyn && out->start < ELF_PAGE)
        return -ENOEXEC;
    if (out->entry < out->start || out->entry >= out->end)
        return -ENOEXEC;
    return 0;
}

int elf_check_interp(const char *buf, size_t len)
{
    if (len < 2 || buf[len - 1] != '\0' || buf[0] == '\0')
        return -ENOEXEC;
    return 0;
}
