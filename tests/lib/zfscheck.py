# SPDX-License-Identifier: BSD-2-Clause
"""Third-party checks of a pool: zdb of OpenZFS and the ZFS reader of GRUB.

Both come from Debian packages and run without root rights or a kernel module. `install`
unpacks zdb into a cache folder with an apt configuration of its own; the machine's stays as it
is. Run as a program: `zfscheck.py IMAGE POOL [TREE]`.
"""

from __future__ import annotations

import filecmp
import os
import re
import shutil
import stat
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from capstan.build.zfs.tree import Node

CACHE = Path("~/.cache/capstan-tools/zfs")
TIMEOUT = 600
GRUB_TARGET_MAX = 144  # a longer symlink is in a spill block, where GRUB does not look
_LIBRARIES = re.compile(r"lib(nvpair|uutil|zfs|zpool|zfsbootenv)\d+linux")
_BAD = re.compile(r"leaked|leak:|mismatch|refcount|unreachable|error", re.IGNORECASE)
_GOOD = re.compile(r"^Verified .* is correct$|^Traversing all blocks")


class CannotCheckError(Exception):
    """A tool is missing and cannot be had; the text says which and why."""


@dataclass(frozen=True, slots=True)
class Zdb:
    """A zdb that can be run."""

    program: Path
    libraries: Path | None = None

    def run(self, *args: str) -> subprocess.CompletedProcess[str]:
        """Run it with `args`; stdout and stderr come together."""
        env = dict(os.environ, LC_ALL="C")
        if self.libraries:
            env["LD_LIBRARY_PATH"] = str(self.libraries)
        return subprocess.run(
            [str(self.program), *args],
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=TIMEOUT,
            check=False,
        )


def find_zdb(suite: str = "") -> Zdb | None:
    """The zdb in $CAPSTAN_ZDB, the cache or PATH; `suite` asks for the cached one of a release."""
    if not suite and os.environ.get("CAPSTAN_ZDB"):
        return Zdb(Path(os.environ["CAPSTAN_ZDB"]))
    for folder in sorted(CACHE.expanduser().glob(suite or "*")):
        program = folder / "sbin" / "zdb"
        if not program.exists():
            program = folder / "usr" / "sbin" / "zdb"
        if program.exists():
            return Zdb(program, _library_folder(folder))
    path = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
    program_in_path = None if suite else shutil.which("zdb", path=path)
    return Zdb(Path(program_in_path)) if program_in_path else None


def _library_folder(folder: Path) -> Path:
    for library in folder.rglob("libzpool.so.*"):
        return library.parent
    raise CannotCheckError(f"{folder} has a zdb but not its libraries; remove the folder")


def install(suite: str = "") -> Zdb:
    """The zdb of Debian release `suite` (this machine's by default), downloaded if need be.

    Raises:
        CannotCheckError: not a Debian, or no network.
    """
    release = _release()
    suite = suite or release
    found = find_zdb(suite)
    if found:
        return found
    folder = CACHE.expanduser() / suite
    with tempfile.TemporaryDirectory() as work:
        _download(Path(work), suite, _mirror(release))
        unpacked = Path(work) / "root"
        for package in sorted(Path(work).glob("*.deb")):
            _call(["dpkg", "-x", str(package), str(unpacked)], Path(work))
        folder.parent.mkdir(parents=True, exist_ok=True)
        shutil.copytree(unpacked, folder, symlinks=True, dirs_exist_ok=True)
    installed = find_zdb(suite)
    if not installed:
        raise CannotCheckError(f"the packages of {suite} hold no zdb")
    answer = installed.run("-h")
    if "error while loading" in answer.stdout:
        raise CannotCheckError(f"zdb of {suite}: {answer.stdout.strip()}")
    return installed


