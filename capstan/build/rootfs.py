# SPDX-License-Identifier: BSD-2-Clause
"""The tree of an image: what was put in so far, over the root directory it is taken from.

Rules:
- The tree is the upper layer, the root (`/` or `--root`) the lower one. Paths are resolved
  component by component through both; an absolute link starts at the root again, so nothing
  outside of it is reached.
- `add` takes a path from the root and keeps its place: each directory and link on the way comes
  along. `graft` puts a host file or directory at any place, over what is there. `find` changes
  nothing.
- Directories on the way carry `UNSET` as their time until `finish` sets it, since the root's own
  directories change whenever a package is installed.
- Names are file-system strings (`os.fsencode` gives the bytes).
"""

from __future__ import annotations

import itertools
import os
import posixpath
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from capstan.build.zfs.tree import Node
from capstan.errors import BuildError
from capstan.manifest import LinkedFile, Step

MAX_LINKS = 40
UNSET = -1
ALIASES = frozenset({"bin", "sbin", "lib", "lib32", "lib64", "libx32"})
"""Top-level names that are links into /usr on most systems: `graft` keeps them links."""

STANDARD_DIRS = (
    ("/dev", 0o755),
    ("/etc", 0o755),
    ("/proc", 0o555),
    ("/root", 0o700),
    ("/run", 0o755),
    ("/sys", 0o555),
    ("/tmp", 0o1777),
    ("/var/tmp", 0o1777),
)
STANDARD_FILES = (
    ("/etc/passwd", "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n"),
    ("/etc/group", "root:x:0:\nnogroup:x:65534:\n"),
    ("/etc/nsswitch.conf", "passwd: files\ngroup: files\nhosts: files dns\n"),
    ("/etc/hostname", "capstan\n"),
    # As on Debian: without it glibc gives one address of a name with several in /etc/hosts.
    ("/etc/host.conf", "multi on\n"),
    # /etc/hosts and /etc/resolv.conf: the guest writes them when it knows its network.
)


@dataclass(slots=True)
class Found:
    """A path of the image: where it really is, and its node or its place on the host."""

    path: str
    mode: int
    node: Node | None
    host: str | None

    @property
    def is_dir(self) -> bool:
        """Whether it is a directory."""
        return stat.S_ISDIR(self.mode)

    @property
    def is_file(self) -> bool:
        """Whether it is a regular file with bytes on the host."""
        return stat.S_ISREG(self.mode) and self.host is not None


@dataclass(frozen=True, slots=True)
class Facts:
    """What tells whether a host file changed since it was packed."""

    size: int
    mtime_ns: int
    ctime_ns: int
    ino: int
    dev: int

    @classmethod
    def of(cls, status: os.stat_result) -> Facts:
        """The facts in what `lstat` gave."""
        return cls(
            status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino, status.st_dev
        )


