/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * file_fcntl.c: dup, fcntl, flock, ioctl, memfd_create, mount.
 */
#include "fs/events.h"
#include "fs/locks.h"
#include "linux/fsutil.h"

#define F_DUPFD 0
#define F_GETFD 1
#define F_SETFD 2
#define F_GETFL 3
#define F_SETFL 4
#define F_GETLK 5
#define F_SETLK 6
#define F_SETLKW 7
#define F_SETOWN 8
#define F_GETOWN 9
#define F_SETSIG 10
#define F_GETSIG 11
#define F_SETOWN_EX 15
#define F_GETOWN_EX 16
#define F_OFD_GETLK 36
#define F_OFD_SETLK 37
#define F_OFD_SETLKW 38
#define F_DUPFD_CLOEXEC 1030
#define F_SETPIPE_SZ 1031
#define F_GETPIPE_SZ 1032
#define F_ADD_SEALS 1033
#define F_GET_SEALS 1034
#define SETFL_MASK (O_APPEND | O_NONBLOCK | O_ASYNC | O_DIRECT | O_NOATIME)

#define FIONREAD 0x541b
#define FIONBIO 0x5421
#define FIONCLEX 0x5450
#define FIOCLEX 0x5451
#define FIOASYNC 0x5452
#define FIGETBSZ 2
#define FICLONE 0x40049409
#define FICLONERANGE 0x4020940d

static int64_t do_dup(uint64_t fd, int min, bool cloexec)
{
    struct file *f = fd_get((int)fd);
    int n;

    if (!f)
        return -EBADF;
    n = fd_install(f, min, cloexec);
    if (n < 0)
        file_put(f);
    return n;
}

int64_t sys_dup(uint64_t fd, uint64_t b, uint64_t c, uint64_t d, uint64_t e,
                uint64_t f)
{
    return do_dup(fd, 0, false);
}

int64_t sys_dup2(uint64_t old, uint64_t new_fd, uint64_t c, uint64_t d,
                 uint64_t e, uint64_t f)
{
    if ((int)old == (int)new_fd)
        return fd_get_cloexec((int)old) < 0 ? -EBADF : (int)old;
    return fd_dup_to((int)old, (int)new_fd, false);
}

int64_t sys_dup3(uint64_t old, uint64_t new_fd, uint64_t flags, uint64_t d,
                 uint64_t e, uint64_t f)
{
    if ((flags & ~(uint64_t)O_CLOEXEC) || (int)old == (int)new_fd)
        return -EINVAL;
    return fd_dup_to((int)old, (int)new_fd, flags != 0);
}

/* --- record locks --- */
struct flock_abi {
    int16_t type, whence;
    int32_t pad;
    int64_t start, len;
    int32_t pid, pad2;
};

static int flock_range(struct file *f, const struct flock_abi *l,
                       struct lock_request *out)
{
    int64_t base = 0, start, end;

    if (l->type < F_RDLCK || l->type > F_UNLCK)
        return -EINVAL;
    if (l->whence == SEEK_CUR)
        base = f->pos;
    else if (l->whence == SEEK_END)
        base = f->inode->size;
    else if (l->whence != SEEK_SET)
        return -EINVAL;
    if (__builtin_add_overflow(base, l->start, &start))
        return -EOVERFLOW;
    if (l->len > 0) {
        if (__builtin_add_overflow(start, l->len - 1, &end))
            return -EOVERFLOW;
    } else if (l->len == 0) {
        end = INT64_MAX;
    } else {
        end = start - 1;
        start += l->len;
    }
    if (start < 0)
        return -EINVAL;
    out->type = l->type;
    out->start = start;
    out->end = end;
    return 0;
}

static int64_t record_lock(struct file *f, int cmd, uint64_t user)
{
    struct flock_abi l;
    struct lock_request r;
    bool is_ofd = cmd >= F_OFD_GETLK;
    bool is_get = cmd == F_GETLK || cmd == F_OFD_GETLK;
    bool wait = cmd == F_SETLKW || cmd == F_OFD_SETLKW;
    int err;

    if (copy_from_user(&l, (const void __user *)user, sizeof(l)))
        return -EFAULT;
    if (is_ofd && l.pid)
        return -EINVAL;
    r.kind = is_ofd ? LOCK_KIND_OFD : LOCK_KIND_POSIX;
    r.owner = is_ofd ? (void *)f : (void *)current_fds();
    r.pid = is_ofd ? -1 : current_process()->pid;
    err = flock_range(f, &l, &r);
    if (err)
        return err;
    uint32_t mode = f->flags & O_ACCMODE;
    if (!is_get && ((r.type == F_RDLCK && mode == O_WRONLY) ||
                    (r.type == F_WRLCK && mode == O_RDONLY)))
        return -EBADF;
    if (!is_get)
        return inode_lock_set(f->inode, &r, wait);
    if (r.type == F_UNLCK)
        return -EINVAL;
    inode_lock_test(f->inode, &r);
    l.type = r.type;
    if (r.type != F_UNLCK) {
        l.whence = SEEK_SET;
        l.start = r.start;
        l.len = r.end == INT64_MAX ? 0 : r.end - r.start + 1;
        l.pid = r.pid;
    }
    return copy_to_user((void __user *)user, &l, sizeof(l));
}

