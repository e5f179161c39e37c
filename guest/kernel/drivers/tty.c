/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The terminal: files on it, its ioctls, its output half, and the thread that
 * feeds it. The launcher has put the host's terminal into raw mode, so
 * everything a terminal does happens here. Locks: tty.h.
 *
 * file->priv is a port number + 1, or NULL (opened by name): the main one.
 * Wake protocol: the tty thread changes the ring under tty.lock, then wakes
 * read_wait; readers check under the lock before they sleep.
 */
#include "drivers/tty.h"

#include "drivers/console.h"
#include "lib/errno.h"
#include "lib/string.h"
#include "linux/task.h"
#include "param.h"

#define SIGNAL_WINCH 28
#define DECISECOND 100000000l

/* asm-generic/ioctls.h */
enum {
    TCGETS = 0x5401, TCSETS, TCSETSW, TCSETSF,
    TCSBRK = 0x5409, TCXONC, TCFLSH,
    TIOCEXCL = 0x540c, TIOCNXCL, TIOCSCTTY, TIOCGPGRP, TIOCSPGRP, TIOCOUTQ,
    TIOCSTI, TIOCGWINSZ, TIOCSWINSZ,
    FIONREAD = 0x541b, TIOCNOTTY = 0x5422, TIOCGETD = 0x5424,
    TCSBRKP = 0x5425, TIOCGSID = 0x5429,
};
#define TCGETS2 0x802c542au
#define TCSETS2 0x402c542bu
#define TCSETSW2 0x402c542cu
#define TCSETSF2 0x402c542du

struct tty tty = {
    .termios = {
        .iflag = ICRNL | IXON,
        .oflag = OPOST | ONLCR,
        .cflag = B38400 | CS8 | CREAD,
        .lflag = ISIG | ICANON | ECHO | ECHOE | ECHOK | ECHOCTL | ECHOKE |
                 IEXTEN,
        .cc = {[VINTR] = 3, [VQUIT] = 0x1c, [VERASE] = 0x7f, [VKILL] = 0x15,
               [VEOF] = 4, [VMIN] = 1, [VSTART] = 0x11, [VSTOP] = 0x13,
               [VSUSP] = 0x1a, [VREPRINT] = 0x12, [VDISCARD] = 0x0f,
               [VWERASE] = 0x17, [VLNEXT] = 0x16},
        .ispeed = 38400,
        .ospeed = 38400,
    },
};

void tty_init(void)
{
    mutex_init(&tty.lock);
    mutex_init(&tty.out_lock);
    waitq_init(&tty.read_wait);
    waitq_init(&tty.space_wait);
    waitq_init(&tty.flow_wait);
    tty.rows = boot_params.rows;
    tty.cols = boot_params.cols;
    if (!(boot_params.tty & 2) && (boot_params.tty & 4) && !boot_params.merge)
        tty.port = CONSOLE_STDERR;
    if ((boot_params.tty & 3) != 3) {
        /* The host's terminal is not raw: it edits, echoes and adds CR. */
        tty.termios.lflag &= ~(uint32_t)(ECHO | ECHOE | ECHOK | ECHOKE);
        tty.termios.oflag &= ~(uint32_t)OPOST;
    }
}

void tty_set_winsize(uint16_t rows, uint16_t cols)
{
    bool is_new;

    mutex_lock(&tty.lock);
    is_new = rows != tty.rows || cols != tty.cols;
    tty.rows = rows;
    tty.cols = cols;
    mutex_unlock(&tty.lock);
    if (is_new)
        signal_from_host(SIGNAL_WINCH);
}

/* ---- the thread ---- */

static void tty_hang_up(void)
{
    mutex_lock(&tty.lock);
    tty.is_hung_up = true;
    mutex_unlock(&tty.lock);
    wait_wake_key(&tty.read_wait, 1, EPOLLIN | EPOLLRDNORM | EPOLLHUP);
}

static void tty_thread(void *arg)
{
    uint8_t buf[64];
    ssize_t n;

    for (;;) {
        wait_event(&tty.space_wait, tty_has_room(), 0, NO_DEADLINE);
        n = console_read(buf, sizeof(buf));
        if (n == -EAGAIN) {
            wait_event(&console_read_wait,
                       console_port_readable(CONSOLE_STDIO), 0, NO_DEADLINE);
            continue;
        }
        if (n <= 0)
            break;
        mutex_lock(&tty.lock);
        tty_input_bytes(buf, (size_t)n);
        mutex_unlock(&tty.lock);
    }
    tty_hang_up();
    thread_exit();
}

