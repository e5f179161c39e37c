/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What main.c calls to set up memory.
 */
#pragma once

#include "lib/types.h"

/* page.c */
void page_add_memory(paddr_t start, paddr_t end);
void page_init(void);
/* The address of what the firmware left at `p`, which may lie outside of the
 * part of the direct map that exists at start. NULL: no memory. */
const void *page_map_boot_data(paddr_t p, size_t len);
