# SPDX-License-Identifier: BSD-2-Clause
"""Which programs get a network card without being asked."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from capstan.build import netuse
from capstan.build.rootfs import Tree

PLAIN = '#include <stdio.h>\nint main(void) { puts("x"); }\n'
SOCKET = (
    "#include <sys/socket.h>\n#include <unistd.h>\n"
    "int main(void) { return socket(AF_INET, SOCK_STREAM, 0) < 0; }\n"
)


def compiled(folder: Path, text: str, *flags: str) -> Path:
    (folder / "x.c").write_text(text)
    command = ["gcc", "-o", folder / "x", folder / "x.c", *flags]
    subprocess.run([str(word) for word in command], check=True)
    return folder / "x"


def uses(path: Path, name: str = "/app/x") -> bool:
    tree = Tree(Path("/"))
    tree.graft(name, str(path))
    return netuse.uses_network(tree)


@pytest.mark.parametrize("flags", [(), ("-s",), ("-static",)])
def test_sockets_are_seen(tmp_path: Path, flags: tuple[str, ...]) -> None:
    assert uses(compiled(tmp_path, SOCKET, *flags))


def test_a_program_without(tmp_path: Path) -> None:
    assert not uses(compiled(tmp_path, PLAIN))
    assert not uses(compiled(tmp_path, PLAIN, "-s"))


def test_static_without_names_may(tmp_path: Path) -> None:
    assert not uses(compiled(tmp_path, PLAIN, "-static"))
    assert uses(compiled(tmp_path, PLAIN, "-static", "-s"))


def test_the_c_library_does_not_count(tmp_path: Path) -> None:
    assert not uses(compiled(tmp_path, SOCKET), "/lib/libc.so.6")


def test_other_files_do_not_count(tmp_path: Path) -> None:
    (tmp_path / "text").write_bytes(b"\x00socket\x00")
    (tmp_path / "damaged").write_bytes(b"\x7fELF\x00")
    (tmp_path / "empty").write_bytes(b"")
    assert not uses(tmp_path)
