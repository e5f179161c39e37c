# SPDX-License-Identifier: BSD-2-Clause
"""What gate 04-2 needs: buildah with storage of its own, and trees as comparable rows.

A row is what a path is: type and mode, owner, size, time, digest of the content, target, device,
extended attributes, and the first path of the same inode. `of_folder` reads them below a mount of
buildah's, `of_disk` out of the pool of an image.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import random
import shutil
import stat
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path

from capstan.build.zfs.reader import Pool
from tests.lib import ocimaker
from tests.lib.ocimaker import folder, hard, layer, link, member

Row = tuple[object, ...]
Rows = dict[str, Row]
FIELDS = ("mode", "uid", "gid", "size", "mtime", "sha256", "target", "rdev", "xattrs", "inode")
IGNORED_XATTRS = ("security.selinux", "trusted.overlay.")


class Buildah:
    """buildah with all of its state in one folder; `env` makes others use the same."""

    def __init__(self, home: Path) -> None:
        config = home / "storage.conf"
        config.write_text(
            f'[storage]\ndriver = "vfs"\ngraphroot = "{home}/images"\nrunroot = "{home}/run"\n'
        )
        self.env = {**os.environ, "CONTAINERS_STORAGE_CONF": str(config)}
        for name in ("STORAGE_DRIVER", "BUILDAH_ISOLATION"):
            self.env.pop(name, None)

    def __call__(self, *words: str | Path) -> str:
        """What `buildah WORDS` printed; its own words are the error."""
        argv = ["buildah", *map(os.fspath, words)]
        done = subprocess.run(
            argv, env=self.env, capture_output=True, text=True, timeout=120, check=False
        )
        if done.returncode:
            raise RuntimeError(f"{' '.join(argv)}: {done.stderr.strip()[-400:]}")
        return done.stdout.strip()

    @contextlib.contextmanager
    def mounted(self, image: str) -> Iterator[Path]:
        """The tree of an image as buildah shows it."""
        container = self("from", "--pull-never", image)
        try:
            yield Path(self("mount", container))
        finally:
            self("rm", container)


# --- trees as rows -----------------------------------------------------------------------------


def of_folder(top: Path) -> Rows:
    """The rows of a tree on this machine."""
    rows: Rows = {}
    for where, folders, files in os.walk(top):
        folders.sort()
        for name in ["", *folders, *files]:
            path = Path(where, name) if name else Path(where)
            if name and path.is_dir() and not path.is_symlink():
                continue  # comes as a `where`
            inside = "/" + os.fspath(path)[len(os.fspath(top)) :].strip("/")
            rows[inside] = _of_path(path, inside)
    return _named(rows)


def _of_path(path: Path, inside: str) -> Row:
    status = path.lstat()
    mode = status.st_mode
    digest, target, size, rdev = "", "", 0, 0
    if stat.S_ISREG(mode):
        size = status.st_size
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    elif stat.S_ISLNK(mode):
        target = os.fspath(path.readlink())
    elif stat.S_ISCHR(mode) or stat.S_ISBLK(mode):
        rdev = status.st_rdev
    xattrs = {
        name: os.getxattr(path, name, follow_symlinks=False).hex()
        for name in sorted(os.listxattr(path, follow_symlinks=False))
        if not name.startswith(IGNORED_XATTRS)
    }
    inode = inside if stat.S_ISDIR(mode) else (status.st_dev, status.st_ino)
    seconds = status.st_mtime_ns // 10**9
    return (mode, status.st_uid, status.st_gid, size, seconds, digest, target, rdev, xattrs, inode)


def of_disk(disk: Path, originals: dict[str, str]) -> Rows:
    """The rows of an image; `originals`: digest of a linked file -> what it was before."""
    rows: Rows = {}
    with disk.open("rb") as file:
        filesystem = Pool.open(file, disk).filesystem()
        digests: dict[int, tuple[str, int]] = {}
        for raw, entry in filesystem.walk():
            path, is_dir = os.fsdecode(raw), stat.S_ISDIR(entry.attributes.mode)
            attributes = entry.attributes
            digest, size = "", 0
            if stat.S_ISREG(attributes.mode):
                if entry.number not in digests:
                    total = hashlib.sha256()
                    for block in filesystem.data(entry):
                        total.update(block)
                    digests[entry.number] = (total.hexdigest(), attributes.size)
                digest, size = digests[entry.number]
                digest = originals.get(digest, digest)
            rdev = attributes.rdev
            xattrs = {os.fsdecode(k): v.hex() for k, v in sorted(attributes.xattrs.items())}
            rows[path] = (
                attributes.mode,
                attributes.uid,
                attributes.gid,
                size,
                attributes.mtime_ns // 10**9,
                digest,
                os.fsdecode(attributes.target),
                os.makedev(rdev >> 20, rdev & 0xFFFFF) if rdev else 0,
                xattrs,
                path if is_dir else entry.number,
            )
    return _named(rows)


def _named(rows: Rows) -> Rows:
    """The rows with the first path of each inode in the place of its number."""
    first: dict[object, str] = {}
    named: Rows = {}
    for path in sorted(rows):
        *others, inode = rows[path]
        named[path] = (*others, first.setdefault(inode, path))
    return named


def differences(theirs: Rows, ours: Rows, *, linked: set[str], folder_times: bool) -> list[str]:
    """What differs, a line each.

    Not counted: sizes of `linked` files; times of the root, which no layer has to name; without
    `folder_times` those of all folders.
    """
    lines = [f"{path}: missing in the image" for path in sorted(set(theirs) - set(ours))]
    lines += [f"{path}: only in the image" for path in sorted(set(ours) - set(theirs))]
    for path in sorted(set(theirs) & set(ours)):
        for field, want, got in zip(FIELDS, theirs[path], ours[path], strict=True):
            is_dir = stat.S_ISDIR(int(str(ours[path][0])))
            skip = (field == "size" and path in linked) or (
                field == "mtime" and (path == "/" or (is_dir and not folder_times))
            )
            if want != got and not skip:
                lines.append(f"{path}: {field} {want!r} there, {got!r} here")
    return lines


# --- trees to make images of -------------------------------------------------------------------


def debian_tree(top: Path, packages: list[str]) -> None:
    """Copy the files of installed packages, with their links, owners and modes, below `top`."""
    for name in ("usr/bin", "usr/sbin", "usr/lib", "usr/lib64"):
        (top / name).mkdir(parents=True)
    for name in ("bin", "sbin", "lib", "lib64"):
        (top / name).symlink_to(f"usr/{name}")
    listed = subprocess.run(
        ["dpkg-query", "-L", *packages], capture_output=True, text=True, timeout=60, check=False
    )
    if listed.returncode:
        raise RuntimeError(f"dpkg-query: {listed.stderr.strip()}")
    lines = listed.stdout.splitlines()
    paths = sorted({path for path in lines if path.startswith("/") and path != "/."})
    names = "\0".join(p.lstrip("/") for p in paths if os.path.lexists(p))
    make = ["tar", "--no-recursion", "--xattrs", "-C", "/", "--null", "-T", "-", "-cf", "-"]
    read = subprocess.Popen(make, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    unpack = ["tar", "--keep-directory-symlink", "--xattrs", "-xpf", "-", "-C", os.fspath(top)]
    write = subprocess.Popen(unpack, stdin=read.stdout)
    assert read.stdin is not None and read.stdout is not None
    read.stdout.close()
    read.stdin.write(names.encode())
    read.stdin.close()
    if read.wait(60) or write.wait(60):
        raise RuntimeError("tar could not copy the packages' files")
    for name in ("etc/passwd", "etc/group"):
        (top / name).parent.mkdir(exist_ok=True)
        shutil.copy(f"/{name}", top / name)


def second_layer(top: Path) -> None:
    """Change a tree in every way a layer can: gone, replaced, other attributes, links, devices."""
    doomed = sorted((top / "usr/share/doc").iterdir())
    shutil.rmtree(doomed[0])
    for path in (top / "usr/share/doc").rglob("copyright"):
        path.unlink()
        break
    shutil.rmtree(doomed[1])
    doomed[1].mkdir(mode=0o710)
    (doomed[1] / "new").write_text("in a folder made anew\n")
    work = top / "srv/app"
    work.mkdir(parents=True)
    (work / "one").write_bytes(b"linked\n" * 100)
    for name in ("two", "three"):
        (work / name).hardlink_to(work / "one")
    (top / "usr/bin/again").hardlink_to(top / "usr/bin/env")  # into the layer below
    os.chown(work / "one", 1234, 70_000)
    (work / "setuid").write_bytes(b"s")
    (work / "setuid").chmod(0o6751)
    (work / "sticky").mkdir()
    (work / "sticky").chmod(0o1777)
    (work / "link").symlink_to("/../absolute/and/dangling")
    os.lchown(work / "link", 5, 6)
    os.mknod(work / "null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    os.mknod(work / "disk", stat.S_IFBLK | 0o660, os.makedev(259, 70_000))
    os.mkfifo(work / "pipe", 0o622)
    with (work / "sparse").open("wb") as file:
        file.truncate(50 << 20)
        file.seek(20 << 20)
        file.write(b"island")
    capability = bytes.fromhex("0100000200040000000000000000000000000000")
    os.setxattr(work / "setuid", "security.capability", capability)
    os.setxattr(work / "two", "user.note", "sch\u00f6n".encode())
    os.setxattr(work / "sticky", "user.long", b"v" * 3000)
    os.utime(work / "setuid", ns=(0, 1_234_567_890_123_456_789))
    os.utime(work / "sticky", (0, 0))


def third_layer(top: Path) -> None:
    """Replace types, rename, change what the second layer made."""
    work = top / "srv/app"
    (work / "two").unlink()
    (work / "sticky").rmdir()
    (work / "sticky").write_text("a file now\n")
    (work / "link").unlink()
    (work / "link").mkdir()
    (work / "link/inside").write_text("x")
    (work / "disk").unlink()
    (work / "disk").symlink_to("one")
    (top / "etc/hostname").write_text("image\n")
    os.chown(top / "usr/share", 0, 50)
    (work / ("n" * 255)).write_text("long name")
    (work / "\u00fcmlaut 'quoted' $x\n").write_text("odd name")
    (top / "usr/bin/again").chmod(0o700)  # a file of the first layer, by its second name


def random_layers(seed: int, count: int = 4, entries: int = 60) -> list[bytes]:
    """Layers that fight over a few names; nothing in them depends on the tool's taste."""
    rng = random.Random(seed)
    names = ["a", "b", "c", "d"]
    layers: list[bytes] = []
    known: dict[str, str] = {}  # path -> kind, after the layers so far
    for _ in range(count):
        members, touched = [folder("./", mode=rng.choice([0o755, 0o751]))], set()
        for _ in range(rng.randrange(entries)):
            path = "/".join(rng.choice(names) for _ in range(rng.randint(1, 3)))
            parents = [path[:at] for at, c in enumerate(path) if c == "/"]
            if path in touched or any(t.startswith(f"{path}/") for t in touched):
                continue
            if any(known.get(p, "d") != "d" for p in parents) or any(
                p in touched and known.get(p) != "d" for p in parents
            ):
                continue
            for parent in parents:
                if parent not in touched and parent not in known:
                    members.append(folder(parent, mode=rng.choice([0o700, 0o755, 0o1777])))
                    known[parent] = "d"
                touched.add(parent)
            _random_entry(rng, path, members, known, touched)
        layers.append(layer(members))
    return layers


