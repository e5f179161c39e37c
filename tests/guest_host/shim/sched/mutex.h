/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Host version of the guest's sched/mutex.h over pthreads; checks that
 * mutexes are not taken twice and are released by their owner.
 */
#pragma once

#include "lib/types.h"

#include <pthread.h>

struct mutex {
    pthread_mutex_t m;
};

/* shim.c */
void mutex_init(struct mutex *m);
void mutex_lock(struct mutex *m);
bool mutex_trylock(struct mutex *m);
void mutex_unlock(struct mutex *m);
