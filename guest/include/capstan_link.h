/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What a linked file and the guest agree on: where a stub jumps to, and how a
 * program counter inside a stub is translated back.
 *
 * `capstan/build/link/` writes these structures (table.py has the same numbers, a
 * unit test compares them), the guest reads them. All values are little-endian.
 * C and assembler include this file; the types are for C only.
 *
 * The way in. A stub ends in `lea site+2(%rip),%rcx; jmp *cell`, the cell being
 * an absolute address in the top 2 GiB, sign-extended from 32 bits:
 *
 * - cell 0, at CAPSTAN_CELLS: the entry for any call, the number is in rax;
 * - cell 1 + n: the entry for call number n. eax holds n there too (as the
 *   program left it: the upper half of rax is whatever it was).
 *
 * At the cell's target: rcx is the address after the `syscall`, all other
 * registers, the flags and the 128 bytes below rsp are the program's. The guest
 * returns by jumping to rcx; to restart the call it goes to rcx - 2, where there
 * is a `syscall` (classes A and W) or a jump that leads to the same stub (P).
 * Cells are read-only for the program and must exist before its first instruction.
 *
 * The way back. A linked file has, in one of its executable PT_LOAD segments,
 * the stubs, after them the table of places, and in the segment's last 64 bytes
 * the trailer. That segment's end (p_vaddr + p_filesz = p_vaddr + p_memsz, and
 * p_offset + p_filesz) is a multiple of 4096 in memory and in the file, so the
 * trailer is also the last 64 bytes of the mapping that ld.so or the kernel makes
 * of it. The magic decides whether a segment has one; `check` whether to believe
 * it. At most one segment of a file has a trailer.
 *
 * Addresses are 32-bit offsets from the image's base: the page of the lowest
 * PT_LOAD. With the trailer seen at address T, the base is T - trailer.self.
 *
 * The table is sorted by `at`; places do not overlap. To translate a program
 * counter `pc` (as offset from the base), when low <= pc < high, find the last place
 * with at <= pc; if pc < at + size, by class:
 *
 *   A, W  pc - at < window ? site - copied          (the jump: begin again)
 *         pc - at < copied ? site - copied + (pc - at)  (as in the text)
 *                          : site
 *   P     site
 *   HOP   site              (a jump in dead padding, on the way from a P site)
 *   TRAP  at                (a `hlt`, `in` or `out` that became int3: below)
 *
 * anything else is not translated. Registers need no change, and going on at the
 * translated address is correct. Each translated address is an instruction of the
 * original file.
 *
 * TRAP: at the privilege level of the guest these instructions would not fault,
 * so their first byte is replaced by int3 (0xcc). A breakpoint trap whose address
 * (rip - 1) is a TRAP place is what Linux does for the privileged instruction: SIGSEGV
 * with rip = the place, si_code SI_KERNEL, si_addr 0. Other breakpoint traps are
 * SIGTRAP as ever.
 */
#pragma once

#define CAPSTAN_CELLS 0xffffffff80100000
#define CAPSTAN_CELL_NUMBERS 512 /* cells 1 .. 512: calls 0 .. 511 */

#define CAPSTAN_LINK_MAGIC "CAPLINK" /* with its final zero: 8 bytes */
#define CAPSTAN_LINK_VERSION 1
#define CAPSTAN_LINK_TRAILER_SIZE 64
#define CAPSTAN_LINK_PLACE_SIZE 16

/* flavour: only CAPSTAN_LINK_GUEST belongs into an image. */
#define CAPSTAN_LINK_GUEST 0
#define CAPSTAN_LINK_NATIVE_PC 1
#define CAPSTAN_LINK_NATIVE_ABI 2

/* class */
#define CAPSTAN_LINK_A 1
#define CAPSTAN_LINK_W 2
#define CAPSTAN_LINK_P 3
#define CAPSTAN_LINK_HOP 4
#define CAPSTAN_LINK_TRAP 5

#define CAPSTAN_LINK_NO_NUMBER 0xffff

#ifndef __ASSEMBLER__
#include <stdint.h>

struct capstan_link_place {
    uint32_t at;    /* first byte of the stub, hop or trap */
    uint32_t site;  /* the `syscall`; for TRAP: the same as at */
    uint8_t size;   /* of the whole stub; a hop is 2 or 5, a trap 1 or 2 bytes */
    uint8_t copied; /* bytes of the program's instructions in front; A, W only.
                     * They come from [site - copied, site), one to one. */
    uint8_t class;
    uint8_t window; /* bytes of those that the jump in the text replaced */
    uint16_t number; /* of the call, or CAPSTAN_LINK_NO_NUMBER */
    uint16_t zero;
};

struct capstan_link_trailer {
    char magic[8];
    uint32_t version;
    uint32_t flavour;
    uint32_t self;       /* where this structure is */
    uint32_t table;      /* where the places are */
    uint32_t places;     /* how many */
    uint32_t low, high;  /* all places are in [low, high) */
    uint32_t stubs;      /* [stubs, table): the stubs' code, in this segment */
    uint32_t linked;     /* sites that became jumps */
    uint32_t restorers;  /* sites that must stay: rt_sigreturn */
    uint32_t left;       /* sites that stay because they cannot be linked */
    uint32_t traps;      /* places of class TRAP */
    uint32_t zero;
    uint32_t check; /* CRC-32 (IEEE 802.3) of [table, self), followed by this
                     * structure up to here */
};

_Static_assert(sizeof(struct capstan_link_place) == CAPSTAN_LINK_PLACE_SIZE,
               "layout of a place");
_Static_assert(sizeof(struct capstan_link_trailer) == CAPSTAN_LINK_TRAILER_SIZE,
               "layout of the trailer");
#endif
