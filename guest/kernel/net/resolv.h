/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What programs look up in files: name servers and host names as they were
 * given by the launcher, DHCP or routers, and the text of /etc/resolv.conf and
 * /etc/hosts.
 *
 * Locks: dns_config.lock, innermost.
 */
#pragma once

#include "net/netstack.h"

#define DNS_MAX_SERVERS 3u /* what libc reads (man 5 resolv.conf) */
#define DNS_DOMAIN_MAX 256u

struct dns_config {
    struct spinlock lock;
    /* --- protected by lock --- */
    struct net_addr servers[DNS_MAX_SERVERS];
    uint32_t nr_servers;
    char domain[DNS_DOMAIN_MAX];
    /* --- atomic --- */
    uint32_t gen; /* changes when the files' text does */
    void (*changed)(void); /* called after that, in any context; or NULL */
};

/* resolv.c */
int dns_init(struct netstack *net) __must_check;
void dns_destroy(struct netstack *net);
void dns_clear(struct netstack *net);
void dns_on_change(struct netstack *net, void (*changed)(void));
uint32_t dns_generation(struct netstack *net);
/* Ignored when known or when there are enough. */
void dns_add_server(struct netstack *net, const struct net_addr *server);
/* Borrows n bytes; ignored unless they are a plain domain name. */
void dns_set_domain(struct netstack *net, const uint8_t *name, size_t n);
/* Write text, always terminated; return its length (snprintf's rule). */
size_t dns_resolv_conf(struct netstack *net, char *buf, size_t size);
size_t dns_hosts(struct netstack *net, const char *hostname, char *buf,
                 size_t size);
