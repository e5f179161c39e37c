/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Socket system calls: arguments in and out. The work is in net/.
 *
 * No locks here; a file reference is held over each call.
 */
#include "net/socket.h"

#include "lib/errno.h"
#include "lib/string.h"
#include "linux/syscall_protos.h"
#include "linux/task.h"
#include "mm/heap.h"
#include "mm/mm.h"

#define SOL_SOCKET 1
#define SCM_RIGHTS 1
#define SCM_CREDENTIALS 2
#define IOV_MAX 1024u
#define IOV_INLINE 8u
#define CONTROL_MAX 65536u
#define OPTION_MAX 64u
#define MAX_RW 0x7ffff000ul
#define MMSG_MAX 1024u

struct msghdr_abi {
    uint64_t name;
    uint32_t name_len, pad;
    uint64_t iov, nr_iov;
    uint64_t control, control_len;
    uint32_t flags, pad2;
};
_Static_assert(sizeof(struct msghdr_abi) == 56, "struct msghdr");

struct mmsghdr_abi {
    struct msghdr_abi hdr;
    uint32_t len, pad;
};

struct cmsghdr_abi {
    uint64_t len;
    int32_t level, type;
};

/* The socket of fd with a reference on its file; NULL: *err is set. */
static struct socket *socket_get(uint64_t fd, struct file **f, int *err)
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

static bool is_nonblock(struct file *f)
{
    return (atomic_load_relaxed(&f->flags) & O_NONBLOCK) != 0;
}

static int addr_from_user(struct socket_addr *out, uint64_t user,
                          uint64_t len)
{
    if ((int32_t)len < 0 || (uint32_t)len > SOCKET_ADDR_MAX)
        return -EINVAL;
    memset(out, 0, sizeof(*out));
    out->len = (uint32_t)len;
    return copy_from_user(out->data, (void __user *)user, out->len);
}

