/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The three ports to the launcher on one virtio-serial device.
 *
 * Port numbers: a device with max_nr_ports = 4 carries virtserialports 1-3,
 * any other virtconsoles 0-2. (QEMU drops what it cannot write at once for
 * a virtconsole; a virtserialport waits. The layout with 1-3 is lossless.)
 * Output needs no handshake; input is opened by one PORT_OPEN message.
 *
 * Output: bytes are copied into a ring of pages, one descriptor per piece, and
 * the host is kicked unless it has not yet come to what it was told before
 * (EVENT_IDX), so bulk output is batched. Descriptors are used in order:
 * piece number s sits in descriptor s % size. The ring starts with one page
 * and grows once to 64 KiB.
 * Input: a few page-sized buffers, handed back when consumed.
 *
 * Locks: dev_lock (mutex: start of device and queues, control queue),
 * tx.lock and rx.lock (mutexes, one per port and direction), in the order
 * tx/rx -> dev_lock. Interrupt handlers only read indices and wake.
 * Wake protocol: the sleeper asks for an interrupt, then checks the used
 * index after wait_prepare; the queue's handler wakes tx.wait or rx.wait.
 */
#include "arch/arch.h"
#include "drivers/console.h"
#include "drivers/drivers.h"
#include "drivers/virtio.h"
#include "lib/errno.h"
#include "lib/printk.h"
#include "lib/string.h"
#include "mm/page.h"
#include "sched/mutex.h"
#include "sched/thread.h"

#define NR_PORTS 3
#define FEATURE_MULTIPORT 2u
#define TX_SIZE 128u
#define TX_GROWN_ORDER 4u
#define RX_BUFS 4u
#define RX_BUF_SIZE 4096u
#define RX_ORDER 2u
#define POLL_NS 60000l
#define DRAIN_NS (2 * NSEC_PER_SEC)
#define LINE_MAX 4000
#define CONTROL_TX_QUEUE 3
#define EVENT_PORT_OPEN 6

struct console_tx {
    struct mutex lock;
    struct waitq wait;
    bool started; /* atomic */
    /* --- protected by lock --- */
    struct virtq q;
    uint8_t *buf;
    uint32_t order, size;    /* of buf, bytes */
    uint32_t head, tail;     /* bytes put and taken, running */
    uint32_t lens[TX_SIZE];
};

struct console_rx {
    struct mutex lock;
    struct waitq *wait;
    bool started; /* atomic */
    /* --- protected by lock; indices also read without --- */
    struct virtq q;
    uint8_t *bufs;
    uint32_t cur_offset;     /* into the first used buffer */
    uint64_t total;          /* bytes handed out */
    uint64_t eof_at;         /* atomic; ~0 = not yet known */
};

struct port_message_wire {
    uint32_t id;
    uint16_t event, value;
};

static struct {
    struct mutex dev_lock;
    /* --- protected by dev_lock --- */
    struct virtio_device *dev; /* atomic */
    bool has_looked;           /* atomic */
    unsigned first_port;
    struct virtq control_queue;
    struct port_message_wire messages[4];
    /* --- own locks --- */
    struct console_tx tx[NR_PORTS];
    struct console_rx rx[NR_PORTS];
    struct waitq control_wait;
    struct mutex line_lock;
    char line[LINE_MAX + 1]; /* protected by line_lock */
} console;

struct waitq console_read_wait;

void virtio_console_init(void)
{
    mutex_init(&console.dev_lock);
    mutex_init(&console.line_lock);
    waitq_init(&console_read_wait);
    waitq_init(&console.control_wait);
    for (int i = 0; i < NR_PORTS; i++) {
        mutex_init(&console.tx[i].lock);
        waitq_init(&console.tx[i].wait);
        mutex_init(&console.rx[i].lock);
        console.rx[i].eof_at = ~0ul;
        console.rx[i].wait = &console.control_wait;
    }
    console.rx[CONSOLE_STDIO].wait = &console_read_wait;
}

/* ---- the device ---- */

