/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * fdtable.c: descriptors of a process.
 *
 * A spinlock protects the arrays; fd_get is one lock and one reference. Arrays
 * grow by doubling; the words of `open` and `cloexec` are bitmaps. `hint` is
 * below or at the lowest free descriptor.
 */
#include "fs/fdtable.h"

#include "fs/fs_internal.h"
#include "linux/task.h"

#define FIRST_CAPACITY 64u
#define MAX_CAPACITY (1u << 20)
#define RLIMIT_NOFILE 7
#define BIT(n) (1ul << ((n) % 64))

struct fdtable {
    uint32_t refcount; /* atomic */
    struct spinlock lock;
    /* --- protected by lock --- */
    uint32_t capacity; /* a multiple of 64 */
    uint32_t hint;
    struct file **files;
    uint64_t *open, *cloexec; /* in the same allocation */
};

static size_t arrays_size(uint32_t capacity)
{
    return capacity * sizeof(struct file *) + 2 * (capacity / 8);
}

static void arrays_set(struct fdtable *t, void *mem, uint32_t capacity)
{
    t->files = mem;
    t->open = (uint64_t *)(t->files + capacity);
    t->cloexec = t->open + capacity / 64;
    t->capacity = capacity;
}

static int fdtable_alloc(uint32_t capacity, struct fdtable **out)
{
    struct fdtable *t = kzalloc(sizeof(*t));
    void *mem = kzalloc(arrays_size(capacity));

    if (!t || !mem) {
        kfree(t);
        kfree(mem);
        return -ENOMEM;
    }
    t->refcount = 1;
    arrays_set(t, mem, capacity);
    *out = t;
    return 0;
}

int fdtable_create(struct fdtable **out)
{
    return fdtable_alloc(FIRST_CAPACITY, out);
}

int fdtable_copy(struct fdtable *t, struct fdtable **out)
{
    struct fdtable *n;
    uint32_t capacity = t->capacity;

    int err = fdtable_alloc(capacity, &n);
    if (err)
        return err;
    spin_lock(&t->lock);
    while (t->capacity > capacity) {
        capacity = t->capacity;
        spin_unlock(&t->lock);
        fdtable_put(n);
        err = fdtable_alloc(capacity, &n);
        if (err)
            return err;
        spin_lock(&t->lock);
    }
    for (uint32_t fd = 0; fd < t->capacity; fd++) {
        n->files[fd] = t->files[fd];
        if (n->files[fd])
            file_get(n->files[fd]);
    }
    memcpy(n->open, t->open, t->capacity / 8);
    memcpy(n->cloexec, t->cloexec, t->capacity / 8);
    n->hint = t->hint;
    spin_unlock(&t->lock);
    /* A descriptor being reserved has a bit but no file yet. */
    for (uint32_t fd = 0; fd < capacity; fd++)
        if (!n->files[fd])
            n->open[fd / 64] &= ~BIT(fd);
    n->hint = 0;
    *out = n;
    return 0;
}

void fdtable_get(struct fdtable *t)
{
    atomic_add(&t->refcount, 1u);
}

void fdtable_put(struct fdtable *t)
{
    if (atomic_sub(&t->refcount, 1u) != 0)
        return;
    for (uint32_t fd = 0; fd < t->capacity; fd++) {
        if (t->files[fd]) {
            file_close_locks(t->files[fd], t);
            file_put(t->files[fd]);
        }
    }
    kfree(t->files);
    kfree(t);
}

struct fdtable *current_fds(void)
{
    struct process *p = fs_process();

    return p ? p->fds : NULL;
}

struct file *fdtable_get_file(struct fdtable *t, int fd)
{
    struct file *f = NULL;

    if (!t)
        return NULL;
    spin_lock(&t->lock);
    if ((uint32_t)fd < t->capacity) {
        f = t->files[fd];
        if (f)
            file_get(f);
    }
    spin_unlock(&t->lock);
    return f;
}

struct file *fd_get(int fd)
{
    return fdtable_get_file(current_fds(), fd);
}

/* Room for descriptor fd. The lock is held, and is released in between. */
static int fdtable_grow(struct fdtable *t, uint32_t fd)
{
    while (fd >= t->capacity) {
        uint32_t capacity = t->capacity, n = capacity;
        while (n <= fd)
            n *= 2;
        spin_unlock(&t->lock);
        void *mem = kzalloc(arrays_size(n)), *old = mem;
        spin_lock(&t->lock);
        if (!mem)
            return -ENOMEM;
        if (t->capacity == capacity) {
            struct fdtable was = *t;
            old = was.files;
            arrays_set(t, mem, n);
            memcpy(t->files, was.files, capacity * sizeof(struct file *));
            memcpy(t->open, was.open, capacity / 8);
            memcpy(t->cloexec, was.cloexec, capacity / 8);
        }
        kfree(old); /* the old arrays, or ours if somebody was faster */
    }
    return 0;
}

static uint32_t fdtable_lowest_free(struct fdtable *t, uint32_t min)
{
    uint32_t fd = MAX(min, t->hint);

    while (fd < t->capacity) {
        uint64_t taken = t->open[fd / 64] | (BIT(fd) - 1);
        if (~taken)
            return ALIGN_DOWN(fd, 64u) + __builtin_ctzll(~taken);
        fd = ALIGN_DOWN(fd, 64u) + 64;
    }
    return fd;
}

static uint64_t fd_limit(void)
{
    struct process *p = fs_process();
    uint64_t limit = p ? p->rlimits[RLIMIT_NOFILE].cur : MAX_CAPACITY;

    return MIN(limit, MAX_CAPACITY);
}

