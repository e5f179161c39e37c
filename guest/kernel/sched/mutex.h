/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Sleeping mutual exclusion. Spins for about 2 us while the owner runs on
 * another CPU, then blocks; not recursive; the owner unlocks. Never taken in
 * interrupt handlers or under a spinlock. Order: lib/lock.h.
 *
 * struct rwlock: many readers or one writer, writers preferred.
 */
#pragma once

#include "sched/wait.h"

struct mutex {
    struct thread *owner; /* atomic, NULL = free */
    uint32_t nr_waiters;  /* atomic */
    struct waitq waiters;
#ifdef DEBUG
    uint8_t class; /* lockorder.h */
#endif
};

struct rwlock {
    struct spinlock lock;
    int readers;        /* -1: a writer */
    int writers_waiting;
    struct waitq waiters;
};

/* mutex.c */
void mutex_init(struct mutex *m);
void mutex_lock(struct mutex *m);
bool mutex_trylock(struct mutex *m);
void mutex_unlock(struct mutex *m);
bool mutex_is_mine(struct mutex *m);

void rwlock_init(struct rwlock *l);
void rwlock_read(struct rwlock *l);
void rwlock_read_done(struct rwlock *l);
void rwlock_write(struct rwlock *l);
void rwlock_write_done(struct rwlock *l);
