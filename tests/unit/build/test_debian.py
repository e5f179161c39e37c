# SPDX-License-Identifier: BSD-2-Clause
"""Debian packages as a source: which ones come along, from where, and what of them."""

from __future__ import annotations

import hashlib
import shutil
import stat
import subprocess
from pathlib import Path

import pytest

from capstan import capstanfile, proc
from capstan.build.rootfs import Tree
from capstan.build.sources import debian, debs
from capstan.build.sources.contents import Contents
from capstan.build.sources.debian import LEFT_OUT, Package, Wanted, closure, depends_of, parse
from capstan.errors import BuildError, UsageError

KNOWN = {
    package.name: package
    for package in (
        Package("app", "1", (("lib1", "lib1-alt"), ("mta",), ("bash",), ("adduser",))),
        Package("lib1", "2", (("libc6",),)),
        Package("libc6", "2.36", (("libgcc",),)),
        Package("libgcc", "12", (("libc6",),)),
        Package("postfix", "3", provides=("mta",)),
        Package("bash", "5", (("dash",),), essential=True),
        Package("adduser", "3", (("passwd",),)),
        Package("broken", "1", (("nowhere", "nothing"),)),
    )
}


def test_dependencies_are_followed_but_not_into_essentials() -> None:
    names = [package.name for package in closure(["app"], KNOWN)]
    assert names == ["app", "lib1", "postfix", "libc6", "libgcc"]
    assert [p.name for p in closure(["bash"], KNOWN | {"dash": Package("dash", "1")})] == [
        "bash",
        "dash",
    ]
    with pytest.raises(BuildError, match="broken needs nowhere or nothing"):
        closure(["broken"], KNOWN)
    virtual = KNOWN | {"real": Package("real", "1", provides=("virtual",))}
    assert [p.name for p in closure(["virtual"], virtual)] == ["real"]
    with pytest.raises(BuildError, match="there is no package nowhere"):
        closure(["nowhere"], KNOWN)


def test_dependency_fields() -> None:
    assert depends_of("a (>= 1), b:any | c (<< 2) [amd64]", "", "d(=1)") == (
        ("a",),
        ("b", "c"),
        ("d",),
    )
    assert depends_of("") == ()


def test_names() -> None:
    assert parse("libssl3") == Wanted("libssl3")
    assert parse("g++=4:12.2.0-3~x") == Wanted("g++", "4:12.2.0-3~x")
    for bad in ("", "-x", "A", "a b", "a=", "--option=1", "a/b"):
        with pytest.raises(UsageError, match="not a Debian package"):
            parse(bad)


@pytest.mark.parametrize(
    ("path", "is_left_out"),
    [
        ("/usr/share/man/man1/x.1.gz", True),
        ("/usr/share/man", True),
        ("/usr/share/manual", False),
        ("/usr/share/doc/x/copyright", False),
        ("/usr/share/doc/x/README", True),
        ("/usr/share/doc/x", False),
        ("/usr/share/doc/x/examples/copyright/readme", True),
        ("/usr/share/locale/de/LC_MESSAGES/x.mo", True),
        ("/usr/bin/man", False),
        ("/lib/x86_64-linux-gnu/libthread_db.so.1", True),
    ],
)
def test_what_stays_behind(path: str, is_left_out: bool) -> None:
    assert (LEFT_OUT.match(path) is not None) == is_left_out


def test_key_of_the_capstanfile(tmp_path: Path) -> None:
    def load(text: str) -> tuple[str, ...]:
        data = f"cmdline: x\n{text}\n".encode()
        return capstanfile.parse(data, Path("Capstanfile"), tmp_path).packages

    assert load("packages: [redis-server, 'lua5.4=5.4.4-3']") == ("redis-server", "lua5.4=5.4.4-3")
    for bad in ("packages: redis", "packages: []", "packages: [A]", "packages: ['a b']"):
        with pytest.raises(UsageError, match=r"Capstanfile:2: packages: expected a list of Debian"):
            load(bad)


# --- installed ---------------------------------------------------------------------------------


class Dpkg:
    """Stands in for dpkg-query."""

    def __init__(self, rows: list[str], files: list[str]) -> None:
        self.rows, self.files = rows, files
        self.asked: list[str] = []

    def run(self, argv: list[str], **more: object) -> proc.Done:
        self.asked = argv
        lines = self.rows if "-W" in argv else self.files
        return proc.Done(0, "".join(f"{line}\n" for line in lines).encode(), b"")


