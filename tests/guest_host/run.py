#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""Compares what the guest's ZFS reader finds in pool images with what is known of them.

The reference pools were made by OpenZFS; their README gives, for each, the md5 of the md5 list of
all files as OpenZFS' own mount showed them. Set CAPSTAN_POOLS to the folder that has them.

usage: run.py BUILD_DIR
"""

from __future__ import annotations

import hashlib
import lzma
import os
import random
import shutil
import stat
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from capstan.build.zfs.compress import lz4_compressor  # noqa: E402
from capstan.build.zfs.tree import Node  # noqa: E402
from capstan.build.zfs.writer import write_pool  # noqa: E402
from capstan.errors import CapstanError  # noqa: E402

POOLS = Path(os.environ.get("CAPSTAN_POOLS", ROOT.parent / "shared" / "pools"))
FLAG_UNPLAYED_LOG, FLAG_DAMAGED_LABEL = 1, 2

LONG_TARGET_MIN = 140


@dataclass(frozen=True, slots=True)
class Entry:
    """One file of a dump."""

    obj: int
    dirent_type: int
    mode: int
    uid: int
    gid: int
    size: int
    links: int
    rdev: int
    mtime: int
    nsec: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Reference:
    """A reference pool: its datasets by mount point, and its md5."""

    name: str
    mounts: dict[str, str]
    md5: str | None
    flags: int = 0


REFERENCES = (
    Reference("min", {"": ""}, "15e128f201fa6720921ae5ee31010d8b"),
    Reference(
        "minlz4",
        {"": "", "child": "child", "clone": "clone"},
        "80e521a03c22bf5fa07f90e9b56aeddd",
    ),
    Reference(
        "v28",
        {"": "", "child": "child", "clone": "clone"},
        "5b5aa6a9234ac783c0bec482adc91ea2",
    ),
    Reference(
        "full",
        {"": "", "child": "child", "clone": "clone"},
        "21996c29a71b30708e8af649b9849f4d",
    ),
    Reference("zil", {"": ""}, None, FLAG_UNPLAYED_LOG),
)


def expect(condition: bool, what: str) -> None:
    """Ends the program when a fact does not hold."""
    if not condition:
        sys.exit(f"run.py: FAILED: {what}")


def dump(zfscat: Path, image: Path, dataset: str) -> tuple[dict[str, Entry], int]:
    """All files of a dataset by path ("./a/b"), and the reader's flags."""
    argv = [zfscat, image, dataset, "dump"]
    run = subprocess.run(argv, capture_output=True, timeout=120, check=False)
    expect(run.returncode == 0, f"{image} {dataset}: {run.stderr.decode()}")
    out = run.stdout
    entries: dict[str, Entry] = {}
    at = 0
    while True:
        end = out.index(b"\n", at)
        path, *fields = out[at:end].decode(errors="surrogateescape").split("\t")
        at = end + 1
        if not path:
            return entries, int(fields[1])
        obj, dtype, mode, *rest = fields
        numbers = [int(x) for x in rest]
        length = numbers.pop()
        entries[path] = Entry(int(obj), int(dtype), int(mode, 8), *numbers, out[at : at + length])
        at += length


def md5_of_tree(tree: dict[str, Entry]) -> str:
    """The md5 of `find . -type f | sort | xargs md5sum`."""
    digest = hashlib.md5()
    for path in sorted(tree):
        if stat.S_ISREG(tree[path].mode):
            line = f"{hashlib.md5(tree[path].data).hexdigest()}  {path}\n"
            digest.update(line.encode(errors="surrogateescape"))
    return digest.hexdigest()


def unpack(name: str, folder: Path) -> Path:
    """The image of a reference pool, unpacked once."""
    image = folder / f"{name}.img"
    if not image.exists():
        with lzma.open(POOLS / f"{name}.img.xz") as source, image.open("wb") as target:
            shutil.copyfileobj(source, target, 1 << 20)
    return image


