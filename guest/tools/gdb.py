# SPDX-License-Identifier: BSD-2-Clause
"""gdb commands for the guest: gdb -x guest/tools/gdb.py guest/build/kernel.debug

`capstan run --gdb IMAGE` prints the whole command line. In gdb:

    capstan cpus            what each CPU runs
    capstan threads         every thread the kernel can reach, where it waits
    capstan bt [ID|all]     kernel backtrace of a thread (default: of the current one)
    capstan vmas            the map of the program's address space
    capstan program [PATH]  load the symbols of the program (or of PATH) where it is mapped
    capstan regs [ID]       the registers the program had when it entered the kernel
    capstan where [ID]      the program's own backtrace there (first: capstan program)

Breakpoints before the first instruction of the kernel have to be hardware ones (hbreak).
"""

from __future__ import annotations

import contextlib
import struct
from collections.abc import Iterator
from pathlib import Path

import gdb

STATES = {0: "running", 1: "sleeping", 2: "dead"}
KERNEL_START = 0xFFFFFFFF80000000
DIRECT_MAP = 0xFFFF808000000000
MAX_FRAMES = 40
LINK_TRAILER = struct.Struct("<8s14I")  # capstan_link.h
LINK_PLACE = struct.Struct("<IIBBBBHH")
LINK_MAGIC = b"CAPLINK\0"
UNWOUND = ("rip", "rsp", "rbp", "rbx", "r12", "r13", "r14", "r15")
VERBS = ("cpus", "threads", "bt", "vmas", "program", "regs", "where")
USAGE = "capstan cpus | threads | bt [ID|all] | vmas | program [PATH] | regs [ID] | where [ID]"


def value(expression: str) -> gdb.Value:
    """A kernel expression's value."""
    return gdb.parse_and_eval(expression)


def address(number: gdb.Value | int) -> int:
    """A value as an unsigned 64-bit number."""
    return int(number) & (1 << 64) - 1


def listed(head: gdb.Value, kind: str, member: str) -> Iterator[gdb.Value]:
    """The structures linked into a `struct list`."""
    pointer = gdb.lookup_type(kind).pointer()
    offset = int(value(f"(unsigned long)&(({kind} *)0)->{member}"))
    node = head["next"]
    for _ in range(10_000):
        if address(node) in (address(head.address), 0):
            return
        yield gdb.Value(address(node) - offset).cast(pointer)
        node = node["next"]


def cpus() -> Iterator[gdb.Value]:
    """The `struct cpu` of each CPU that is up."""
    table = value("cpus")
    for number in range(int(value("nr_cpus"))):
        if address(table[number]):
            yield table[number]


def threads() -> list[gdb.Value]:
    """The threads the kernel can reach: on a CPU, in a run queue, of the program."""
    found: dict[int, gdb.Value] = {}
    queues = value("queues")
    pointer = gdb.lookup_type("struct thread").pointer()
    for cpu in cpus():
        for thread in (cpu["current"], cpu["idle_thread"]):
            found.setdefault(address(thread), thread)
        for thread in listed(queues[int(cpu["id"])]["threads"], "struct thread", "run_link"):
            found.setdefault(address(thread), thread)
    process = value("init_process")
    if address(process):
        for task in listed(process["threads"], "struct task", "process_link"):
            found.setdefault(address(task), task.cast(pointer))
    return list(found.values())


def name_of(pc: int) -> str:
    """`function+offset file:line` of a kernel address."""
    text = gdb.execute(f"info symbol {pc:#x}", to_string=True).strip()
    text = text.partition(" in section")[0].replace(" + ", "+")
    place = gdb.find_pc_line(pc)
    if place.symtab is None:
        return text
    return f"{text}  {place.symtab.filename}:{place.line}"


