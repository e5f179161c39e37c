/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Names for --strace.
 */
#pragma once

#include "lib/types.h"

struct error_name {
    const char *name, *text;
};

/* errnames.c: err > 0; never NULL. */
const struct error_name *error_name(int64_t err);
