/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The "#!" line of a script.
 */
#pragma once

#include "lib/types.h"

#define EXEC_HEAD_SIZE 256 /* bytes looked at, as on Linux */

/* script.c: the interpreter and its optional argument (NULL: none), cut in
 * place; head has room for len + 1 bytes. -ENOEXEC when it is not a script,
 * or a bad one. */
int script_parse(char *head, size_t len, char **interp, char **arg);
