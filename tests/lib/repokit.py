# SPDX-License-Identifier: BSD-2-Clause
"""Small images and an impatient client, for tests of capstan/repo."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

from capstan import manifest, ref
from capstan.extents import Block, FileBlocks
from capstan.manifest import ImageManifest, KernelInfo, PoolInfo, RunConfig
from capstan.repo.limits import Patience
from capstan.repo.names import Place, Reach, locate
from capstan.repo.pull import Pulled, PullRequest, pull
from capstan.repo.push import Pushed, PushRequest, push
from capstan.store import Header, Store, StoredImage

KERNEL = b"\x7fELF kernel" * 1000
START = 4 << 20
HASTY = Patience(connect=2, silence=0.4, speed_min=1 << 20, tries=3, tries_max=8, pause=0.005)


def noise(seed: int, size: int) -> bytes:
    """Bytes that do not compress, the same for the same seed."""
    return hashlib.shake_128(b"%d" % seed).digest(size)


def make_image(
    store: Store, name: str, files: Sequence[bytes], argv: str = "/x", *, lz4: bool = False
) -> tuple[StoredImage, Sequence[FileBlocks]]:
    """An image whose "pool" is these files one after the other, 128 KiB to a block.

    With `lz4` all blocks are packed; the files are then multiples of 512 bytes.
    """
    import lz4.block as packer

    sha = hashlib.sha256(KERNEL)
    kernel = KernelInfo(sha.hexdigest(), len(KERNEL))
    extents: list[FileBlocks] = []

    def write(out: BinaryIO) -> ImageManifest:
        at = START
        for content in files:
            blocks = []
            for begin in range(0, len(content), 128 << 10):
                part = content[begin : begin + (128 << 10)]
                logical = len(part)
                if lz4:
                    part = packer.compress(part, store_size=False)
                    part = len(part).to_bytes(4, "big") + part
                room = -(-len(part) // 4096) * 4096
                blocks.append(Block(at, room, logical if lz4 else room, lz4))
                out.seek(at)
                out.write(part.ljust(room, b"\0"))
                at += room
            extents.append(blocks)
        out.write(b"metadata of " + repr(extents).encode())
        size = at + (1 << 20) & -4096
        made = ImageManifest("n", 1, RunConfig((argv,)), kernel, PoolInfo("p", 1, size))
        text = made.to_json()
        head = Header(len(text), len(KERNEL), hashlib.sha256(text).digest(), sha.digest())
        for offset, data in (
            (manifest.HEADER_OFFSET, head.pack()),
            (manifest.MANIFEST_OFFSET, text),
            (manifest.KERNEL_OFFSET, KERNEL),
        ):
            out.seek(offset)
            out.write(data)
        out.truncate(size)
        return made

    return store.put(write, name=ref.parse(name)), extents


def hasty(home: Path, **more: object) -> Reach:
    """A client that gives up soon, with no credentials but those in `home`."""
    given = {"environ": {}, "home": home, "patience": HASTY, **more}
    return Reach(**given)  # type: ignore[arg-type]


def place(name: str, reach: Reach) -> Place:
    return locate(ref.parse(name), reach)


def push_image(
    store: Store, image: tuple[StoredImage, Sequence[FileBlocks]], name: str, reach: Reach
) -> Pushed:
    return push(PushRequest(image[0], image[1], place(name, reach), reach), store)


def pull_image(store: Store, name: str, reach: Reach) -> Pulled:
    return pull(PullRequest(place(name, reach), ref.parse(name), reach), store)


def snapshot(root: Path) -> dict[str, bytes]:
    """All of a store but what is allowed to change when a pull fails."""
    found = {}
    for path in sorted(root.rglob("*")):
        name = str(path.relative_to(root))
        if name.startswith(("downloads", "lock")) or path.is_dir():
            continue
        found[name] = str(path.readlink()).encode() if path.is_symlink() else path.read_bytes()
    return found
