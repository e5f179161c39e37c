# SPDX-License-Identifier: BSD-2-Clause
"""`capstan check`: each thing an image can lack is named, and nothing that it has."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from capstan.build import check
from capstan.build.check import Finding, Kind, Report, Severity, calls, gather, view
from capstan.build.collect import BuildOptions, collect
from capstan.build.image import build_path
from capstan.errors import BuildError, ImageError, UsageError
from capstan.store import read_manifest
from tests.lib.elfmaker import ET_EXEC, make_elf
from tests.link import toolchain
from tests.unit.build import test_check_kit as kit
from tests.unit.build.test_check_kit import (
    ABSENT,
    ERROR,
    LD,
    MAP_1,
    NOTE,
    ONE,
    TOP,
    USER,
    WARNING,
    Root,
    checked,
    compiled,
    rows,
    shared,
    using,
    versioned,
)

here, root = kit.here, kit.root

# --- programs that cannot be loaded --------------------------------------------------------------


def test_a_program_for_another_machine(root: Root) -> None:
    root.file("/app/p", make_elf(machine=3))
    report = root.check()
    (finding,) = report.findings
    assert (finding.severity, finding.kind, finding.object) == (ERROR, Kind.PROGRAM, "/app/p")
    assert "32-bit x86" in finding.detail and "x86-64" in finding.hint and not report.runs


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"\x7fELF", "truncated"),
        (b"text", "not an ELF file"),
        (b"#!/no/such/interpreter\n", "/no/such/interpreter does not exist"),
        (make_elf(needed=["libx.so"]), "shared library"),
    ],
)
def test_a_program_that_is_none(root: Root, data: bytes, message: str) -> None:
    root.file("/app/p", data)
    (finding,) = root.check().findings
    assert finding.severity is ERROR and finding.kind is Kind.PROGRAM
    assert message in finding.detail


def test_a_program_that_does_not_exist(root: Root) -> None:
    with pytest.raises(UsageError, match="does not exist"):
        checked(Path("none/such"))
    with pytest.raises(UsageError, match="not a directory"):
        checked(Path("/p"), root=root.path / "none")


def test_the_interpreter_and_all_libraries_are_named_at_once(root: Root) -> None:
    root.lib("/lib/liba.so", "libgone.so", "libc.so.6")
    needed = ["liba.so", "libmissing.so.1"]
    root.file("/app/p", make_elf(interp="/lib/ld-none.so", needed=needed))
    assert rows(root.check()) == {
        (ERROR, "/app/p", "/lib/ld-none.so"),
        (ERROR, "/app/p", "libmissing.so.1"),
        (ERROR, "/lib/liba.so", "libgone.so"),
        (ERROR, "/lib/liba.so", "libc.so.6"),
    }


def test_a_library_for_another_machine(root: Root) -> None:
    root.file("/lib/liba.so", make_elf(machine=3, soname="liba.so"))
    root.file("/app/p", make_elf(interp=LD, needed=["liba.so"]))
    (finding,) = root.check().of_severity(ERROR, WARNING)
    assert finding.kind is Kind.LIBRARY and finding.subject == "liba.so"
    assert "passed over /lib/liba.so: made for 32-bit x86" in finding.detail


def test_a_library_that_the_loader_will_not_find(root: Root) -> None:
    root.lib("/opt/lib/liba.so")
    root.file("/etc/ld.so.conf", "/opt/lib\n")
    root.file("/app/p", make_elf(interp=LD, needed=["liba.so"]))
    found = {f.subject: f for f in root.check().findings}
    assert found["liba.so"].severity is ERROR
    assert "ldconfig" in found["search path"].detail


def test_other_programs_and_libraries_only_warn(root: Root) -> None:
    root.file("/app/p", make_elf(etype=ET_EXEC))
    root.file("/more/bin/q", make_elf(interp=LD, needed=["libgone.so"]))
    root.file("/more/bin/i386", make_elf(machine=3))
    root.file("/more/plugin.so", make_elf(needed=["libother.so"], soname="plugin.so"))
    root.file("/more/twice.so", make_elf(needed=["plugin.so"], soname="twice.so"))
    root.file("/more/script", "#!/usr/bin/gone -x\n")
    report = root.check(include=("/more",))
    assert rows(report) == {
        (WARNING, "/more/bin/q", "libgone.so"),
        (WARNING, "/more/bin/i386", "i386"),
        (WARNING, "/more/plugin.so", "libother.so"),
        (NOTE, "/more/script", "/usr/bin/gone"),
    }
    assert report.runs


# --- system calls --------------------------------------------------------------------------------

CALLS = """
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include <sys/inotify.h>
#include <sys/shm.h>
#include <sys/socket.h>
int main(int argc, char **argv)
{
    puts("start");
    if (argc > 1 && strcmp(argv[1], "-i") == 0)
        return inotify_init();
    int id = shmget(IPC_PRIVATE, 4096, 0600);
    syscall(argc > 1 ? argc : 447, 0);
    return id < 0 ? 1 : socket(AF_UNIX, SOCK_STREAM, 0) < 0;
}
"""
RETURNS = "        return inotify_init();\n"


@pytest.mark.parametrize("flags", [(), ("-static",), ("-static-pie",), ("-O0", "-no-pie")])
def test_system_calls(tmp_path: Path, flags: tuple[str, ...]) -> None:
    path = str(compiled(tmp_path / "p", CALLS, *flags))
    found = rows(checked(Path(path)), Kind.CALL)
    # The way into inotify_init ends the program before the others.
    expected = {(WARNING, path, name) for name in ABSENT} | {(NOTE, path, "socket")}
    expected.add((NOTE, path, "unknown"))
    assert found - {(NOTE, path, "rseq")} == expected
    text = CALLS.replace(RETURNS, "        inotify_init();\n")
    compiled(tmp_path / "p", text, *flags)
    report = checked(Path(path))
    certain = {row for row in rows(report, Kind.CALL) if row[0] is ERROR}
    assert certain == {(ERROR, path, "shmget")} and not report.runs
    (finding,) = report.of_severity(ERROR)
    assert "absent, fails with ENOSYS; called on every run" in finding.detail


def test_system_calls_of_a_musl_program(tmp_path: Path) -> None:
    if shutil.which("musl-gcc") is None:
        pytest.skip("needs musl-gcc (apt-get install musl-tools)")
    source = tmp_path / "p.c"
    source.write_text(CALLS.replace(RETURNS, "        inotify_init();\n"))
    for flags in ((), ("-static",)):
        path = tmp_path / f"p{len(flags)}"
        toolchain.tool("musl-gcc", "-O2", source, "-o", path, *flags)
        report = checked(path)
        assert {r for r in rows(report, Kind.CALL) if r[0] is ERROR} == {
            (ERROR, str(path), "shmget")
        }
        assert (WARNING, str(path), "inotify_init") in rows(report)


def test_calls_through_a_library(tmp_path: Path) -> None:
    text = "#include <sys/shm.h>\nint f(void) { return shmget(1, 2, 3); }"
    library = shared(tmp_path / "lib" / "libf.so", text)
    user = "int f(void); int main(void) { return f(); }"
    path = compiled(tmp_path / "p", user, *using(library))
    assert (WARNING, str(library), "shmget") in rows(checked(path))
    # Nothing else of libc's text counts.
    assert not [f for f in checked(path).findings if "libc.so" in f.object]


def test_making_processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = """
    #include <unistd.h>
    #include <stdlib.h>
    int main(int argc, char **argv) { fork(); return argc > 1 ? system(argv[1]) : 0; }
    """
    path = str(compiled(tmp_path / "p", text))
    assert not [r for r in rows(checked(Path(path)), Kind.CALL) if r[0] is not NOTE]
    monkeypatch.setattr(kit, "ABSENT", {"fork", "vfork"})
    found = rows(checked(Path(path)), Kind.CALL)
    assert {r for r in found if r[0] is not NOTE} == {
        (ERROR, path, "fork"),
        (WARNING, path, "vfork"),
    }


def test_numbers_nobody_has(tmp_path: Path) -> None:
    text = "#include <unistd.h>\nint main(void) { return syscall(40000); }"
    path = str(compiled(tmp_path / "p", text))
    assert (WARNING, path, "system call 40000") in rows(checked(Path(path)))


def test_instructions_and_headers(tmp_path: Path) -> None:
    text = 'int main(void) { __asm__ volatile("int $0x80" : : "a"(1)); return 0; }'
    path = str(compiled(tmp_path / "p", text, "-z", "execstack"))
    report = checked(Path(path))
    assert rows(report) == {(ERROR, path, "int 0x80")}
    assert rows(report, Kind.ELF) == {(NOTE, path, "stack")}
    note = """
    .section .note.ABI-tag, "a"
    .long 4, 16, 1
    .asciz "GNU"
    .long {}, 99, 8, 7
    .text
    .globl _start
    _start: ret
    """
    for system, subject in ((0, "kernel"), (1, "system")):
        made = toolchain.build(note.format(system), "-nostdlib", "-static")
        shutil.copy(made, path)
        assert (ERROR, path, subject) in rows(checked(Path(path)))


def test_the_guests_kernel_version() -> None:
    header = (TOP / "guest" / "kernel" / "linux" / "task.h").read_text()
    release = re.search(r'UTS_RELEASE "(\d+)\.(\d+)\.(\d+)', header)
    assert release is not None
    assert tuple(map(int, release.groups())) == calls.GUEST_KERNEL


# --- plans, images, builds -----------------------------------------------------------------------


def test_gathering_is_collecting(root: Root, here: Path) -> None:
    root.lib("/lib/liba.so")
    root.file("/app/p", make_elf(interp=LD, needed=["liba.so"]))
    root.file("/more/q", make_elf(interp=LD, needed=["liba.so"]))
    text = "cmdline: [p, x]\nenv: {PATH: /app}\nworkdir: /w\nfiles: {/more: /more}\n"
    text += "memory: 64M\nnolink: [/more/*]\n"
    (here / "Capstanfile").write_text(text)
    for path, options in (
        (Path("/app/p"), BuildOptions(root=root.path, include=("/more/*",))),
        (here, BuildOptions(root=root.path)),
    ):
        ours = gather.gather(path, ("arg",), options)
        theirs = collect(path, ("arg",), options)
        assert not ours.findings and not theirs.tree.warnings
        for name in ("config", "name", "created", "nolink"):
            assert getattr(ours.plan, name) == getattr(theirs, name)
        lists = [
            [
                (at, node.mode, node.mtime_ns, node.source, node.target)
                for at, node in p.tree.files()
            ]
            for p in (ours.plan, theirs)
        ]
        assert lists[0] == lists[1]


def test_a_view_adds_nothing(root: Root) -> None:
    root.lib("/lib/liba.so")
    root.file("/app/p", make_elf(interp=LD))
    plan = collect(Path("/app/p"), (), BuildOptions(root=root.path))
    seen = view.of_plan(plan)
    assert seen.has("/app/p") and not seen.has("/lib/liba.so") and seen.on_host("/lib/liba.so")
    with pytest.raises(BuildError, match="does not exist"):
        seen.tree.add("/lib/liba.so")
    assert seen.text("/etc/hostname") == "capstan\n" and seen.text("/etc") is None
    assert seen.program == "/app/p"


def test_an_image_is_checked_by_its_content(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kernel = tmp_path / "kernel.elf"
    kernel.write_bytes(make_elf(etype=ET_EXEC))
    monkeypatch.setenv("CAPSTAN_KERNEL", str(kernel))
    path = versioned(
        tmp_path, ONE, MAP_1, CALLS + "int stub_two(void);\nint f(void) { return stub_two(); }\n"
    )
    plugin = shared(tmp_path / "plugins" / "x.so", "int gone(void); int f(void) { return gone(); }")
    options = BuildOptions(name="x", include=(str(plugin),))
    image = build_path(path, ("/etc/hosts", "two words"), options)
    assert image.manifest.linked
    before = check.check_path(path, ("/etc/hosts", "two words"), options)
    shutil.rmtree(tmp_path / "lib")
    path.unlink()
    after = check.check_disk(image.disk, image.manifest)
    assert after.findings == before.findings
    monkeypatch.setattr(check, "cache_folder", lambda: tmp_path / "fresh")
    assert check.check_disk(image.disk, image.manifest) == after
    assert {f.kind for f in after.findings} >= {Kind.VERSION, Kind.SYMBOL, Kind.CALL}
    with image.disk.open("r+b") as file:
        for at in range(4 << 20, image.disk.stat().st_size - (1 << 20), 1 << 16):
            file.seek(at)
            file.write(b"damage")
    with pytest.raises(ImageError):
        check.check_disk(image.disk, read_manifest(image.disk))


def test_what_a_build_says(tmp_path: Path) -> None:
    path = versioned(
        tmp_path,
        ONE,
        MAP_1,
        USER + "#include <sys/shm.h>\nint f(void) { return shmget(1, 2, 3); }\n",
    )
    plan = collect(path, (), BuildOptions())
    (line,) = check.warnings_of(plan)
    assert line.startswith(f"{path}: STUB_2.0: ")
    assert check.check_plan(plan).of_severity(WARNING)  # fills the cache
    assert [line.split(": ")[1] for line in check.warnings_of(plan)] == ["STUB_2.0", "shmget"]


# --- reports -------------------------------------------------------------------------------------


def test_the_order_of_a_report() -> None:
    def make(severity: Severity, name: str, subject: str) -> Finding:
        return Finding(severity, Kind.CALL, name, subject, "detail")

    parts = [make(NOTE, "/z", "b"), make(WARNING, "/a", "a"), make(ERROR, "/z", "a")]
    report = Report.of("/z", [*parts, parts[0]])
    assert report.findings == (parts[2], parts[0], parts[1]) and not report.runs
    assert report.summary() == "1 error, 1 warning, 1 note"
    assert [name for name, _ in report.by_object([WARNING])] == ["/a"]
    assert Report.of("/z", []).summary() == "nothing is missing" and Report.of("/z", []).runs
    assert Report.of("/z", parts[:2]).runs
