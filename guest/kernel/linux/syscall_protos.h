/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Prototypes of all system-call handlers, generated from the table.
 */
#pragma once

#include "lib/types.h"
#include "linux/syscall.h"

#define SYSCALL(nr, name, handler, level, nr_args, formats, note)        \
    int64_t handler(uint64_t, uint64_t, uint64_t, uint64_t, uint64_t, \
                    uint64_t);
#include "linux/syscalls.def"
#undef SYSCALL