static void tx_interrupt(struct virtq *q)
{
    struct console_tx *tx = container_of(q, struct console_tx, q);

    if (waitq_active(&tx->wait))
        wait_wake_key(&tx->wait, 1, EPOLLOUT | EPOLLWRNORM);
}

static void rx_interrupt(struct virtq *q)
{
    struct console_rx *rx = container_of(q, struct console_rx, q);

    if (atomic_load_acquire(&rx->started) && virtq_nr_used(q))
        wait_wake_key(rx->wait, 1, EPOLLIN | EPOLLRDNORM);
}

static struct virtio_device *console_device(void)
{
    struct virtio_device *dev;

    if (atomic_load_acquire(&console.has_looked))
        return console.dev;
    mutex_lock(&console.dev_lock);
    dev = console.dev;
    if (!console.has_looked) {
        dev = virtio_find(VIRTIO_ID_CONSOLE, 0);
        if (dev && virtio_negotiate(dev, FEATURE_MULTIPORT) != 0)
            dev = NULL;
        if (dev) {
            virtio_start(dev);
            console.first_port = virtio_config32(dev, 4) == 4;
        }
        console.dev = dev;
        atomic_store_release(&console.has_looked, true);
    }
    mutex_unlock(&console.dev_lock);
    return dev;
}

/* Queue numbers: virtio 1.2, 5.3.2. */
static unsigned rx_queue(unsigned port)
{
    unsigned nr = console.first_port + port;

    return nr ? 2 * nr + 2 : 0;
}

/* ---- output ---- */

/* REQUIRES(tx->lock) */
static int tx_start(struct console_tx *tx, unsigned port)
{
    struct virtio_device *dev = console_device();
    struct page *p;
    int err;

    if (!dev)
        return -ENODEV;
    p = page_alloc(0, 0);
    if (!p)
        return -ENOMEM;
    mutex_lock(&console.dev_lock);
    err = virtq_setup(dev, &tx->q, rx_queue(port) + 1, TX_SIZE);
    mutex_unlock(&console.dev_lock);
    if (err) {
        page_free(p, 0);
        return err;
    }
    for (unsigned i = 0; i < TX_SIZE; i++)
        tx->q.avail->ring[i] = (uint16_t)i;
    tx->buf = page_to_virt(p);
    tx->size = PAGE_SIZE;
    atomic_store_release(&tx->started, true);
    return 0;
}

/* REQUIRES(tx->lock): takes back what the host has taken. */
static void tx_reap(struct console_tx *tx)
{
    for (uint16_t n = virtq_nr_used(&tx->q); n; n--) {
        tx->tail += tx->lens[tx->q.last_used % TX_SIZE];
        tx->q.last_used++;
    }
}

static unsigned tx_in_flight(struct console_tx *tx)
{
    return (uint16_t)(tx->q.avail_idx - tx->q.last_used);
}

/* REQUIRES(tx->lock). Puts what fits; bytes, or -EFAULT. */
static ssize_t tx_put(struct console_tx *tx, struct iov_iter *from)
{
    ssize_t done = 0, k = 0;
    unsigned nr_pieces = 0;

    tx_reap(tx);
    while (from->count && tx_in_flight(tx) + nr_pieces < TX_SIZE) {
        uint32_t at = tx->head % tx->size;
        uint32_t room = tx->size - (tx->head - tx->tail);
        size_t n = MIN((size_t)MIN(room, tx->size - at), from->count);
        unsigned slot = (uint16_t)(tx->q.avail_idx + nr_pieces) % TX_SIZE;

        if (n == 0)
            break;
        k = iter_copy_from(from, tx->buf + at, n);
        if (k <= 0)
            break;
        tx->q.desc[slot].addr = virt_to_phys(tx->buf + at);
        tx->q.desc[slot].len = tx->lens[slot] = (uint32_t)k;
        tx->q.desc[slot].flags = 0;
        tx->head += (uint32_t)k;
        done += k;
        nr_pieces++;
        if ((size_t)k < n)
            break;
    }
    if (nr_pieces)
        virtq_publish(&tx->q, nr_pieces);
    return done ? done : k;
}

