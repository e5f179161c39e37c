/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Small servers over the stack, as a program with an event loop would have
 * them: echo (7), discard (9), chargen (19), http (80), on TCP, and echo on
 * UDP 7. For tapd.c and the simulator.
 */
#pragma once

#include "net/host.h"
#include "net/tcp.h"
#include "net/udp.h"

struct services;

/* services.c */
/* Listens on `addr` (any: both families). Returns owned. */
struct services *services_start(struct netstack *net);
/* Serves every socket something happened to; true: something was done. */
bool services_run(struct services *sv);
void services_stop(struct services *sv);
uint32_t services_open(const struct services *sv); /* connections */
