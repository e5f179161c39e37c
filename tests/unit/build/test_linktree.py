# SPDX-License-Identifier: BSD-2-Clause
"""Which files of a tree are linked, and what the image says of them."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from capstan.build.linktree import link_tree
from capstan.build.rootfs import Tree

pytestmark = pytest.mark.skipif(shutil.which("gcc") is None, reason="no gcc")

# A program of its own: no libc, two system calls.
SOURCE = """
    .globl _start
_start: mov $39, %eax
    syscall
    xor %edi, %edi
    mov $231, %eax
    syscall
    ud2
    .type _start, @function
    .size _start, . - _start
"""


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("linktree")
    (folder / "tiny.s").write_text(SOURCE)
    line = ["gcc", "-nostdlib", "-static", "-Wl,-z,noseparate-code", "-o"]
    subprocess.run([*line, folder / "tiny", folder / "tiny.s"], check=True)
    return folder / "tiny"


def tree_with(program: Path, *names: str) -> Tree:
    tree = Tree(Path("/"))
    for name in names:
        tree.graft(name, os.fspath(program))
    return tree


def test_linked_bytes_replace_the_host_s(program: Path, tmp_path: Path) -> None:
    tree = tree_with(program, "/app/tiny")
    rows = link_tree(tree, tmp_path / "cache")
    data = tree.node_at("/app/tiny").source
    assert isinstance(data, bytes) and data != program.read_bytes()
    assert [(row.path, row.sites, row.left) for row in rows] == [("/app/tiny", 2, 0)]
    assert rows[0].sha256 == hashlib.sha256(program.read_bytes()).hexdigest()
    assert rows[0].linked_sha256 == hashlib.sha256(data).hexdigest()
    assert subprocess.run([program], check=False).returncode == 0  # the host's is untouched


def test_the_cache_gives_the_same(program: Path, tmp_path: Path) -> None:
    first, second = tree_with(program, "/a"), tree_with(program, "/a")
    assert link_tree(first, tmp_path) == link_tree(second, tmp_path)
    assert first.node_at("/a").source == second.node_at("/a").source


def test_nolink(program: Path, tmp_path: Path) -> None:
    tree = tree_with(program, "/app/fips/tiny", "/app/tiny")
    rows = link_tree(tree, tmp_path, ["/app/fips/*"])
    assert [row.path for row in rows] == ["/app/tiny"]
    assert tree.node_at("/app/fips/tiny").source == program


def test_other_files_stay(program: Path, tmp_path: Path) -> None:
    tree = tree_with(program)
    tree.put("/etc/text", b"no program")
    tree.put("/empty", b"")
    tree.put("/short", b"\x7fELF\x02\x01")
    arm = bytearray(program.read_bytes())
    arm[18:20] = b"\xb7\0"  # EM_AARCH64
    tree.put("/arm", bytes(arm))
    cut = program.read_bytes()[:200]
    tree.put("/cut", cut)
    before = {path: node.source for path, node in tree.files()}
    heard: list[str] = []
    assert link_tree(tree, tmp_path, (), heard.append) == ()
    assert {path: node.source for path, node in tree.files()} == before
    assert heard == []


def test_a_hard_link_is_linked_once(program: Path, tmp_path: Path) -> None:
    tree = tree_with(program, "/one")
    tree.root.children[b"two"] = tree.root.children[b"one"]
    assert len(link_tree(tree, tmp_path)) == 1
    assert tree.node_at("/two").source is tree.node_at("/one").source
