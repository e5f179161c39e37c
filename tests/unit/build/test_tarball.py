# SPDX-License-Identifier: BSD-2-Clause
"""The tar reader against Python's writer and GNU tar: formats, attributes, sparse files, damage."""

from __future__ import annotations

import io
import os
import shutil
import stat
import subprocess
import tarfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from capstan.build.sources.limits import Limits, Meter
from capstan.build.sources.streams import Damaged, Hashed, Plain
from capstan.build.sources.tarball import Entry, TarReader
from tests.lib.ocimaker import folder, hard, layer, link, member

TYPES = {
    tarfile.REGTYPE: stat.S_IFREG,
    tarfile.SYMTYPE: stat.S_IFLNK,
    tarfile.LNKTYPE: 0,
    tarfile.DIRTYPE: stat.S_IFDIR,
    tarfile.CHRTYPE: stat.S_IFCHR,
    tarfile.FIFOTYPE: stat.S_IFIFO,
}


def read(data: bytes) -> list[tuple[Entry, bytes]]:
    stream = Plain(Hashed(io.BytesIO(data), None, None), None, Meter(Limits(), "test"), "layer")
    reader = TarReader(stream)
    found = []
    for entry in reader.entries():
        content = bytearray(entry.size if stat.S_ISREG(entry.mode) else 0)
        for at, piece in reader.data():
            content[at : at + len(piece)] = piece
        found.append((entry, bytes(content)))
    return found


names = st.text(
    st.characters(blacklist_categories=["Cs"], blacklist_characters="\0"), min_size=1, max_size=180
).filter(lambda text: text.strip("/") and len(text.encode()) < 400)


@st.composite
def members(draw: st.DrawFn) -> tuple[tarfile.TarInfo, bytes]:
    kind = draw(st.sampled_from(list(TYPES)))
    data = draw(st.binary(max_size=1500)) if kind == tarfile.REGTYPE else b""
    info = tarfile.TarInfo(draw(names).strip("/"))
    info.type, info.size = kind, len(data)
    info.mode = draw(st.integers(0, 0o7777))
    info.uid, info.gid = draw(st.integers(0, 2**32 - 2)), draw(st.integers(0, 2**32 - 2))
    info.mtime = draw(st.integers(0, 2**35))
    if kind in (tarfile.SYMTYPE, tarfile.LNKTYPE):
        info.linkname = draw(names)
    if kind == tarfile.CHRTYPE:
        info.devmajor, info.devminor = draw(st.integers(0, 4095)), draw(st.integers(0, 2**20 - 1))
    return info, data


@settings(max_examples=60, deadline=None)
@given(st.lists(members(), max_size=5), st.sampled_from([tarfile.PAX_FORMAT, tarfile.GNU_FORMAT]))
def test_what_python_writes_is_read(rows: list[tuple[tarfile.TarInfo, bytes]], form: int) -> None:
    found = read(layer(rows, form))
    assert len(found) == len(rows)
    for (info, data), (entry, content) in zip(rows, found, strict=True):
        mode = 0o777 if info.type == tarfile.SYMTYPE else info.mode
        assert entry.name.rstrip(b"/") == info.name.encode()
        assert entry.mode == TYPES[info.type] | mode
        assert (entry.uid, entry.gid) == (info.uid, info.gid)
        assert (entry.mtime_ns, content) == (info.mtime * 10**9, data)
        if info.type in (tarfile.SYMTYPE, tarfile.LNKTYPE):
            assert entry.target == info.linkname.encode()
        if info.type == tarfile.CHRTYPE:
            assert entry.rdev == os.makedev(info.devmajor, info.devminor)


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_damage_is_an_error_or_an_archive(data: st.DataObject) -> None:
    whole = bytearray(
        layer([folder("d"), member("d/f", b"x" * 600, pax_headers={"SCHILY.xattr.user.a": "b"}),
               hard("h", "d/f"), link("l", "x" * 150)])
    )  # fmt: skip
    for _ in range(data.draw(st.integers(1, 6))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(whole)))
    try:
        read(bytes(whole[:cut]))
    except Damaged as err:
        assert str(err)


@pytest.mark.skipif(shutil.which("tar") is None, reason="needs GNU tar")
@pytest.mark.parametrize(
    "words",
    [
        ["--format=gnu"],
        ["--format=pax", "--sparse-version=0.0"],
        ["--format=pax", "--sparse-version=0.1"],
        ["--format=pax", "--sparse-version=1.0"],
        ["--format=ustar"],
        ["--format=v7"],
    ],
)
def test_what_gnu_tar_writes_is_read(tmp_path: Path, words: list[str]) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "d/plain").write_bytes(b"text")
    os.utime(tmp_path / "d/plain", ns=(5, 1_234_567_890_987_654_321))
    (tmp_path / "d/again").hardlink_to(tmp_path / "d/plain")
    whole = bytearray(3 << 20)
    for number in range(30):  # more pieces than one old header has room for
        at = number * 100_000
        whole[at : at + 5] = b"piece"
    with (tmp_path / "d/sparse").open("wb") as file:
        file.truncate(len(whole))
        for number in range(30):
            file.seek(number * 100_000)
            file.write(b"piece")
    sparse = [] if words[0] in ("--format=ustar", "--format=v7") else ["--sparse"]
    argv = ["tar", *words, *sparse, "--sort=name", "-C", str(tmp_path), "-cf", "-", "d"]
    data = subprocess.run(argv, check=True, capture_output=True).stdout
    if sparse:
        assert len(data) < len(whole)
    found = {entry.name.rstrip(b"/"): (entry, content) for entry, content in read(data)}
    assert found[b"d/sparse"][1] == bytes(whole)
    assert stat.S_ISDIR(found[b"d"][0].mode)
    first, second = found[b"d/again"], found[b"d/plain"]
    assert first[1] == b"text" and stat.S_IFMT(second[0].mode) == 0
    assert second[0].target == b"d/again"
    exact = "pax" in words[0]
    assert first[0].mtime_ns == (1_234_567_890_987_654_321 if exact else 1_234_567_890 * 10**9)
