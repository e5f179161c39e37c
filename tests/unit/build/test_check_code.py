# SPDX-License-Identifier: BSD-2-Clause
"""What `capstan check` reads out of a file: numbers of calls, what every run does, literals.

The programs are made with gcc.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest

from capstan.build.check import dynamic, facts, graph
from capstan.build.check.callers import Callers
from capstan.build.check.certain import Certain
from capstan.build.check.facts import Facts, FactsCache, MadeCall, OddOpcode
from capstan.build.check.numbers import Numbers
from capstan.build.check.original import unlinked
from capstan.build.check.trace import Origins, Tracer
from capstan.build.elf import ElfError
from capstan.build.link import Flavour, link_file
from capstan.build.link.bounds import Functions
from capstan.build.link.objfile import ObjFile
from capstan.build.link.sites import classify
from capstan.build.link.table import Kind
from capstan.build.link.verify import read_places
from tests.link import toolchain

LIBC = Path("/lib/x86_64-linux-gnu/libc.so.6")
ASSEMBLER = """
    .text
    .macro begin name
    .globl \\name
    .type \\name, @function
\\name:
    .cfi_startproc
    .endm
    .macro end name
    .cfi_endproc
    .size \\name, . - \\name
    .balign 16
    .endm
"""
BARE = ("-nostdlib", "-static", "-no-pie", "-Wl,-e,first")


class Read:
    """A file, ready to be asked."""

    def __init__(self, path: Path) -> None:
        self.obj = ObjFile(path.read_bytes())
        self.dynamic = dynamic.read(self.obj)
        self.functions = Functions(self.obj)
        self.callers = Callers(self.obj, self.functions, self.dynamic)

    def numbers(self) -> dict[str, set[int | None]]:
        """Function -> numbers of the calls in it."""
        found: dict[str, set[int | None]] = {}
        for call in Numbers(self.functions, self.callers).all(classify(self.obj, self.functions)):
            found.setdefault(call.function.split("+")[0], set()).add(call.number)
        return found

    def address(self, name: str) -> int:
        """Where a symbol is."""
        symbols = self.obj.symbols
        for index, names in enumerate(symbols.names):
            at = names.find(b"\0" + name.encode() + b"\0")
            found = (symbols.table == index) & (symbols.name_at == at + 1)
            if at >= 0 and found.any():
                return int(symbols.value[found][0])
        raise AssertionError(name)


def assemble(**bodies: str) -> Read:
    text = "".join(f"begin {name}\n{body}\nend {name}\n" for name, body in bodies.items())
    return Read(toolchain.build(f"{ASSEMBLER}begin first\nret\nend first\n{text}", *BARE))


def compiled(text: str, *args: str) -> Read:
    return Read(toolchain.build(text, "-O2", *args, language="c"))


# --- where a value comes from --------------------------------------------------------------------

TRACES = {
    "plain": ("mov $39, %eax\nsyscall\nret", {39}),
    "zeroed": ("xor %eax, %eax\nsyscall\nret", {0}),
    "through_a_register": ("mov $39, %ebx\nmov $2, %esi\nmov %ebx, %eax\nsyscall\nret", {39}),
    "added": ("mov $39, %ecx\nlea 3(%rcx), %eax\nsyscall\nret", {42}),
    "saved_over_a_call": ("mov $39, %r12d\ncall first\nmov %r12d, %eax\nsyscall\nret", {39}),
    "lost_in_a_call": ("mov $39, %eax\ncall first\nsyscall\nret", {None}),
    "from_memory": ("mov 8(%rdi), %eax\nsyscall\nret", {None}),
    "two_ways": ("mov $1, %eax\ntest %edi, %edi\nje 1f\nmov $2, %eax\n1: syscall\nret", {1, 2}),
    "one_way_unknown": (
        "mov $1, %eax\ntest %edi, %edi\nje 1f\nmov (%rsi), %eax\n1: syscall\nret",
        {1, None},
    ),
    "conditional_move": (
        "mov $1, %ebx\nmov $2, %ecx\ntest %edi, %edi\ncmovne %ecx, %ebx\nmovslq %ebx, %rax\n"
        "syscall\nret",
        {1, 2},
    ),
    "widened": ("mov $39, %eax\ncdqe\nsyscall\nret", {39}),
    "a_loop": ("mov $7, %ebx\n1: mov %ebx, %eax\nsyscall\ntest %eax, %eax\njne 1b\nret", {7}),
    "on_the_stack": (
        "sub $24, %rsp\nmov $39, %ecx\nmov %ecx, 8(%rsp)\ncall first\nmov 8(%rsp), %eax\n"
        "syscall\nadd $24, %rsp\nret",
        {39},
    ),
    "stack_with_address_taken": (
        "sub $24, %rsp\nmovl $39, 8(%rsp)\nlea 8(%rsp), %rdi\ncall first\nmov 8(%rsp), %eax\n"
        "syscall\nadd $24, %rsp\nret",
        {None},
    ),
    "exchanged": ("mov $39, %eax\nlock cmpxchg %ecx, (%rdi)\nsyscall\nret", {None}),
    "after_a_syscall": ("mov $39, %eax\nsyscall\nsyscall\nret", {39, None}),
    "jump_table": (
        "mov $5, %eax\ncmp $3, %edi\nja 1f\njmp *table(,%rdi,8)\nnop\n2: syscall\nret\n"
        "1: syscall\nret\n.section .rodata\ntable: .quad 2b, 2b, 2b, 2b\n.text",
        {5, None},
    ),
    "never_called": ("mov %edi, %eax\nsyscall\nret", {None}),
}


@cache
def traces() -> Read:
    return assemble(**{name: body for name, (body, _) in TRACES.items()})


@pytest.mark.parametrize("name", TRACES)
def test_numbers_in_text(name: str) -> None:
    assert traces().numbers()[name] == TRACES[name][1]


def test_a_value_at_the_entry() -> None:
    read = assemble(f="mov %rdi, %rax\nmov %rsi, %rdi\nsyscall\nret")
    start = read.address("f")
    function = read.functions.around(start)
    assert not isinstance(function, str)
    function.decode_to(function.end)
    index = next(i for i, insn in enumerate(function.insns) if insn[2] == "syscall")
    found = Tracer(read.callers.is_called).origins(function, index, "rax")
    assert found == Origins(entries=frozenset({(start, "rdi")}))


def test_numbers_that_callers_pass() -> None:
    read = assemble(
        raw="mov %rdi, %rax\nmov %rsi, %rdi\nsyscall\nret",
        middle="push %rbx\nmov %rsi, %rbx\ncall first\nmov %rbx, %rdi\ncall raw\npop %rbx\nret",
        one="mov $11, %edi\njmp raw",
        two="mov $22, %esi\ncall middle\nret",
        three="mov (%rdi), %esi\ncall middle\nret",
    )
    assert read.numbers() == {"one": {11}, "two": {22}, "three": {None}}


def test_numbers_given_to_syscall() -> None:
    text = """
    #include <unistd.h>
    #include <stdlib.h>
    int main(int argc, char **argv)
    {
        if (argc > 1)
            return syscall(333, 1);
        return syscall(atoi(argv[0])) + syscall(444);
    }
    """
    for flags in ((), ("-fno-plt",), ("-no-pie",), ("-O0",), ("-fcf-protection=none",)):
        assert compiled(text, *flags).numbers() == {"main": {333, 444, None}}, flags


# --- what happens on every run -------------------------------------------------------------------

MUST = """
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#define CALL(n) __asm__ volatile("syscall" : : "a"(n) : "rcx", "r11", "memory")
__attribute__((noinline)) static void die(void) { puts("x"); exit(1); }
__attribute__((noinline)) static int deeper(int n) { CALL(1007); return n + 1; }
__attribute__((noinline)) static int tail(int n) { puts("t"); return deeper(n); }
int main(int argc, char **argv)
{
    for (int i = 0; i < argc; i++)
        puts(argv[i]);
    CALL(1001);
    if (argc > 3) {
        CALL(1002);
        puts("many");
    } else {
        CALL(1003);
    }
    if (argc > 5)
        die();
    CALL(1004);
    if (argc > 6)
        return 1;
    CALL(1005);
    return tail(argc);
}
"""


def certain(read: Read) -> tuple[set[int], set[str]]:
    """The numbers above 1000 and the imports that are certain."""
    calls = Numbers(read.functions, read.callers).all(classify(read.obj, read.functions))
    sure = Certain(read.callers, calls).of_program()
    return {number for number in sure.numbers if number > 1000}, sure.imports


@pytest.mark.parametrize("flags", [(), ("-O0",), ("-static",), ("-static-pie",), ("-no-pie",)])
def test_what_every_run_does(flags: tuple[str, ...]) -> None:
    numbers, imports = certain(compiled(MUST, *flags))
    # 1004 comes behind a way into exit, 1005 and 1007 behind a way to return.
    assert numbers == {1001}
    assert "exit" not in imports


def test_every_run_goes_into_functions() -> None:
    text = MUST.replace("if (argc > 5)\n        die();", "").replace("if (argc > 6)", "if (0)")
    numbers, imports = certain(compiled(text))
    assert numbers == {1001, 1004, 1005, 1007}
    assert imports == {"puts"}


def test_a_server_that_never_ends() -> None:
    text = """
    #include <unistd.h>
    #include <sys/socket.h>
    int main(void)
    {
        int fd = socket(1, 1, 0);
        for (;;) {
            int c = accept(fd, 0, 0);
            if (c > 0)
                close(c);
        }
    }
    """
    assert certain(compiled(text))[1] == {"socket", "accept"}


def test_nothing_is_certain_without_main() -> None:
    assert certain(assemble(f="mov $39, %eax\nsyscall\nret"))[0] == set()


# --- the graph of a C library --------------------------------------------------------------------

LIBRARY = """
#define CALL(n) __asm__ volatile("syscall" : : "a"(n) : "rcx", "r11", "memory")
#define API __attribute__((visibility("default"), noinline))
#define OWN __attribute__((visibility("hidden"), noinline))
OWN int inner(int n) { CALL(1001); return n; }
API int direct(int n) { CALL(1002); return n; }
API int through_inner(int n) { return inner(n) + 1; }
API int through_plt(int n) { return direct(n) * 2; }
API int tail(int n) { return through_inner(n * 3); }
API int (*pointer)(int) = direct;
API int through_pointer(int n) { return pointer(n) + 1; }
API int nothing(int n) { return n * 7; }
API void __libc_start_main(void) { }
"""


def library(text: str = LIBRARY) -> Read:
    flags = ("-fPIC", "-shared", "-nostdlib", "-fno-inline", "-Wl,-z,lazy")
    return compiled(text, "-fvisibility=hidden", *flags)


def test_what_exported_functions_come_to() -> None:
    read = library()
    calls = Numbers(read.functions, read.callers).all(classify(read.obj, read.functions))
    assert graph.reachable(read.callers, calls) == {
        "direct": (1002,),
        "through_inner": (1001,),
        "through_plt": (1002,),
        "tail": (1001,),
    }


def test_what_everybody_comes_to_is_left_out() -> None:
    many = "".join(f"API int f{i}(int n) {{ return inner(n) + {i}; }}\n" for i in range(20))
    read = library(LIBRARY + many)
    calls = Numbers(read.functions, read.callers).all(classify(read.obj, read.functions))
    assert graph.reachable(read.callers, calls) == {"direct": (1002,), "through_plt": (1002,)}


@pytest.mark.skipif(not LIBC.exists(), reason=f"needs {LIBC} (apt-get install libc6)")
def test_the_systems_c_library() -> None:
    obj = ObjFile(LIBC.read_bytes())
    found = facts.analyse(obj, dynamic.read(obj), is_program=False)
    unknown = [call for call in found.calls if call.number is None]
    assert len(found.calls) > 400 and len(unknown) < len(found.calls) / 50
    for name, number in (("shmget", 29), ("socket", 41), ("inotify_init1", 294), ("setns", 308)):
        assert number in found.exports[name]
    assert found.exports["shmget"] == (29,)
    assert not any(29 in numbers for name, numbers in found.exports.items() if name != "shmget")
    assert 56 in found.exports["fork"] and 59 in found.exports["execv"]
    assert "strlen" not in found.exports and 9 not in found.exports.get("malloc", ())
    assert facts.certain_calls(obj, dynamic.read(obj), "shmget") == {29}


# --- linked files --------------------------------------------------------------------------------


def test_linked_files_give_the_same_facts() -> None:
    path = toolchain.build(MUST, "-O2", "-static", language="c")
    linked = link_file(path, flavour=Flavour.GUEST).data
    assert linked is not None
    before, after = ObjFile(path.read_bytes()), ObjFile(linked)
    found = read_places(after)
    assert found is not None
    restored = unlinked(after)
    for place in found[1]:
        if place.kind in {Kind.A, Kind.W, Kind.P}:
            start, end = place.site - place.copied, place.site + 2
            assert before.bytes_at(start, end) != after.bytes_at(start, end)
            assert before.bytes_at(start, end) == restored.bytes_at(start, end)
    ours = [facts.analyse(o, dynamic.read(o), is_program=True) for o in (before, after)]
    assert ours[0] == ours[1] and ours[0].calls


def test_a_damaged_linked_file_is_an_error() -> None:
    path = toolchain.build(MUST, "-O2", "-static", language="c")
    linked = link_file(path, flavour=Flavour.GUEST).data
    assert linked is not None
    at = linked.index(b"CAPLINK\0")
    damaged = linked[: at - 8] + b"\xff" + linked[at - 7 :]
    obj = ObjFile(damaged)
    with pytest.raises(ElfError, match="linked, but"):
        facts.analyse(obj, dynamic.read(obj), is_program=True)


# --- instructions, headers, literals, the cache --------------------------------------------------


def facts_of(path: Path) -> Facts:
    obj = ObjFile(path.read_bytes())
    return facts.analyse(obj, dynamic.read(obj), is_program=True)


def test_instructions_the_guest_does_not_serve() -> None:
    text = """
    int main(int argc, char **argv)
    {
        __asm__ volatile("int $0x80" : : "a"(20) : "memory");
        if (argc > 1)
            __asm__ volatile("sysenter" ::: "memory");
        return 0;
    }
    """
    found = facts_of(toolchain.build(text, "-O2", language="c")).opcodes
    assert {(odd.opcode, odd.function.split("+")[0], odd.is_certain) for odd in found} == {
        ("int 0x80", "main", True),
        ("sysenter", "main", False),
    }


def test_what_headers_ask_for() -> None:
    plain = "int main(void) { return 0; }"
    found = facts_of(toolchain.build(plain, language="c"))
    assert found.kernel[0] == 0 and found.level == 1 and not found.has_exec_stack
    assert facts_of(toolchain.build(plain, "-z", "execstack", language="c")).has_exec_stack
    note = """
    .section .note.ABI-tag, "a"
    .long 4, 16, 1
    .asciz "GNU"
    .long 0, 9, 8, 7
    .section .note.gnu.property, "a"
    .balign 8
    .long 4, 16, 5
    .asciz "GNU"
    .long 0xc0008002, 4, 4, 0
    .text
    .globl first
    first: ret
    """
    found = facts_of(toolchain.build(note, *BARE))
    assert found.kernel == (0, 9, 8, 7) and found.level == 3


def test_literals_that_look_like_files() -> None:
    text = """
    const char *const names[] = {
        "/etc/some.conf", "/usr/lib/thing/%s.so", "/etc/*.d", "see /etc/other", "/tmp/scratch",
        "/usr/share/a b", "/usr/src/main.c", "libthing.so.3", "lib.so", "/opt/data",
    };
    int main(int argc, char **argv) { return names[argc][0]; }
    """
    found = facts_of(toolchain.build(text, language="c"))
    assert "/etc/some.conf" in found.paths and "/opt/data" in found.paths
    assert not {"/etc/other", "/tmp/scratch", "/usr/src/main.c", "/etc/*.d"} & set(found.paths)
    assert not any("%" in path or " " in path for path in found.paths)
    assert "libthing.so.3" in found.libraries and "lib.so" not in found.libraries


SOME = Facts(
    calls=(MadeCall(1, None, "f"), MadeCall(2, 29, "g", True)),
    exports={"h": (1, 2)},
    imports=("exit",),
    opcodes=(OddOpcode(3, "int 0x80", "f", True),),
    undecided=1,
    paths=("/etc/x",),
    libraries=("liby.so",),
    kernel=(0, 3, 2, 0),
    level=3,
    has_exec_stack=True,
)


def test_the_cache(tmp_path: Path) -> None:
    cache_of = FactsCache(tmp_path / "new")
    assert cache_of.load("1234") is None
    cache_of.store("1234", SOME)
    assert cache_of.load("1234") == SOME and cache_of.load("1235") is None
    (entry,) = (tmp_path / "new").iterdir()
    for damage in (b"", b"{", b"[]", b'{"calls": [[1]]}', entry.read_bytes()[:-9], b"\xff"):
        entry.write_bytes(damage)
        assert cache_of.load("1234") is None
    FactsCache(None).store("1234", SOME)
    assert FactsCache(None).load("1234") is None


def test_a_cache_that_cannot_be_written_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    FactsCache(tmp_path / "file" / "below").store("1234", SOME)
