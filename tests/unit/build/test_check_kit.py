# SPDX-License-Identifier: BSD-2-Clause
"""What the tests of `capstan check` share; there are no tests in here."""

from __future__ import annotations

import atexit
import shutil
import tempfile
from functools import cache
from pathlib import Path

import pytest

from capstan import syscalls
from capstan.build import check
from capstan.build.check import Kind, Report, Severity
from capstan.build.collect import BuildOptions
from capstan.syscalls import Level, Syscall
from tests.lib.elfmaker import make_elf
from tests.link import toolchain

TOP = Path(__file__).resolve().parents[3]
LD = "/lib64/ld-linux-x86-64.so.2"
MUSL = "/lib/ld-musl-x86_64.so.1"
ERROR, WARNING, NOTE = Severity.ERROR, Severity.WARNING, Severity.NOTE
ABSENT = {"shmget", "inotify_init", "memfd_secret"}
PARTIAL = {"socket": "local ones only"}


@cache
def facts_folder() -> Path:
    """Facts of all tests, so that libc is looked into once."""
    folder = Path(tempfile.mkdtemp(prefix="capstan-facts-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A private store and a table of calls that does not change with the guest."""
    monkeypatch.setenv("CAPSTAN_ROOT", str(tmp_path / "store"))
    monkeypatch.delenv("SOURCE_DATE_EPOCH", raising=False)
    monkeypatch.setattr(syscalls, "load", table)
    monkeypatch.setattr(check, "cache_folder", facts_folder)
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    return work


def table() -> tuple[Syscall, ...]:
    names = syscalls.read_names((TOP / syscalls.NAMES).read_text())
    return tuple(
        Syscall(
            number,
            name,
            Level.ABSENT if name in ABSENT else Level.PARTIAL if name in PARTIAL else Level.FULL,
            0,
            PARTIAL.get(name, ""),
        )
        for number, name in names.items()
    )


class Root:
    """A root directory to fill."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.file(LD, make_elf(soname="ld-linux-x86-64.so.2"))

    def file(self, name: str, data: bytes | str = b"", mode: int = 0o755) -> None:
        place = self.path / name.lstrip("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(data.encode() if isinstance(data, str) else data)
        place.chmod(mode)

    def lib(self, name: str, *needed: str) -> None:
        self.file(name, make_elf(needed=needed, soname=name.rpartition("/")[2]))

    def check(self, path: str = "/app/p", **options: object) -> Report:
        """The report on a program of this root."""
        return check.check_path(Path(path), (), BuildOptions(root=self.path, **options))  # type: ignore[arg-type]


@pytest.fixture
def root(tmp_path: Path) -> Root:
    return Root(tmp_path / "root")


def rows(report: Report, *kinds: Kind) -> set[tuple[Severity, str, str]]:
    """Severity, object and subject of the findings of these kinds (all but stacks)."""
    return {
        (f.severity, f.object, f.subject)
        for f in report.findings
        if f.kind in kinds or not (kinds or f.subject == "stack")
    }


def compiled(place: Path, text: str, *args: str) -> Path:
    """A program or library made with gcc, in its place."""
    place.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(toolchain.build(text, "-O2", *args, language="c"), place)
    return place


def shared(place: Path, text: str, *args: str) -> Path:
    return compiled(place, text, "-shared", "-fPIC", f"-Wl,-soname,{place.name}", *args)


def using(library: Path) -> tuple[str, ...]:
    """The words that link with a library."""
    return f"-L{library.parent}", f"-l:{library.name}", "-Wl,-rpath,$ORIGIN/lib"


def checked(path: Path, **options: object) -> Report:
    return check.check_path(path, (), BuildOptions(**options))  # type: ignore[arg-type]


# --- a library of two versions -------------------------------------------------------------------

ONE = "int stub_one(void) { return 1; }"
BOTH = f"{ONE} int stub_two(void) {{ return 2; }}"
MAP_1 = "STUB_1.0 { global: stub_one; local: *; };"
MAP_2 = f"{MAP_1} STUB_2.0 {{ global: stub_two; }} STUB_1.0;"
USER = """
int stub_one(void);
int stub_two(void);
int main(void) { return stub_one() + stub_two(); }
"""


def versioned(tmp_path: Path, text: str, script: str, user: str) -> Path:
    """A program linked with a library of both versions that finds one made of `text`."""
    maps = [tmp_path / "1.map", tmp_path / "2.map"]
    for place, content in zip(maps, (script, MAP_2), strict=True):
        place.write_text(content)
    new = shared(tmp_path / "new" / "libstub.so.1", BOTH, f"-Wl,--version-script={maps[1]}")
    version = [f"-Wl,--version-script={maps[0]}"] if script else []
    shared(tmp_path / "lib" / "libstub.so.1", text, *version)
    return compiled(tmp_path / "prog", user, *using(new), "-Wl,-z,lazy")
