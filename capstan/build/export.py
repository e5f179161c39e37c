# SPDX-License-Identifier: BSD-2-Clause
"""Images for other tools: the raw disk, a QCOW2 disk, or a tar archive of the tree in the pool.

A tar archive is read out of the pool, not from the files the image was made of; it has owners,
times, devices, symbolic and hard links as they are in the guest. Linked programs are in it as they
run: with their system calls turned into jumps.
"""

from __future__ import annotations

import errno
import io
import os
import shutil
import stat
import tarfile
from pathlib import Path
from typing import BinaryIO

from capstan import fs, proc, ui
from capstan.build.zfs.reader import Entry, Filesystem, Pool
from capstan.errors import CapstanError, ImageError
from capstan.extents import data_ranges
from capstan.store import StoredImage

_CHUNK = 4 << 20
_CONVERT_SECONDS = 1800.0
_KINDS = {
    stat.S_IFREG: tarfile.REGTYPE,
    stat.S_IFDIR: tarfile.DIRTYPE,
    stat.S_IFLNK: tarfile.SYMTYPE,
    stat.S_IFCHR: tarfile.CHRTYPE,
    stat.S_IFBLK: tarfile.BLKTYPE,
    stat.S_IFIFO: tarfile.FIFOTYPE,
}


def to_raw_file(image: StoredImage, path: Path, progress: ui.Advance | None = None) -> None:
    """Copy the disk to `path`, with its holes."""
    with image.disk.open("rb") as disk, fs.atomic_file(path) as out:
        size = os.fstat(disk.fileno()).st_size
        out.truncate(size)
        for start, end in data_ranges(disk.fileno(), 0, size):
            at = start
            while at < end:
                count = min(end - at, _CHUNK)
                moved = _copy(disk.fileno(), out.fileno(), count, at)
                if not moved:
                    raise ImageError(f"{image.disk}: became shorter meanwhile")
                at += moved
                if progress is not None:
                    progress(at, size)


def to_raw_stream(image: StoredImage, out: BinaryIO, progress: ui.Advance | None = None) -> None:
    """Write all bytes of the disk to `out`."""
    counter = ui.Counter(image.disk.stat().st_size, progress)
    with image.disk.open("rb") as disk:
        while data := disk.read(_CHUNK):
            out.write(data)
            counter.advance(len(data))
    out.flush()


def to_qcow2(image: StoredImage, path: Path) -> None:
    """Convert the disk to a QCOW2 file at `path`.

    Raises:
        CapstanError: qemu-img is missing or failed.
    """
    if shutil.which("qemu-img") is None:
        raise CapstanError(
            "--format qcow2 needs qemu-img, which is not installed",
            hint="`apt install qemu-utils`, or export with --format raw",
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    with fs.temp_dir(path.parent) as scratch:
        made = scratch / "disk.qcow2"
        line = ["qemu-img", "convert", "-f", "raw", "-O", "qcow2", os.fspath(image.disk)]
        done = proc.run([*line, os.fspath(made)], timeout=_CONVERT_SECONDS)
        if done.status:
            reason = done.stderr.decode(errors="replace").strip()
            raise CapstanError(f"qemu-img could not convert {image.title}: {reason}")
        fs.rename(made, path)
    fs.sync_dir(path.parent)


def to_tar(image: StoredImage, out: BinaryIO, progress: ui.Advance | None = None) -> None:
    """Write the tree of the image to `out`.

    Raises:
        ImageError: the pool is damaged.
    """
    names: dict[int, str] = {}
    done, total = 0, image.disk.stat().st_size
    with (
        image.disk.open("rb") as disk,
        tarfile.open(fileobj=out, mode="w|", format=tarfile.PAX_FORMAT) as archive,
    ):
        tree = Pool.open(disk, image.disk).filesystem()
        for path, entry in tree.walk():
            name = os.fsdecode(path.lstrip(b"/"))
            if not name:
                continue
            info = _member(name, entry, names, image)
            archive.addfile(info, _Content(tree, entry) if info.isreg() else None)
            done += info.size
            if progress is not None:
                progress(min(done, total), total)
    out.flush()


def _member(name: str, entry: Entry, names: dict[int, str], image: StoredImage) -> tarfile.TarInfo:
    facts = entry.attributes
    kind = _KINDS.get(stat.S_IFMT(facts.mode))
    if kind is None:
        raise ImageError(f"image {image.title}: /{name} has the mode {facts.mode:o}")
    info = tarfile.TarInfo(name)
    info.type, info.mode = kind, stat.S_IMODE(facts.mode)
    info.uid, info.gid = facts.uid, facts.gid
    info.mtime = facts.mtime_ns // 10**9
    more: dict[str, str] = {}
    if facts.mtime_ns % 10**9:
        seconds, rest = divmod(facts.mtime_ns, 10**9)
        more["mtime"] = f"{seconds}.{rest:09d}"
    for key, value in sorted(facts.xattrs.items()):  # as GNU tar and bsdtar write them
        more[f"SCHILY.xattr.{os.fsdecode(key)}"] = value.decode("utf-8", "surrogateescape")
    info.pax_headers = more
    if kind == tarfile.SYMTYPE:
        info.linkname = os.fsdecode(facts.target)
    elif kind in (tarfile.CHRTYPE, tarfile.BLKTYPE):
        info.devmajor, info.devminor = facts.rdev >> 20, facts.rdev & 0xFFFFF
    if kind != tarfile.DIRTYPE and facts.links > 1:
        first = names.setdefault(entry.number, name)
        if first != name:
            info.type, info.linkname = tarfile.LNKTYPE, first
    info.size = facts.size if info.isreg() else 0
    return info


def _copy(source: int, target: int, count: int, at: int) -> int:
    """Copy up to `count` bytes at `at`, shared on disk where the file system can; how many."""
    try:
        return os.copy_file_range(source, target, count, at, at)
    except OSError as err:
        if err.errno not in (errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP):
            raise
    return os.pwrite(target, os.pread(source, count, at), at)


class _Content(io.RawIOBase):
    """A file of the pool as tarfile reads it."""

    def __init__(self, tree: Filesystem, entry: Entry) -> None:
        self._blocks = tree.data(entry)
        self._rest = memoryview(b"")

    def read(self, size: int = -1, /) -> bytes:
        """Up to `size` bytes; all that is left when it is negative."""
        found = []
        want = size if size >= 0 else 1 << 62
        while want:
            if not self._rest:
                block = next(self._blocks, None)
                if block is None:
                    break
                self._rest = memoryview(block)
            part = self._rest[:want]
            self._rest = self._rest[len(part) :]
            want -= len(part)
            found.append(bytes(part))
        return b"".join(found)
