/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Devices as the layers above see them.
 *
 * - Initialisation does only what the first output needs; queues are set up
 *   on first use (each register access is an exit of 65,000-145,000 cycles).
 * - Console writes return when the bytes are in a ring the host reads; the
 *   host has taken them all when console_drain() returns.
 */
#pragma once

#include "lib/types.h"
#include "sched/wait.h"

/* virtio.c: finds the devices boot_params names. */
void virtio_init(void);

/* virtio_blk.c: the image. */
uint64_t block_size_bytes(void); /* 0: no disk */
/* virtio_pci.c: why a device was refused last; "" */
const char *virtio_trouble(void);
int block_read(uint64_t offset, void *buf, size_t len); /* 512-aligned */

/* virtio_console.c */
enum console_port { CONSOLE_STDIO, CONSOLE_STDERR, CONSOLE_CONTROL };
/* Sleeps while the host does not take the bytes; interruptible when `intr`:
 * then a count or -EINTR. Kernel memory. */
ssize_t console_write(enum console_port port, const void *buf, size_t n,
                      bool intr);
/* Bytes from stdin: >0, 0 at end of file, -EAGAIN when none are there. */
ssize_t console_read(void *buf, size_t n);
bool console_readable(void);  /* bytes or end of file are there */
extern struct waitq console_read_wait; /* woken when that changes */
/* Waits until everything written has reached the host: sleeps as long as it
 * takes; with interrupts off (panic) it polls, for two seconds. */
void console_drain(void);
/* One line to the control port; adds the newline. */
void control_send(const char *fmt, ...) __printf(1, 2);
/* Starts taking control lines from the host; handlers below are called in a
 * kernel thread. */
void control_start(void);

/* stdio.c: descriptor 0, 1 or 2 of the first program. Returns owned. */
struct file;
int console_open_std(int fd, struct file **out);

/* tty.c: line discipline between the console and /dev/console, /dev/tty. */
void tty_init(void); /* called by virtio_init */
struct file_ops;
extern const struct file_ops tty_file_ops; /* file->priv NULL */
void tty_set_winsize(uint16_t rows, uint16_t cols);

/* random.c: ChaCha20 generator seeded by the launcher, RDRAND, virtio-rng. */
void random_init(void);
void random_bytes(void *buf, size_t n);
uint64_t random_u64(void);
/* Stirs in the host's generator when it is time; sleeps (sys_getrandom). */
void random_reseed(void);
