/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * proc_maps.c: /proc/PID/maps, smaps. The mm's lock is held over one pass.
 */
#include "fs/procfs.h"

#include "linux/task.h"

#define NAME_COLUMN 73u

static void show_name(struct sbuf *s, size_t line, const char *name)
{
    while (!s->err && s->len - line < NAME_COLUMN)
        sbuf_write(s, " ", 1);
    sbuf_printf(s, "%s", name);
}

static void show_vma(struct sbuf *s, const struct vma_info *v, char *path)
{
    uint64_t dev = 0, ino = 0;
    size_t line = s->len;

    if (v->inode) {
        dev = v->inode->sb ? v->inode->sb->dev : 0;
        ino = v->inode->ino;
    }
    sbuf_printf(s, "%08lx-%08lx %c%c%c%c %08lx %02x:%02x %lu ",
                (unsigned long)v->start, (unsigned long)v->end,
                v->prot & PROT_READ ? 'r' : '-',
                v->prot & PROT_WRITE ? 'w' : '-',
                v->prot & PROT_EXEC ? 'x' : '-', v->shared ? 's' : 'p',
                (unsigned long)v->offset, (unsigned)(dev >> 8 & 0xfff),
                (unsigned)(dev & 0xff), (unsigned long)ino);
    if (v->name)
        show_name(s, line, v->name);
    else if (v->file && v->file->dentry &&
             dentry_path(v->file->dentry, path, PATH_MAX) == 0)
        show_name(s, line, path);
    else if (v->inode && v->shared)
        show_name(s, line, "/dev/zero (deleted)");
    sbuf_write(s, "\n", 1);
}

struct smaps_sum {
    uint64_t size, rss;
};

static void show_smap(struct sbuf *s, const struct vma_info *v)
{
    unsigned long size = (v->end - v->start) / 1024, rss;

    rss = v->rss_pages == ~0ul ? 0 : v->rss_pages * 4;

    sbuf_printf(s, "Size:           %8lu kB\nKernelPageSize: %8u kB\n"
                "MMUPageSize:    %8u kB\n", size, 4, 4);
    sbuf_printf(s, "Rss:            %8lu kB\nPss:            %8lu kB\n", rss,
                rss);
    sbuf_printf(s, "Private_Clean:  %8lu kB\nPrivate_Dirty:  %8lu kB\n",
                v->file ? rss : 0, v->file ? 0 : rss);
    sbuf_printf(s, "Anonymous:      %8lu kB\nAnonHugePages:  %8u kB\n"
                "Swap:           %8u kB\n", v->file ? 0 : rss, 0, 0);
}

static int maps_walk(struct synth_inode *i, struct sbuf *s, bool is_smaps,
                     struct smaps_sum *sum)
{
    struct process *p;
    struct vma_info v;
    char *path = kmalloc(PATH_MAX);
    int err = path ? proc_process(i, &p) : -ENOMEM;

    if (err) {
        kfree(path);
        return err;
    }
    mutex_lock(&p->mm->lock);
    for (vaddr_t at = 0; mm_vma_at(p->mm, at, &v) && v.end > at; at = v.end) {
        if (sum) {
            sum->size += v.end - v.start;
            if (v.rss_pages != ~0ul)
                sum->rss += v.rss_pages * PAGE_SIZE;
            continue;
        }
        show_vma(s, &v, path);
        if (is_smaps)
            show_smap(s, &v);
    }
    mutex_unlock(&p->mm->lock);
    process_put(p);
    kfree(path);
    return 0;
}

int proc_show_maps(struct synth_inode *i, struct sbuf *s)
{
    return maps_walk(i, s, false, NULL);
}

int proc_show_smaps(struct synth_inode *i, struct sbuf *s)
{
    return maps_walk(i, s, true, NULL);
}

int proc_show_smaps_rollup(struct synth_inode *i, struct sbuf *s)
{
    struct smaps_sum sum = {0};
    int err = maps_walk(i, s, true, &sum);
    unsigned long rss = sum.rss / 1024;

    if (err)
        return err;
    sbuf_printf(s, "%08lx-%08lx ---p 00000000 00:00 0 ", USER_BOTTOM,
                USER_TOP);
    show_name(s, 0, "[rollup]\n");
    sbuf_printf(s, "Rss:            %8lu kB\nPss:            %8lu kB\n"
                "Swap:           %8u kB\n", rss, rss, 0);
    return 0;
}
