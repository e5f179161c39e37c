# SPDX-License-Identifier: BSD-2-Clause
"""Whole pools: written, read back, and counted again by our own fsck.

The third-party checks (zdb, GRUB) are in ci/gates/01-4-zdb.
"""

from __future__ import annotations

import io
import os
import random
import stat
import struct
import sys
import tempfile
import tracemalloc
from pathlib import Path
from typing import BinaryIO, cast

import pytest

from capstan.build.zfs import files, spa, writer
from capstan.build.zfs.checksum import fletcher4, seal
from capstan.build.zfs.fsck import fsck
from capstan.build.zfs.layout import DATA_START, LABEL_SIZE, OVERHEAD, unpack_bp
from capstan.build.zfs.reader import Entry, Filesystem, Pool
from capstan.build.zfs.tree import Node
from capstan.build.zfs.writer import PoolResult, write_pool
from capstan.errors import BuildError, ImageError

CREATED = 1_700_000_000
BLOCK = 128 << 10


def directory(children: dict[bytes, Node] | None = None, mode: int = 0o755) -> Node:
    return Node(stat.S_IFDIR | mode, children=children or {})


def regular(source: Path | bytes | None, mode: int = 0o644) -> Node:
    return Node(stat.S_IFREG | mode, source=source)


def symlink(target: str | bytes) -> Node:
    return Node(stat.S_IFLNK | 0o777, target=target)


def write(root: Node, *, name: str = "test", compress: bool = True) -> tuple[PoolResult, BinaryIO]:
    out = new_file()
    return write_pool(root, out, name=name, created=CREATED, compress=compress), out


def new_file() -> BinaryIO:
    """An empty file; a BytesIO would not do, as its truncate() cannot make it longer."""
    return cast(BinaryIO, tempfile.TemporaryFile())


def whole(out: BinaryIO) -> bytes:
    out.seek(0)
    return out.read()


def contents(out: BinaryIO) -> dict[bytes, tuple[Entry, bytes]]:
    """Everything in a pool that must be clean: path -> inode and data."""
    pool = Pool.open(out, "test.img")
    assert fsck(pool) == []
    filesystem = pool.filesystem()
    return {path: (entry, data_of(filesystem, entry)) for path, entry in filesystem.walk()}


def data_of(filesystem: Filesystem, entry: Entry) -> bytes:
    if not stat.S_ISREG(entry.attributes.mode):
        return b""
    return b"".join(filesystem.data(entry))


SIZES = [0, 1, 511, 512, 513, 4096, BLOCK - 1, BLOCK, BLOCK + 1, 5 * BLOCK]


@pytest.mark.parametrize("compress", [True, False])
@pytest.mark.parametrize("kind", ["random", "text", "zero"])
def test_files_of_all_sizes(compress: bool, kind: str) -> None:
    rng = random.Random(1)
    most = SIZES[-1]
    sample = {"random": rng.randbytes(most), "text": b"capstan " * most, "zero": bytes(most)}[kind]
    data = {b"%d" % size: sample[:size] for size in SIZES}
    result, out = write(
        directory({name: regular(source) for name, source in data.items()}), compress=compress
    )
    found = contents(out)
    assert {path[1:]: content for path, (_, content) in found.items() if path != b"/"} == data
    assert result.data_bytes == sum(SIZES)
    assert result.files == len(SIZES)
    if kind == "zero":
        assert all(entry.dnode.used == 0 for path, (entry, _) in found.items() if path != b"/")