int64_t sys_flock(uint64_t fd, uint64_t op, uint64_t c, uint64_t d, uint64_t e,
                  uint64_t g)
{
    struct lock_request r = {.kind = LOCK_KIND_FLOCK, .end = INT64_MAX,
                             .pid = current_process()->pid};
    struct file *f;
    int64_t err;

    switch (op & ~4ul) { /* LOCK_NB 4 */
    case 1:
        r.type = F_RDLCK;
        break;
    case 2:
        r.type = F_WRLCK;
        break;
    case 8:
        r.type = F_UNLCK;
        break;
    default:
        return -EINVAL;
    }
    err = fd_get_io(fd, &f);
    if (err)
        return err;
    r.owner = f;
    err = inode_lock_set(f->inode, &r, !(op & 4));
    file_put(f);
    return err;
}

static int64_t set_flags(struct file *f, uint32_t flags)
{
    uint32_t old = f->flags, wanted;

    wanted = (old & ~SETFL_MASK) | (flags & SETFL_MASK);
    if ((wanted & ~old & O_NOATIME) && !inode_owner_or_root(f->inode))
        return -EPERM;
    atomic_store_relaxed(&f->flags, wanted);
    return f->ops->set_flags && wanted != old ? f->ops->set_flags(f, wanted)
                                              : 0;
}

/* man 2 fcntl, F_SETOWN_EX: { int type; pid_t pid; } */
static int64_t owner_ex(struct file *f, uint64_t user, bool is_set)
{
    int32_t ex[2];

    if (!is_set) {
        ex[0] = f->owner_pid < 0 ? 2 : 1;
        ex[1] = f->owner_pid < 0 ? -f->owner_pid : f->owner_pid;
        return copy_to_user((void __user *)user, ex, sizeof(ex));
    }
    if (copy_from_user(ex, (const void __user *)user, sizeof(ex)))
        return -EFAULT;
    if (ex[0] < 0 || ex[0] > 2 || ex[1] < 0)
        return -EINVAL;
    f->owner_pid = ex[0] == 2 ? -ex[1] : ex[1];
    return 0;
}

static int64_t seals(struct file *f, int cmd, uint32_t arg)
{
    uint32_t *s = memfs_seals(f->inode);
    int64_t err = 0;

    if (!s)
        return -EINVAL;
    if (cmd == F_GET_SEALS)
        return *s;
    if (arg & ~63u)
        return -EINVAL;
    if ((f->flags & O_ACCMODE) == O_RDONLY)
        return -EPERM;
    mutex_lock(&f->inode->lock);
    if (*s & F_SEAL_SEAL)
        err = -EPERM;
    else if ((arg & F_SEAL_WRITE) && !list_empty(&f->inode->mappings))
        err = -EBUSY;
    else
        *s |= arg;
    mutex_unlock(&f->inode->lock);
    return err;
}

static bool allowed_on_path(int cmd)
{
    return cmd <= F_GETFL || cmd == F_DUPFD_CLOEXEC;
}

static int64_t fcntl_file(struct file *f, int fd, int cmd, uint64_t arg)
{
    switch (cmd) {
    case F_GETFD:
        return fd_get_cloexec(fd);
    case F_SETFD:
        return fd_set_cloexec(fd, arg & 1);
    case F_GETFL:
        return f->flags;
    case F_SETFL:
        return set_flags(f, arg);
    case F_GETLK:
    case F_SETLK:
    case F_SETLKW:
    case F_OFD_GETLK:
    case F_OFD_SETLK:
    case F_OFD_SETLKW:
        return record_lock(f, cmd, arg);
    case F_SETOWN:
        f->owner_pid = (int)arg;
        return 0;
    case F_GETOWN:
        return f->owner_pid;
    case F_SETSIG:
        if (arg > NSIG)
            return -EINVAL;
        f->owner_sig = arg;
        return 0;
    case F_GETSIG:
        return f->owner_sig;
    case F_SETOWN_EX:
    case F_GETOWN_EX:
        return owner_ex(f, arg, cmd == F_SETOWN_EX);
    case F_SETPIPE_SZ:
        return pipe_set_size(f, (uint32_t)arg);
    case F_GETPIPE_SZ:
        return pipe_get_size(f);
    case F_ADD_SEALS:
    case F_GET_SEALS:
        return seals(f, cmd, arg);
    default:
        return -EINVAL;
    }
}