/* REQUIRES(tx->lock). Waits until at least `after` pieces were taken. */
static int tx_wait(struct console_tx *tx, unsigned after, bool intr)
{
    nsec_t end = clock_monotonic() + POLL_NS;
    int err = 0;

    while (virtq_nr_used(&tx->q) < after) {
        if (clock_monotonic() > end)
            goto sleep;
        for (int i = 0; i < 16; i++)
            cpu_relax();
    }
    goto out;
sleep:
    mutex_lock(&console.dev_lock);
    err = virtq_irq_enable(&tx->q, tx_interrupt, VIRTQ_ANY_CPU);
    mutex_unlock(&console.dev_lock);
    if (!err && !virtq_interrupt_after(&tx->q, after))
        err = wait_event(&tx->wait, virtq_nr_used(&tx->q) >= after,
                         intr ? WAIT_INTERRUPTIBLE : 0, NO_DEADLINE);
out:
    tx_reap(tx);
    return err;
}

/* REQUIRES(tx->lock). A bigger ring once the old one is empty; staying
 * small is no error. */
static int tx_grow(struct console_tx *tx, bool intr)
{
    struct page *p;
    int err;

    tx_reap(tx);
    if (tx_in_flight(tx)) {
        err = tx_wait(tx, tx_in_flight(tx), intr);
        if (err)
            return err;
    }
    p = page_alloc(TX_GROWN_ORDER, PAGE_ATOMIC);
    if (!p)
        return 0;
    page_free(virt_to_page(tx->buf), tx->order);
    tx->buf = page_to_virt(p);
    tx->order = TX_GROWN_ORDER;
    tx->size = PAGE_SIZE << TX_GROWN_ORDER;
    tx->head = tx->tail = 0;
    return 0;
}

/* Hand-started machines without virtio-serial: the serial line. */
static ssize_t console_write_serial(struct iov_iter *from)
{
    char chunk[65];
    ssize_t done = 0, k;

    while (from->count) {
        k = iter_copy_from(from, chunk, MIN(from->count, 64ul));
        if (k <= 0)
            break;
        chunk[k] = 0;
        printk("%s", chunk);
        done += k;
    }
    return done ? done : -EFAULT;
}

ssize_t console_write_iter(enum console_port port, struct iov_iter *from,
                           bool nonblock, bool intr)
{
    struct console_tx *tx = &console.tx[port];
    ssize_t done = 0, k = 0;

    if (from->count == 0)
        return 0;
    mutex_lock(&tx->lock);
    if (!tx->started) {
        boot_mark("first output");
        k = tx_start(tx, port);
        boot_mark("console port ready");
        if (k == -ENODEV && port != CONSOLE_CONTROL)
            k = console_write_serial(from);
        if (!tx->started)
            goto out;
    }
    while (from->count) {
        bool is_big = from->count > tx->size / 2;

        if (is_big && tx->order == 0 && !nonblock) {
            k = tx_grow(tx, intr);
            if (k)
                break;
        }
        k = tx_put(tx, from);
        if (k < 0)
            break;
        done += k;
        if (k > 0)
            continue;
        k = -EAGAIN;
        if (nonblock)
            break;
        k = tx_wait(tx, MAX(tx_in_flight(tx) / 2, 1u), intr);
        if (k)
            break;
    }
out:
    mutex_unlock(&tx->lock);
    return done ? done : k;
}

ssize_t console_write(enum console_port port, const void *buf, size_t n,
                      bool intr)
{
    struct iov_iter from;

    iter_init_kernel(&from, (void *)buf, n);
    return console_write_iter(port, &from, false, intr);
}

uint32_t console_poll_out(enum console_port port, struct file *f,
                          struct poll_table *pt)
{
    struct console_tx *tx = &console.tx[port];
    bool has_room = true;

    poll_add(f, &tx->wait, pt);
    if (!atomic_load_acquire(&tx->started) || !mutex_trylock(&tx->lock))
        return EPOLLOUT | EPOLLWRNORM;
    tx_reap(tx);
    if (tx->head - tx->tail == tx->size || tx_in_flight(tx) == TX_SIZE) {
        mutex_lock(&console.dev_lock);
        virtq_irq_enable(&tx->q, tx_interrupt, VIRTQ_ANY_CPU);
        mutex_unlock(&console.dev_lock);
        has_room = virtq_interrupt_after(&tx->q, 1);
    }
    mutex_unlock(&tx->lock);
    return has_room ? EPOLLOUT | EPOLLWRNORM : 0;
}