static void fdtable_set(struct fdtable *t, uint32_t fd, struct file *f,
                        bool cloexec)
{
    t->files[fd] = f;
    t->open[fd / 64] |= BIT(fd);
    t->cloexec[fd / 64] &= ~BIT(fd);
    if (cloexec)
        t->cloexec[fd / 64] |= BIT(fd);
}

int fdtable_install(struct fdtable *t, struct file *f, int min, bool cloexec)
{
    uint64_t limit = fd_limit();
    uint32_t fd;
    int err;

    if (!t)
        return -EMFILE;
    spin_lock(&t->lock);
    do {
        fd = fdtable_lowest_free(t, min);
        err = fd >= limit ? -EMFILE
              : fd >= t->capacity ? fdtable_grow(t, fd) : 0;
    } while (!err && (t->open[fd / 64] & BIT(fd)));
    if (!err) {
        fdtable_set(t, fd, f, cloexec);
        if ((uint32_t)min <= t->hint)
            t->hint = fd + 1;
    }
    spin_unlock(&t->lock);
    return err ? err : (int)fd;
}

int fd_install(struct file *f, int min, bool cloexec)
{
    return fdtable_install(current_fds(), f, min, cloexec);
}

/* Its bit is set, its file NULL: nobody else gets it, nobody finds it. */
int fd_reserve(bool cloexec)
{
    return fdtable_install(current_fds(), NULL, 0, cloexec);
}

void fd_fill(int fd, struct file *f)
{
    struct fdtable *t = current_fds();

    spin_lock(&t->lock);
    t->files[fd] = f;
    spin_unlock(&t->lock);
}

/* Frees the slot. REQUIRES(t->lock) */
static void fdtable_clear(struct fdtable *t, uint32_t fd)
{
    t->files[fd] = NULL;
    t->open[fd / 64] &= ~BIT(fd);
    t->cloexec[fd / 64] &= ~BIT(fd);
    if (fd < t->hint)
        t->hint = fd;
}

void fd_unreserve(int fd)
{
    struct fdtable *t = current_fds();

    spin_lock(&t->lock);
    fdtable_clear(t, (uint32_t)fd);
    spin_unlock(&t->lock);
}

/* Takes the file out of the table: Returns owned, NULL when fd is closed. */
static struct file *fdtable_remove(struct fdtable *t, uint32_t fd)
{
    struct file *f = NULL;

    spin_lock(&t->lock);
    if (fd < t->capacity && t->files[fd]) {
        f = t->files[fd];
        fdtable_clear(t, fd);
    }
    spin_unlock(&t->lock);
    return f;
}

int fd_close(int fd)
{
    struct fdtable *t = current_fds();
    struct file *f = t ? fdtable_remove(t, fd) : NULL;

    if (!f)
        return -EBADF;
    file_close_locks(f, t);
    file_put(f);
    return 0;
}

void fdtable_close_on_exec(struct fdtable *t)
{
    for (uint32_t fd = 0; fd < t->capacity; fd++) {
        if (!(t->cloexec[fd / 64] & BIT(fd)))
            continue;
        struct file *f = fdtable_remove(t, fd);
        if (f) {
            file_close_locks(f, t);
            file_put(f);
        }
    }
}

void fdtable_close_all(struct fdtable *t)
{
    for (uint32_t fd = 0; fd < t->capacity; fd++) {
        struct file *f = fdtable_remove(t, fd);

        if (f) {
            file_close_locks(f, t);
            file_put(f);
        }
    }
}

int fd_dup_to(int old_fd, int new_fd, bool cloexec)
{
    struct fdtable *t = current_fds();
    struct file *f, *was;
    int err;

    if (new_fd < 0 || (uint64_t)new_fd >= fd_limit())
        return -EBADF;
    f = fd_get(old_fd);
    if (!f)
        return -EBADF;
    spin_lock(&t->lock);
    err = fdtable_grow(t, new_fd);
    if (err) {
        spin_unlock(&t->lock);
        file_put(f);
        return err;
    }
    was = t->files[new_fd];
    if (!was && (t->open[new_fd / 64] & BIT(new_fd))) { /* reserved */
        spin_unlock(&t->lock);
        file_put(f);
        return -EBUSY;
    }
    fdtable_set(t, new_fd, f, cloexec);
    spin_unlock(&t->lock);
    if (was) {
        file_close_locks(was, t);
        file_put(was);
    }
    return new_fd;
}

int fd_get_cloexec(int fd)
{
    struct fdtable *t = current_fds();
    int result = -EBADF;

    spin_lock(&t->lock);
    if ((uint32_t)fd < t->capacity && t->files[fd])
        result = (t->cloexec[fd / 64] & BIT(fd)) != 0;
    spin_unlock(&t->lock);
    return result;
}

int fd_set_cloexec(int fd, bool cloexec)
{
    struct fdtable *t = current_fds();
    int err = -EBADF;

    spin_lock(&t->lock);
    if ((uint32_t)fd < t->capacity && t->files[fd]) {
        t->cloexec[fd / 64] &= ~BIT(fd);
        if (cloexec)
            t->cloexec[fd / 64] |= BIT(fd);
        err = 0;
    }
    spin_unlock(&t->lock);
    return err;
}

int fdtable_next_open(struct fdtable *t, int from)
{
    int found = -1;

    spin_lock(&t->lock);
    for (uint32_t fd = from; fd < t->capacity && found < 0; fd++)
        if (t->files[fd])
            found = fd;
    spin_unlock(&t->lock);
    return found;
}

bool fdtable_is_cloexec(struct fdtable *t, int fd)
{
    bool result;

    spin_lock(&t->lock);
    result = (uint32_t)fd < t->capacity && (t->cloexec[fd / 64] & BIT(fd));
    spin_unlock(&t->lock);
    return result;
}

uint32_t fdtable_capacity(struct fdtable *t)
{
    return atomic_load_relaxed(&t->capacity);
}
