/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Start-up: who is called in which order (main.c).
 */
#pragma once

#include "lib/types.h"

void kmain(void) __noreturn;
