/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Sockets: what all families share.
 *
 * Layer below: sched, fs (a socket is a file). Above: linux/socket.c.
 *
 * - `struct socket` is embedded first in the family's structure; its file owns
 *   it: release() is called when the last descriptor goes.
 * - Addresses are kernel copies: `struct socket_addr`.
 * - sendmsg/recvmsg move bytes through msg->iter and return a count or
 *   -errno; -ERESTARTSYS when a signal came (-EINTR with a time-out set).
 * - Option fields are written and read atomically without a lock.
 */
#pragma once

#include "fs/events.h"
#include "fs/vfs.h"

#define AF_UNSPEC 0
#define AF_UNIX 1
#define SOCK_STREAM 1
#define SOCK_DGRAM 2
#define SOCK_RAW 3
#define SOCK_SEQPACKET 5
#define SOCK_TYPE_MASK 0xfu

#define MSG_OOB 0x1u
#define MSG_PEEK 0x2u
#define MSG_CTRUNC 0x8u
#define MSG_TRUNC 0x20u
#define MSG_DONTWAIT 0x40u
#define MSG_EOR 0x80u
#define MSG_WAITALL 0x100u
#define MSG_ERRQUEUE 0x2000u
#define MSG_NOSIGNAL 0x4000u
#define MSG_MORE 0x8000u
#define MSG_WAITFORONE 0x10000u
#define MSG_FASTOPEN 0x20000000u
#define MSG_CMSG_CLOEXEC 0x40000000u

#define SHUTDOWN_RD 1u
#define SHUTDOWN_WR 2u
#define SHUTDOWN_BOTH 3u

#define SOCKET_ADDR_MAX 128u /* sockaddr_storage */
#define SCM_MAX_FILES 253u

struct socket_addr {
    uint32_t len; /* bytes in data, 0 = none */
    union {
        uint16_t family;
        uint8_t data[SOCKET_ADDR_MAX];
    };
};

struct ucred_abi {
    int32_t pid;
    uint32_t uid, gid;
};

/* Ancillary data. Files are owned by the structure (scm_free). */
struct scm {
    struct file **files; /* kmalloc, NULL = none */
    uint32_t nr_files;
    bool has_cred;
    struct ucred_abi cred;
};

/* Ancillary data that is plain bytes: of Internet protocols, times. */
#define SOCKET_CMSGS 8u
struct socket_cmsg {
    int32_t level, type;
    uint32_t len;
    uint8_t data[20];
};
struct socket_control {
    uint32_t nr;
    struct socket_cmsg cmsgs[SOCKET_CMSGS];
};

struct socket_msg {
    struct iov_iter *iter;
    struct socket_addr *addr; /* in: destination; out: source; may be NULL */
    struct scm scm;           /* sent (taken over) or received */
    struct socket_control *control; /* in and out; NULL: none is wanted */
    uint32_t flags_out;       /* MSG_TRUNC, MSG_CTRUNC, MSG_EOR */
};

struct socket;

struct socket_ops {
    int (*bind)(struct socket *s, const struct socket_addr *addr);
    int (*connect)(struct socket *s, const struct socket_addr *addr,
                   bool nonblock);
    int (*listen)(struct socket *s, int backlog);
    int (*accept)(struct socket *s, bool nonblock, struct socket **out);
    int (*getname)(struct socket *s, bool peer, struct socket_addr *out);
    ssize_t (*sendmsg)(struct socket *s, struct socket_msg *m,
                       uint32_t flags);
    ssize_t (*recvmsg)(struct socket *s, struct socket_msg *m,
                       uint32_t flags);
    int (*shutdown)(struct socket *s, uint32_t how);
    uint32_t (*poll)(struct socket *s, struct file *f, struct poll_table *pt);
    int64_t (*ioctl)(struct socket *s, uint32_t cmd, uint64_t arg);
    /* Options of other levels, and of SOL_SOCKET those that socket.c does not
     * know; NULL: -ENOTSUP, -ENOPROTOOPT. */
    int (*setsockopt)(struct socket *s, int level, int name,
                      const void *value, uint32_t len);
    int (*getsockopt)(struct socket *s, int level, int name, void *value,
                      uint32_t *len);
    /* A field of `struct socket` was set by this option; may be NULL. */
    void (*option_changed)(struct socket *s, int name);
    int (*take_error)(struct socket *s); /* SO_ERROR; NULL: the field */
    void (*peercred)(struct socket *s, struct ucred_abi *out);
    void (*release)(struct socket *s); /* frees it */
};

struct socket {
    /* --- set once --- */
    const struct socket_ops *ops;
    int family, type, protocol;
    uint64_t ino; /* of its file; 0: none yet */
    /* --- atomic --- */
    uint32_t option_bits; /* bit n: boolean option n is on (n < 32) */
    bool pass_cred, is_listening;
    int error;            /* SO_ERROR: positive errno, taken by reading */
    uint32_t sndbuf, rcvbuf, rcvlowat, priority;
    nsec_t rcvtimeo, sndtimeo; /* 0 = for ever */
    int32_t linger_on, linger_sec;
};

struct socket_family {
    int family;
    /* Returns owned. */
    int (*create)(int type, int protocol, struct socket **out);
    int (*pair)(int type, int protocol, struct socket **a, struct socket **b);
};

/* socket.c */
void socket_init_common(struct socket *s, const struct socket_ops *ops,
                        int family, int type, int protocol);
const struct socket_family *socket_find_family(int family);
/* Takes s; Returns owned file. On failure s is released. */
int socket_file(struct socket *s, uint32_t flags, struct file **out);
struct socket *file_socket(struct file *f); /* NULL: not a socket */
int socket_take_error(struct socket *s);    /* positive, 0 = none */
nsec_t socket_deadline(nsec_t timeout);
/* What an interrupted or timed-out wait returns (man 7 signal). */
int socket_wait_error(int err, nsec_t timeout);
int socket_set_option(struct socket *s, int name, const void *value,
                      uint32_t len);
int socket_get_option(struct socket *s, int name, void *value, uint32_t *len);
void scm_free(struct scm *scm);

/* inet_sock.c */

/* Before the machine goes: waits until the peers have all that programs sent,
 * at most `limit`, and not longer than `patience` without progress. */
void socket_drain(nsec_t patience, nsec_t limit);
bool socket_any_inet(void); /* is there something to drain? */

/* unix.c, inet_sock.c, netlink.c */
extern const struct socket_family unix_family, inet_family, inet6_family,
    netlink_family;