/* With interrupts on: until all is taken, however long the host lets us
 * wait. With interrupts off (panic): polls for two seconds. */
void console_drain(void)
{
    nsec_t end = clock_monotonic() + DRAIN_NS;

    for (int i = 0; i < NR_PORTS; i++) {
        struct console_tx *tx = &console.tx[i];

        if (!atomic_load_acquire(&tx->started))
            continue;
        if (irq_enabled()) {
            mutex_lock(&tx->lock);
            tx_reap(tx);
            while (tx_in_flight(tx) &&
                   tx_wait(tx, tx_in_flight(tx), false) == 0)
                ;
            mutex_unlock(&tx->lock);
            continue;
        }
        while (atomic_load_acquire(&tx->q.used->idx) !=
                   atomic_load_relaxed(&tx->q.avail->idx) &&
               clock_monotonic() < end)
            cpu_relax();
    }
}

void control_send(const char *fmt, ...)
{
    va_list args;
    int n;

    mutex_lock(&console.line_lock);
    va_start(args, fmt);
    n = vsnprintf(console.line, LINE_MAX - 1, fmt, args);
    va_end(args);
    n = MIN(n, LINE_MAX - 2);
    for (int i = 0; i < n; i++)
        if (console.line[i] == '\n')
            console.line[i] = ' ';
    console.line[n] = '\n';
    console_write(CONSOLE_CONTROL, console.line, (size_t)n + 1, false);
    mutex_unlock(&console.line_lock);
}

/* ---- input ---- */

/* REQUIRES(console.dev_lock). Tells the host that the port is open. */
static void port_open(struct virtio_device *dev, unsigned port)
{
    struct virtq *q = &console.control_queue;
    struct port_message_wire *m = &console.messages[port];

    if (!(dev->features & FEATURE_MULTIPORT))
        return;
    if (!q->size && virtq_setup(dev, q, CONTROL_TX_QUEUE, 8) != 0)
        return;
    m->id = console.first_port + port;
    m->event = EVENT_PORT_OPEN;
    m->value = 1;
    q->desc[port].addr = virt_to_phys(m);
    q->desc[port].len = sizeof(*m);
    q->desc[port].flags = 0;
    q->avail->ring[q->avail_idx % q->size] = (uint16_t)port;
    virtq_publish(q, 1);
}

int console_rx_start(enum console_port port)
{
    struct console_rx *rx = &console.rx[port];
    struct virtio_device *dev;
    struct page *p = NULL;
    int err = 0;

    if (atomic_load_acquire(&rx->started))
        return 0;
    dev = console_device();
    if (!dev)
        return -ENODEV;
    mutex_lock(&rx->lock);
    mutex_lock(&console.dev_lock);
    if (rx->started)
        goto out;
    p = page_alloc(RX_ORDER, 0);
    err = p ? virtq_setup(dev, &rx->q, rx_queue(port), RX_BUFS) : -ENOMEM;
    if (!err)
        err = virtq_irq_enable(&rx->q, rx_interrupt, VIRTQ_ANY_CPU);
    if (err)
        goto out;
    rx->bufs = page_to_virt(p);
    p = NULL;
    for (unsigned i = 0; i < RX_BUFS; i++) {
        rx->q.desc[i].addr = virt_to_phys(rx->bufs + i * RX_BUF_SIZE);
        rx->q.desc[i].len = RX_BUF_SIZE;
        rx->q.desc[i].flags = VIRTQ_DESC_WRITE;
        rx->q.avail->ring[i] = (uint16_t)i;
    }
    virtq_interrupt_after(&rx->q, 1);
    atomic_store_release(&rx->started, true);
    virtq_publish(&rx->q, RX_BUFS);
    port_open(dev, port);
out:
    if (p)
        page_free(p, RX_ORDER);
    mutex_unlock(&console.dev_lock);
    mutex_unlock(&rx->lock);
    return err;
}

