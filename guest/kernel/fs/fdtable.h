/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What fcntl, dup and /proc/self/fd ask of the table beyond fs/vfs.h.
 */
#pragma once

#include "fs/vfs.h"

/* dup2, dup3: new_fd or -errno. */
int fd_dup_to(int old_fd, int new_fd, bool cloexec);
int fd_get_cloexec(int fd); /* 0, 1, -EBADF */
int fd_set_cloexec(int fd, bool cloexec);
/* The first open descriptor >= from, -1: none. */
int fdtable_next_open(struct fdtable *t, int from);
bool fdtable_is_cloexec(struct fdtable *t, int fd);
uint32_t fdtable_capacity(struct fdtable *t);