def _release() -> str:
    text = Path("/etc/os-release").read_text() if Path("/etc/os-release").exists() else ""
    names = dict(line.split("=", 1) for line in text.splitlines() if "=" in line)
    if names.get("ID") != "debian" or "VERSION_CODENAME" not in names:
        raise CannotCheckError("no zdb: install zfsutils-linux, or set CAPSTAN_ZDB")
    return names["VERSION_CODENAME"].strip('"')


def _mirror(release: str) -> str:
    """The mirror this machine takes Debian from."""
    files = [*Path("/etc/apt/sources.list.d").glob("*.sources"), Path("/etc/apt/sources.list")]
    for file in files:
        text = file.read_text() if file.exists() else ""
        for stanza in text.split("\n\n"):
            if re.search(rf"^Suites:.*\b{release}(\s|$)", stanza, re.MULTILINE):
                found = re.search(r"^URIs:\s*(\S+)", stanza, re.MULTILINE)
                if found:
                    return found[1]
        found = re.search(rf"^deb (?:\[.*\] )?(\S+) {release} ", text, re.MULTILINE)
        if found:
            return found[1]
    raise CannotCheckError(f"no source of {release} in apt's lists; set CAPSTAN_ZDB to a zdb")


def _download(work: Path, suite: str, mirror: str) -> None:
    key = "/usr/share/keyrings/debian-archive-keyring.gpg"
    (work / "capstan.list").write_text(f"deb [signed-by={key}] {mirror} {suite} contrib\n")
    (work / "lists" / "partial").mkdir(parents=True)
    (work / "archives" / "partial").mkdir(parents=True)
    options = [
        f"Dir::Etc::sourcelist={work}/capstan.list",
        "Dir::Etc::sourceparts=-",
        f"Dir::State::lists={work}/lists",
        f"Dir::Cache={work}",
        "APT::Sandbox::User=root",
        "Debug::NoLocking=1",
        "Acquire::Languages=none",
        "Acquire::GzipIndexes=false",
    ]
    flags = [part for option in options for part in ("-o", option)]
    _call(["apt-get", "-q", *flags, "update"], work)
    index = "".join(path.read_text() for path in (work / "lists").glob("*_Packages"))
    offered = set(re.findall(r"^Package: (\S+)$", index, re.MULTILINE))
    packages = sorted(name for name in offered if _LIBRARIES.fullmatch(name))
    _call(["apt-get", "-q", *flags, "download", "zfsutils-linux", *packages], work)


def _call(args: list[str], folder: Path) -> str:
    try:
        done = subprocess.run(
            args, cwd=folder, capture_output=True, text=True, timeout=TIMEOUT, check=True
        )
    except FileNotFoundError as err:
        raise CannotCheckError(f"{args[0]} is missing") from err
    except subprocess.CalledProcessError as err:
        raise CannotCheckError(f"{args[0]}: {(err.stderr or err.stdout).strip()[-300:]}") from err
    return done.stdout


def zdb_check(image: Path, pool: str, zdb: Zdb | None = None) -> list[str]:
    """What zdb finds wrong with a pool: every block and checksum, space maps, all objects.

    Raises:
        CannotCheckError: no zdb.
    """
    zdb = zdb or find_zdb() or install()
    problems = []
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "pool.img").symlink_to(image.resolve())
        for flags in ("-bcc", "-d"):
            done = zdb.run("-e", "-p", folder, flags, pool)
            lines = done.stdout.replace("\r", "\n").splitlines()
            bad = [line for line in lines if _BAD.search(line) and not _GOOD.match(line)]
            problems += [f"zdb {flags}: {line.strip()}" for line in bad]
            if done.returncode:
                tail = " | ".join(line for line in lines if "loading" not in line)[-300:]
                problems.append(f"zdb {flags} ended with {done.returncode}: {tail}")
            if flags == "-bcc" and "No leaks" not in done.stdout:
                problems.append("zdb -bcc does not say that there are no leaks")
    return problems


@dataclass(slots=True)
class GrubReport:
    """What GRUB read back."""

    files: int = 0
    data_bytes: int = 0
    skipped: int = 0
    problems: list[str] = field(default_factory=list)


