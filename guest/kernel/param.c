/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Boot parameters: the launcher's blob and the PVH command line
 * (docs/host-guest.md).
 */
#include "param.h"

#include "lib/errno.h"
#include "lib/printk.h"
#include "lib/string.h"
#include "mm/heap.h"

struct boot_params boot_params = {
    .cwd = "/", .hostname = "capstan", .rows = 24, .cols = 80, .cpus = 1};

static int parse_seed(const char *v)
{
    for (int i = 0; i < 32; i++) {
        const char *end;
        char two[3] = {v[0], v[0] ? v[1] : 0, 0};
        boot_params.seed[i] = (uint8_t)parse_number(two, &end, 16);
        if (end != two + 2)
            return -EINVAL;
        v += 2;
    }
    boot_params.has_seed = true;
    return *v ? -EINVAL : 0;
}

static int parse_winsize(const char *v)
{
    boot_params.rows = (uint16_t)parse_number(v, &v, 10);
    if (*v++ != 'x')
        return -EINVAL;
    boot_params.cols = (uint16_t)parse_number(v, &v, 10);
    return *v ? -EINVAL : 0;
}

static int parse_list(struct param_list *l, const char *value)
{
    if (l->nr == PARAM_LIST_MAX)
        return -E2BIG;
    l->values[l->nr++] = value;
    boot_params.net.is_wanted = true;
    return 0;
}

/* A user or group: a decimal number below 2^32 - 1, which means "none". */
static int parse_id(const char *v, uint32_t *out)
{
    const char *end;
    uint64_t id = parse_number(v, &end, 10);

    if (end == v || *end || end - v > 10 || id >= UINT32_MAX)
        return -EINVAL;
    *out = (uint32_t)id;
    return 0;
}

static int parse_user(const char *key, char *value)
{
    struct boot_params *b = &boot_params;

    if (!strcmp(key, "uid"))
        return parse_id(value, &b->uid);
    if (!strcmp(key, "gid"))
        return parse_id(value, &b->gid);
    if (strcmp(key, "group") != 0)
        return -ENOENT;
    if (b->nr_groups == PARAM_GROUPS_MAX)
        return -E2BIG;
    return parse_id(value, &b->groups[b->nr_groups++]);
}

static int parse_net(const char *key, char *value)
{
    struct boot_params *b = &boot_params;

    if (!strcmp(key, "ip"))
        return parse_list(&b->net.ip, value);
    if (!strcmp(key, "gateway"))
        return parse_list(&b->net.gateway, value);
    if (!strcmp(key, "dns"))
        return parse_list(&b->net.dns, value);
    if (!strcmp(key, "lan"))
        return parse_list(&b->net.lan, value);
    if (!strcmp(key, "host"))
        b->net.hosts[b->net.nr_hosts++] = value;
    else if (!strcmp(key, "domain"))
        b->net.domain = value;
    else
        return -ENOENT;
    return 0;
}

/* -ENOENT: not one of these. */
static int parse_run(const char *key, char *value)
{
    struct boot_params *b = &boot_params;

    if (!strcmp(key, "arg"))
        b->args[b->nr_args++] = value;
    else if (!strcmp(key, "env"))
        b->env[b->nr_env++] = value;
    else if (!strcmp(key, "exe"))
        b->exe = value;
    else if (!strcmp(key, "cwd"))
        b->cwd = value;
    else if (!strcmp(key, "hostname"))
        b->hostname = value;
    else if (!strcmp(key, "seed"))
        return parse_seed(value);
    else if (!strcmp(key, "winsize"))
        return parse_winsize(value);
    else if (!strcmp(key, "merge"))
        b->merge = value[0] == '1';
    else if (!strcmp(key, "irq-pulse"))
        b->irq_pulse = value[0] == '1';
    else if (!strcmp(key, "stats"))
        b->stats = value[0] == '1';
    else if (!strcmp(key, "strace"))
        b->strace = value[0] == '1';
    else if (!strcmp(key, "loglevel"))
        log_level = (int)parse_number(value, NULL, 10);
    else if (!strcmp(key, "time"))
        b->time = (nsec_t)parse_number(value, NULL, 10);
    else if (!strcmp(key, "tty"))
        for (; *value; value++)
            b->tty |= 1u << (*value & 3);
    else
        return -ENOENT;
    return 0;
}

int param_parse(char *blob, size_t len, const char **why)
{
    static int (*const parsers[])(const char *key, char *value) = {
        parse_run, parse_user, parse_net};
    size_t nr = 0;

    *why = "the parameters are damaged";
    if (len < 2 || blob[len - 1])
        return -EINVAL;
    for (size_t i = 0; i < len; i++)
        nr += blob[i] == 0;
    boot_params.args = kzalloc((nr + 1) * sizeof(char *));
    boot_params.env = kzalloc((nr + 1) * sizeof(char *));
    boot_params.net.hosts = kzalloc((nr + 1) * sizeof(char *));
    if (!boot_params.args || !boot_params.env || !boot_params.net.hosts)
        return -ENOMEM;
    if (strcmp(blob, "capstan-params=1")) {
        *why = "the parameters are of another version of capstan";
        return -EINVAL;
    }
    for (char *p = blob + strlen(blob) + 1; p < blob + len;) {
        char *next = p + strlen(p) + 1, *eq = strchr(p, '=');
        int err = -ENOENT;

        *why = p;
        if (!eq)
            return -EINVAL;
        *eq = 0;
        for (size_t i = 0; err == -ENOENT && i < ARRAY_SIZE(parsers); i++)
            err = parsers[i](p, eq + 1);
        if (err)
            return -EINVAL;
        p = next;
    }
    return 0;
}

static void parse_virtio(const char *v)
{
    /* SIZE@ADDR:IRQ */
    while (*v && *v != '@')
        v++;
    if (*v != '@' || boot_params.nr_virtio == ARRAY_SIZE(boot_params.virtio))
        return;
    v += v[1] == '0' && v[2] == 'x' ? 3 : 1;
    paddr_t base = parse_number(v, &v, 16);
    if (*v++ != ':')
        return;
    boot_params.virtio[boot_params.nr_virtio].base = base;
    boot_params.virtio[boot_params.nr_virtio++].irq =
        (uint32_t)parse_number(v, NULL, 10);
}

void param_parse_cmdline(char *s)
{
    while (*s) {
        while (*s == ' ')
            s++;
        char *word = s;
        while (*s && *s != ' ')
            s++;
        if (*s)
            *s++ = 0;
        if (!strncmp(word, "virtio_mmio.device=", 19))
            parse_virtio(word + 19);
        else if (!strcmp(word, "echo"))
            boot_params.echo = true;
        else if (!strcmp(word, "torture"))
            boot_params.torture = true;
        else if (!strncmp(word, "selftest=", 9))
            boot_params.selftest = word + 9;
        else if (!strncmp(word, "cpus=", 5))
            boot_params.cpus = (unsigned)parse_number(word + 5, NULL, 10);
        else if (!strncmp(word, "loglevel=", 9))
            log_level = (int)parse_number(word + 9, NULL, 10);
    }
}
