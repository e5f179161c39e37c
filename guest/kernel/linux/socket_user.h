/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What socket.c and socket_msg.c share: descriptors and addresses in and out.
 */
#pragma once

#include "fs/vfs.h"
#include "net/socket.h"

/* socket.c */
/* The socket of fd with a reference on its file; NULL: *err is set. */
struct socket *socket_get(uint64_t fd, struct file **f, int *err);
bool socket_is_nonblock(struct file *f);
int socket_addr_from_user(struct socket_addr *out, uint64_t user,
                          uint64_t len);
int socket_addr_to_user(const struct socket_addr *a, uint64_t user,
                        uint64_t user_len);