def test_installed_packages(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    root = tmp_path / "root"
    (root / "usr/bin").mkdir(parents=True)
    (root / "usr/bin/app").write_text("program")
    (root / "bin").symlink_to("usr/bin")
    (root / "usr/bin/link").symlink_to("/nowhere")
    (root / "usr/share/man").mkdir(parents=True)
    rows = [
        "ii \tapp\t1:2\tno\t\tlib (>= 1)\t",
        "ii \tlib\t3\tno\t\t\t",
        "rc \tgone\t1\tno\t\t\t",
        "ii \tdash\t1\tyes\t\t\t",
    ]
    files = [
        "/.",
        "/bin",
        "/bin/app",
        "/usr/bin/link",
        "/usr/share/man",
        "/usr/no/where",
        "diverted by x to: /y",
    ]
    dpkg = Dpkg(rows, files)
    monkeypatch.setattr(proc, "run", dpkg.run)
    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}")
    tree = Tree(Path("/"))
    tree.host_root = str(root)
    here = debian.installed()
    assert set(here) == {"app", "lib", "dash"} and here["dash"].essential
    chosen = closure(["app"], here)
    debian._add_installed(tree, chosen)
    assert dpkg.asked == ["dpkg-query", "-L", "app", "lib"]
    found = {path for path, _ in tree.files()}
    assert found == {"/", "/bin", "/usr", "/usr/bin", "/usr/bin/app", "/usr/bin/link"}
    assert stat.S_ISLNK(tree.node_at("/usr/bin/link").mode)


def test_another_root_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="packages with --root"):
        debian.add_packages(Tree(tmp_path), ["app"], Contents(tmp_path / "c"))


# --- downloaded --------------------------------------------------------------------------------


def make_deb(folder: Path, name: str, files: dict[str, str], **fields: str) -> dict[str, str]:
    """A package file, and what apt-cache says of it."""
    root = folder / name
    for path, text in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text)
    control = {"Package": name, "Version": "1-1", "Architecture": "all", "Maintainer": "x <x@x>"}
    control |= {key.replace("_", "-"): value for key, value in fields.items()}
    (root / "DEBIAN").mkdir(parents=True)
    text = "".join(f"{key}: {value}\n" for key, value in control.items())
    (root / "DEBIAN/control").write_text(f"{text}Description: x\n")
    deb = folder / f"{name}.deb"
    subprocess.run(["dpkg-deb", "-b", root, deb], check=True, capture_output=True)
    return {**control, "SHA256": hashlib.sha256(deb.read_bytes()).hexdigest(), "file": str(deb)}


class FakeApt:
    """Stands in for apt."""

    rows: dict[str, dict[str, str]]

    def __init__(self, home: Path) -> None: ...

    def choose(self, wanted: list[Wanted]) -> dict[str, dict[str, str]]:
        return self.rows

    def fetch(self, row: dict[str, str]) -> Path:
        return Path(row["file"])


@pytest.mark.skipif(shutil.which("dpkg-deb") is None, reason="needs dpkg-deb (Debian)")
def test_downloaded_packages(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    app = {"bin/app": "program", "usr/share/man/man1/app.1": "manual", "lib/x/plugin.so": "p"}
    rows = [
        make_deb(tmp_path, "app", app, Depends="libapp (>= 1) | other, dash"),
        make_deb(tmp_path, "libapp", {"usr/lib/libapp.so.1": "library"}),
        make_deb(tmp_path, "dash", {"bin/sh": "shell"}, Essential="yes"),
    ]
    FakeApt.rows = {row["Package"]: row for row in rows}
    monkeypatch.setattr(debs, "Apt", FakeApt)
    tree = Tree(None)
    contents = Contents(tmp_path / "contents")
    chosen = debs.add_downloaded(tree, [Wanted("app")], contents)
    assert [package.name for package in chosen] == ["app", "libapp"]
    found = {path for path, node in tree.files() if not stat.S_ISDIR(node.mode)}
    assert {"/usr/bin/app", "/usr/lib/libapp.so.1", "/usr/lib/x/plugin.so"} <= found
    assert stat.S_ISLNK(tree.node_at("/bin").mode) and "/usr/share/man/man1/app.1" not in found
    source = tree.node_at("/usr/bin/app").source
    assert isinstance(source, Path) and source.read_text() == "program"
    assert tree.digests[str(source)] == hashlib.sha256(b"program").hexdigest()
    Path(rows[0]["file"]).write_bytes(b"no package")
    FakeApt.rows["app"]["SHA256"] = "0" * 64
    with pytest.raises(BuildError, match=r"app\.deb: dpkg-deb cannot unpack it"):
        debs.add_downloaded(Tree(None), [Wanted("app")], contents)
