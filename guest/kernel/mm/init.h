/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What main.c calls to set up memory.
 */
#pragma once

#include "lib/types.h"

/* page.c */
void page_add_memory(paddr_t start, paddr_t end);
void page_init(void);
