# SPDX-License-Identifier: BSD-2-Clause
"""The file of an image: its header, and the manifest and the kernel the header leads to.

`docs/host-guest.md` has the layout; `capstan.manifest` has the numbers.
"""

from __future__ import annotations

import hashlib
import os
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from capstan import manifest
from capstan.errors import ImageError
from capstan.manifest import ImageManifest

_HEADER = struct.Struct("<8sIIQQQQ32s32s")


@dataclass(frozen=True, slots=True)
class Header:
    """The image header: where manifest and kernel are, and what they hash to."""

    manifest_size: int
    kernel_size: int
    manifest_sha256: bytes
    kernel_sha256: bytes

    def pack(self) -> bytes:
        """The bytes at `HEADER_OFFSET`."""
        data = _HEADER.pack(
            manifest.MAGIC,
            manifest.FORMAT_VERSION,
            manifest.ABI,
            manifest.MANIFEST_OFFSET,
            self.manifest_size,
            manifest.KERNEL_OFFSET,
            self.kernel_size,
            self.manifest_sha256,
            self.kernel_sha256,
        )
        return data.ljust(manifest.HEADER_SIZE, b"\0")

    @classmethod
    def unpack(cls, data: bytes, where: str) -> Header:
        """The header in `data`; `where` names the image in errors.

        Raises:
            ImageError: no image, a damaged one, or one of another version.
        """
        if len(data) < _HEADER.size or data[:8] != manifest.MAGIC:
            raise ImageError(f"{where}: not a capstan image", hint="name a disk.img of the store")
        _, version, abi, m_at, m_size, k_at, k_size, m_sha, k_sha = _HEADER.unpack_from(data)
        if (version, abi) != (manifest.FORMAT_VERSION, manifest.ABI):
            raise ImageError(
                f"{where}: image format {version} with ABI {abi}, "
                f"but this capstan knows format {manifest.FORMAT_VERSION} with ABI {manifest.ABI}",
                hint="build the image again with this version of capstan",
            )
        places = (manifest.MANIFEST_OFFSET, manifest.KERNEL_OFFSET)
        fits = m_size <= manifest.MANIFEST_MAX and k_size <= manifest.KERNEL_MAX
        if (m_at, k_at) != places or not fits:
            raise ImageError(f"{where}: damaged image header", hint="build or pull it again")
        return cls(m_size, k_size, m_sha, k_sha)


def read_manifest(disk: Path) -> ImageManifest:
    """The manifest inside the image file `disk`.

    Raises:
        ImageError: it cannot be read or is damaged.
    """
    data, header = _read_part(disk, manifest.MANIFEST_OFFSET, lambda h: h.manifest_size)
    if hashlib.sha256(data).digest() != header.manifest_sha256:
        raise ImageError(f"{disk}: the manifest is damaged", hint="build or pull it again")
    return ImageManifest.from_json(data, str(disk))


def read_kernel(disk: Path, expect: str) -> bytes:
    """The kernel inside the image file `disk`; `expect` is its SHA-256 by the manifest.

    Raises:
        ImageError: it cannot be read, is damaged, or another one.
    """
    data, header = _read_part(disk, manifest.KERNEL_OFFSET, lambda h: h.kernel_size)
    digest = hashlib.sha256(data)
    if digest.digest() != header.kernel_sha256:
        raise ImageError(f"{disk}: the kernel is damaged", hint="build or pull it again")
    if digest.hexdigest() != expect:
        raise ImageError(f"{disk}: the kernel is not the one the manifest names")
    return data


def _read_part(disk: Path, at: int, size: Callable[[Header], int]) -> tuple[bytes, Header]:
    try:
        with disk.open("rb") as file:
            file.seek(manifest.HEADER_OFFSET)
            header = Header.unpack(file.read(manifest.HEADER_SIZE), str(disk))
            file.seek(at)
            return file.read(size(header)), header
    except OSError as err:
        raise ImageError(f"{disk}: {os.strerror(err.errno or 0)}") from err