def test_two_levels_of_indirect_blocks() -> None:
    data = random.Random(2).randbytes(1000) * (1030 * BLOCK // 1000)
    _, out = write(directory({b"big": regular(data)}))
    entry, content = contents(out)[b"/big"]
    assert entry.dnode.levels == 3
    assert content == data


def test_every_kind_of_inode() -> None:
    shared = Node(stat.S_IFREG | 0o4755, 1000, 100, 1_234_567_890_123_456_789, b"shared")
    root = directory(
        {
            b"a": directory({b"one": shared}, 0o1777),
            b"b": directory({b"two": shared, b"c": directory()}),
            b"null": Node(stat.S_IFCHR | 0o666, rdev=os.makedev(1, 3)),
            b"disk": Node(stat.S_IFBLK | 0o660, gid=6, rdev=os.makedev(259, 70_000)),
            b"pipe": Node(stat.S_IFIFO | 0o600, mtime_ns=-1),
            b"none": regular(None),
        }
    )
    result, out = write(root)
    found = {path: entry.attributes for path, (entry, _) in contents(out).items()}
    assert found[b"/a/one"] == found[b"/b/two"]
    assert found[b"/a/one"].links == 2
    assert (found[b"/a/one"].uid, found[b"/a/one"].gid) == (1000, 100)
    assert found[b"/a/one"].mtime_ns == 1_234_567_890_123_456_789
    assert found[b"/a/one"].mode == stat.S_IFREG | 0o4755
    assert found[b"/pipe"].mtime_ns == -1
    assert found[b"/null"].rdev == 1 << 20 | 3
    assert found[b"/disk"].rdev == 259 << 20 | 70_000
    assert (found[b"/"].links, found[b"/b"].links, found[b"/b/c"].links) == (4, 3, 2)
    assert (found[b"/"].size, found[b"/b"].size) == (8, 4)
    assert result.files == 5


@pytest.mark.parametrize("size", [1, 8, 143, 144, 145, 255, 4095])
def test_symlinks_of_any_length(size: int) -> None:
    target = ("ö" * size).encode()[:size] if size % 2 == 0 else b"t" * size
    _, out = write(directory({b"link": symlink(target)}))
    entry, _ = contents(out)[b"/link"]
    assert entry.attributes.target == target
    assert bool(entry.dnode.spill) == (size > 144)


def test_names() -> None:
    names = [b"n" * 255, "ümläut".encode(), b"\xff\xfe", b"a b'\"$\n", b"x" * 49, b"x" * 50]
    _, out = write(directory({name: regular(name) for name in names}))
    found = contents(out)
    assert {path[1:]: data for path, (_, data) in found.items() if path != b"/"} == {
        name: name for name in names
    }


@pytest.mark.parametrize("count", [0, 2047, 2048])
def test_large_directories(count: int) -> None:
    _, out = write(directory({b"entry %d" % n: regular(b"") for n in range(count)}))
    assert len(contents(out)) == count + 1


def test_sparse_file_is_read_by_its_data(tmp_path: Path) -> None:
    path = tmp_path / "sparse"
    with path.open("wb") as file:
        for at in (5, 300 << 20, (1 << 40) + 7):
            file.seek(at)
            file.write(b"data" * 50_000)
        file.truncate(2 << 40)
    _, out = write(directory({b"sparse": regular(path)}))
    pool = Pool.open(out, "test.img")
    assert fsck(pool) == []
    filesystem = pool.filesystem()
    entry = filesystem.entry(filesystem.names(filesystem.root)[b"sparse"][0])
    assert entry.attributes.size == 2 << 40
    assert filesystem.objects.block(entry.dnode, 0)[:9] == b"\0\0\0\0\0data"
    assert filesystem.objects.block(entry.dnode, (1 << 40) // BLOCK)[7:11] == b"data"
    assert entry.dnode.used < 2 << 20


def test_same_input_same_bytes_with_and_without_threads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = random.Random(3)
    root = directory()
    for number in range(40):
        path = tmp_path / str(number)
        path.write_bytes(rng.randbytes(rng.randrange(300_000)))
        root.children[b"%d" % number] = regular(path)
    first = whole(write(root)[1])
    root.children = dict(reversed(root.children.items()))
    assert whole(write(root)[1]) == first
    monkeypatch.setattr(files, "_THREADS_ABOVE", 1 << 40)
    monkeypatch.setattr(writer, "_NUMPY_ABOVE_BYTES", 1 << 40)
    assert whole(write(root)[1]) == first


def test_guids_differ_by_name_content_and_time() -> None:
    tree = directory({b"a": regular(b"1")})
    guids = {write(tree)[0].guid, write(tree, name="other")[0].guid}
    guids.add(write(directory({b"a": regular(b"2")}))[0].guid)
    guids.add(write_pool(tree, new_file(), name="test", created=CREATED + 1).guid)
    assert len(guids) == 4
    assert write(tree)[0].guid == write(tree)[0].guid


def test_image_has_the_promised_shape() -> None:
    result, out = write(directory({b"a": regular(b"text")}))
    image = whole(out)
    assert len(image) == result.size == 64 << 20
    assert not any(image[2 * LABEL_SIZE : DATA_START])
    root = unpack_bp(Pool.open(out, "test.img").uberblock.root)
    assert root, "the MOS"
    end = DATA_START + root.copies[0][0] + root.asize
    assert end - DATA_START < 1 << 20
    assert not any(image[end : len(image) - 2 * LABEL_SIZE])


def test_large_pool_leaves_room_to_write() -> None:
    data = random.Random(4).randbytes(100 << 20)
    result, out = write(directory({b"data": regular(data)}), compress=False)
    pool = Pool.open(out, "test.img")
    assert result.size - OVERHEAD > 1.1 * len(data)
    assert (result.size - OVERHEAD) % (16 << 20) == 0
    assert fsck(pool) == []


def test_pool_with_many_metaslabs(monkeypatch: pytest.MonkeyPatch) -> None:
    """The estimate of the size may be far too low, on a host that compresses its files."""
    monkeypatch.setattr(writer, "_SLAB_SHIFT_MIN", 20)
    monkeypatch.setattr(writer, "_SLABS_PLANNED", 1 << 30)
    data = random.Random(7).randbytes(100 << 20)
    _, out = write(directory({b"data": regular(data)}), compress=False)
    pool = Pool.open(out, "test.img")
    assert pool.mos.meta.levels == 2
    assert fsck(pool) == []


def test_streamed_file_is_never_in_memory(tmp_path: Path) -> None:
    path = tmp_path / "big"
    chunk = random.Random(5).randbytes(1 << 20)
    with path.open("wb") as file:
        for number in range(96):
            file.write(struct.pack("<Q", number) + chunk[8:])
    with (tmp_path / "image").open("w+b") as out:
        write(directory({b"warm": regular(b"up")}))
        tracemalloc.start()
        write_pool(directory({b"big": regular(path)}), out, name="test", created=CREATED)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert fsck(Pool.open(out, path)) == []
    assert peak < 40 << 20


def test_progress_tells_every_byte(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"x" * 300_000)
    with (tmp_path / "hole").open("wb") as file:
        file.truncate(10 << 20)
    steps: list[int] = []
    tree = directory({n: regular(tmp_path / os.fsdecode(n)) for n in (b"a", b"hole")})
    tree.children[b"bytes"] = regular(b"123")
    write_pool(tree, new_file(), name="test", created=CREATED, progress=steps.append)
    assert sum(steps) == 300_000 + (10 << 20) + 3
    assert all(step >= 0 for step in steps)


@pytest.mark.parametrize(
    ("root", "message"),
    [
        (regular(b""), "not a directory"),
        (directory({b"s": Node(stat.S_IFSOCK | 0o600)}), "/s is a socket"),
        (directory({b"x": Node(0o644)}), "unknown"),
        (directory({b"n" * 256: regular(b"")}), "over 255 bytes"),
        (directory({b"a/b": regular(b"")}), "not a possible file name"),
        (directory({b"..": directory()}), "not a possible file name"),
        (directory({b"d": directory({b"l": symlink("")})}), "/d/l: a symlink of 0 bytes"),
        (directory({b"l": symlink("x" * 4096)}), "symlink of 4096 bytes"),
        (directory({b"f": Node(stat.S_IFREG, children={b"a": regular(b"")})}), "has entries"),
        (directory({b"f": regular(Path("/nonexistent/file"))}), "cannot read /nonexistent/file"),
        (directory({b"f": regular(Path("/dev/null"))}), "not a regular file"),
    ],
)
def test_what_cannot_be_in_an_image(root: Node, message: str) -> None:
    with pytest.raises(BuildError, match=message):
        write(root)


def test_a_directory_in_two_places_is_refused() -> None:
    loop = directory()
    loop.children[b"self"] = loop
    with pytest.raises(BuildError, match="two places"):
        write(directory({b"loop": loop}))


@pytest.mark.parametrize("name", ["", "1a", "a/b", "a@b", "mirror1", "raidz", "log", "c0t0", "ö"])
def test_bad_pool_names(name: str) -> None:
    with pytest.raises(BuildError, match="name of a pool"):
        write(directory(), name=name)


@pytest.mark.skipif(os.getuid() == 0, reason="root may read every file")
def test_unreadable_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    path.write_bytes(b"x")
    path.chmod(0)
    with pytest.raises(BuildError, match=r"cannot read .*/secret") as caught:
        write(directory({b"f": regular(path)}))
    assert caught.value.hint


@pytest.mark.parametrize("change", ["grow", "shrink", "touch"])
def test_a_file_that_changes_while_read_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    path = tmp_path / "busy"
    path.write_bytes(b"x" * 300_000)
    os.utime(path, ns=(0, 0))
    read = files._read

    def disturb(fd: int, at: int, size: int, where: Path) -> bytes:
        if at == 0 and change != "touch":
            os.truncate(path, 400_000 if change == "grow" else 200_000)
        elif at == 0:
            path.write_bytes(b"y" * 300_000)
        return read(fd, at, size, where)

    monkeypatch.setattr(files, "_read", disturb)
    with pytest.raises(BuildError, match="busy changed while it was read"):
        write(directory({b"f": regular(path)}))


def test_full_disk_is_reported() -> None:
    with Path("/dev/full").open("r+b", 0) as full, pytest.raises(BuildError) as caught:
        write_pool(directory(), cast(BinaryIO, full), name="test", created=CREATED)
    assert caught.value.message == "cannot write the image: No space left on device"


def test_missing_lz4_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "lz4.block", None)
    with pytest.raises(BuildError, match="lz4 is missing"):
        write(directory())
    assert write(directory(), compress=False)[0].files == 0


def flip(out: BinaryIO, at: int) -> None:
    patch(out, at, bytes([patch(out, at, b"")[0] ^ 1]))


def patch(out: BinaryIO, at: int, data: bytes, size: int = 1) -> bytes:
    """Write `data` at a byte; gives the `size` bytes that were there."""
    out.seek(at)
    old = out.read(size)
    out.seek(at)
    out.write(data)
    return old


def test_reader_sees_a_flipped_bit() -> None:
    _, out = write(directory({b"a": regular(b"text")}))
    flip(out, DATA_START + 1)
    assert any("wrong checksum" in problem for problem in fsck(Pool.open(out, "test.img")))
    flip(out, DATA_START + 1)
    flip(out, 17 << 10)
    with pytest.raises(ImageError, match="label at 0x0 is damaged"):
        Pool.open(out, "test.img")
    with pytest.raises(ImageError, match="ends before"):
        Pool.open(io.BytesIO(b"x" * 1000), "short.img")


def rewrite_mos(out: BinaryIO, number: int, at: int, value: int) -> None:
    """Put a word into the bonus of a MOS object and mend all checksums above."""
    pool = Pool.open(out, "test.img")
    root = unpack_bp(pool.uberblock.root)
    block = unpack_bp(pool.mos.meta.pointers[(number // 32) * 128 :][:128])
    assert root and block
    block_at, root_at = (DATA_START + bp.copies[0][0] for bp in (block, root))
    patch(out, block_at + number % 32 * 512 + 64 + 128 + at, struct.pack("<Q", value))
    sums = struct.pack("<4Q", *fletcher4(patch(out, block_at, b"", 16 << 10)))
    patch(out, root_at + 64 + number // 32 * 128 + 96, sums)
    sums = struct.pack("<4Q", *fletcher4(patch(out, root_at, b"", 1 << 10)))
    size = out.seek(0, os.SEEK_END)
    for start in (0, LABEL_SIZE, size - 2 * LABEL_SIZE, size - LABEL_SIZE):
        slot = start + (128 << 10) + spa.LABEL_TXG * 4096
        patch(out, slot + 40 + 96, sums)
        patch(out, slot, seal(patch(out, slot, b"", 4096), slot))


@pytest.mark.parametrize(
    ("number", "at", "what"),
    [
        (spa.Obj.HEAD, 72, "sums of dataset"),
        (spa.Obj.HEAD, 96, "unique bytes"),
        (spa.Obj.ROOT_DIR, 40, "sums of directory"),
        (spa.Obj.MOS_DIR, 48, "sums of directory"),
        (spa.Obj.ROOT_DIR, 104, "breakdown of directory"),
    ],
)
def test_fsck_sees_a_wrong_sum(number: int, at: int, what: str) -> None:
    _, out = write(directory({b"a": regular(b"text")}))
    rewrite_mos(out, number, at, 12345)
    problems = fsck(Pool.open(out, "test.img"))
    assert any(what in problem for problem in problems), problems
    assert not any("checksum" in problem for problem in problems)
