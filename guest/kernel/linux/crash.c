/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The crash report: what a program died of, sent to the user as `message`
 * lines. Read-only: whatever cannot be read is left out.
 */
#include "drivers/drivers.h"
#include "exec/exec.h"
#include "lib/string.h"
#include "linux/siginfo.h"
#include "linux/task.h"
#include "mm/heap.h"
#include "mm/page.h"

#define MAX_FRAMES 24
#define SCAN_WORDS 512
#define MAX_SCANNED 12

static const char *const signal_names[32] = {
    [SIGHUP] = "SIGHUP",   [SIGINT] = "SIGINT",   [SIGQUIT] = "SIGQUIT",
    [SIGILL] = "SIGILL",   [SIGTRAP] = "SIGTRAP", [SIGABRT] = "SIGABRT",
    [SIGBUS] = "SIGBUS",   [SIGFPE] = "SIGFPE",   [SIGKILL] = "SIGKILL",
    [SIGSEGV] = "SIGSEGV", [SIGXCPU] = "SIGXCPU", [SIGXFSZ] = "SIGXFSZ",
    [SIGSYS] = "SIGSYS",
};

/* "0x... /lib/libc.so.6+0x1234" into buf. */
static void describe(vaddr_t addr, char *buf, size_t size)
{
    struct mm *mm = current_process()->mm;
    struct vma_info vma;
    char *path = kmalloc(PAGE_SIZE);
    int n = snprintf(buf, size, "0x%lx", addr);

    mutex_lock(&mm->lock);
    if (path != NULL && mm_vma_at(mm, addr, &vma) && vma.start <= addr) {
        if (vma.file != NULL && vma.file->dentry != NULL &&
            dentry_path(vma.file->dentry, path, PAGE_SIZE) >= 0)
            snprintf(buf + n, size - (size_t)n, " %s+0x%lx", path,
                     addr - vma.start + vma.offset);
        else if (vma.name != NULL)
            snprintf(buf + n, size - (size_t)n, " %s+0x%lx", vma.name,
                     addr - vma.start);
        else
            snprintf(buf + n, size - (size_t)n, " (anonymous memory)");
    } else {
        snprintf(buf + n, size - (size_t)n, " (not mapped)");
    }
    mutex_unlock(&mm->lock);
    kfree(path);
}

static bool is_code(vaddr_t addr)
{
    struct mm *mm = current_process()->mm;
    struct vma_info vma;
    bool yes;

    mutex_lock(&mm->lock);
    yes = mm_vma_at(mm, addr, &vma) && vma.start <= addr &&
          (vma.prot & PROT_EXEC);
    mutex_unlock(&mm->lock);
    return yes;
}

/* Frame pointers, as long as they lead somewhere plausible. */
static int walk_frames(const struct regs *r, char *buf, size_t size)
{
    uint64_t frame[2], rbp = r->rbp;
    int n = 0;

    while (n < MAX_FRAMES && rbp != 0 && (rbp & 7) == 0 &&
           get_user(frame, (uint64_t(*)[2])rbp) == 0 && is_code(frame[1])) {
        describe(frame[1], buf, size);
        control_send("message   called from %s", buf);
        n++;
        if (frame[0] <= rbp)
            break;
        rbp = frame[0];
    }
    return n;
}

/* Words on the stack that point into code: some are return addresses. */
static void scan_stack(const struct regs *r, char *buf, size_t size)
{
    uint64_t word, sp = ALIGN_UP(r->rsp, 8ul);
    int found = 0;

    control_send("message   no frame pointers; code addresses on the stack "
                 "(some may be stale):");
    for (int i = 0; i < SCAN_WORDS && found < MAX_SCANNED; i++, sp += 8) {
        if (get_user(word, (uint64_t *)sp) != 0)
            break;
        if (word < PAGE_SIZE || word >= USER_TOP || !is_code(word))
            continue;
        describe(word, buf, size);
        control_send("message   %s", buf);
        found++;
    }
}

static void report_registers(const struct regs *r)
{
    control_send("message   rax %016lx rbx %016lx rcx %016lx rdx %016lx",
                 r->rax, r->rbx, r->rcx, r->rdx);
    control_send("message   rsi %016lx rdi %016lx rbp %016lx rsp %016lx",
                 r->rsi, r->rdi, r->rbp, r->rsp);
    control_send("message   r8  %016lx r9  %016lx r10 %016lx r11 %016lx", r->r8,
                 r->r9, r->r10, r->r11);
    control_send("message   r12 %016lx r13 %016lx r14 %016lx r15 %016lx",
                 r->r12, r->r13, r->r14, r->r15);
}

static void report_out_of_memory(const struct task *t)
{
    struct memory_stats m;

    memory_stats(&m);
    control_send("message %s: out of memory: %lu MiB in use of %lu; start with "
                 "more (-m)", t->thread.name,
                 (m.total_pages - m.free_pages) * PAGE_SIZE / MIB,
                 m.total_pages * PAGE_SIZE / MIB);
}

void crash_report(int signo, const struct siginfo64 *info, struct regs *regs)
{
    struct task *t = current_task();
    const char *name = signo < 32 && signal_names[signo] != NULL
                           ? signal_names[signo]
                           : "signal";
    bool is_fault = info->code > 0;
    char *buf;

    if (signo == SIGKILL) {
        report_out_of_memory(t);
        return;
    }
    buf = kmalloc(512);
    if (buf == NULL)
        return;
    describe(rip_to_original(regs->rip), buf, 512);
    if (is_fault && (signo == SIGSEGV || signo == SIGBUS))
        control_send("message %s (thread %d) died of %s: address 0x%lx, at %s",
                     t->thread.name, t->tid, name, info->fields[0], buf);
    else
        control_send("message %s (thread %d) died of %s at %s", t->thread.name,
                     t->tid, name, buf);
    if (is_fault || signo == SIGABRT) {
        report_registers(regs);
        if (walk_frames(regs, buf, 512) < 2)
            scan_stack(regs, buf, 512);
    }
    kfree(buf);
}
