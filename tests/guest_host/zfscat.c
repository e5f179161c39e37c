/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * zfscat IMAGE DATASET dump        every file and its contents, for run.py
 * zfscat IMAGE DATASET bench N     walks and reads all N times, prints speed
 * zfscat IMAGE DATASET boot PATH   reads one file, prints device reads
 *
 * The dump is a row of records: one line of JSON-free text
 * "PATH\tOBJ\tTYPE\tMODE\tUID\tGID\tSIZE\tLINKS\tRDEV\tMTIME\tNSEC\tBYTES\n"
 * and BYTES bytes (contents, or a link's target).
 */
#include "image.h"

#include "lib/errno.h"
#include "lib/string.h"
#include "mm/heap.h"

#include <stdlib.h>
#include <time.h>

#define READ_BYTES (512u << 10)
#define MAX_PATH 4096

struct walk {
    struct zfs *z;
    bool is_dump;
    char *buf;
    uint64_t bytes, files;
};

static void die(const char *what, const char *path, int err)
{
    fprintf(stderr, "%s %s: %s\n", what, path, strerror(-err));
    exit(1);
}

static void print_entry(const char *path, const struct zfs_attr *a,
                        uint8_t type, uint64_t bytes)
{
    printf("%s\t%lu\t%u\t%o\t%u\t%u\t%lu\t%lu\t%lu\t%ld\t%u\t%lu\n", path,
           a->obj, type, a->mode, a->uid, a->gid, a->size, a->links, a->rdev,
           a->mtime.sec, a->mtime.nsec, bytes);
}

static void visit_file(struct walk *w, const char *path,
                       const struct zfs_attr *a, uint8_t type)
{
    if (w->is_dump)
        print_entry(path, a, type, a->size);
    for (uint64_t at = 0; at < a->size;) {
        ssize_t n = zfs_read(w->z, a->obj, at, w->buf, READ_BYTES);
        if (n <= 0)
            die("read", path, (int)n);
        if (w->is_dump)
            fwrite(w->buf, 1, (size_t)n, stdout);
        at += (uint64_t)n;
        w->bytes += (uint64_t)n;
    }
    w->files++;
}

static void visit_link(struct walk *w, const char *path,
                       const struct zfs_attr *a, uint8_t type)
{
    size_t len;

    int err = zfs_readlink(w->z, a->obj, w->buf, READ_BYTES, &len);
    if (err)
        die("readlink", path, err);
    if (w->is_dump) {
        print_entry(path, a, type, len);
        fwrite(w->buf, 1, len, stdout);
    }
}

static void visit_dir(struct walk *w, const char *path, uint64_t dir)
{
    struct zfs_dirent *e = malloc(sizeof(*e));
    uint64_t cursor = 0, found;
    struct zfs_attr a;
    int err;

    while ((err = zfs_readdir(w->z, dir, &cursor, e)) == 0) {
        char *sub = malloc(MAX_PATH);
        snprintf(sub, MAX_PATH, "%s/%s", path, e->name);
        err = zfs_lookup(w->z, dir, e->name, e->name_len, &found);
        if (err || found != e->obj)
            die("lookup", sub, err);
        err = zfs_getattr(w->z, e->obj, &a);
        if (err)
            die("getattr", sub, err);
        switch (a.mode & 0170000) {
        case 0040000:
            if (w->is_dump)
                print_entry(sub, &a, e->type, 0);
            visit_dir(w, sub, e->obj);
            break;
        case 0100000:
            visit_file(w, sub, &a, e->type);
            break;
        case 0120000:
            visit_link(w, sub, &a, e->type);
            break;
        default:
            if (w->is_dump)
                print_entry(sub, &a, e->type, 0);
        }
        free(sub);
    }
    if (err != -ENOENT)
        die("readdir", path, err);
    free(e);
}

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static void bench(struct image *img, const char *dataset, int rounds)
{
    struct walk w = {.buf = malloc(READ_BYTES)};
    double best = 1e9, best_open = 1e9;
    struct zfs_stats s;

    for (int i = 0; i < rounds; i++) {
        double start = now();
        w.z = image_mount(img, dataset);
        double opened = now();
        w.bytes = w.files = 0;
        visit_dir(&w, ".", zfs_root(w.z));
        best = MIN(best, now() - opened);
        best_open = MIN(best_open, opened - start);
        zfs_get_stats(w.z, &s);
        zfs_close(w.z);
    }
    printf("open %.3f ms; walk: %lu files, %lu bytes in %.2f ms (%.0f MB/s), "
           "%lu device reads of %lu bytes\n", best_open * 1e3, w.files,
           w.bytes, best * 1e3, (double)w.bytes / best / 1e6, s.dev_reads,
           s.dev_bytes);
    free(w.buf);
}

static void show(struct zfs *z, const char *what)
{
    struct zfs_stats s;

    zfs_get_stats(z, &s);
    printf("%s: %lu device reads, %lu KiB, %lu blocks, heap peak %lu KiB\n",
           what, s.dev_reads, s.dev_bytes >> 10, s.blocks,
           shim_peak_bytes >> 10);
}

static void boot(struct image *img, const char *dataset, char *path)
{
    struct zfs *z = image_mount(img, dataset);
    char *buf = malloc(READ_BYTES);
    uint64_t obj = zfs_root(z);
    struct zfs_attr a;

    show(z, "open");
    for (char *part = strtok(path, "/"); part; part = strtok(NULL, "/")) {
        int err = zfs_lookup(z, obj, part, strlen(part), &obj);
        if (err)
            die("lookup", part, err);
    }
    if (zfs_getattr(z, obj, &a))
        die("getattr", path, -EIO);
    show(z, "lookup");
    for (uint64_t at = 0; at < a.size; at += READ_BYTES)
        if (zfs_read(z, obj, at, buf, READ_BYTES) < 0)
            die("read", path, -EIO);
    show(z, "read");
    zfs_close(z);
    free(buf);
}

int main(int argc, char **argv)
{
    struct walk w = {.is_dump = true};
    struct image img;

    if (argc < 4) {
        fprintf(stderr, "usage: zfscat IMAGE DATASET dump|bench|boot [ARG]\n");
        return 2;
    }
    image_open(&img, argv[1]);
    if (strcmp(argv[3], "bench") == 0) {
        bench(&img, argv[2], argc > 4 ? atoi(argv[4]) : 5);
    } else if (strcmp(argv[3], "boot") == 0 && argc > 4) {
        boot(&img, argv[2], argv[4]);
    } else {
        w.z = image_mount(&img, argv[2]);
        w.buf = malloc(READ_BYTES);
        visit_dir(&w, ".", zfs_root(w.z));
        printf("\tflags\t%u\n", zfs_flags(w.z));
        zfs_close(w.z);
        free(w.buf);
    }
    image_close(&img);
    return 0;
}
