/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Messages on sockets: send, receive, ancillary data (man 7 unix, man 2
 * recvmsg).
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
#define SCM_RIGHTS 1
#define SCM_CREDENTIALS 2
#define IOV_MAX 1024u
#define IOV_INLINE 8u
#define CONTROL_MAX 65536u
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

/* Of another level: the protocol looks at it. Unix sockets ignore it. */
static int control_add(struct socket_control *c, const struct cmsghdr_abi *h,
                       const uint8_t *data, size_t n)
{
    struct socket_cmsg *m = &c->cmsgs[c->nr];

    if (c->nr == SOCKET_CMSGS || n > sizeof(m->data))
        return -EINVAL;
    c->nr++;
    m->level = h->level;
    m->type = h->type;
    m->len = (uint32_t)n;
    memcpy(m->data, data, n);
    return 0;
}

static int scm_parse(struct socket_msg *m, const uint8_t *buf, size_t len)
{
    struct scm *scm = &m->scm;
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
            err = m->control ? control_add(m->control, &h, data, n) : 0;
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

static int scm_from_user(struct socket_msg *m, const struct msghdr_abi *h)
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
        err = scm_parse(m, buf, h->control_len);
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

/* Plain bytes, cut where the program's room ends. */
static int control_put_bytes(struct control_out *c,
                             const struct socket_cmsg *m)
{
    struct cmsghdr_abi h = {sizeof(h) + m->len, m->level, m->type};
    uint64_t len, space;

    if (c->left < sizeof(h)) {
        c->flags |= MSG_CTRUNC;
        return 0;
    }
    len = MIN(h.len, c->left);
    if (len < h.len)
        c->flags |= MSG_CTRUNC;
    h.len = len;
    if (copy_to_user((void __user *)c->at, &h, sizeof(h)) ||
        copy_to_user((char __user *)c->at + sizeof(h), m->data,
                     len - sizeof(h)))
        return -EFAULT;
    space = MIN(ALIGN_UP(len, 8ul), c->left);
    c->at += space;
    c->left -= space;
    return 0;
}

static int scm_to_user(struct socket *s, struct socket_msg *m,
                       struct control_out *c, uint32_t flags)
{
    struct scm *scm = &m->scm;
    int err = 0;

    for (uint32_t k = 0; !err && k < m->control->nr; k++)
        err = control_put_bytes(c, &m->control->cmsgs[k]);
    if (err) {
        scm_free(scm);
        return err;
    }
    if (s->pass_cred && scm->has_cred)
        err = control_put_cred(c, &scm->cred);
    if (!err && scm->nr_files)
        err = control_put_files(c, scm, (flags & MSG_CMSG_CLOEXEC) != 0);
    scm_free(scm);
    return err;
}

/* ---- messages ---- */

/* One message with its kernel copies, on the caller's stack; what it owns is
 * freed by message_done. */
struct message {
    struct msghdr_abi hdr;
    struct iov_iter iter;
    struct iovec64 *iov;
    struct socket_msg m;
    struct socket_control control;
    struct iovec64 inline_iov[IOV_INLINE];
    struct socket_addr addr;
};

static void message_done(struct message *msg)
{
    if (msg->iov && msg->iov != msg->inline_iov)
        kfree(msg->iov);
    scm_free(&msg->m.scm);
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

static int message_get(uint64_t user, struct message *msg)
{
    int err;

    msg->iov = NULL;
    msg->m = (struct socket_msg){.control = &msg->control};
    msg->control.nr = 0;
    err = copy_from_user(&msg->hdr, (void __user *)user, sizeof(msg->hdr));
    if (!err && (int32_t)msg->hdr.name_len < 0)
        err = -EINVAL;
    if (!err)
        err = message_iov(msg);
    if (err)
        message_done(msg);
    return err;
}

/* *is_whole: nothing of the message is left. */
static int64_t do_sendmsg(struct socket *s, struct file *f, uint64_t user,
                          uint32_t flags, bool *is_whole)
{
    struct message msg;
    int64_t n = message_get(user, &msg);
    size_t total;

    if (n)
        return n;
    total = msg.iter.count;
    if (socket_is_nonblock(f))
        flags |= MSG_DONTWAIT;
    if (msg.hdr.name && msg.hdr.name_len) {
        n = socket_addr_from_user(&msg.addr, msg.hdr.name,
                                  MIN(msg.hdr.name_len, SOCKET_ADDR_MAX));
        msg.m.addr = &msg.addr;
    }
    if (!n)
        n = scm_from_user(&msg.m, &msg.hdr);
    if (!n)
        n = s->ops->sendmsg(s, &msg.m, flags);
    *is_whole = n >= 0 && (size_t)n == total;
    message_done(&msg);
    return n;
}

static int64_t do_recvmsg(struct socket *s, struct file *f, uint64_t user,
                          uint32_t flags)
{
    struct msghdr_abi __user *uhdr = (struct msghdr_abi __user *)user;
    struct control_out c;
    struct message msg;
    int64_t n = message_get(user, &msg);
    int err = 0;

    if (n)
        return n;
    if (socket_is_nonblock(f))
        flags |= MSG_DONTWAIT;
    msg.addr.len = 0;
    msg.m.addr = msg.hdr.name ? &msg.addr : NULL;
    n = s->ops->recvmsg(s, &msg.m, flags);
    if (n < 0)
        goto out;
    c.at = msg.hdr.control;
    c.left = msg.hdr.control ? msg.hdr.control_len : 0;
    c.flags = msg.m.flags_out | (flags & MSG_CMSG_CLOEXEC);
    err = scm_to_user(s, &msg.m, &c, flags);
    if (!err && msg.m.addr) {
        uint32_t len = MIN(msg.addr.len, msg.hdr.name_len);

        err = copy_to_user((void __user *)msg.hdr.name, msg.addr.data, len);
        if (!err)
            err = put_user(&uhdr->name_len, msg.addr.len);
    }
    if (!err)
        err = put_user(&uhdr->flags, c.flags);
    if (!err)
        err = put_user(&uhdr->control_len,
                       msg.hdr.control ? msg.hdr.control_len - c.left : 0);
    if (err)
        n = err;
out:
    message_done(&msg);
    return n;
}

int64_t sys_sendmsg(uint64_t fd, uint64_t user, uint64_t flags, uint64_t d,
                    uint64_t e, uint64_t f)
{
    struct file *file;
    int err;
    struct socket *s = socket_get(fd, &file, &err);
    bool is_whole;
    int64_t n;

    if (!s)
        return err;
    n = do_sendmsg(s, file, user, (uint32_t)flags, &is_whole);
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
    bool is_whole = true; /* after a part of one no other may follow */
    int64_t n = 0;
    uint32_t i;
    int err;
    struct socket *s = socket_get(fd, &file, &err);

    if (!s)
        return err;
    nr = MIN((uint32_t)nr, MMSG_MAX);
    for (i = 0; i < nr && is_whole; i++) {
        n = do_sendmsg(s, file, (uint64_t)&msgs[i].hdr, (uint32_t)flags,
                       &is_whole);
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
        n = socket_addr_from_user(&addr, user, user_len);
        m.addr = &addr;
    }
    if (socket_is_nonblock(file))
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
    addr.len = 0;
    if (socket_is_nonblock(file))
        flags |= MSG_DONTWAIT;
    n = s->ops->recvmsg(s, &m, (uint32_t)flags);
    scm_free(&m.scm); /* no place for it */
    file_put(file);
    if (n >= 0 && user) {
        err = socket_addr_to_user(&addr, user, user_len);
        if (err)
            return err;
    }
    return n;
}
