# SPDX-License-Identifier: BSD-2-Clause
"""Small images without a pool, for tests of the store and of what is around it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from typing import BinaryIO

from capstan import manifest, ref
from capstan.manifest import ImageManifest, KernelInfo, PoolInfo, RunConfig
from capstan.store import Header, Store, StoredImage

KERNEL = b"\x7fELF kernel"


def writer(
    content: bytes = b"", kernel: bytes = KERNEL, told: bytes | None = None, created: int = 1
) -> Callable[[BinaryIO], ImageManifest]:
    """What writes an image with `content`; `told` is the kernel its manifest names."""
    sha = hashlib.sha256(kernel)
    named = hashlib.sha256(told or kernel).hexdigest()
    description = ImageManifest(
        "n",
        created,
        RunConfig(("/bin/x", "an arg")),
        KernelInfo(named, len(kernel)),
        PoolInfo("p", 1, 1 << 20),
    )

    def write(out: BinaryIO) -> ImageManifest:
        text = description.to_json()
        head = Header(len(text), len(kernel), hashlib.sha256(text).digest(), sha.digest())
        for offset, data in (
            (manifest.HEADER_OFFSET, head.pack()),
            (manifest.MANIFEST_OFFSET, text),
            (manifest.KERNEL_OFFSET, kernel),
            (4 << 20, content),
        ):
            out.seek(offset)
            out.write(data)
        return description

    return write


def put(
    where: Store,
    name: str | None,
    content: bytes = b"",
    key: str | None = None,
    notes: Mapping[str, bytes] | None = None,
    created: int = 1,
) -> StoredImage:
    """Such an image, in the store."""
    parsed = ref.parse(name) if name else None
    return where.put(writer(content, created=created), name=parsed, key=key, notes=notes)