def _random_entry(
    rng: random.Random,
    path: str,
    members: list[ocimaker.Member],
    known: dict[str, str],
    touched: set[str],
) -> None:
    below = [p for p in known if p.startswith(f"{path}/")]
    kind = rng.choice(["f", "f", "d", "l", "h", "gone", "opaque", "p", "c"])
    if kind in ("gone", "opaque"):
        if path not in known or (kind == "opaque" and known[path] != "d"):
            return
        parent, _, name = path.rpartition("/")
        if kind == "opaque":
            members += [folder(path), member(f"{path}/.wh..wh..opq")]
        else:
            members.append(member(f"{parent}/.wh.{name}".lstrip("/")))
            known.pop(path)
    else:
        files = [p for p in known if known[p] == "f" and p != path and p not in below]
        if kind == "h" and not files:
            return
        members.append(_random_member(rng, kind, path, files))
        known[path] = "f" if kind == "h" else kind
        below = [] if kind == "d" else below
    touched.add(path)
    for gone in below:
        known.pop(gone)


def _random_member(rng: random.Random, kind: str, path: str, files: list[str]) -> ocimaker.Member:
    """A member of some kind; `files` are what a hard link may lead to."""
    more = {
        "uid": rng.choice([0, 33, 1 << 20]),
        "gid": rng.choice([0, 42]),
        "mtime": rng.randrange(1, 2_000_000_000),
    }
    if kind == "h":
        return hard(path, rng.choice(files))
    if kind == "d":
        return folder(path, mode=rng.choice([0o700, 0o1777]), **more)
    if kind == "l":
        return link(path, rng.choice(["/a", "../b", "nowhere"]), **more)
    if kind == "p":
        return member(path, type=tarfile.FIFOTYPE, **more)
    if kind == "c":
        device = {"type": tarfile.CHRTYPE, "devmajor": 1, "devminor": rng.randrange(1, 10)}
        return member(path, **device, **more)
    data = rng.randbytes(rng.choice([0, 1, 600, 5000]))
    pax = {"SCHILY.xattr.user.n": str(rng.random())} if rng.random() < 0.2 else {}
    mode = rng.choice([0o644, 0o4755, 0o2711])
    return member(path, data, mode=mode, pax_headers=pax, **more)
