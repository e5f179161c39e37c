# SPDX-License-Identifier: BSD-2-Clause
"""The closure against small roots of tiny ELF files: where each loader looks, in which order."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from capstan.build.closure import Closure, parse_cache
from capstan.build.rootfs import Tree
from capstan.errors import BuildError
from tests.lib.elfmaker import make_elf

LD = "/lib64/ld-linux-x86-64.so.2"
MUSL = "/lib/ld-musl-x86_64.so.1"


class Root:
    """A root directory to fill."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def file(self, name: str, data: bytes = b"") -> None:
        place = self.path / name.lstrip("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(data)
        place.chmod(0o755)

    def link(self, name: str, target: str) -> None:
        place = self.path / name.lstrip("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        place.symlink_to(target)

    def lib(self, name: str, *needed: str, rpath: str | None = None) -> None:
        self.file(name, make_elf(needed=needed, soname=name.rpartition("/")[2], rpath=rpath))


@pytest.fixture
def root(tmp_path: Path) -> Root:
    made = Root(tmp_path / "root")
    made.file(LD, make_elf(soname="ld-linux-x86-64.so.2"))
    return made


def build(
    root: Root, program: bytes, at: str = "/app/bin/p", env: dict[str, str] | None = None
) -> tuple[set[str], Tree]:
    root.file(at, program)
    tree = Tree(root.path)
    Closure(tree, env).add_program(at)
    return {path for path, node in tree.files() if not node.mode & 0o040000}, tree


def cache(entries: dict[str, str]) -> bytes:
    """A glibc ld.so.cache."""
    at = 48 + 24 * len(entries)
    rows, strings = b"", b""
    for name, path in entries.items():
        key = at + len(strings)
        strings += name.encode() + b"\0"
        rows += struct.pack("<IIIIQ", 0x0303, key, at + len(strings), 0, 0)
        strings += path.encode() + b"\0"
    head = struct.pack("<20sIIB3xI12x", b"glibc-ld.so.cache1.1", len(entries), len(strings), 2, 0)
    return head + rows + strings


def test_default_directories_and_soname(root: Root) -> None:
    root.lib("/usr/lib/x86_64-linux-gnu/libc.so.6", "ld-linux-x86-64.so.2")
    root.lib("/lib/libx.so", "libc.so.6")
    found, _ = build(root, make_elf(interp=LD, needed=["libx.so", "libc.so.6"]))
    assert found == {LD, "/app/bin/p", "/lib/libx.so", "/usr/lib/x86_64-linux-gnu/libc.so.6"}


def test_links_are_reproduced(root: Root) -> None:
    root.lib("/usr/lib/real/libx.so.1.2")
    root.link("/lib", "usr/lib")
    root.link("/usr/lib/libx.so.1", "/lib/real/libx.so.1")
    root.link("/usr/lib/real/libx.so.1", "libx.so.1.2")
    found, tree = build(root, make_elf(interp=LD, needed=["libx.so.1"]))
    assert {"/lib", "/usr/lib/libx.so.1", "/usr/lib/real/libx.so.1"} <= found
    assert "/usr/lib/real/libx.so.1.2" in found
    real = tree.find("/lib/libx.so.1", lower=False)
    assert real is not None and real.path == "/usr/lib/real/libx.so.1.2"


def test_links_do_not_escape_the_root(root: Root, tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(make_elf())
    root.link("/lib/libx.so", "../../../../../secret")
    with pytest.raises(BuildError, match=r"libx\.so.*not found"):
        build(root, make_elf(interp=LD, needed=["libx.so"]))


def test_rpath_is_inherited_and_runpath_is_not(root: Root) -> None:
    root.lib("/app/lib/liba.so", "libb.so")
    root.lib("/app/lib/libb.so")
    found, _ = build(root, make_elf(interp=LD, needed=["liba.so"], rpath="$ORIGIN/../lib"))
    assert {"/app/lib/liba.so", "/app/lib/libb.so"} <= {p.replace("/bin/..", "") for p in found}
    with pytest.raises(BuildError, match=r"libb\.so was not found \(needed by .*liba\.so\)"):
        build(root, make_elf(interp=LD, needed=["liba.so"], runpath="${ORIGIN}/../lib"))


def test_runpath_hides_rpath(root: Root) -> None:
    root.lib("/old/libx.so")
    with pytest.raises(BuildError, match="libx"):
        build(root, make_elf(interp=LD, needed=["libx.so"], rpath="/old", runpath="/new"))


def test_origin_is_the_real_directory_of_the_program(root: Root) -> None:
    root.lib("/opt/tool/libx.so")
    root.file("/opt/tool/p", make_elf(interp=LD, needed=["libx.so"], runpath="$ORIGIN"))
    root.link("/usr/bin/p", "../../opt/tool/p")
    tree = Tree(root.path)
    Closure(tree).add_program("/usr/bin/p")
    assert tree.find("/opt/tool/libx.so", lower=False)


def test_lib_token(root: Root) -> None:
    root.lib("/opt/lib64/libx.so")
    found, _ = build(root, make_elf(interp=LD, needed=["libx.so"], runpath="/opt/$LIB"))
    assert "/opt/lib64/libx.so" in found


def test_ld_library_path_comes_between_rpath_and_runpath(root: Root) -> None:
    for place in ("/env", "/run"):
        root.lib(f"{place}/libx.so")
    env = {"LD_LIBRARY_PATH": "/env:/other"}
    found, _ = build(root, make_elf(interp=LD, needed=["libx.so"], runpath="/run"), env=env)
    assert "/env/libx.so" in found and "/run/libx.so" not in found
    found, _ = build(root, make_elf(interp=LD, needed=["libx.so"], rpath="/run"), env=env)
    assert "/run/libx.so" in found and "/env/libx.so" not in found


def test_preload(root: Root) -> None:
    root.lib("/opt/libp.so")
    found, _ = build(root, make_elf(interp=LD), env={"LD_PRELOAD": "/opt/libp.so"})
    assert "/opt/libp.so" in found


def test_cache_comes_before_default_directories(root: Root) -> None:
    root.lib("/usr/local/lib/libx.so")
    root.lib("/lib/libx.so")
    root.file("/etc/ld.so.cache", cache({"libx.so": "/usr/local/lib/libx.so"}))
    found, _ = build(root, make_elf(interp=LD, needed=["libx.so"]))
    assert "/usr/local/lib/libx.so" in found and "/lib/libx.so" not in found
    assert "/etc/ld.so.cache" in found


def test_conf_without_cache_is_a_warning(root: Root) -> None:
    root.lib("/opt/deep/libx.so")
    root.file("/etc/ld.so.conf", b"include ld.so.conf.d/*.conf # all\n")
    root.file("/etc/ld.so.conf.d/a.conf", b"# mine\n/opt/deep\ninclude /etc/ld.so.conf\n")
    found, tree = build(root, make_elf(interp=LD, needed=["libx.so"]))
    assert "/opt/deep/libx.so" in found
    assert "ldconfig" in tree.warnings[0]


def test_hwcaps_come_in_addition(root: Root) -> None:
    root.lib("/lib/libx.so")
    root.lib("/lib/glibc-hwcaps/x86-64-v3/libx.so", "libv3.so")
    root.lib("/lib/libv3.so")
    found, _ = build(root, make_elf(interp=LD, needed=["libx.so"]))
    assert {"/lib/libx.so", "/lib/glibc-hwcaps/x86-64-v3/libx.so", "/lib/libv3.so"} <= found


def test_libraries_of_another_machine_are_skipped(root: Root) -> None:
    root.file("/lib/x86_64-linux-gnu/libx.so", make_elf(machine=183))
    with pytest.raises(BuildError, match="AArch64"):
        build(root, make_elf(interp=LD, needed=["libx.so"]))
    root.lib("/lib/libx.so")
    found, _ = build(root, make_elf(interp=LD, needed=["libx.so"]))
    assert "/lib/libx.so" in found


def test_libgcc_for_programs_that_unwind(root: Root) -> None:
    root.lib("/lib/libgcc_s.so.1")
    found, _ = build(root, make_elf(interp=LD, needed=[], extra=b"pthread_cancel\0"))
    assert "/lib/libgcc_s.so.1" not in found or found
    root.lib("/lib/libc.so.6")
    program = make_elf(interp=LD, needed=["libc.so.6"], extra=b"pthread_cancel\0")
    found, _ = build(root, program)
    assert "/lib/libgcc_s.so.1" in found
    found, _ = build(root, make_elf(interp=LD, needed=["libc.so.6"]))
    assert "/lib/libgcc_s.so.1" not in found


def test_musl(root: Root) -> None:
    root.lib("/lib/x86_64-linux-musl/libc.so")
    root.link(MUSL, "x86_64-linux-musl/libc.so")
    root.lib("/opt/musl/libz.so", "libc.so")
    root.file("/etc/ld-musl-x86_64.path", b"/nowhere\n/opt/musl\n")
    root.file("/etc/ld.so.cache", cache({}))
    found, _ = build(root, make_elf(interp=MUSL, needed=["libz.so", "libc.so", "libpthread.so.0"]))
    assert {MUSL, "/lib/x86_64-linux-musl/libc.so", "/opt/musl/libz.so"} <= found
    assert "/etc/ld-musl-x86_64.path" in found and "/etc/ld.so.cache" not in found


def test_musl_inherits_runpath(root: Root) -> None:
    root.lib(MUSL)
    root.lib("/r/liba.so", "libb.so")
    root.lib("/r/libb.so")
    found, _ = build(root, make_elf(interp=MUSL, needed=["liba.so"], runpath="/r"))
    assert "/r/libb.so" in found


def test_missing_interpreter(root: Root) -> None:
    with pytest.raises(BuildError, match=r"interpreter .*/lib/ld-other\.so") as caught:
        build(root, make_elf(interp="/lib/ld-other.so"))
    assert caught.value.hint


def test_link_loop(root: Root) -> None:
    root.link("/lib/libx.so", "liby.so")
    root.link("/lib/liby.so", "libx.so")
    with pytest.raises(BuildError, match="loop"):
        build(root, make_elf(interp=LD, needed=["libx.so"]))


def test_library_cycle_ends(root: Root) -> None:
    root.lib("/lib/liba.so", "libb.so")
    root.lib("/lib/libb.so", "liba.so")
    found, _ = build(root, make_elf(interp=LD, needed=["liba.so"]))
    assert {"/lib/liba.so", "/lib/libb.so"} <= found


def test_a_library_is_no_program(root: Root) -> None:
    with pytest.raises(BuildError, match="shared library"):
        build(root, make_elf(needed=["libc.so.6"], soname="libx.so"))


def test_plugin_gets_its_libraries_or_a_warning(root: Root) -> None:
    root.lib("/plug/good.so", "libx.so")
    root.lib("/plug/bad.so", "libnone.so")
    root.lib("/plug/known.so", "libmain.so")
    root.lib("/plug/deep/libmain.so")
    root.lib("/lib/libx.so")
    root.file("/p", make_elf(interp=LD))
    tree = Tree(root.path)
    closure = Closure(tree)
    closure.add_program("/p")
    tree.add("/plug", recurse=True)
    closure.add_plugins(["/plug/good.so", "/plug/bad.so", "/plug/known.so"])
    assert tree.find("/lib/libx.so", lower=False)
    assert len(tree.warnings) == 1 and "libnone.so" in tree.warnings[0]


def test_damaged_cache_is_empty() -> None:
    good = cache({"libx.so": "/lib/libx.so"})
    assert parse_cache(good) == {"libx.so": ["/lib/libx.so"]}
    for cut in range(len(good)):
        parse_cache(good[:cut])
    assert parse_cache(good[:20] + b"\xff" * 4 + good[24:]) == {}
