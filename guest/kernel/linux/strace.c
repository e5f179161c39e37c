/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * --strace: one `trace` line per call, in strace's format as far as the
 * table's argument letters go (linux/syscall.h). Flags stay numbers.
 *
 * The line is made in a buffer of the call's own; calls that do not return
 * (exit, and sleeping ones at the end) are printed before they are made.
 */
#include "linux/strace.h"
#include "drivers/drivers.h"
#include "lib/errno.h"
#include "lib/string.h"
#include "linux/syscall.h"
#include "linux/task.h"
#include "mm/heap.h"

#define LINE_SIZE 2048
#define STRING_MAX 256 /* of a path; strace's default for data is 32 */
#define DATA_MAX 32

struct line {
    char *buf;
    size_t len;
};

static void put(struct line *l, const char *fmt, ...) __printf(2, 3);
static void put(struct line *l, const char *fmt, ...)
{
    va_list args;
    int n;

    if (l->len >= LINE_SIZE - 1)
        return;
    va_start(args, fmt);
    n = vsnprintf(l->buf + l->len, LINE_SIZE - l->len, fmt, args);
    va_end(args);
    l->len = MIN(l->len + (size_t)MAX(n, 0), LINE_SIZE - 1);
}

static void put_char(struct line *l, unsigned char c)
{
    switch (c) {
    case '\n': put(l, "\\n"); break;
    case '\t': put(l, "\\t"); break;
    case '\r': put(l, "\\r"); break;
    case '"': put(l, "\\\""); break;
    case '\\': put(l, "\\\\"); break;
    default:
        if (c >= ' ' && c < 127)
            put(l, "%c", c);
        else
            put(l, "\\%u%u%u", c >> 6, c >> 3 & 7, c & 7);
    }
}

static void put_data(struct line *l, uint64_t addr, size_t n, size_t max)
{
    unsigned char bytes[STRING_MAX];
    size_t take = MIN(MIN(n, max), sizeof(bytes));

    if (copy_from_user(bytes, (void *)addr, take) != 0) {
        put(l, "0x%lx", addr);
        return;
    }
    put(l, "\"");
    for (size_t i = 0; i < take; i++)
        put_char(l, bytes[i]);
    put(l, "%s", take < n ? "\"..." : "\"");
}

static void put_string(struct line *l, uint64_t addr)
{
    char s[STRING_MAX];
    ssize_t n;

    if (addr == 0) {
        put(l, "NULL");
        return;
    }
    n = strncpy_from_user(s, (char *)addr, sizeof(s));
    if (n == -EFAULT)
        put(l, "0x%lx", addr);
    else
        put_data(l, addr, n < 0 ? STRING_MAX + 1 : (size_t)n, STRING_MAX - 1);
}

/* A buffer argument: what is in it, once the call has filled or used it. */
static void put_buffer(struct line *l, uint64_t addr, uint64_t len,
                       int64_t result, bool is_read)
{
    if (is_read && result < 0)
        put(l, "0x%lx", addr);
    else
        put_data(l, addr, is_read ? (size_t)result : len, DATA_MAX);
}

/* read, pread64, getcwd, readlink, recvfrom, getrandom: filled by the call. */
static bool fills_buffer(uint64_t nr)
{
    return nr == 0 || nr == 17 || nr == 45 || nr == 89 || nr == 267 ||
           nr == 318;
}

static void put_arg(struct line *l, uint64_t nr, char format,
                    const uint64_t *arg, int64_t result)
{
    uint64_t v = *arg;

    switch (format) {
    case 'd':
    case 'f':
        put(l, "%d", (int)v);
        break;
    case 'a':
        if ((int)v == -100)
            put(l, "AT_FDCWD");
        else
            put(l, "%d", (int)v);
        break;
    case 'u':
        put(l, "%lu", v);
        break;
    case 'o':
        put(l, "0%lo", v);
        break;
    case 's':
        put_string(l, v);
        break;
    case 'b':
        put_buffer(l, v, arg[1], result, fills_buffer(nr));
        break;
    case 'p':
        if (v == 0) {
            put(l, "NULL");
            break;
        }
        /* fallthrough */
    default:
        if (v == 0)
            put(l, "0");
        else
            put(l, "0x%lx", v);
    }
}

static void put_call(struct line *l, uint64_t nr, const uint64_t args[6],
                     int64_t result)
{
    const struct syscall_info *info =
        nr < NR_SYSCALLS && syscall_table[nr].name != NULL
            ? &syscall_table[nr]
            : NULL;
    unsigned n = info != NULL ? info->nr_args : 6;

    if (current_process()->nr_threads > 1)
        put(l, "[pid %d] ", current_task()->tid);
    if (info != NULL)
        put(l, "%s(", info->name);
    else
        put(l, "syscall_%lu(", nr);
    for (unsigned i = 0; i < n; i++) {
        char format = 'x';

        if (info != NULL && i < strlen(info->formats))
            format = info->formats[i];
        if (format == '-')
            continue;
        if (i != 0)
            put(l, ", ");
        put_arg(l, nr, format == 'b' && i == 5 ? 'p' : format, &args[i],
                result);
    }
    put(l, ")");
}

static void put_result(struct line *l, uint64_t nr, int64_t result)
{
    const struct error_name *e;
    bool is_address = nr == 9 || nr == 12 || nr == 25; /* mmap brk mremap */

    if (result <= -512 && result > -600) {
        e = error_name(-result);
        put(l, " = ? %s (%s)", e->name, e->text);
    } else if (result < 0 && result > -4096) {
        e = error_name(-result);
        put(l, " = -1 %s (%s)", e->name, e->text);
    } else {
        if (is_address && result != 0)
            put(l, " = 0x%lx", (uint64_t)result);
        else
            put(l, " = %ld", result);
    }
}

void strace_enter(uint64_t nr, const uint64_t args[6])
{
    struct line l = {0};

    /* exit, exit_group, execve, rt_sigreturn leave nothing to look at. */
    if (nr != 60 && nr != 231 && nr != 59 && nr != 15)
        return;
    l.buf = kmalloc(LINE_SIZE);
    if (l.buf == NULL)
        return;
    put_call(&l, nr, args, 0);
    if (nr == 60 || nr == 231)
        put(&l, " = ?");
    control_send("trace %s", l.buf);
    kfree(l.buf);
}

void strace_call(struct regs *regs, uint64_t nr, const uint64_t args[6],
                 int64_t result)
{
    struct line l = {0};

    if (nr == 15 || (nr == 59 && result == 0))
        return;
    l.buf = kmalloc(LINE_SIZE);
    if (l.buf == NULL)
        return;
    put_call(&l, nr, args, result);
    put_result(&l, nr, result);
    control_send("trace %s", l.buf);
    kfree(l.buf);
}