void tty_start(void)
{
    bool is_first;

    mutex_lock(&tty.lock);
    is_first = !tty.has_thread;
    tty.has_thread = true;
    mutex_unlock(&tty.lock);
    if (is_first && !kthread_create("tty", tty_thread, NULL))
        tty_hang_up();
}

/* ---- read ---- */

/* REQUIRES(tty.lock). One line, or what is there. */
static ssize_t tty_take(struct iov_iter *to)
{
    bool canonical = (tty.termios.lflag & ICANON) != 0;
    uint32_t end = canonical ? tty.canon : tty.head;
    ssize_t done = 0;

    while (tty.tail != end && to->count) {
        uint32_t at = tty.tail % TTY_BUF, n = 0;
        uint32_t max = MIN(end - tty.tail, TTY_BUF - at);
        bool is_line_end = false;
        ssize_t k;

        max = (uint32_t)MIN((size_t)max, to->count);
        while (canonical && n < max && !is_line_end)
            is_line_end = tty_is_delimiter(at + n++);
        if (!canonical)
            n = max;
        if (is_line_end && tty.data[at + n - 1] == 0) { /* EOF */
            if (n > 1) {
                k = iter_copy_to(to, &tty.data[at], n - 1);
                if (k < 0)
                    return done ? done : k;
                done += k;
            }
            tty.tail += n;
            break;
        }
        k = iter_copy_to(to, &tty.data[at], n);
        if (k < 0)
            return done ? done : k;
        tty.tail += (uint32_t)k;
        done += k;
        if (is_line_end)
            break;
    }
    /* A line that filled the buffer exactly up to its EOF mark has ended. */
    if (canonical && done && to->count == 0 && tty.tail != end &&
        tty_is_delimiter(tty.tail) && tty.data[tty.tail % TTY_BUF] == 0)
        tty.tail++;
    wait_wake(&tty.space_wait, 1);
    return done;
}

/* Waits for the read to be satisfied: how many bytes must be there, until
 * when (man 3 termios, MIN and TIME). */
static int tty_wait_input(struct file *f, size_t count)
{
    uint8_t vmin, vtime;
    size_t want = 1, have, last = 0;
    nsec_t deadline = NO_DEADLINE;
    bool canonical;
    int err;

    mutex_lock(&tty.lock);
    canonical = (tty.termios.lflag & ICANON) != 0;
    vmin = tty.termios.cc[VMIN];
    vtime = tty.termios.cc[VTIME];
    mutex_unlock(&tty.lock);
    if (!canonical && vmin)
        want = MIN((size_t)vmin, count);
    if (!canonical && !vmin) {
        if (!vtime)
            return 0;
        deadline = clock_monotonic() + vtime * DECISECOND;
    }
    for (;;) {
        have = tty_nr_readable();
        if (have >= want || atomic_load_acquire(&tty.is_hung_up))
            return 0;
        if (f->flags & O_NONBLOCK)
            return have ? 0 : -EAGAIN;
        if (!canonical && vmin && vtime && have && have != last)
            deadline = clock_monotonic() + vtime * DECISECOND;
        last = have;
        err = wait_event(&tty.read_wait,
                         tty_nr_readable() > last ||
                             atomic_load_acquire(&tty.is_hung_up),
                         WAIT_INTERRUPTIBLE, deadline);
        if (err == -ETIMEDOUT)
            return 0;
        if (err)
            return -ERESTARTSYS;
    }
}

static ssize_t tty_read(struct file *f, struct iov_iter *to, off_t *pos)
{
    ssize_t n;
    int err;

    if (!(boot_params.tty & 1))
        return -EIO; /* no keyboard */
    tty_start();
    if (to->count == 0)
        return 0;
    for (;;) {
        bool is_canonical, had_input;

        err = tty_wait_input(f, to->count);
        if (err)
            return err;
        mutex_lock(&tty.lock);
        is_canonical = (tty.termios.lflag & ICANON) != 0;
        had_input = tty_nr_readable() != 0;
        n = tty_take(to);
        mutex_unlock(&tty.lock);
        /* Another reader may have been quicker. */
        if (n || had_input || tty.is_hung_up ||
            (!is_canonical && !tty.termios.cc[VMIN]))
            return n;
    }
}

/* ---- write ---- */

