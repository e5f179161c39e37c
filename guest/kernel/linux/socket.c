/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Socket system calls: arguments in and out. The work is in net/.
 *
 * No locks here; a file reference is held over each call.
 */
#include "linux/socket_user.h"

#include "lib/errno.h"
#include "lib/string.h"
#include "linux/syscall_protos.h"
#include "linux/task.h"
#include "mm/heap.h"
#include "mm/mm.h"

#define SOL_SOCKET 1
#define OPTION_MAX 256u /* struct group_req is 136 bytes */

struct socket *socket_get(uint64_t fd, struct file **f, int *err)
{
    struct socket *s = NULL;

    *f = fd_get((int)fd);
    *err = -EBADF;
    if (!*f || ((*f)->flags & O_PATH))
        goto fail;
    s = file_socket(*f);
    *err = -ENOTSOCK;
    if (s)
        return s;
fail:
    if (*f)
        file_put(*f);
    return NULL;
}

bool socket_is_nonblock(struct file *f)
{
    return (atomic_load_relaxed(&f->flags) & O_NONBLOCK) != 0;
}

int socket_addr_from_user(struct socket_addr *out, uint64_t user,
                          uint64_t len)
{
    if ((int32_t)len < 0 || (uint32_t)len > SOCKET_ADDR_MAX)
        return -EINVAL;
    memset(out, 0, sizeof(*out));
    out->len = (uint32_t)len;
    return copy_from_user(out->data, (void __user *)user, out->len);
}

int socket_addr_to_user(const struct socket_addr *a, uint64_t user,
                        uint64_t user_len)
{
    int32_t room;

    if (get_user(room, (int32_t __user *)user_len))
        return -EFAULT;
    if (room < 0)
        return -EINVAL;
    if (copy_to_user((void __user *)user, a->data,
                     MIN((uint32_t)room, a->len)))
        return -EFAULT;
    return put_user((int32_t __user *)user_len, (int32_t)a->len);
}

/* ---- creation ---- */

static int check_type(uint64_t *type, uint32_t *flags)
{
    *flags = (uint32_t)*type & ~SOCK_TYPE_MASK;
    *type &= SOCK_TYPE_MASK;
    return *flags & ~(O_CLOEXEC | O_NONBLOCK) ? -EINVAL : 0;
}

/* Takes s. */
static int64_t socket_install(struct socket *s, uint32_t flags)
{
    struct file *f;
    int fd = socket_file(s, flags, &f);

    if (fd)
        return fd;
    fd = fd_install(f, 0, (flags & O_CLOEXEC) != 0);
    if (fd < 0)
        file_put(f);
    return fd;
}

int64_t sys_socket(uint64_t domain, uint64_t type, uint64_t protocol,
                   uint64_t d, uint64_t e, uint64_t f)
{
    const struct socket_family *family = socket_find_family((int)domain);
    struct socket *s;
    uint32_t flags;
    int err = check_type(&type, &flags);

    if (err)
        return err;
    if (type > 10)
        return -EINVAL;
    if (!family)
        return -EAFNOSUPPORT;
    err = family->create((int)type, (int)protocol, &s);
    return err ? err : socket_install(s, flags);
}

int64_t sys_socketpair(uint64_t domain, uint64_t type, uint64_t protocol,
                       uint64_t user, uint64_t e, uint64_t f)
{
    const struct socket_family *family = socket_find_family((int)domain);
    struct socket *a, *b;
    int32_t fds[2];
    uint32_t flags;
    int err = check_type(&type, &flags);

    if (err)
        return err;
    if (type > 10)
        return -EINVAL;
    if (!family)
        return -EAFNOSUPPORT;
    if (!family->pair)
        return -ENOTSUP;
    err = family->pair((int)type, (int)protocol, &a, &b);
    if (err)
        return err;
    fds[0] = (int32_t)socket_install(a, flags);
    if (fds[0] < 0) {
        b->ops->release(b);
        return fds[0];
    }
    fds[1] = (int32_t)socket_install(b, flags);
    if (fds[1] < 0) {
        fd_close(fds[0]);
        return fds[1];
    }
    if (!copy_to_user((void __user *)user, fds, sizeof(fds)))
        return 0;
    fd_close(fds[0]);
    fd_close(fds[1]);
    return -EFAULT;
}

/* ---- names and connections ---- */

int64_t sys_bind(uint64_t fd, uint64_t user, uint64_t len, uint64_t d,
                 uint64_t e, uint64_t f)
{
    struct socket_addr addr;
    struct file *file;
    int err;
    struct socket *s = socket_get(fd, &file, &err);

    if (!s)
        return err;
    err = socket_addr_from_user(&addr, user, len);
    if (!err)
        err = s->ops->bind(s, &addr);
    file_put(file);
    return err;
}

int64_t sys_connect(uint64_t fd, uint64_t user, uint64_t len, uint64_t d,
                    uint64_t e, uint64_t f)
{
    struct socket_addr addr;
    struct file *file;
    int err;
    struct socket *s = socket_get(fd, &file, &err);

    if (!s)
        return err;
    err = socket_addr_from_user(&addr, user, len);
    if (!err)
        err = s->ops->connect(s, &addr, socket_is_nonblock(file));
    file_put(file);
    return err;
}

int64_t sys_listen(uint64_t fd, uint64_t backlog, uint64_t c, uint64_t d,
                   uint64_t e, uint64_t f)
{
    struct file *file;
    int err;
    struct socket *s = socket_get(fd, &file, &err);

    if (!s)
        return err;
    err = s->ops->listen(s, (int)backlog);
    file_put(file);
    return err;
}