def check_known_files(name: str, tree: dict[str, Entry]) -> None:
    """The facts of README.md about etc/ and big/."""
    # The README says 4755, but chown came after chmod and took the bit (zdb: 100755).
    tiny = tree["./etc/tiny"]
    expect(tiny.mode == 0o100755 and (tiny.uid, tiny.gid) == (1000, 100), f"{name}: etc/tiny")
    hard = tree["./etc/hard"]
    expect(hard.links == 2, f"{name}: etc/hard has two links")
    expect(stat.S_ISLNK(tree["./etc/link"].mode), f"{name}: etc/link")
    long = tree["./etc/longlink"]
    expect(
        stat.S_ISLNK(long.mode) and len(long.data) == long.size > LONG_TARGET_MIN,
        f"{name}: etc/longlink",
    )
    expect(stat.S_ISFIFO(tree["./etc/fifo"].mode), f"{name}: etc/fifo")
    null = tree["./etc/null"]
    expect(
        stat.S_ISCHR(null.mode) and null.rdev == os.makedev(1, 3),
        f"{name}: etc/null has rdev {null.rdev:#x}",
    )
    expect(tree["./etc/empty"].size == 0, f"{name}: etc/empty")
    sparse = tree["./big/sparse"].data
    expect(
        len(sparse) > 20 << 20 and not any(sparse[: 20 << 20]) and any(sparse[20 << 20 :]),
        f"{name}: big/sparse",
    )
    expect(len(tree["./big/busybox.part"].data) == 200_000, f"{name}: big/busybox.part")
    for path, entry in tree.items():
        expect(entry.dirent_type == stat.S_IFMT(entry.mode) >> 12, f"{name}: type of {path}")


def check_snapshot(zfscat: Path, image: Path, name: str, live: dict[str, Entry]) -> None:
    """@s1 has what was removed and changed later; the clone started from it."""
    snap, _ = dump(zfscat, image, "@s1")
    expect(live["./etc/hello.txt"].data.strip() == b"changed", f"{name}: etc/hello.txt")
    expect(snap["./etc/hello.txt"].data.strip() != b"changed", f"{name}: @s1 etc/hello.txt")
    gone = {p for p in snap if p not in live}
    expect(
        len(gone) == 300 and all(p.startswith("./dir1/") and p.endswith("7") for p in gone),
        f"{name}: {len(gone)} files were removed since @s1",
    )
    expect(snap["./big/rnd"].data != live["./big/rnd"].data, f"{name}: big/rnd")
    later, _ = dump(zfscat, image, "clone")
    before, _ = dump(zfscat, image, "clone@s2")
    expect("./c" in before and "./c" in later, f"{name}: clone/c")
    expect(len(before) - len(later) == 300, f"{name}: files removed since clone@s2")
    for missing in ("nothing", "@nothing", "child/nothing", "$MOS", "child@"):
        run = subprocess.run(
            [zfscat, image, missing, "dump"], capture_output=True, text=True, check=False
        )
        expect(run.returncode == 1 and "no dataset" in run.stderr, f"{name}: {missing}")


def check_reference(zfscat: Path, folder: Path, ref: Reference) -> None:
    """Everything that is known of one pool."""
    image = unpack(ref.name, folder)
    tree: dict[str, Entry] = {}
    for mount, dataset in ref.mounts.items():
        files, flags = dump(zfscat, image, dataset)
        expect(flags == (0 if mount else ref.flags), f"{ref.name}/{dataset}: flags {flags}")
        if not mount:
            live = files
        tree |= {f"./{mount}{p[1:]}" if mount else p: e for p, e in files.items()}
    check_known_files(ref.name, live)
    if ref.md5:
        found = md5_of_tree(tree)
        expect(found == ref.md5, f"{ref.name}: md5 {found}, expected {ref.md5}")
    if len(ref.mounts) > 1:
        check_snapshot(zfscat, image, ref.name, live)
    print(f"run.py: ok {ref.name}: {len(tree)} files")


# --- pools of our own writer ---


