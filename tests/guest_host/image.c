/* SPDX-License-Identifier: BSD-2-Clause */
#include "image.h"

#include "lib/errno.h"
#include "lib/string.h"

#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

static int image_read(void *dev, uint64_t offset, void *buf, size_t len)
{
    struct image *img = dev;

    if (img->fail_read == 1)
        return -EIO;
    if (img->fail_read)
        img->fail_read--;
    if (offset > img->size || len > img->size - offset)
        return -EIO;
    memcpy(buf, img->bytes + offset, len);
    return 0;
}

const struct zfs_vdev_ops image_ops = {.read = image_read};

void image_open(struct image *img, const char *path)
{
    struct stat st;
    int fd = open(path, O_RDONLY);

    if (fd < 0 || fstat(fd, &st)) {
        perror(path);
        exit(2);
    }
    img->size = (uint64_t)st.st_size;
    img->bytes = mmap(NULL, img->size, PROT_READ | PROT_WRITE, MAP_PRIVATE,
                      fd, 0);
    if (img->bytes == MAP_FAILED) {
        perror(path);
        exit(2);
    }
    img->fail_read = 0;
    close(fd);
}

void image_close(struct image *img)
{
    munmap(img->bytes, img->size);
}

struct zfs *image_mount(struct image *img, const char *dataset)
{
    char why[256];
    struct zfs *z;

    int err = zfs_open(&image_ops, img, img->size, dataset, &z, why,
                       sizeof(why));
    if (err) {
        fprintf(stderr, "zfs_open: %s: %s\n", strerror(-err), why);
        exit(1);
    }
    if (why[0])
        fprintf(stderr, "remark: %s\n", why);
    return z;
}