int64_t sys_fcntl(uint64_t fd, uint64_t cmd, uint64_t arg, uint64_t d,
                  uint64_t e, uint64_t g)
{
    struct file *f;
    int64_t result;

    cmd = (uint32_t)cmd;
    if (cmd == F_DUPFD || cmd == F_DUPFD_CLOEXEC) {
        if (fd_get_cloexec((int)fd) < 0)
            return -EBADF;
        if ((int)arg < 0 ||
            (uint32_t)arg >= current_process()->rlimits[7].cur)
            return -EINVAL;
        return do_dup(fd, (int)arg, cmd == F_DUPFD_CLOEXEC);
    }
    f = fd_get((int)fd);
    if (!f)
        return -EBADF;
    if ((f->flags & O_PATH) && !allowed_on_path(cmd))
        result = -EBADF;
    else
        result = fcntl_file(f, (int)fd, cmd, arg);
    file_put(f);
    return result;
}

static int64_t ioctl_set_flag(struct file *f, uint32_t flag, uint64_t user)
{
    int32_t on;

    if (copy_from_user(&on, (const void __user *)user, sizeof(on)))
        return -EFAULT;
    return set_flags(f, on ? f->flags | flag : f->flags & ~flag);
}

static int64_t ioctl_file(struct file *f, int fd, uint32_t cmd, uint64_t arg)
{
    int32_t n;

    switch (cmd) {
    case FIOCLEX:
    case FIONCLEX:
        return fd_set_cloexec(fd, cmd == FIOCLEX);
    case FIONBIO:
        return ioctl_set_flag(f, O_NONBLOCK, arg);
    case FIOASYNC:
        return ioctl_set_flag(f, O_ASYNC, arg);
    case FIGETBSZ:
        n = PAGE_SIZE;
        return copy_to_user((void __user *)arg, &n, sizeof(n));
    case FICLONE:
    case FICLONERANGE:
        return -EOPNOTSUPP;
    case FIONREAD:
        if (!S_ISREG(f->inode->mode))
            break;
        n = f->inode->size - f->pos;
        return copy_to_user((void __user *)arg, &n, sizeof(n));
    }
    return f->ops->ioctl ? f->ops->ioctl(f, cmd, arg) : -ENOTTY;
}

int64_t sys_ioctl(uint64_t fd, uint64_t cmd, uint64_t arg, uint64_t d,
                  uint64_t e, uint64_t g)
{
    struct file *f;
    int64_t result = fd_get_io(fd, &f);

    if (result)
        return result;
    result = ioctl_file(f, (int)fd, cmd, arg);
    file_put(f);
    return result;
}

/* MFD_CLOEXEC 1, ALLOW_SEALING 2, NOEXEC_SEAL 8, EXEC 16; HUGETLB refused. */
int64_t sys_memfd_create(uint64_t name, uint64_t flags, uint64_t c, uint64_t d,
                         uint64_t e, uint64_t g)
{
    char *text;
    struct file *f;
    int64_t err;

    if ((flags & ~0x1bul) || (flags & 0x18) == 0x18)
        return -EINVAL;
    text = kmalloc(256);
    if (!text)
        return -ENOMEM;
    memcpy(text, "memfd:", 6);
    err = strncpy_from_user(text + 6, (const char __user *)name, 250);
    if (err == -ENAMETOOLONG)
        err = -EINVAL;
    if (err >= 0)
        err = memfd_create_file(text, (flags & 2) || (flags & 8),
                                flags & 8 ? 0666 : 0777, &f);
    kfree(text);
    if (err < 0)
        return err;
    if (flags & 8)
        *memfs_seals(f->inode) |= F_SEAL_EXEC;
    f->flags |= O_LARGEFILE;
    err = fd_install(f, 0, flags & 1);
    if (err < 0)
        file_put(f);
    return err;
}

int64_t sys_mount(uint64_t a, uint64_t b, uint64_t c, uint64_t d, uint64_t e,
                  uint64_t f)
{
    return -EPERM;
}

int64_t sys_umount2(uint64_t a, uint64_t b, uint64_t c, uint64_t d, uint64_t e,
                    uint64_t f)
{
    return -EPERM;
}