def sample_tree() -> Node:
    """Files at the edges of blocks, tables and attributes."""
    rng = random.Random(20261121)
    when = 1_700_000_000_123_456_789

    def file(data: bytes, mode: int = 0o644, **more: int) -> Node:
        return Node(mode=stat.S_IFREG | mode, source=data, mtime_ns=when, **more)

    def folder(**more: int) -> Node:
        return Node(mode=stat.S_IFDIR | 0o755, mtime_ns=when, **more)

    root = folder()
    sizes = folder(uid=1000, gid=100)
    for size in (0, 1, 511, 512, 513, 4095, 131071, 131072, 131073, 400_001):
        sizes.children[b"random-%d" % size] = file(rng.randbytes(size))
        sizes.children[b"text-%d" % size] = file((b"capstan " * (size // 8 + 1))[:size])
    sizes.children[b"sparse"] = file(bytes(3 << 20) + b"end" + bytes(200_000))
    root.children[b"sizes"] = sizes
    names = folder()
    for length in (1, 49, 50, 51, 254, 255):
        names.children[b"n" * length] = file(b"%d" % length)
    names.children["\u00fc\u00df \U0001f40e".encode()] = file(b"utf-8", 0o4755, uid=7, gid=8)
    root.children[b"names"] = names
    for count in (40, 2046, 2048, 6000):
        many = folder()
        for number in range(count):
            many.children[b"entry-%d" % number] = file(b"")
        root.children[b"dir-%d" % count] = many
    others = folder()
    hard = file(b"two names")
    others.children = {
        b"a": hard,
        b"b": hard,
        b"link": Node(mode=stat.S_IFLNK | 0o777, target="../sizes"),
        b"longlink": Node(mode=stat.S_IFLNK | 0o777, target="x/" * 700),
        b"fifo": Node(mode=stat.S_IFIFO | 0o600),
        b"null": Node(mode=stat.S_IFCHR | 0o666, rdev=os.makedev(1, 3)),
        b"disk": Node(mode=stat.S_IFBLK | 0o660, rdev=os.makedev(259, 300)),
        b"empty": folder(),
    }
    root.children[b"others"] = others
    return root


def flatten(node: Node, path: str, out: dict[str, Node]) -> None:
    """All nodes below `node` by path."""
    for name, child in node.children.items():
        below = f"{path}/{os.fsdecode(name)}"
        out[below] = child
        flatten(child, below, out)


def content(node: Node) -> bytes:
    """What a dump has as the data of this node."""
    if stat.S_ISLNK(node.mode):
        return os.fsencode(node.target)
    if not stat.S_ISREG(node.mode):
        return b""
    return node.source.read_bytes() if isinstance(node.source, Path) else node.source or b""


def check_written(zfscat: Path, image: Path, root: Node, what: str) -> None:
    """The reader finds exactly the tree the writer was given."""
    wanted: dict[str, Node] = {}
    flatten(root, ".", wanted)
    found, flags = dump(zfscat, image, "")
    expect(flags == 0, f"{what}: flags {flags}")
    expect(found.keys() == wanted.keys(), f"{what}: {sorted(found.keys() ^ wanted.keys())[:5]}")
    names: dict[int, int] = {}
    for node in wanted.values():
        names[id(node)] = names.get(id(node), 0) + 1
    for path, node in wanted.items():
        entry = found[path]
        meta = (entry.mode, entry.uid, entry.gid, entry.mtime * 10**9 + entry.nsec)
        expect(meta == (node.mode, node.uid, node.gid, node.mtime_ns), f"{what}: {path} {meta}")
        expect(entry.rdev == node.rdev, f"{what}: {path} rdev {entry.rdev:#x}")
        expect(entry.data == content(node), f"{what}: {path}: contents")
        if stat.S_ISDIR(node.mode):
            below = sum(stat.S_ISDIR(child.mode) for child in node.children.values())
            expect(entry.links == 2 + below, f"{what}: {path} has {entry.links} links")
        else:
            expect(entry.links == names[id(node)], f"{what}: {path} has {entry.links} links")
    print(f"run.py: ok {what}: {len(found)} files")


def check_writer(build: Path) -> None:
    """Writes pools with capstan.build.zfs and reads them back."""
    try:
        lz4_compressor()
        kinds = [True, False]
    except CapstanError as err:
        print(f"run.py: skipped the compressed pool: {err}")
        kinds = [False]
    root = sample_tree()
    for compress in kinds:
        image = build / f"written-{'lz4' if compress else 'off'}.img"
        with image.open("w+b") as out:
            write_pool(root, out, name="written", created=1_700_000_000, compress=compress)
        check_written(build / "zfscat", image, root, image.stem)


def main() -> None:
    """Runs all checks whose input is there."""
    build = Path(sys.argv[1])
    zfscat = build / "zfscat"
    check_writer(build)
    if not POOLS.is_dir():
        print(f"run.py: skipped: no reference pools in {POOLS} (set CAPSTAN_POOLS)")
        return
    folder = build / "pools"
    folder.mkdir(exist_ok=True)
    images = []
    for ref in REFERENCES:
        if (POOLS / f"{ref.name}.img.xz").exists():
            check_reference(zfscat, folder, ref)
            images.append(unpack(ref.name, folder))
        else:
            print(f"run.py: skipped {ref.name}: not in {POOLS}")
    for image in images:
        if image.stem in ("min", "minlz4"):
            subprocess.run([build / "test_zfs", image], check=True, timeout=120)
    variants = os.environ.get("VARIANTS", "150")
    subprocess.run([build / "zfs_mutate", *images, variants], check=True, timeout=600)


if __name__ == "__main__":
    main()
