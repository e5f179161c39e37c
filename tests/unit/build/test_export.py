# SPDX-License-Identifier: BSD-2-Clause
"""The tree of an image as a tar archive, read out of a real pool."""

from __future__ import annotations

import hashlib
import io
import os
import random
import stat
import tarfile
from pathlib import Path
from typing import BinaryIO

import pytest

from capstan import ref
from capstan.build import export
from capstan.build.collect import Plan
from capstan.build.image import Kernel, assemble
from capstan.build.rootfs import Tree
from capstan.build.zfs.tree import Node
from capstan.errors import ImageError
from capstan.manifest import ImageManifest, RunConfig
from capstan.store import Store, StoredImage
from tests.lib.stored import KERNEL

TIME = 1_700_000_000_123_456_789


def tree() -> Tree:
    """One of each kind."""
    made = Tree(Path("/none"))
    big = random.Random(1).randbytes(300_000) + bytes(1 << 20) + b"end"
    file = Node(stat.S_IFREG | 0o4755, 1000, 100, TIME, source=big)
    file.xattrs = {b"user.text": b"words", b"security.capability": bytes(range(1, 256))}
    made.root.mtime_ns = 0
    made.root.children = {
        b"big": file,
        b"dir": Node(stat.S_IFDIR | 0o1777, 5, 6, TIME, children={b"same": file}),
        b"empty": Node(stat.S_IFREG | 0o600, mtime_ns=0, source=b""),
        b"link": Node(stat.S_IFLNK | 0o777, mtime_ns=7, target=b"dir/../big"),
        b"null": Node(stat.S_IFCHR | 0o666, mtime_ns=7, rdev=os.makedev(1, 3)),
        b"pipe": Node(stat.S_IFIFO | 0o644, mtime_ns=7),
        b"\xff\n" + b"long" * 50: Node(stat.S_IFREG | 0o644, mtime_ns=7, source=b"odd"),
    }
    return made


@pytest.fixture
def image(tmp_path: Path) -> StoredImage:
    kernel = Kernel(KERNEL, hashlib.sha256(KERNEL).hexdigest())
    plan = Plan(tree(), RunConfig(("/big",)), "n", 1)

    def write(out: BinaryIO) -> ImageManifest:
        return assemble(plan, kernel, out, title="n")

    return Store(tmp_path / "s").put(write, name=ref.parse("n"))


def test_everything_is_in_it(image: StoredImage) -> None:
    out = io.BytesIO()
    export.to_tar(image, out)
    out.seek(0)
    with tarfile.open(fileobj=out) as tar:
        found = {member.name: member for member in tar}
        content = {name: tar.extractfile(m).read() for name, m in found.items() if m.isreg()}  # type: ignore[union-attr]
    kept = {k: v for k, v in found["big"].pax_headers.items() if k.startswith("SCHILY.")}
    assert {k: v.encode("utf-8", "surrogateescape") for k, v in kept.items()} == {
        "SCHILY.xattr.user.text": b"words",
        "SCHILY.xattr.security.capability": bytes(range(1, 256)),
    }
    odd = os.fsdecode(b"\xff\n" + b"long" * 50)
    assert set(found) == {"big", "dir", "dir/same", "empty", "link", "null", "pipe", odd}
    big = found["big"]
    assert (big.mode, big.uid, big.gid) == (0o4755, 1000, 100)
    assert big.pax_headers["mtime"] == "1700000000.123456789"
    assert content["big"] == tree().root.children[b"big"].source and content["empty"] == b""
    assert found["dir/same"].islnk() and found["dir/same"].linkname == "big"
    assert found["link"].linkname == "dir/../big" and found["dir"].mode == 0o1777
    assert (found["null"].devmajor, found["null"].devminor) == (1, 3) and found["pipe"].isfifo()
    assert content[odd] == b"odd"


def test_a_damaged_pool_is_told(image: StoredImage) -> None:
    with image.disk.open("r+b") as disk:
        disk.seek(0)
        disk.write(bytes(256 << 10))
    with pytest.raises(ImageError, match="label"):
        export.to_tar(image, io.BytesIO())


def test_raw_keeps_holes(image: StoredImage, tmp_path: Path) -> None:
    export.to_raw_file(image, tmp_path / "x.img")
    assert (tmp_path / "x.img").read_bytes() == image.disk.read_bytes()
    assert (tmp_path / "x.img").stat().st_blocks <= image.disk.stat().st_blocks + 16
    out = io.BytesIO()
    export.to_raw_stream(image, out)
    assert out.getvalue() == image.disk.read_bytes()