/* The peer's name for the program. */
static int put_peer(struct socket *s, uint64_t user, uint64_t user_len)
{
    struct socket_addr addr;
    int err = s->ops->getname(s, true, &addr);

    if (err == -ENOTCONN) { /* gone already: no name */
        addr.len = 2;
        addr.family = (uint16_t)s->family;
        err = 0;
    }
    return err ? err : socket_addr_to_user(&addr, user, user_len);
}

/* An accepted connection as a file. */
static int accept_file(struct socket *s, struct file *listener,
                       const uint64_t user[2], uint32_t flags,
                       struct file **out)
{
    struct socket *accepted;
    int err = s->ops->accept(s, socket_is_nonblock(listener), &accepted);

    if (!err && user[0]) {
        err = put_peer(accepted, user[0], user[1]);
        if (err)
            accepted->ops->release(accepted);
    }
    return err ? err : socket_file(accepted, flags, out);
}

/* The descriptor comes first: without one the connection stays where it is,
 * until the program has closed something. */
int64_t sys_accept4(uint64_t fd, uint64_t user, uint64_t user_len,
                    uint64_t flags, uint64_t e, uint64_t f)
{
    const uint64_t where[2] = {user, user_len};
    struct file *file, *accepted;
    int err, new_fd;
    struct socket *s = socket_get(fd, &file, &err);

    if (!s)
        return err;
    new_fd = -EINVAL;
    if (!((uint32_t)flags & ~(O_CLOEXEC | O_NONBLOCK)))
        new_fd = fd_reserve((flags & O_CLOEXEC) != 0);
    err = new_fd;
    if (new_fd >= 0) {
        err = accept_file(s, file, where, (uint32_t)flags, &accepted);
        if (err)
            fd_unreserve(new_fd);
        else
            fd_fill(new_fd, accepted);
    }
    file_put(file);
    return err < 0 ? err : new_fd;
}

int64_t sys_accept(uint64_t fd, uint64_t user, uint64_t user_len, uint64_t d,
                   uint64_t e, uint64_t f)
{
    return sys_accept4(fd, user, user_len, 0, 0, 0);
}

static int64_t do_getname(uint64_t fd, bool peer, uint64_t user,
                          uint64_t user_len)
{
    struct socket_addr addr;
    struct file *file;
    int err;
    struct socket *s = socket_get(fd, &file, &err);

    if (!s)
        return err;
    err = s->ops->getname(s, peer, &addr);
    file_put(file);
    return err ? err : socket_addr_to_user(&addr, user, user_len);
}

int64_t sys_getsockname(uint64_t fd, uint64_t user, uint64_t len, uint64_t d,
                        uint64_t e, uint64_t f)
{
    return do_getname(fd, false, user, len);
}

int64_t sys_getpeername(uint64_t fd, uint64_t user, uint64_t len, uint64_t d,
                        uint64_t e, uint64_t f)
{
    return do_getname(fd, true, user, len);
}

int64_t sys_shutdown(uint64_t fd, uint64_t how, uint64_t c, uint64_t d,
                     uint64_t e, uint64_t f)
{
    struct file *file;
    int err;
    struct socket *s = socket_get(fd, &file, &err);

    if (!s)
        return err;
    err = -EINVAL;
    if ((uint32_t)how <= 2)
        err = s->ops->shutdown(s, (uint32_t)how + 1);
    file_put(file);
    return err;
}

/* ---- options ---- */

int64_t sys_setsockopt(uint64_t fd, uint64_t level, uint64_t name,
                       uint64_t user, uint64_t len, uint64_t f)
{
    uint8_t value[OPTION_MAX];
    struct file *file;
    int err;
    struct socket *s = socket_get(fd, &file, &err);

    if (!s)
        return err;
    err = -EINVAL;
    if ((int32_t)len < 0)
        goto out;
    len = MIN((uint64_t)(uint32_t)len, sizeof(value));
    err = -EFAULT;
    if (copy_from_user(value, (void __user *)user, len))
        goto out;
    if ((int)level == SOL_SOCKET)
        err = socket_set_option(s, (int)name, value, (uint32_t)len);
    else if (s->ops->setsockopt)
        err = s->ops->setsockopt(s, (int)level, (int)name, value,
                                 (uint32_t)len);
    else
        err = -ENOTSUP;
out:
    file_put(file);
    return err;
}

int64_t sys_getsockopt(uint64_t fd, uint64_t level, uint64_t name,
                       uint64_t user, uint64_t user_len, uint64_t f)
{
    uint8_t value[OPTION_MAX];
    struct file *file;
    uint32_t len;
    int32_t room;
    int err;
    struct socket *s = socket_get(fd, &file, &err);

    if (!s)
        return err;
    err = -EFAULT;
    if (get_user(room, (int32_t __user *)user_len))
        goto out;
    err = -EINVAL;
    if (room < 0)
        goto out;
    len = MIN((uint32_t)room, (uint32_t)sizeof(value));
    if ((int)level == SOL_SOCKET)
        err = socket_get_option(s, (int)name, value, &len);
    else if (s->ops->getsockopt)
        err = s->ops->getsockopt(s, (int)level, (int)name, value, &len);
    else
        err = -ENOTSUP;
    if (!err && (copy_to_user((void __user *)user, value, len) ||
                 put_user((int32_t __user *)user_len, (int32_t)len)))
        err = -EFAULT;
out:
    file_put(file);
    return err;
}
