/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * ELF64 x86-64 executables: headers as on disk, and what the loader needs to
 * know about them.
 *
 * - The functions here depend on nothing but bytes: they are also built for
 *   the host (tests/guest_host/test_elf.c).
 * - Every field is checked before use; a bad file is -ENOEXEC, never a crash.
 * - After a successful parse: segments are in ascending address order, do not
 *   overlap, lie inside [0, ELF_MAX_SPAN) and inside the file; alignment of
 *   offset and address agree modulo the page size.
 */
#pragma once

#include "lib/types.h"

#define ELF_MAX_SEGMENTS 32
#define ELF_MAX_PHDRS_BYTES 4096
#define ELF_MAX_SPAN (1ul << 46)
#define ELF_PAGE 4096ul

#define ET_EXEC 2
#define ET_DYN 3
#define EM_X86_64 62
#define PT_LOAD 1
#define PT_INTERP 3
#define PT_PHDR 6
#define PT_GNU_STACK 0x6474e551
#define PF_X 1
#define PF_W 2
#define PF_R 4

struct elf_ehdr_disk {
    uint8_t ident[16];
    uint16_t type, machine;
    uint32_t version;
    uint64_t entry, phoff, shoff;
    uint32_t flags;
    uint16_t ehsize, phentsize, phnum, shentsize, shnum, shstrndx;
};

struct elf_phdr_disk {
    uint32_t type, flags;
    uint64_t offset, vaddr, paddr, filesz, memsz, align;
};

_Static_assert(sizeof(struct elf_ehdr_disk) == 64, "ELF64 header");
_Static_assert(sizeof(struct elf_phdr_disk) == 56, "ELF64 program header");

struct elf_segment {
    uint64_t vaddr, offset, filesz, memsz;
    uint32_t flags; /* PF_* */
};

struct elf_image {
    bool is_dyn;           /* ET_DYN: may be placed anywhere */
    uint64_t entry;        /* before adding the load bias */
    uint64_t phoff;
    uint16_t phnum;
    uint64_t phdr_vaddr;   /* where the program headers will be, 0: nowhere */
    uint64_t interp_offset;
    uint64_t interp_size;  /* with its NUL; 0: none */
    bool exec_stack;       /* PT_GNU_STACK asks for it, or is absent */
    uint64_t max_align;    /* largest p_align, a power of two >= a page */
    unsigned nr_segments;
    struct elf_segment segments[ELF_MAX_SEGMENTS];
    uint64_t start, end;   /* page-aligned extent of all segments */
};

/* elf.c */
/* Checks the file header; *phdrs_bytes is what elf_parse_phdrs needs, to be
 * read at out->phoff. -ENOEXEC, -EINVAL. */
int elf_parse_header(const void *buf, size_t len, uint64_t file_size,
                     struct elf_image *out, size_t *phdrs_bytes);
/* Then the program headers. */
int elf_parse_phdrs(const void *buf, size_t len, uint64_t file_size,
                    struct elf_image *out);
/* The interpreter's path out of its bytes: must be NUL-terminated. */
int elf_check_interp(const char *buf, size_t len);
