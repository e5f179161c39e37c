# SPDX-License-Identifier: BSD-2-Clause
"""The small core modules: settings, paths, files and locks, other programs."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from capstan import fs, paths, proc, ui, units
from capstan.errors import BuildError, CapstanError, TimeoutExpired, UsageError


def test_data_root(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CAPSTAN_ROOT", "relative")
    monkeypatch.chdir(tmp_path)
    assert paths.data_root() == tmp_path / "relative"
    monkeypatch.delenv("CAPSTAN_ROOT")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    assert paths.data_root() == tmp_path / "data" / "capstan"


def test_guest_kernel_order(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("CAPSTAN_KERNEL", raising=False)
    monkeypatch.setattr(paths, "PACKAGE", tmp_path / "capstan")
    (tmp_path / "capstan").mkdir()
    with pytest.raises(BuildError, match="no guest kernel"):
        paths.guest_kernel()
    packaged = tmp_path / "capstan" / "kernel.elf"
    packaged.touch()
    assert paths.guest_kernel() == packaged
    built = tmp_path / "guest" / "build" / "kernel.elf"
    built.parent.mkdir(parents=True)
    built.touch()
    assert paths.guest_kernel() == packaged
    (tmp_path / "guest" / "Makefile").touch()
    assert paths.guest_kernel() == built
    monkeypatch.setenv("CAPSTAN_KERNEL", "/given")
    assert paths.guest_kernel() == Path("/given")


def test_atomic_write(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "file"
    fs.atomic_write(target, b"one", 0o600)
    assert target.read_bytes() == b"one" and target.stat().st_mode & 0o777 == 0o600
    with pytest.raises(ZeroDivisionError), fs.atomic_file(target) as out:
        out.write(b"half")
        raise ZeroDivisionError
    assert target.read_bytes() == b"one" and list(target.parent.iterdir()) == [target]


def test_atomic_symlink(tmp_path: Path) -> None:
    for target in ("a", "b"):
        fs.atomic_symlink(tmp_path / "link", target)
        assert (tmp_path / "link").readlink() == Path(target)
    assert list(tmp_path.iterdir()) == [tmp_path / "link"]


def test_lock(tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    with fs.locked(lock), pytest.raises(BlockingIOError), fs.locked(lock, wait=False):
        pass
    with fs.locked(lock, wait=False):
        pass
    with fs.locked(tmp_path), pytest.raises(BlockingIOError), fs.locked(tmp_path, wait=False):
        pass


def test_run() -> None:
    script = "import sys; print(sys.stdin.read()); print('e', file=sys.stderr); sys.exit(3)"
    done = proc.run([sys.executable, "-c", script], stdin=b"in")
    assert (done.status, done.stdout, done.stderr) == (3, b"in\n", b"e\n")
    with pytest.raises(CapstanError, match="cannot start /none/such"):
        proc.run(["/none/such"])
    with pytest.raises(TimeoutExpired, match=r"0\.05 seconds"):
        proc.run(["sleep", "5"], timeout=0.05)


def test_spawn() -> None:
    child = proc.spawn(["cat"], stdin=proc.PIPE, stdout=proc.PIPE)
    assert child.communicate(b"x")[0] == b"x" and child.returncode == 0


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 B"), (999, "999 B"), (1500, "1.5 kB"), (3 * 10**12, "3000.0 GB")]
)
def test_sizes(count: int, text: str) -> None:
    assert ui.size(count) == text


@pytest.mark.parametrize(
    ("text", "size"),
    [("64", 64 << 20), ("64M", 64 << 20), ("2g", 2 << 30), ("8192K", 8 << 20), ("1GiB", 1 << 30)],
)
def test_parse_size(text: str, size: int) -> None:
    assert units.parse_size(text) == size
    assert units.parse_size(units.format_size(size)) == size


@pytest.mark.parametrize("text", ["", "M", "-1", "1.5G", "1T", "64 M", "٣M"])
def test_bad_sizes(text: str) -> None:
    with pytest.raises(UsageError):
        units.parse_size(text)


def test_no_progress_without_a_terminal() -> None:
    with ui.progress("x") as bar:
        assert bar is None
