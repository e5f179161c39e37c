/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * /etc/hosts and /etc/resolv.conf; see kernel_config.h.
 *
 * Name servers may become known after the start: a DHCP server that was late,
 * a router. A thread then writes /etc/resolv.conf again (libc looks at its
 * time), for as long as its text is the one written last: a program that puts
 * its own there keeps it.
 */
#include "drivers/drivers.h"
#include "fs/vfs.h"
#include "lib/errno.h"
#include "lib/printk.h"
#include "lib/string.h"
#include "mm/heap.h"
#include "net/kernel_config.h"
#include "net/resolv.h"
#include "param.h"
#include "sched/thread.h"
#include "sched/wait.h"

#define FILE_BYTES 1024u
#define RESOLV_CONF "/etc/resolv.conf"

static struct {
    /* --- own lock --- */
    struct waitq changed;
    /* --- init, then the thread only --- */
    struct netstack *net;
    char text[FILE_BYTES]; /* as written last */
} resolv;

static int write_file(const char *path, char *text, uint32_t more_flags)
{
    struct iov_iter it;
    size_t n = strlen(text);
    struct file *f;
    off_t pos = 0;
    ssize_t done;
    int err = vfs_open(NULL, path, O_WRONLY | more_flags, 0644, &f);

    if (err)
        return err;
    iter_init_kernel(&it, text, n);
    done = file_write(f, &it, &pos);
    file_put(f);
    return done == (ssize_t)n ? 0 : done < 0 ? (int)done : -EIO;
}

/* Is the file the one this thread wrote? */
static bool is_ours(void)
{
    char now[FILE_BYTES];
    struct iov_iter it;
    struct file *f;
    off_t pos = 0;
    ssize_t n;

    if (vfs_open(NULL, RESOLV_CONF, O_RDONLY, 0, &f))
        return false;
    iter_init_kernel(&it, now, sizeof(now));
    n = file_read(f, &it, &pos);
    file_put(f);
    return n == (ssize_t)strlen(resolv.text) &&
           !memcmp(now, resolv.text, (size_t)n);
}

static void make_text(void)
{
    dns_resolv_conf(resolv.net, resolv.text, sizeof(resolv.text));
}

static void dns_changed(void)
{
    wait_wake(&resolv.changed, 1);
}

static void resolv_thread(void *arg)
{
    uint32_t seen = (uint32_t)(uintptr_t)arg;
    int err = 0;

    while (!err) {
        wait_event(&resolv.changed, dns_generation(resolv.net) != seen, 0,
                   NO_DEADLINE);
        seen = dns_generation(resolv.net);
        if (!is_ours())
            thread_exit();
        make_text();
        err = write_file(RESOLV_CONF, resolv.text, O_TRUNC);
    }
    klog(LOG_ERROR, "network: " RESOLV_CONF ": error %d", -err);
    thread_exit();
}

/* Without a card: names for loopback, without making a stack for them. */
static void loopback_hosts(char *text, size_t size)
{
    snprintf(text, size,
             "127.0.0.1\tlocalhost\n"
             "::1\tlocalhost ip6-localhost ip6-loopback\n"
             "127.0.1.1\t%s\n",
             boot_params.hostname);
}

/* With names from the launcher the file is ours, whatever the image has. */
static int write_hosts(struct netstack *net)
{
    size_t size = FILE_BYTES, n;
    char *text;
    int err;

    for (size_t i = 0; i < boot_params.net.nr_hosts; i++)
        size += strlen(boot_params.net.hosts[i]) + 1;
    text = kzalloc(size);
    if (!text)
        return -ENOMEM;
    if (net)
        dns_hosts(net, boot_params.hostname, text, FILE_BYTES);
    else
        loopback_hosts(text, FILE_BYTES);
    for (size_t i = 0; i < boot_params.net.nr_hosts; i++) {
        n = strlen(text);
        snprintf(text + n, size - n, "%s\n", boot_params.net.hosts[i]);
    }
    err = write_file("/etc/hosts", text,
                     O_CREAT | (boot_params.net.nr_hosts ? O_TRUNC : O_EXCL));
    kfree(text);
    return err;
}

/* dhcp and auto are words, addresses have a slash. */
static bool addresses_may_change(void)
{
    for (unsigned i = 0; i < boot_params.net.ip.nr; i++)
        if (!strchr(boot_params.net.ip.values[i], '/'))
            return true;
    return false;
}

static int write_resolv_conf(struct netstack *net)
{
    uint32_t seen = dns_generation(net);
    int err;

    resolv.net = net;
    make_text();
    err = write_file(RESOLV_CONF, resolv.text, O_CREAT | O_EXCL);
    if (err)
        return err;
    if (!addresses_may_change())
        return 0;
    waitq_init(&resolv.changed);
    dns_on_change(net, dns_changed);
    if (!kthread_create("resolv", resolv_thread, (void *)(uintptr_t)seen))
        return -ENOMEM;
    return 0;
}

void net_write_files(struct netstack *net)
{
    struct dentry *etc;
    int err = vfs_mknod(NULL, "/etc", S_IFDIR | 0755, 0, &etc);

    if (!err)
        dentry_put(etc);
    err = write_hosts(net);
    if (net && (!err || err == -EEXIST))
        err = write_resolv_conf(net);
    if (err && err != -EEXIST)
        klog(LOG_ERROR, "network: /etc/hosts or " RESOLV_CONF ": error %d",
             -err);
}