def frames(thread: gdb.Value) -> Iterator[int]:
    """The program counters of a thread's kernel stack, innermost first."""
    if int(thread["on_cpu"]):
        # gdb has the registers: one of its threads per CPU.
        cpu = int(thread["cpu"])
        old = gdb.selected_thread()
        for inferior in gdb.selected_inferior().threads():
            if inferior.num == cpu + 1:
                inferior.switch()
                yield address(value("(unsigned long)$pc"))
                base = address(value("(unsigned long)$rbp"))
                break
        else:
            return
        old.switch()
    else:
        saved = address(thread["saved_rsp"])  # r15 r14 r13 r12 rbp rbx, return address
        base = word(saved + 8 * 4)
        yield word(saved + 8 * 6)
    for _ in range(MAX_FRAMES):
        if base < DIRECT_MAP or base & 7:
            return
        pc, up = word(base + 8), word(base)
        if pc < KERNEL_START:
            return
        yield pc
        if up <= base:
            return
        base = up


def word(at: int) -> int:
    """The 64-bit word at an address, 0 when it cannot be read."""
    try:
        data = gdb.selected_inferior().read_memory(at, 8)
    except gdb.MemoryError:
        return 0
    return int.from_bytes(data.tobytes(), "little")


def find(text: str) -> gdb.Value:
    """The thread with this kernel-wide number (`id`)."""
    for thread in threads():
        if text.isdigit() and int(thread["id"]) == int(text):
            return thread
    raise gdb.GdbError(f"no thread {text}; `capstan threads` lists them")


def current() -> gdb.Value:
    """The thread on the CPU gdb looks at."""
    selected = gdb.selected_thread()
    number = selected.num - 1 if selected is not None else 0
    return value(f"cpus[{number}]->current")


def title(thread: gdb.Value) -> str:
    """One line about a thread."""
    state = STATES.get(int(thread["state"]), "?")
    if int(thread["on_cpu"]):
        state = f"on cpu {int(thread['cpu'])}"
    return f"{int(thread['id']):4}  {thread['name'].string():16} {state:10}"


def show_cpus() -> None:
    """`capstan cpus`."""
    modes = {0: "busy", 1: "polling", 2: "halted"}
    for cpu in cpus():
        thread = cpu["current"]
        program = gdb.lookup_type("struct thread").pointer()
        running = thread.cast(program)["name"].string()
        print(f"cpu {int(cpu['id'])}: {modes.get(int(cpu['idle']), '?'):8} {running}")


def show_threads() -> None:
    """`capstan threads`."""
    skip = ("context_switch", "schedule", "switch_to", "wait_sleep", "sleep_until", "mutex_lock")
    for thread in threads():
        names = [name_of(pc) for pc in frames(thread)]
        where = [name for name in names if not name.startswith(skip)]
        print(f"{title(thread)}  {(where or names or ['?'])[0]}")


def show_backtrace(text: str) -> None:
    """`capstan bt`."""
    chosen = threads() if text == "all" else [find(text) if text else current()]
    for thread in chosen:
        print(title(thread).rstrip())
        for number, pc in enumerate(frames(thread)):
            print(f"    #{number:<2} {pc:016x} {name_of(pc if number == 0 else pc - 1)}")


def program_registers(thread: gdb.Value) -> gdb.Value:
    """What the thread's program left at the top of its kernel stack."""
    size = gdb.lookup_type("struct regs").sizeof
    # KERNEL_STACK_SIZE is a macro: 16 KiB, sched/thread.h.
    top = address(thread["stack"]) + (16 << 10)
    if not address(thread["mm"]):
        raise gdb.GdbError("a kernel thread has no program's registers")
    return value(f"*(struct regs *){top - size:#x}")


def show_registers(text: str) -> None:
    """`capstan regs`."""
    thread = find(text) if text else current()
    print(program_registers(thread).format_string(format="x"))


def original(pc: int) -> int:
    """The program's own address for one inside a stub of a linked system call."""
    for node in vmas():
        end = address(node["end"])
        if not address(node["start"]) <= pc < end or not address(node["inode"]):
            continue
        size = LINK_TRAILER.size
        try:
            raw = gdb.selected_inferior().read_memory(end - size, size).tobytes()
            magic, _, _, own, table, places, *_ = LINK_TRAILER.unpack(raw)
            if magic != LINK_MAGIC:
                return pc
            base = end - size - own
            length = places * LINK_PLACE.size
            data = gdb.selected_inferior().read_memory(base + table, length).tobytes()
        except gdb.MemoryError:
            return pc
        for at, site, length, copied, _, window, _, _ in LINK_PLACE.iter_unpack(data):
            into = pc - base - at
            if 0 <= into < length:
                return base + site - copied + (0 if into < window else min(into, copied))
    return pc