static int addr_to_user(const struct socket_addr *a, uint64_t user,
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
    err = addr_from_user(&addr, user, len);
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
    err = addr_from_user(&addr, user, len);
    if (!err)
        err = s->ops->connect(s, &addr, is_nonblock(file));
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

int64_t sys_accept4(uint64_t fd, uint64_t user, uint64_t user_len,
                    uint64_t flags, uint64_t e, uint64_t f)
{
    struct socket_addr addr;
    struct socket *accepted;
    struct file *file;
    int64_t new_fd;
    int err;
    struct socket *s = socket_get(fd, &file, &err);

    if (!s)
        return err;
    if ((uint32_t)flags & ~(O_CLOEXEC | O_NONBLOCK)) {
        file_put(file);
        return -EINVAL;
    }
    err = s->ops->accept(s, is_nonblock(file), &accepted);
    file_put(file);
    if (err)
        return err;
    err = 0;
    if (user) {
        err = accepted->ops->getname(accepted, true, &addr);
        if (err == -ENOTCONN) { /* gone already: no name */
            addr.len = 2;
            addr.family = (uint16_t)accepted->family;
            err = 0;
        }
        if (!err)
            err = addr_to_user(&addr, user, user_len);
    }
    if (err) {
        accepted->ops->release(accepted);
        return err;
    }
    new_fd = socket_install(accepted, (uint32_t)flags);
    return new_fd;
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
    return err ? err : addr_to_user(&addr, user, user_len);
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
    uint8_t value[OPTION_MAX] = {0};
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

/* ---- ancillary data ---- */

/* SCM_RIGHTS: n descriptors at `data`. */
static int scm_add_files(struct scm *scm, const int32_t *data, size_t n)
{
    struct file **files;

    if (n == 0)
        return 0;
    if (n + scm->nr_files > SCM_MAX_FILES)
        return -EINVAL;
    files = krealloc(scm->files, (scm->nr_files + n) * sizeof(*files));
    if (!files)
        return -ENOMEM;
    scm->files = files;
    for (size_t i = 0; i < n; i++) {
        struct file *f = fd_get(data[i]);

        if (!f)
            return -EBADF;
        files[scm->nr_files++] = f;
    }
    return 0;
}

static int scm_add_cred(struct scm *scm, const struct ucred_abi *cred)
{
    struct process *p = current_process();
    bool is_root = p->euid == 0;

    if (!is_root &&
        (cred->pid != p->pid ||
         (cred->uid != p->uid && cred->uid != p->euid &&
          cred->uid != p->suid) ||
         (cred->gid != p->gid && cred->gid != p->egid &&
          cred->gid != p->sgid)))
        return -EPERM;
    if (cred->pid != p->pid) { /* others must exist */
        struct task *t = task_find(cred->pid);

        if (!t)
            return -ESRCH;
        thread_put(&t->thread);
    }
    scm->has_cred = true;
    scm->cred = *cred;
    return 0;
}

static int scm_parse(struct scm *scm, const uint8_t *buf, size_t len)
{
    size_t at = 0;
    int err = 0;

    while (!err && len - at >= sizeof(struct cmsghdr_abi)) {
        struct cmsghdr_abi h;
        const uint8_t *data = buf + at + sizeof(h);
        size_t n;

        memcpy(&h, buf + at, sizeof(h));
        if (h.len < sizeof(h) || h.len > len - at)
            return -EINVAL;
        n = h.len - sizeof(h);
        if (h.level != SOL_SOCKET)
            ;
        else if (h.type == SCM_RIGHTS)
            err = scm_add_files(scm, (const int32_t *)data, n / 4);
        else if (h.type == SCM_CREDENTIALS && n == sizeof(struct ucred_abi))
            err = scm_add_cred(scm, (const struct ucred_abi *)data);
        else
            err = -EINVAL;
        if (ALIGN_UP(h.len, 8ul) > len - at)
            break;
        at += ALIGN_UP(h.len, 8ul);
    }
    return err;
}

static int scm_from_user(struct scm *scm, const struct msghdr_abi *h)
{
    uint8_t *buf;
    int err;

    if (!h->control_len)
        return 0;
    if (h->control_len > CONTROL_MAX)
        return -ENOBUFS;
    buf = kmalloc(h->control_len);
    if (!buf)
        return -ENOBUFS;
    err = copy_from_user(buf, (void __user *)h->control, h->control_len);
    if (!err)
        err = scm_parse(scm, buf, h->control_len);
    kfree(buf);
    return err;
}

/* Where received ancillary data goes. */
struct control_out {
    uint64_t at, left;
    uint32_t flags;
};

/* Writes one header; the data has been written behind it. */
static int control_header(struct control_out *c, int type, size_t n)
{
    struct cmsghdr_abi h = {sizeof(h) + n, SOL_SOCKET, type};
    uint64_t space = MIN(ALIGN_UP(h.len, 8ul), c->left);

    if (copy_to_user((void __user *)c->at, &h, sizeof(h)))
        return -EFAULT;
    c->at += space;
    c->left -= space;
    return 0;
}

static int control_put_cred(struct control_out *c,
                            const struct ucred_abi *cred)
{
    size_t room = c->left - MIN(c->left, sizeof(struct cmsghdr_abi));
    size_t n = MIN(room, sizeof(*cred));

    if (c->left < sizeof(struct cmsghdr_abi)) {
        c->flags |= MSG_CTRUNC;
        return 0;
    }
    if (n < sizeof(*cred))
        c->flags |= MSG_CTRUNC;
    if (copy_to_user((char __user *)c->at + sizeof(struct cmsghdr_abi), cred,
                     n))
        return -EFAULT;
    return control_header(c, SCM_CREDENTIALS, n);
}

/* Installs what fits; the rest is dropped with MSG_CTRUNC. */
static int control_put_files(struct control_out *c, struct scm *scm,
                             bool cloexec)
{
    size_t head = sizeof(struct cmsghdr_abi), room, i;

    room = c->left > head ? (c->left - head) / 4 : 0;
    for (i = 0; i < scm->nr_files && i < room; i++) {
        int32_t fd = fd_install(scm->files[i], 0, cloexec);

        if (fd < 0)
            break;
        scm->files[i] = NULL;
        if (put_user((int32_t __user *)(c->at + head) + i, fd)) {
            fd_close(fd);
            break;
        }
    }
    if (i < scm->nr_files)
        c->flags |= MSG_CTRUNC;
    return i ? control_header(c, SCM_RIGHTS, 4 * i) : 0;
}

static int scm_to_user(struct socket *s, struct scm *scm,
                       struct control_out *c, uint32_t flags)
{
    int err = 0;

    if (s->pass_cred && scm->has_cred)
        err = control_put_cred(c, &scm->cred);
    if (!err && scm->nr_files)
        err = control_put_files(c, scm, (flags & MSG_CMSG_CLOEXEC) != 0);
    scm_free(scm);
    return err;
}

/* ---- messages ---- */

/* One message with its kernel copies; freed by message_done. */
struct message {
    struct msghdr_abi hdr;
    struct iov_iter iter;
    struct iovec64 inline_iov[IOV_INLINE];
    struct iovec64 *iov;
    struct socket_addr addr;
    struct socket_msg m;
};

static void message_done(struct message *msg)
{
    if (msg->iov && msg->iov != msg->inline_iov)
        kfree(msg->iov);
    scm_free(&msg->m.scm);
    kfree(msg);
}

static int message_iov(struct message *msg)
{
    uint64_t n = msg->hdr.nr_iov;
    size_t total = 0;

    if (n > IOV_MAX)
        return -EMSGSIZE;
    msg->iov = msg->inline_iov;
    if (n > IOV_INLINE)
        msg->iov = kmalloc(n * sizeof(*msg->iov));
    if (!msg->iov)
        return -ENOMEM;
    if (copy_from_user(msg->iov, (void __user *)msg->hdr.iov,
                       n * sizeof(*msg->iov)))
        return -EFAULT;
    for (uint64_t i = 0; i < n; i++) {
        if ((ssize_t)msg->iov[i].len < 0)
            return -EINVAL;
        if (!user_range_ok(msg->iov[i].base, msg->iov[i].len))
            return -EFAULT;
        msg->iov[i].len = MIN(msg->iov[i].len, MAX_RW - total);
        total += msg->iov[i].len;
    }
    msg->iter.iov = msg->iov;
    msg->iter.nr_iov = n;
    msg->iter.iov_offset = 0;
    msg->iter.count = total;
    msg->iter.is_kernel = false;
    msg->m.iter = &msg->iter;
    return 0;
}

static int message_get(uint64_t user, struct message **out)
{
    struct message *msg = kzalloc(sizeof(*msg));
    int err;

    if (!msg)
        return -ENOMEM;
    err = copy_from_user(&msg->hdr, (void __user *)user, sizeof(msg->hdr));
    if (!err && (int32_t)msg->hdr.name_len < 0)
        err = -EINVAL;
    if (!err)
        err = message_iov(msg);
    if (err) {
        message_done(msg);
        return err;
    }
    *out = msg;
    return 0;
}

static int64_t do_sendmsg(struct socket *s, struct file *f, uint64_t user,
                          uint32_t flags)
{
    struct message *msg;
    int64_t n = message_get(user, &msg);

    if (n)
        return n;
    if (is_nonblock(f))
        flags |= MSG_DONTWAIT;
    if (msg->hdr.name && msg->hdr.name_len) {
        n = addr_from_user(&msg->addr, msg->hdr.name,
                           MIN(msg->hdr.name_len, SOCKET_ADDR_MAX));
        msg->m.addr = &msg->addr;
    }
    if (!n)
        n = scm_from_user(&msg->m.scm, &msg->hdr);
    if (!n)
        n = s->ops->sendmsg(s, &msg->m, flags);
    message_done(msg);
    return n;
}

static int64_t do_recvmsg(struct socket *s, struct file *f, uint64_t user,
                          uint32_t flags)
{
    struct msghdr_abi __user *uhdr = (struct msghdr_abi __user *)user;
    struct control_out c;
    struct message *msg;
    int64_t n = message_get(user, &msg);
    int err = 0;

    if (n)
        return n;
    if (is_nonblock(f))
        flags |= MSG_DONTWAIT;
    msg->m.addr = msg->hdr.name ? &msg->addr : NULL;
    n = s->ops->recvmsg(s, &msg->m, flags);
    if (n < 0)
        goto out;
    c.at = msg->hdr.control;
    c.left = msg->hdr.control ? msg->hdr.control_len : 0;
    c.flags = msg->m.flags_out | (flags & MSG_CMSG_CLOEXEC);
    err = scm_to_user(s, &msg->m.scm, &c, flags);
    if (!err && msg->m.addr) {
        uint32_t len = MIN(msg->addr.len, msg->hdr.name_len);

        err = copy_to_user((void __user *)msg->hdr.name, msg->addr.data, len);
        if (!err)
            err = put_user(&uhdr->name_len, msg->addr.len);
    }
    if (!err)
        err = put_user(&uhdr->flags, c.flags);
    if (!err)
        err = put_user(&uhdr->control_len,
                       msg->hdr.control ? msg->hdr.control_len - c.left : 0);
    if (err)
        n = err;
out:
    message_done(msg);
    return n;
}

int64_t sys_sendmsg(uint64_t fd, uint64_t user, uint64_t flags, uint64_t d,
                    uint64_t e, uint64_t f)
{
    struct file *file;
    int err;
    struct socket *s = socket_get(fd, &file, &err);
    int64_t n;

    if (!s)
        return err;
    n = do_sendmsg(s, file, user, (uint32_t)flags);
    file_put(file);
    return n;
}

int64_t sys_recvmsg(uint64_t fd, uint64_t user, uint64_t flags, uint64_t d,
                    uint64_t e, uint64_t f)
{
    struct file *file;
    int err;
    struct socket *s = socket_get(fd, &file, &err);
    int64_t n;

    if (!s)
        return err;
    n = do_recvmsg(s, file, user, (uint32_t)flags);
    file_put(file);
    return n;
}

int64_t sys_sendmmsg(uint64_t fd, uint64_t user, uint64_t nr, uint64_t flags,
                     uint64_t e, uint64_t f)
{
    struct mmsghdr_abi __user *msgs = (struct mmsghdr_abi __user *)user;
    struct file *file;
    int64_t n = 0;
    uint32_t i;
    int err;
    struct socket *s = socket_get(fd, &file, &err);

    if (!s)
        return err;
    nr = MIN((uint32_t)nr, MMSG_MAX);
    for (i = 0; i < nr; i++) {
        n = do_sendmsg(s, file, (uint64_t)&msgs[i].hdr, (uint32_t)flags);
        if (n < 0)
            break;
        n = put_user(&msgs[i].len, (uint32_t)n);
        if (n)
            break;
    }
    file_put(file);
    return i ? (int64_t)i : n;
}

int64_t sys_recvmmsg(uint64_t fd, uint64_t user, uint64_t nr, uint64_t flags,
                     uint64_t timeout, uint64_t f)
{
    struct mmsghdr_abi __user *msgs = (struct mmsghdr_abi __user *)user;
    nsec_t deadline = NO_DEADLINE;
    struct timespec64 t;
    struct file *file;
    int64_t n = 0;
    uint32_t i;
    int err;
    struct socket *s;

    if (timeout) {
        if (copy_from_user(&t, (void __user *)timeout, sizeof(t)))
            return -EFAULT;
        if (t.sec < 0 || t.nsec < 0 || t.nsec >= NSEC_PER_SEC)
            return -EINVAL;
        if (t.sec < INT64_MAX / NSEC_PER_SEC / 2)
            deadline = clock_monotonic() + t.sec * NSEC_PER_SEC + t.nsec;
    }
    s = socket_get(fd, &file, &err);
    if (!s)
        return err;
    nr = MIN((uint32_t)nr, MMSG_MAX);
    for (i = 0; i < nr; i++) {
        n = do_recvmsg(s, file, (uint64_t)&msgs[i].hdr,
                       (uint32_t)flags & ~MSG_WAITFORONE);
        if (n < 0)
            break;
        n = put_user(&msgs[i].len, (uint32_t)n);
        if (n)
            break;
        if (flags & MSG_WAITFORONE)
            flags |= MSG_DONTWAIT;
        /* man 2 recvmmsg, BUGS: looked at after each message only */
        if (deadline && clock_monotonic() >= deadline) {
            i++;
            break;
        }
    }
    file_put(file);
    if (timeout && deadline && i) {
        nsec_t left = MAX(deadline - clock_monotonic(), 0l);

        t.sec = left / NSEC_PER_SEC;
        t.nsec = left % NSEC_PER_SEC;
        if (copy_to_user((void __user *)timeout, &t, sizeof(t)))
            return -EFAULT;
    }
    return i ? (int64_t)i : n;
}

int64_t sys_sendto(uint64_t fd, uint64_t buf, uint64_t len, uint64_t flags,
                   uint64_t user, uint64_t user_len)
{
    struct socket_msg m = {0};
    struct socket_addr addr;
    struct iov_iter iter;
    struct file *file;
    int64_t n = 0;
    int err;
    struct socket *s = socket_get(fd, &file, &err);

    if (!s)
        return err;
    iter_init_user(&iter, (void __user *)buf, MIN(len, MAX_RW));
    m.iter = &iter;
    if (user) {
        n = addr_from_user(&addr, user, user_len);
        m.addr = &addr;
    }
    if (is_nonblock(file))
        flags |= MSG_DONTWAIT;
    if (!n)
        n = s->ops->sendmsg(s, &m, (uint32_t)flags);
    file_put(file);
    return n;
}

int64_t sys_recvfrom(uint64_t fd, uint64_t buf, uint64_t len, uint64_t flags,
                     uint64_t user, uint64_t user_len)
{
    struct socket_msg m = {0};
    struct socket_addr addr;
    struct iov_iter iter;
    struct file *file;
    int64_t n;
    int err;
    struct socket *s = socket_get(fd, &file, &err);

    if (!s)
        return err;
    iter_init_user(&iter, (void __user *)buf, MIN(len, MAX_RW));
    m.iter = &iter;
    m.addr = user ? &addr : NULL;
    if (is_nonblock(file))
        flags |= MSG_DONTWAIT;
    n = s->ops->recvmsg(s, &m, (uint32_t)flags);
    scm_free(&m.scm); /* no place for it */
    file_put(file);
    if (n >= 0 && user) {
        err = addr_to_user(&addr, user, user_len);
        if (err)
            return err;
    }
    return n;
}
