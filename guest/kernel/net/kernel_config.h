/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What the launcher said about the network (boot_params.net), put into force.
 *
 * Layers below: net/route.h, net/dhcp.h, net/resolv.h, fs. Above: net/kernel.c.
 * The launcher has checked the values; what is wrong all the same is told to
 * the user as a message and left out.
 */
#pragma once

#include "net/netif.h"

/* kernel_config.c */

/* Addresses, routes and name servers of the card, or, for the one that `lan`
 * names, its address there. Waits for a DHCP server, a
 * few seconds at most, when the address comes from one; for a router when
 * there is nobody else to give one. Sleeps. */
void net_configure(struct netif *card);

/* kernel_files.c */

/* /etc/hosts and /etc/resolv.conf, each unless the image has one; without a
 * stack (NULL) only the first. Sleeps. */
void net_write_files(struct netstack *net);
