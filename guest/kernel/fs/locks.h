/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Advisory locks: flock(2), POSIX record locks and open-file-description
 * record locks (man 2 fcntl). All kinds are byte ranges with an owner; flock
 * covers everything and meets only flock.
 */
#pragma once

#include "fs/vfs.h"

#define F_RDLCK 0
#define F_WRLCK 1
#define F_UNLCK 2

enum lock_kind { LOCK_KIND_POSIX, LOCK_KIND_OFD, LOCK_KIND_FLOCK };

struct lock_request {
    enum lock_kind kind;
    int type;            /* F_RDLCK, ... */
    uint64_t start, end; /* end inclusive, ~0 >> 1 = to infinity */
    void *owner;         /* fdtable (POSIX) or file */
    int pid;             /* -1 for OFD */
};

/* Sets or (F_UNLCK) clears. -EAGAIN when taken and !wait, -EINTR, -ENOLCK. */
int inode_lock_set(struct inode *i, const struct lock_request *want,
                   bool wait);
/* What would be in the way, or type F_UNLCK. */
void inode_lock_test(struct inode *i, struct lock_request *want);