def grub_compare(image: Path, tree: Path, jobs: int = 2, empty_step: int = 1) -> GrubReport:
    """Read every file of `tree` from the image with GRUB and compare it byte by byte.

    Symlinks are followed by GRUB; those that it cannot follow or that leave the tree are counted
    as skipped. Of files without any byte, only one in `empty_step` is looked up.

    Raises:
        CannotCheckError: no grub-fstest.
    """
    if not shutil.which("grub-fstest"):
        raise CannotCheckError("no grub-fstest: install grub-common")
    report = GrubReport()
    pairs = []
    empty = 0
    for folder, _, names in os.walk(tree):
        for name in sorted(names):
            path = Path(folder, name)
            source = _follow(path, tree)
            if source and not source.stat().st_size:
                empty += 1
                if empty % empty_step:
                    continue
            if source:
                pairs.append((path.relative_to(tree), source))
            elif path.is_symlink():
                report.skipped += 1
    with tempfile.TemporaryDirectory() as work, ThreadPoolExecutor(jobs) as pool:
        answers = [
            pool.submit(_grub_file, image.resolve(), inside, source, Path(work) / str(number))
            for number, (inside, source) in enumerate(pairs)
        ]
        for (_, source), answer in zip(pairs, answers, strict=True):
            problem = answer.result()
            report.files += 1
            report.data_bytes += source.stat().st_size
            report.problems += [problem] if problem else []
    return report


def _follow(path: Path, tree: Path) -> Path | None:
    """The regular file of `tree` at the end of symlinks as GRUB follows them, if any."""
    for _ in range(8):
        if not path.is_symlink():
            break
        target = str(path.readlink())
        if len(os.fsencode(target)) > GRUB_TARGET_MAX:
            return None
        path = tree / target.lstrip("/") if target.startswith("/") else path.parent / target
    inside = Path(os.path.normpath(path)).is_relative_to(tree)
    return path if inside and not path.is_symlink() and path.is_file() else None


def _grub_file(image: Path, inside: Path, source: Path, out: Path) -> str:
    """Copy one file out of the image; what is wrong with the copy, or nothing."""
    inner = b"(loop0)/@/" + os.fsencode(inside)
    try:
        done = subprocess.run(
            [b"grub-fstest", os.fsencode(image), b"cp", inner, os.fsencode(out)],
            capture_output=True,
            timeout=TIMEOUT,
            check=False,
        )
        if done.returncode:
            text = done.stderr.decode(errors="replace").strip()
            return f"GRUB cannot read {inside}: {text}"
        if not out.exists() and source.stat().st_size == 0:
            return ""
        if not filecmp.cmp(source, out, shallow=False):
            return f"GRUB reads other bytes of {inside}"
    finally:
        out.unlink(missing_ok=True)
    return ""


def tree_of(path: Path, known: dict[tuple[int, int], Node] | None = None) -> Node:
    """The tree of nodes for a folder of this machine; owners are left out."""
    known = {} if known is None else known
    facts = path.lstat()
    key = (facts.st_dev, facts.st_ino)
    if key in known:
        return known[key]
    node = known[key] = Node(facts.st_mode, mtime_ns=facts.st_mtime_ns)
    if stat.S_ISREG(facts.st_mode):
        node.source = path
    elif stat.S_ISLNK(facts.st_mode):
        node.target = os.fsencode(path.readlink())
    elif stat.S_ISDIR(facts.st_mode):
        for child in path.iterdir():
            node.children[os.fsencode(child.name)] = tree_of(child, known)
    return node


def main() -> int:
    """Check the image named on the command line."""
    image, pool, *trees = sys.argv[1:]
    try:
        problems = zdb_check(Path(image), pool)
        for tree in trees:
            report = grub_compare(Path(image), Path(tree))
            print(f"GRUB: {report.files} files, {report.data_bytes} bytes")
            problems += report.problems
    except CannotCheckError as err:
        print(err)
        return 2
    print("\n".join(problems) or "clean")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
