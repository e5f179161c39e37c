/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The ports as the drivers above them see them (tty.c, control.c, stdio.c);
 * the rest of the kernel uses drivers.h.
 *
 * - All but console_port_readable may sleep.
 * - virtqs of input are started by console_rx_start(), output by the first
 *   write.
 */
#pragma once

#include "drivers/drivers.h"
#include "fs/vfs.h"

/* virtio_console.c */
/* Bytes written, -EAGAIN (nonblock), -EINTR (intr), -EFAULT. */
ssize_t console_write_iter(enum console_port port, struct iov_iter *from,
                           bool nonblock, bool intr);
/* >0, 0 at end of file, -EAGAIN; never waits for input. */
ssize_t console_read_iter(enum console_port port, struct iov_iter *to);
int console_rx_start(enum console_port port);
/* Lock-free; asks for an interrupt when there is nothing. */
bool console_port_readable(enum console_port port);
size_t console_nr_readable(void);
uint32_t console_poll_out(enum console_port port, struct file *f,
                          struct poll_table *pt);
/* stdin ends after byte `at`. */
void console_set_eof(uint64_t at);
struct waitq *console_control_wait(void);

/* tty.c */
/* Starts taking keys (signals work without a reader). */
void tty_start(void);
/* stdio.c: descriptors that are no terminal */
int stdio_stream_open(int fd, enum console_port port, struct file **out);
/* tty.c */
int tty_open(int fd, enum console_port port, struct file **out);