@contextlib.contextmanager
def registers_of(thread: gdb.Value) -> Iterator[None]:
    """gdb's CPU shows what the program had; the CPU's own registers come back afterwards."""
    regs = program_registers(thread)
    saved = {name: address(value(f"(unsigned long)${name}")) for name in UNWOUND}
    try:
        for name in UNWOUND:
            now = address(regs[name])
            gdb.execute(f"set ${name} = {original(now) if name == 'rip' else now:#x}")
        yield
    finally:
        for name, old in saved.items():
            gdb.execute(f"set ${name} = {old:#x}")


def show_where(text: str) -> None:
    """`capstan where`."""
    thread = find(text) if text else current()
    with registers_of(thread):
        gdb.execute(f"backtrace {MAX_FRAMES}")


def vmas() -> Iterator[gdb.Value]:
    """The nodes of the program's map, by address."""
    process = value("init_process")
    if not address(process) or not address(process["mm"]):
        raise gdb.GdbError("there is no program yet")
    node = process["mm"]["vma_root"]
    while address(node) and address(node["left"]):
        node = node["left"]
    while address(node):
        yield node
        node = node["next"]


def backing(node: gdb.Value) -> str:
    """The path (last part) or name of what a VMA maps."""
    if address(node["file"]) and address(node["file"]["dentry"]):
        dentry = node["file"]["dentry"]
        parts: list[str] = []
        for _ in range(64):
            parent = dentry["parent"]
            if not address(parent) or address(parent) == address(dentry):
                break
            parts.insert(0, dentry["name"].string())
            dentry = parent
        return "/" + "/".join(parts)
    return node["name"].string() if address(node["name"]) else ""


def show_vmas() -> None:
    """`capstan vmas`."""
    for node in vmas():
        flags = int(node["flags"])
        rights = "".join(c if flags & bit else "-" for c, bit in (("r", 1), ("w", 2), ("x", 4)))
        rights += "s" if flags & 8 else "p"
        start, end = address(node["start"]), address(node["end"])
        print(f"{start:012x}-{end:012x} {rights} {int(node['offset']):8x} {backing(node)}".rstrip())


def load_program(text: str) -> None:
    """`capstan program`: symbols of the mapped files, read from the host's file system."""
    done: set[str] = set()
    for node in vmas():
        path = backing(node)
        wanted = path == text if text else path.startswith("/")
        if not wanted or path in done or not Path(path).is_file():
            continue
        done.add(path)
        base = address(node["start"]) - int(node["offset"])
        fixed = Path(path).read_bytes()[16:18] == b"\x02\x00"  # ET_EXEC
        gdb.execute(f"add-symbol-file {path} -o {0 if fixed else base:#x}", to_string=True)
        print(f"{path} at {base:#x}")
    if not done:
        raise gdb.GdbError("no mapped file is on this machine under the same name")


class Capstan(gdb.Command):
    """Look at the guest: cpus, threads, bt [ID|all], vmas, program [PATH], regs, where [ID]."""

    def __init__(self) -> None:
        super().__init__("capstan", gdb.COMMAND_STATUS)

    def invoke(self, argument: str, _from_tty: bool) -> None:
        """Run one of the subcommands."""
        verb, _, rest = argument.strip().partition(" ")
        rest = rest.strip()
        match verb:
            case "cpus":
                show_cpus()
            case "threads":
                show_threads()
            case "bt":
                show_backtrace(rest)
            case "vmas":
                show_vmas()
            case "program":
                load_program(rest)
            case "regs":
                show_registers(rest)
            case "where":
                show_where(rest)
            case _:
                raise gdb.GdbError(USAGE)

    def complete(self, text: str, _word: str) -> list[str]:
        """The subcommands that begin with `text`."""
        return [verb for verb in VERBS if verb.startswith(text)]


gdb.execute("set confirm off", to_string=True)
Capstan()
print(f"capstan: {USAGE}")
