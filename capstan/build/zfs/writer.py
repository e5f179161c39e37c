# SPDX-License-Identifier: BSD-2-Clause
"""Writes a tree of nodes as a ZFS pool into a file. This is the door of the package.

The order on disk is: data of all files, then one run of metadata (indirect blocks,
directories, inodes, object set of the file system), then the MOS, whose object set is the last
block of all. A reader that fetches the megabyte before it has everything a boot needs.
"""

from __future__ import annotations

import dataclasses
import hashlib
import re
import stat
from collections.abc import Callable
from dataclasses import dataclass
from typing import BinaryIO

from capstan.build.zfs import spa
from capstan.build.zfs.checksum import fletcher4, fletcher4_numpy
from capstan.build.zfs.compress import lz4_compressor, store
from capstan.build.zfs.dmu import BlockWriter, Image, Space, Usage, write_dnodes, write_object
from capstan.build.zfs.files import size_of, write_contents
from capstan.build.zfs.layout import (
    OBJSET_TYPE_META,
    OVERHEAD,
    Dnode,
    Ot,
    align,
    pack_objset,
)
from capstan.build.zfs.tree import Node
from capstan.build.zfs.zpl import Inode, plan, write_filesystem
from capstan.errors import BuildError

_SLAB_SHIFT_MIN = 24  # OpenZFS makes none smaller
_SLAB_SHIFT_MAX = 34
_SLABS_PLANNED = 56
_SIZE_MIN = 64 << 20  # OpenZFS opens no smaller vdev
_NUMPY_ABOVE_BYTES = 8 << 20
_NUMPY_ABOVE_INODES = 1000
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_.:-]{0,199}")
_RESERVED = re.compile(r"(mirror|raidz|draid|spare|log$|c[0-9])")


@dataclass(frozen=True, slots=True)
class PoolResult:
    """The written pool."""

    guid: int
    size: int  # bytes of the image
    files: int  # inodes that are no directories
    data_bytes: int  # in files


def write_pool(
    root: Node,
    out: BinaryIO,
    *,
    name: str,
    created: int,
    compress: bool = True,
    progress: Callable[[int], None] | None = None,
) -> PoolResult:
    """Write `root` as pool `name` to `out`, an empty seekable file, and give its figures.

    Bytes 512 KiB to 4 MiB of the image are left alone. `created` is in seconds since 1970;
    `progress` hears how many more bytes of files have been read. The same arguments give the
    same bytes.

    Raises:
        BuildError: the tree cannot be in an image, or a file cannot be read.
    """
    check_name(name)
    inodes = plan(root)
    contents = [inode.content for inode in inodes if inode.content]
    total = sum(size_of(content.source) for content in contents)
    is_large = total > _NUMPY_ABOVE_BYTES or len(inodes) > _NUMPY_ABOVE_INODES
    writer = BlockWriter(
        space=Space(_slab_shift(inodes, total)),
        image=Image(out),
        compress=lz4_compressor() if compress else store,
        fletcher=fletcher4_numpy() if is_large else fletcher4,
        birth=spa.BIRTH_TXG,
    )
    write_contents(contents, writer, total, progress)
    head = write_filesystem(inodes, writer).pointer
    pool = spa.Pool(
        name=name,
        created=created,
        seed=hashlib.sha256(f"{name}\n{created}\n".encode() + head).digest(),
        slab_shift=writer.space.shift,
        size=_SIZE_MIN,
        slabs=[],
        head=head,
        head_usage=writer.usage,
        mos_usage=Usage(),
        compress=compress,
    )
    pool = _write_mos(pool, writer)
    return PoolResult(
        guid=pool.guid("pool"),
        size=pool.size,
        files=sum(not stat.S_ISDIR(inode.node.mode) for inode in inodes),
        data_bytes=sum(content.size for content in contents),
    )


def check_name(name: str) -> None:
    """Refuse what OpenZFS does not take as the name of a pool.

    Raises:
        BuildError: it is such a name.
    """
    if not _NAME.fullmatch(name) or _RESERVED.match(name):
        raise BuildError(
            f"{name!r} cannot be the name of a pool",
            hint="use letters, digits and _ . : -, and begin with a letter",
        )


def _slab_shift(inodes: list[Inode], data: int) -> int:
    """The size of metaslabs such that about 56 hold the tree; `data` is an estimate.

    A MOS with so few space maps has no indirect block, which the guest would have to rewrite.
    """
    bound = data + (data >> 6) + len(inodes) * 12288 + (32 << 20)
    bound += sum(len(inode.entries) for inode in inodes) * 1024
    shift = _SLAB_SHIFT_MIN
    while bound >> shift > _SLABS_PLANNED:
        shift += 1
    if shift > _SLAB_SHIFT_MAX:
        raise BuildError(f"{data >> 40} TiB of files are too much for an image")
    return shift


def _write_mos(pool: spa.Pool, files: BlockWriter) -> spa.Pool:
    """Write the MOS and the labels; gives the pool with all its figures."""
    space = files.space
    count = len(space.slabs)
    size = _mos_usage(pool, count).allocated
    if space.keep_together(size):
        count += 1
    pool = dataclasses.replace(pool, mos_usage=_mos_usage(pool, count))
    slabs, slab = space.slabs, 1 << space.shift
    end = space.end + pool.mos_usage.allocated
    slabs = [*slabs[: count - 1], (count - 1 << space.shift, end)]
    if count > spa.SLABS_MAX:
        raise BuildError("the files are far larger than they looked", hint="build again")
    wanted = OVERHEAD + align(end + end // 10, slab)
    pool = dataclasses.replace(pool, slabs=slabs, size=max(wanted, _SIZE_MIN))
    writer = dataclasses.replace(files, compress=store, usage=Usage())
    root = _write_objects(spa.mos_objects(pool), writer)
    assert (space.end, writer.usage) == (end, pool.mos_usage)
    for offset, label in spa.labels(pool, root).items():
        files.image.write_label(offset, label)
    files.image.set_size(pool.size)
    return pool


def _mos_usage(pool: spa.Pool, slabs: int) -> Usage:
    draft = dataclasses.replace(pool, slabs=[(0, 0)] * slabs)
    return spa.mos_usage(spa.mos_objects(draft))


def _write_objects(objects: dict[int, spa.MosObject], writer: BlockWriter) -> bytes:
    """Write all objects of the MOS; gives the pointer to its object set."""
    packed = [b""] * (max(objects) + 1)
    for number, item in sorted(objects.items()):
        dnode = Dnode(
            item.kind,
            block_size=item.block_size,
            bonus_kind=item.bonus_kind,
            bonus=item.bonus,
            indirect_shift=item.indirect_shift,
        )
        write_object(writer, dnode, item.data)
        packed[number] = dnode.pack()
    meta, count = write_dnodes(writer, packed)
    return writer.put(pack_objset(OBJSET_TYPE_META, meta), Ot.OBJSET, fill=count)
