# SPDX-License-Identifier: BSD-2-Clause
"""The Capstanfile: every key, and errors that name file, line and key."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from capstan import capstanfile, yamlfile
from capstan.capstanfile import Capstanfile
from capstan.errors import UsageError

FILE = Path("Capstanfile")


def parse(text: str, folder: Path = Path("/nowhere")) -> Capstanfile:
    return capstanfile.parse(text.encode(), FILE, folder)


def test_all_keys(tmp_path: Path) -> None:
    (tmp_path / "tree").mkdir()
    spec = parse(
        """
# a comment
cmdline: /app/server --name "two words" -v
base: other:1.0
build: make -j2 all
rootfs: tree
files:
  /app/server: build/&
  etc/motd: motd
  /usr/lib/python3: "&"
env:
  A: yes
  B: 1.10
  C: ""
workdir: /app/
memory: 1G
cpus: 2
ports: [22:22, "8080:80"]
volumes:
  - data:/var/lib/data
""",
        tmp_path,
    )
    assert spec.cmdline == ("/app/server", "--name", "two words", "-v")
    assert spec.base == "other:1.0"
    assert spec.build == ("make", "-j2", "all")
    assert spec.rootfs == tmp_path / "tree"
    assert spec.files == {
        "/app/server": "build/server",
        "/etc/motd": "motd",
        "/usr/lib/python3": "&",
    }
    assert spec.env == {"A": "yes", "B": "1.10", "C": ""}
    assert spec.workdir == "/app"
    assert (spec.memory, spec.cpus) == (1 << 30, 2)
    assert spec.ports == ("22:22", "8080:80")
    assert spec.volumes == ("data:/var/lib/data",)


def test_lists() -> None:
    spec = parse('cmdline: [/bin/x, "a b", 7]\nbuild: [make, "a b"]\nenv: [A=1, B=x=y]\n')
    assert spec.cmdline == ("/bin/x", "a b", "7")
    assert spec.build == ("make", "a b")
    assert spec.env == {"A": "1", "B": "x=y"}


def test_rootfs_default(tmp_path: Path) -> None:
    assert parse("cmdline: /x", tmp_path).rootfs is None
    (tmp_path / "ROOTFS").mkdir()
    assert parse("cmdline: /x", tmp_path).rootfs == tmp_path / "ROOTFS"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("cmdline: /x\nmemroy: 1G\n", r"^Capstanfile:2: memroy: unknown key"),
        ("cmdline: /x\nzzz: 1\n", r"^Capstanfile:2: zzz: unknown key"),
        ("cmdline: /x\nrpm-base: {name: a}\n", r":2: rpm-base: not supported"),
        ("files: {}\n", r"cmdline is missing"),
        ("", r"empty"),
        ("- a\n", r":1: expected `key: value`"),
        ("cmdline: /x\ncmdline: /y\n", r":2: cmdline: expected this key only once"),
        ("cmdline: 'a\n", r":\d: not valid YAML"),
        ("cmdline: a 'b\n", r":1: cmdline: expected a command line with matching"),
        ("cmdline:\n", r":1: cmdline: expected"),
        ("cmdline: {a: b}\n", r":1: cmdline: expected"),
        ("cmdline: /x\ncpus: many\n", r":2: cpus: expected a number"),
        ("cmdline: /x\ncpus: 0\n", r":2: cpus: expected"),
        ("cmdline: /x\ncpus: ²\n", r":2: cpus: expected"),
        ("cmdline: /x\nmemory: 12Q\n", r":2: memory: expected a size"),
        ("cmdline: /x\nmemory: 1K\n", r":2: memory: expected a size"),
        ("cmdline: /x\nworkdir: here\n", r":2: workdir: expected an absolute path"),
        ("cmdline: /x\nworkdir: /a/../b\n", r":2: workdir: expected"),
        ("cmdline: /x\nfiles: [a]\n", r":2: files: expected a mapping"),
        ("cmdline: /x\nfiles:\n  /a/../../b: c\n", r":3: files: /a/../../b: expected"),
        ("cmdline: /x\nfiles:\n  /a: [b]\n", r":3: files: /a: expected a host path"),
        ("cmdline: /x\nfiles:\n  /a: b\n  /a: c\n", r":4: files: /a: expected this key only once"),
        ("cmdline: /x\nfiles:\n  /a: b\n  /a/: c\n", r":4: files: /a/: expected /a only once"),
        ('cmdline: /x\nfiles:\n  /a: "b\\0"\n', r":3: files: /a: expected a host path without"),
        ("cmdline: /x\nenv: [A]\n", r":2: env: expected NAME=VALUE"),
        ("cmdline: /x\nenv: {A: [1]}\n", r":2: env: A: expected a string"),
        ("cmdline: /x\nports: 80\n", r":2: ports: expected a list"),
        ("cmdline: /x\nrootfs: none\n", r":2: rootfs: expected an existing directory"),
        ("cmdline: *a\n", r"not valid YAML"),
        ("a: b\n---\nc: d\n", r"not valid YAML"),
        ("cmdline: " + "[" * 5000, r"not valid YAML"),
        ("cmdline: \x01\n", r"not valid YAML"),
    ],
)
def test_errors_name_the_place(text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        parse(text)


def test_close_names_are_suggested() -> None:
    with pytest.raises(UsageError) as caught:
        parse("cmdline: /x\nvolume: []\n")
    assert caught.value.hint == "did you mean volumes?"


def test_a_file_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="No such file"):
        capstanfile.load(tmp_path / "Capstanfile")
    (tmp_path / "big").write_bytes(b"#" * (yamlfile.MAX_SIZE + 1))
    with pytest.raises(UsageError, match="larger than"):
        capstanfile.load(tmp_path / "big")
    with pytest.raises(UsageError, match="not valid YAML"):
        capstanfile.parse(b"cmdline: \xff\xfe", FILE, tmp_path)


GOOD = b"cmdline: /x a 'b c'\nfiles:\n  /a: b\n  /c: &x d\nenv: {A: 1}\nmemory: 64M\nports: [1:2]\n"


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(st.integers(0, len(GOOD) - 1), st.integers(0, 255)), max_size=6))
def test_any_damage_is_a_usage_error(edits: list[tuple[int, int]]) -> None:
    data = bytearray(GOOD)
    for at, value in edits:
        data[at] = value
    try:
        capstanfile.parse(bytes(data), FILE, Path("/nowhere"))
    except UsageError as err:
        assert str(err).startswith("Capstanfile")


def test_sizes() -> None:
    sizes = {"64": 64 << 20, "64M": 64 << 20, "2g": 2 << 30, "5MiB": 5 << 20, "8kB": 8 << 10}
    assert {text: capstanfile.parse_size(text) for text in sizes} == sizes
    assert capstanfile.parse_size("-1") is None