class Tree:
    """The files of an image that is being collected."""

    def __init__(self, root: Path | None) -> None:
        """A tree over `root`; over nothing when it is None."""
        self.host_root = "" if root in (None, Path("/")) else os.fspath(root)
        self.has_lower = root is not None
        self.root = _directory(0o755)
        self.facts: dict[str, Facts] = {}
        self.digests: dict[str, str] = {}  # of host files that never change
        self.warnings: list[str] = []
        self.steps: list[Step] = []
        self.linked: dict[int, LinkedFile] = {}  # by id() of the node: linked already
        self._inodes: dict[tuple[int, int], Node] = {}
        self._stats: dict[str, os.stat_result | None] = {}

    # --- looking -------------------------------------------------------------------------------

    def find(self, path: str, *, lower: bool = True) -> Found | None:
        """What `path` leads to, links followed; None when nothing is there.

        Raises:
            BuildError: links form a loop, or a directory cannot be read.
        """
        return self._walk(path, add=False, lower=lower)

    def search(self, name: str, folders: str) -> str | None:
        """Where the program `name` is in a PATH."""
        if not name or "/" in name:
            return None
        for folder in folders.split(":"):
            path = f"{folder.rstrip('/')}/{name}"
            found = self.find(path) if folder.startswith("/") else None
            if found is not None and found.is_file and found.mode & 0o111:
                return path
        return None

    def children(self, path: str) -> list[str]:
        """The sorted names in the directory `path` of both layers; empty when it is none."""
        found = self.find(path)
        if found is None or not found.is_dir:
            return []
        names = set(map(os.fsdecode, found.node.children)) if found.node is not None else set()
        if found.host is not None:
            names.update(_listdir(found.host))
        return sorted(names)

    def files(self, top: Node | None = None, at: str = "/") -> Iterator[tuple[str, Node]]:
        """Every path in the tree, or below `top` that stands at `at`; parents come first."""
        todo = [(at.rstrip("/"), top or self.root)]
        while todo:
            path, node = todo.pop()
            yield path or "/", node
            for name in sorted(node.children or (), reverse=True):
                todo.append((f"{path}/{os.fsdecode(name)}", node.children[name]))

    def node_at(self, path: str) -> Node:
        """The node at `path`, no link followed; KeyError when there is none."""
        node = self.root
        for name in path.split("/"):
            if name:
                node = node.children[os.fsencode(name)]
        return node

    # --- adding --------------------------------------------------------------------------------

    def add(self, path: str, *, recurse: bool = False) -> Found:
        """Put `path` of the root into the tree at the same place, with the links on the way.

        With `recurse` a directory comes with all that is below it.

        Raises:
            BuildError: it does not exist or cannot be read.
        """
        found = self._walk(path, add=True, lower=True)
        if found is None:
            raise BuildError(f"{self.name(path)} does not exist")
        if recurse and found.is_dir and found.host is not None:
            assert found.node is not None
            self._copy_dir(found.node, found.host, found.path, replace=False)
        return found

    def add_entry(self, path: str) -> None:
        """Put what is at `path` of the root, if anything, into the tree, a link as it is.

        Raises:
            BuildError: it cannot be read.
        """
        parent, _, name = path.rpartition("/")
        folder = self._walk(parent, add=True, lower=True)
        if folder is None or folder.node is None or folder.host is None or not folder.is_dir:
            return
        host = f"{folder.host}/{name}"
        status = self._lstat(host)
        if status is None or os.fsencode(name) in folder.node.children:
            return
        node = self._node(host, status)
        if stat.S_ISDIR(status.st_mode):
            node.mtime_ns = UNSET
        folder.node.children[os.fsencode(name)] = node

    def graft(self, guest: str, host: str) -> None:
        """Put the host's file or directory `host` at `guest`, over what the tree has there.

        Raises:
            BuildError: it does not exist, cannot be read, or would replace a directory.
        """
        try:
            status = Path(host).stat()
        except OSError as err:
            raise unreadable(host, err) from err
        if stat.S_ISDIR(status.st_mode):
            node = self.make_dir(guest)
            if guest.strip("/"):
                node.mode, node.mtime_ns = status.st_mode, status.st_mtime_ns
            self._copy_dir(node, host, guest, replace=True)
        else:
            self.place(guest, self._node(host, status))

    def put(self, guest: str, data: bytes, mode: int = 0o644) -> None:
        """Put a file made of `data` at `guest`."""
        self.place(guest, Node(stat.S_IFREG | mode, mtime_ns=UNSET, source=data))

    def make_dir(self, guest: str, mode: int = 0o755) -> Node:
        """The directory `guest`, made when it is missing, its parents too."""
        path = ""
        for name in guest.split("/"):
            if name in {"", "."}:
                continue
            path = f"{path}/{name}"
            if self.find(path, lower=False) is not None:
                continue
            if path[1:] in ALIASES and self._is_host_link(path) and self.find(path) is not None:
                self.add(path)
                continue
            if self._is_link(path):
                self.make_dir(self._link_target(path))
                continue
            parent = self.find(posixpath.dirname(path), lower=False)
            if name == ".." or parent is None or parent.node is None or not parent.is_dir:
                raise BuildError(f"{guest}: cannot make the directory {path} in the image")
            parent.node.children[os.fsencode(name)] = _directory(0o755)
        found = self.find(guest, lower=False)
        if found is None or not found.is_dir or found.node is None:
            raise BuildError(f"{guest} has to be a directory in the image, but is a file")
        if found.node.mtime_ns == UNSET and mode != 0o755:
            found.node.mode = stat.S_IFDIR | mode
        return found.node

    def add_standard(self) -> None:
        """Add the directories and the minimal /etc every program may expect, where missing."""
        for path, mode in STANDARD_DIRS:
            if self.find(path, lower=False) is None and not self._is_link(path):
                self.make_dir(path, mode)
        for path, text in STANDARD_FILES:
            if self.find(path, lower=False) is None and not self._is_link(path):
                self.put(path, text.encode())

    def record(self, kind: str, detail: str, *, always: bool = True) -> None:
        """Note for the image's history what the files since the last note came from.

        Without `always` only if there are any.
        """
        before = sum(step.files for step in self.steps)
        new = [facts.size for facts in itertools.islice(self.facts.values(), before, None)]
        if new or always:
            self.steps.append(Step(kind, detail, len(new), sum(new)))

    def finish(self, epoch: int | None) -> int:
        """Set the times left open; the image's own time in seconds.

        It is `epoch` when given (no time in the tree is later then), else the newest time in the
        tree.
        """
        nodes = [node for _, node in self.files()]
        newest = max((node.mtime_ns for node in nodes), default=0)
        created = epoch if epoch is not None else max(newest, 0) // 10**9
        for node in nodes:
            if node.mtime_ns == UNSET or (epoch is not None and node.mtime_ns > epoch * 10**9):
                node.mtime_ns = created * 10**9
        return created

    def name(self, path: str) -> str:
        """How to name a path of the root to the user."""
        return f"{self.host_root}{path}"

    # --- inside --------------------------------------------------------------------------------

    def _walk(self, path: str, *, add: bool, lower: bool) -> Found | None:
        below = self.host_root if lower and self.has_lower else None
        top = Found("", stat.S_IFDIR, self.root, below)
        stack = [top]
        todo = path.split("/")[::-1]
        links = 0
        while todo:
            name = todo.pop()
            if name in {"", "."}:
                continue
            here = stack[-1]
            if not here.is_dir:
                return None
            if name == "..":
                del stack[max(1, len(stack) - 1) :]
                continue
            step = self._step(here, name, add=add)
            if step is None:
                return None
            if not stat.S_ISLNK(step.mode):
                stack.append(step)
                continue
            links += 1
            if links > MAX_LINKS:
                raise BuildError(
                    f"{self.name(path)}: symbolic links form a loop",
                    hint=f"look at {self.name(step.path)}",
                )
            target = self._target(step)
            if target.startswith("/"):
                del stack[1:]
            todo.extend(target.split("/")[::-1])
        last = stack[-1]
        return Found(last.path or "/", last.mode, last.node, last.host)

    def _step(self, here: Found, name: str, *, add: bool) -> Found | None:
        """One component further; `host` of a directory is set where the root has a real one."""
        path = f"{here.path}/{name}"
        node = None
        if here.node is not None:
            node = here.node.children.get(os.fsencode(name))
        host = f"{here.host}/{name}" if here.host is not None else None
        status = self._lstat(host) if host is not None else None
        if node is None:
            if status is None or host is None:
                return None
            if add and here.node is not None:
                node = self._node(host, status)
                if stat.S_ISDIR(status.st_mode):
                    node.mtime_ns = UNSET
                here.node.children[os.fsencode(name)] = node
            return Found(path, status.st_mode, node, host)
        if stat.S_ISREG(node.mode):
            host = os.fspath(node.source) if isinstance(node.source, Path) else None
        elif status is None or not (stat.S_ISDIR(node.mode) and stat.S_ISDIR(status.st_mode)):
            host = None
        return Found(path, node.mode, node, host)

    def _target(self, step: Found) -> str:
        if step.node is not None:
            return os.fsdecode(step.node.target)
        assert step.host is not None
        return _readlink(step.host)

    def _lstat(self, host: str) -> os.stat_result | None:
        try:
            return self._stats[host]
        except KeyError:
            pass
        try:
            status = os.lstat(host)
        except (FileNotFoundError, NotADirectoryError):
            status = None
        except OSError as err:
            raise unreadable(host, err) from err
        self._stats[host] = status
        return status

    def _is_host_link(self, path: str) -> bool:
        status = self._lstat(self.host_root + path) if self.has_lower else None
        return status is not None and stat.S_ISLNK(status.st_mode)

    def _is_link(self, path: str) -> bool:
        """Whether the tree has a link at `path`, wherever it leads."""
        parent, _, name = path.rpartition("/")
        found = self.find(parent, lower=False)
        node = found.node if found is not None and found.is_dir else None
        return node is not None and os.fsencode(name) in node.children

    def _link_target(self, path: str) -> str:
        """Where the tree's dangling link `path` leads, one step."""
        parent, _, name = path.rpartition("/")
        folder = self.find(parent, lower=False)
        assert folder is not None and folder.node is not None
        target = os.fsdecode(folder.node.children[os.fsencode(name)].target)
        return posixpath.normpath(posixpath.join(folder.path, target))

    def place(self, guest: str, node: Node) -> None:
        """Put a node that is no directory at `guest`, over what is there."""
        parent, _, name = guest.rstrip("/").rpartition("/")
        if name in {"", ".", ".."}:
            raise BuildError(f"{guest}: not a place for a file")
        folder = self.make_dir(parent)
        old = folder.children.get(os.fsencode(name))
        if old is not None and stat.S_ISDIR(old.mode):
            raise BuildError(f"{guest} is a directory in the image, a file cannot replace it")
        folder.children[os.fsencode(name)] = node

    def _node(self, host: str, status: os.stat_result) -> Node:
        """The node for one host file; the same node again for another name of the same file."""
        mode = status.st_mode
        inode = (status.st_dev, status.st_ino)
        if status.st_nlink > 1 and not stat.S_ISDIR(mode) and inode in self._inodes:
            return self._inodes[inode]
        me = os.geteuid()
        node = Node(
            mode,
            uid=0 if status.st_uid == me else status.st_uid,
            gid=0 if status.st_uid == me else status.st_gid,
            mtime_ns=max(0, status.st_mtime_ns),
        )
        if stat.S_ISREG(mode):
            node.source = Path(host)
            self.facts[host] = Facts.of(status)
        elif stat.S_ISLNK(mode):
            node.target = os.fsencode(_readlink(host))
        elif stat.S_ISCHR(mode) or stat.S_ISBLK(mode):
            node.rdev = status.st_rdev
        elif not (stat.S_ISDIR(mode) or stat.S_ISFIFO(mode)):
            raise BuildError(f"{host}: a socket cannot be put into an image")
        if status.st_nlink > 1 and not stat.S_ISDIR(mode):
            self._inodes[inode] = node
        return node

    def _copy_dir(self, node: Node, host: str, guest: str, *, replace: bool) -> None:
        """Put all below the host directory `host` into `node`, which stands at `guest`."""
        todo = [(node, host, guest.rstrip("/"))]
        while todo:
            here, folder, path = todo.pop()
            for name in _listdir(folder):
                at, place = f"{folder}/{name}", f"{path}/{name}"
                status = self._lstat(at)
                if status is None or stat.S_ISSOCK(status.st_mode):
                    continue
                old = here.children.get(os.fsencode(name))
                if stat.S_ISDIR(status.st_mode):
                    below = self._dir_for(old, at, status, place, replace=replace)
                    if below is not None:
                        here.children[os.fsencode(name)] = below[0]
                        todo.append((below[1], at, place))
                elif old is None or (replace and not stat.S_ISDIR(old.mode)):
                    here.children[os.fsencode(name)] = self._node(at, status)
                elif replace:
                    raise BuildError(f"{place} is a directory in the image, {at} is none")

    def _dir_for(
        self, old: Node | None, host: str, status: os.stat_result, place: str, *, replace: bool
    ) -> tuple[Node, Node] | None:
        """(entry, directory) for a host directory meeting `old`; None when `old` stays as it is."""
        if old is None:
            new = self._node(host, status)
            return new, new
        if stat.S_ISDIR(old.mode):
            if old.mtime_ns == UNSET:
                old.mtime_ns = status.st_mtime_ns
            return old, old
        if stat.S_ISLNK(old.mode):
            found = self.find(place, lower=False)
            if found is not None and found.is_dir and found.node is not None:
                return old, found.node
        if replace:
            raise BuildError(f"{place} is a file in the image, {host} is a directory")
        return None


def _directory(mode: int) -> Node:
    return Node(stat.S_IFDIR | mode, mtime_ns=UNSET)


def _listdir(host: str) -> list[str]:
    try:
        with os.scandir(host or "/") as entries:
            return sorted(entry.name for entry in entries)
    except OSError as err:
        raise unreadable(host, err) from err


def _readlink(host: str) -> str:
    try:
        return os.fspath(Path(host).readlink())
    except OSError as err:
        raise unreadable(host, err) from err


def unreadable(host: str | Path, err: OSError) -> BuildError:
    """The error for a host file or directory that cannot be read."""
    reason = os.strerror(err.errno) if err.errno else str(err)
    return BuildError(f"{host}: {reason}", hint="check that it exists and that you may read it")
