# SPDX-License-Identifier: BSD-2-Clause
"""`capstan check`: files that will be opened in vain."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from capstan.build import check
from capstan.build.check import Kind, Report, Severity
from capstan.build.collect import BuildOptions
from tests.lib.elfmaker import ET_EXEC, make_elf
from tests.unit.build import test_check_kit as kit
from tests.unit.build.test_check_kit import (
    ERROR,
    NOTE,
    WARNING,
    Root,
    checked,
    compiled,
)

here, root = kit.here, kit.root


def files(report: Report) -> dict[str, Severity]:
    return {f.subject: f.severity for f in report.findings if f.kind is Kind.FILE}


def with_libc(tmp_path: Path) -> tuple[Root, Callable[[str], None]]:
    """A root with this machine's libc, and a function that compiles /app/p into it."""
    root = Root(tmp_path / "root")
    for name in ("/lib64/ld-linux-x86-64.so.2", "/lib/x86_64-linux-gnu/libc.so.6"):
        if not Path(name).exists():
            pytest.skip(f"needs {name} (apt-get install libc6)")
        root.file(name, Path(name).read_bytes())
    return root, lambda text: (compiled(root.path / "app/p", text), None)[1]


def test_files_named_in_the_data(tmp_path: Path) -> None:
    root, put = with_libc(tmp_path)
    put(
        '#include <stdio.h>\nint main(void) { return !fopen("/etc/app.conf", "r")'
        ' + !fopen("/etc/gone.conf", "r") + !fopen("/etc/hosts", "r"); }'
    )
    root.file("/etc/app.conf")
    assert files(root.check()) == {"/etc/app.conf": NOTE}
    assert not files(root.check(include=("/etc/app.conf",)))


def test_files_that_libraries_open(tmp_path: Path) -> None:
    root, put = with_libc(tmp_path)
    put("""
    #include <locale.h>
    #include <netdb.h>
    #include <stdlib.h>
    #include <time.h>
    int main(int argc, char **argv)
    {
        time_t now = 0;
        setlocale(LC_ALL, "");
        return !localtime(&now) + !getservbyname(argv[0], 0) + !gethostbyname(argv[0])
               + system(argv[0]);
    }
    """)
    root.file("/etc/nsswitch.conf", "hosts: files [!UNAVAIL=return] far # near\nshadow: other\n")
    report = root.check(include=("/etc/nsswitch.conf",))
    assert files(report) == {
        "/etc/localtime": NOTE,
        "/etc/services": NOTE,
        "/bin/sh": NOTE,
        "libnss_far.so.2": NOTE,
    }
    config = root.path.parent / "Capstanfile"
    config.write_text("cmdline: /app/p\nenv: {TZ: Europe/Oslo, LANG: de_DE.UTF-8}\n")
    found = files(checked(tmp_path, root=root.path, capstanfile=config))
    assert found["/usr/share/zoneinfo/Europe/Oslo"] is WARNING
    assert found["/usr/lib/locale/locale-archive"] is NOTE
    config.write_text("cmdline: /app/p\nenv: {TZ: 'CET-1CEST', LANG: C.UTF-8}\n")
    found = files(checked(tmp_path, root=root.path, capstanfile=config))
    assert not {path for path in found if "zoneinfo" in path or "locale" in path}


def test_arguments_that_are_files(root: Root, here: Path) -> None:
    root.file("/app/p", make_elf(etype=ET_EXEC))
    root.file("/app/main.conf")
    (here / "Capstanfile").write_text("cmdline: /app/p /app/main.conf /tmp/out -v ./x\n")
    options = BuildOptions(root=root.path)
    assert files(check.check_path(here, (), options)) == {"/app/main.conf": WARNING}
    (here / "Capstanfile").write_text(
        "cmdline: /app/p /app/main.conf\nfiles: {/app/main.conf: /app/main.conf}\n"
    )
    assert not files(check.check_path(here, (), options))


def test_python_without_its_library(root: Root) -> None:
    root.file("/usr/bin/python3.99", make_elf(etype=ET_EXEC))
    root.file("/usr/lib/python3.99/encodings/__init__.py")
    report = root.check("/usr/bin/python3.99")
    assert files(report) == {"/usr/lib/python3.99": ERROR} and not report.runs
    assert root.check("/usr/bin/python3.99", include=("/usr/lib/python3.99",)).runs


def test_libraries_that_are_opened_by_name(tmp_path: Path) -> None:
    from tests.unit.build.test_closure import cache

    root, put = with_libc(tmp_path)
    put('#include <dlfcn.h>\nint main(void) { return !dlopen("libextra.so.1", RTLD_NOW); }')
    root.lib("/usr/lib/libextra.so.1")
    root.file("/etc/ld.so.cache", cache({"libextra.so.1": "/usr/lib/libextra.so.1"}))
    assert files(root.check()) == {"/usr/lib/libextra.so.1": NOTE}
    assert not files(root.check(include=("/usr/lib/libextra.so.1",)))