static enum console_port tty_port(struct file *f)
{
    return f->priv ? (enum console_port)((uintptr_t)f->priv - 1) : tty.port;
}

/* REQUIRES(tty.out_lock). Expands n bytes in the last quarter of tty.out to its
 * start (OPOST); returns the new length, at most twice n. */
static size_t tty_process_output(const char *in, size_t n)
{
    uint32_t oflag = tty.termios.oflag, column = tty.column;
    size_t len = 0;

    for (size_t i = 0; i < n; i++) {
        char c = in[i];

        if (c == '\n' && (oflag & ONLCR))
            tty.out[len++] = '\r';
        if (c == '\n' && !(oflag & (ONLCR | ONLRET))) {
            tty.out[len++] = c; /* the column stays */
            continue;
        }
        if (c == '\r' && (oflag & OCRNL)) {
            tty.out[len++] = '\n';
            continue;
        }
        if (c == '\r' && (oflag & ONOCR) && column == 0)
            continue;
        column = tty_column_after(column, (uint8_t)c);
        tty.out[len++] = c;
    }
    tty.column = column;
    return len;
}

static ssize_t tty_write(struct file *f, struct iov_iter *from, off_t *pos)
{
    char *in = tty.out + TTY_OUT_BUF - TTY_OUT_BUF / 4;
    ssize_t done = 0, k = 0;

    if (tty.is_stopped && (f->flags & O_NONBLOCK))
        return -EAGAIN;
    if (wait_event(&tty.flow_wait, !atomic_load_acquire(&tty.is_stopped),
                   WAIT_INTERRUPTIBLE, NO_DEADLINE))
        return -ERESTARTSYS;
    mutex_lock(&tty.out_lock);
    while (from->count) {
        ssize_t n = iter_copy_from(from, in,
                                   MIN(from->count, TTY_OUT_BUF / 4ul));
        char *text = in;
        size_t len = (size_t)n;

        k = n;
        if (n <= 0)
            break;
        if (tty.termios.oflag & OPOST) {
            text = tty.out;
            len = tty_process_output(in, len);
        }
        k = console_write(tty_port(f), text, len, true);
        if (k < 0)
            break;
        if ((size_t)k < len) /* interrupted in between: finish the piece */
            console_write(tty_port(f), text + k, len - (size_t)k, false);
        done += n;
        if ((size_t)k < len)
            break;
    }
    mutex_unlock(&tty.out_lock);
    if (k == -EINTR)
        k = -ERESTARTSYS;
    return done ? done : k;
}

static uint32_t tty_poll(struct file *f, struct poll_table *pt)
{
    uint32_t mask = console_poll_out(tty_port(f), f, pt);
    bool canonical;
    size_t want;

    if (atomic_load_acquire(&tty.is_stopped))
        mask = 0;
    poll_add(f, &tty.read_wait, pt);
    mutex_lock(&tty.lock);
    canonical = (tty.termios.lflag & ICANON) != 0;
    want = !canonical && !tty.termios.cc[VTIME] ? tty.termios.cc[VMIN] : 1;
    if (tty_nr_readable() >= MAX(want, 1ul))
        mask |= EPOLLIN | EPOLLRDNORM;
    if (tty.is_hung_up)
        mask |= EPOLLIN | EPOLLRDNORM | EPOLLHUP;
    mutex_unlock(&tty.lock);
    return mask;
}

/* ---- ioctl ---- */

static int tty_set_termios(uint64_t arg, size_t size, bool drain, bool flush)
{
    struct termios_abi t;
    uint32_t changed;

    mutex_lock(&tty.lock);
    t = tty.termios;
    mutex_unlock(&tty.lock);
    if (copy_from_user(&t, (void __user *)arg, size))
        return -EFAULT;
    if (drain)
        console_drain();
    mutex_lock(&tty.lock);
    if (flush)
        tty_flush_input();
    changed = tty.termios.lflag ^ t.lflag;
    tty.termios = t;
    if (changed & ICANON)
        tty_mode_changed();
    if (!(t.iflag & IXON))
        atomic_store_release(&tty.is_stopped, false);
    mutex_unlock(&tty.lock);
    wait_wake(&tty.flow_wait, 1);
    wait_wake_key(&tty.read_wait, 1, EPOLLIN | EPOLLRDNORM);
    return 0;
}

static int tty_get_termios(uint64_t arg, size_t size)
{
    struct termios_abi t;

    mutex_lock(&tty.lock);
    t = tty.termios;
    mutex_unlock(&tty.lock);
    return copy_to_user((void __user *)arg, &t, size);
}