/* REQUIRES(rx->lock). Takes at most one buffer; bytes, 0 when none is there,
 * -EFAULT. *nr_posted counts buffers to publish. */
static ssize_t rx_take(struct console_rx *rx, struct iov_iter *to,
                       unsigned *nr_posted)
{
    struct virtq *q = &rx->q;
    uint64_t limit = atomic_load_acquire(&rx->eof_at) - rx->total;
    uint32_t id, len;
    ssize_t k = 0;

    if (!virtq_nr_used(q))
        return 0;
    id = q->used->ring[q->last_used % RX_BUFS].id % RX_BUFS;
    len = MIN(q->used->ring[q->last_used % RX_BUFS].len, RX_BUF_SIZE);
    len -= MIN(rx->cur_offset, len);
    if (len) {
        size_t n = MIN(MIN((size_t)len, to->count), limit);

        k = iter_copy_to(to, rx->bufs + id * RX_BUF_SIZE + rx->cur_offset, n);
        if (k < 0)
            return k;
        rx->total += (uint64_t)k;
        rx->cur_offset += (uint32_t)k;
    }
    if ((size_t)k == len) {
        uint16_t at = (uint16_t)(q->avail_idx + *nr_posted);

        rx->cur_offset = 0;
        q->last_used++;
        q->avail->ring[at % RX_BUFS] = (uint16_t)id;
        ++*nr_posted;
    }
    return k;
}

ssize_t console_read_iter(enum console_port port, struct iov_iter *to)
{
    struct console_rx *rx = &console.rx[port];
    unsigned nr_posted = 0;
    ssize_t done = 0, k = console_rx_start(port);

    if (k == -ENODEV)
        return 0; /* no host, no input */
    if (k < 0)
        return k;
    mutex_lock(&rx->lock);
    k = 0;
    while (to->count) {
        if (rx->total >= atomic_load_acquire(&rx->eof_at))
            goto out;
        if (!virtq_nr_used(&rx->q)) {
            k = -EAGAIN;
            if (!virtq_interrupt_after(&rx->q, 1))
                break;
        }
        k = rx_take(rx, to, &nr_posted);
        if (k < 0)
            break;
        done += k;
    }
out:
    if (nr_posted)
        virtq_publish(&rx->q, nr_posted);
    mutex_unlock(&rx->lock);
    return done ? done : k;
}

ssize_t console_read(void *buf, size_t n)
{
    struct iov_iter to;

    iter_init_kernel(&to, buf, n);
    return console_read_iter(CONSOLE_STDIO, &to);
}

bool console_port_readable(enum console_port port)
{
    struct console_rx *rx = &console.rx[port];

    if (!atomic_load_acquire(&rx->started))
        return false;
    return virtq_interrupt_after(&rx->q, 1) ||
           atomic_load_relaxed(&rx->total) >=
               atomic_load_acquire(&rx->eof_at);
}

bool console_readable(void)
{
    if (console_rx_start(CONSOLE_STDIO) == -ENODEV)
        return true; /* end of file */
    return console_port_readable(CONSOLE_STDIO);
}

size_t console_nr_readable(void)
{
    struct console_rx *rx = &console.rx[CONSOLE_STDIO];
    size_t n = 0;

    if (console_rx_start(CONSOLE_STDIO) != 0)
        return 0;
    mutex_lock(&rx->lock);
    for (uint16_t i = 0; i < virtq_nr_used(&rx->q); i++)
        n += rx->q.used->ring[(rx->q.last_used + i) % RX_BUFS].len;
    n = MIN(n - rx->cur_offset, rx->eof_at - rx->total);
    mutex_unlock(&rx->lock);
    return n;
}

void console_set_eof(uint64_t at)
{
    atomic_store_release(&console.rx[CONSOLE_STDIO].eof_at, at);
    wait_wake_key(&console_read_wait, 1, EPOLLIN | EPOLLRDNORM | EPOLLHUP);
}

struct waitq *console_control_wait(void)
{
    return &console.control_wait;
}
