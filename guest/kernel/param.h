/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Boot parameters, as the launcher gave them (docs/host-guest.md). Strings
 * live as long as the kernel.
 */
#pragma once

#include "lib/types.h"

#define PARAM_LIST_MAX 4u
#define PARAM_GROUPS_MAX 32u
struct param_list { /* of a key that may be repeated */
    const char *values[PARAM_LIST_MAX];
    unsigned nr;
};

struct boot_params {
    char **args;  /* NULL-terminated */
    char **env;   /* NULL-terminated */
    size_t nr_args, nr_env;
    const char *exe;      /* or NULL */
    const char *cwd;
    const char *hostname;
    uint32_t uid, gid; /* of the program */
    uint32_t groups[PARAM_GROUPS_MAX];
    unsigned nr_groups;
    uint32_t tty;         /* bit n: descriptor n is a terminal */
    bool merge;           /* stderr goes through stdout's port */
    uint16_t rows, cols;
    uint8_t seed[32];
    bool has_seed;
    bool stats;
    bool strace;
    bool irq_pulse; /* lines of virtio-mmio need no InterruptACK */
    nsec_t time;          /* since 1970, when the launcher started QEMU */
    unsigned cpus;
    struct {
        bool is_wanted; /* there is a card */
        struct param_list ip, gateway, dns;
        const char *domain; /* or NULL */
        struct param_list lan; /* cards of their own: MAC ADDRESS/BITS */
        const char **hosts; /* ADDRESS NAME..., for /etc/hosts */
        size_t nr_hosts;
    } net;
    /* from the command line */
    bool torture;
    bool echo; /* CAPSTAN_CALL_ECHO may be used */
    const char *selftest; /* or NULL */
    struct {
        paddr_t base;
        uint32_t irq;
    } virtio[32];
    unsigned nr_virtio;
};

extern struct boot_params boot_params;
/* param.c: `blob` is kernel memory that stays. 0 or -EINVAL with *why. */
int param_parse(char *blob, size_t len, const char **why);
void param_parse_cmdline(char *cmdline);