static int tty_put_int(uint64_t arg, int32_t value)
{
    return put_user((int32_t __user *)arg, value);
}

static int tty_pgrp(bool set, uint64_t arg)
{
    struct process *p = current_process();
    int32_t value;

    if (!set)
        return tty_put_int(arg, tty.pgrp ? tty.pgrp : p->pgid);
    if (get_user(value, (int32_t __user *)arg))
        return -EFAULT;
    if (value <= 0)
        return -EINVAL;
    tty.pgrp = value;
    return 0;
}

static int tty_winsize(bool set, uint64_t arg)
{
    uint16_t size[4] = {tty.rows, tty.cols, 0, 0};

    if (!set)
        return copy_to_user((void __user *)arg, size, sizeof(size));
    if (copy_from_user(size, (void __user *)arg, sizeof(size)))
        return -EFAULT;
    tty_set_winsize(size[0], size[1]);
    return 0;
}

static int tty_flush(uint64_t which)
{
    if (which > 2)
        return -EINVAL;
    if (which == 1) /* output is already on its way */
        return 0;
    mutex_lock(&tty.lock);
    tty_flush_input();
    mutex_unlock(&tty.lock);
    return 0;
}

static int tty_flow(uint64_t action)
{
    if (action > 3)
        return -EINVAL;
    if (action < 2) {
        atomic_store_release(&tty.is_stopped, action == 0);
        wait_wake(&tty.flow_wait, 1);
    }
    return 0;
}

static int64_t tty_ioctl(struct file *f, uint32_t cmd, uint64_t arg)
{
    size_t n;

    switch (cmd) {
    case TCGETS:
        return tty_get_termios(arg, TERMIOS_OLD_SIZE);
    case TCGETS2:
        return tty_get_termios(arg, sizeof(struct termios_abi));
    case TCSETS:
    case TCSETSW:
    case TCSETSF:
        return tty_set_termios(arg, TERMIOS_OLD_SIZE, cmd != TCSETS,
                               cmd == TCSETSF);
    case TCSETS2:
    case TCSETSW2:
    case TCSETSF2:
        return tty_set_termios(arg, sizeof(struct termios_abi),
                               cmd != TCSETS2, cmd == TCSETSF2);
    case TIOCGWINSZ:
    case TIOCSWINSZ:
        return tty_winsize(cmd == TIOCSWINSZ, arg);
    case TIOCGPGRP:
    case TIOCSPGRP:
        return tty_pgrp(cmd == TIOCSPGRP, arg);
    case TIOCGSID:
        return tty_put_int(arg, current_process()->sid);
    case FIONREAD:
        mutex_lock(&tty.lock);
        n = tty_nr_readable();
        mutex_unlock(&tty.lock);
        return tty_put_int(arg, (int32_t)n);
    case TCSBRK:
    case TCSBRKP:
        console_drain();
        return 0;
    case TCXONC:
        return tty_flow(arg);
    case TCFLSH:
        return tty_flush(arg);
    case TIOCOUTQ:
    case TIOCGETD: /* N_TTY */
        return tty_put_int(arg, 0);
    case TIOCSCTTY: /* the one terminal is everybody's */
    case TIOCNOTTY:
    case TIOCEXCL: /* root opens it in any case */
    case TIOCNXCL:
        return 0;
    case TIOCSTI:
        return -EIO; /* dev.tty.legacy_tiocsti = 0 */
    default:
        return -ENOTTY;
    }
}

const struct file_ops tty_file_ops = {
    .read = tty_read,
    .write = tty_write,
    .poll = tty_poll,
    .ioctl = tty_ioctl,
};

int tty_open(int fd, enum console_port port, struct file **out)
{
    void *priv = (void *)((uintptr_t)port + 1);
    struct inode *inode;
    int err = vfs_open(NULL, "/dev/console", O_RDWR | O_NOCTTY, 0, out);

    if (!err) {
        if ((*out)->ops == &tty_file_ops) {
            (*out)->priv = priv;
            return 0;
        }
        file_put(*out);
    }
    err = anon_inode_create(S_IFCHR | 0620, &inode);
    if (err)
        return err;
    inode->rdev = 5 << 8 | 1; /* /dev/console */
    err = file_create(inode, NULL, &tty_file_ops, O_RDWR, priv, out);
    inode_put(inode);
    return err;
}
