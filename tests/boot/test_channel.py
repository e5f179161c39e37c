# SPDX-License-Identifier: BSD-2-Clause
"""libcapstan's loops and channels: the same program over the guest and over epoll."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from capstan import paths
from tests.boot.test_libcapstan import ACCELS, have_sdk, pytestmark

__all__ = ["have_sdk", "pytestmark"]
SOURCE = Path(__file__).with_name("channel.c")
SAID = "streams\nrefused\nreferences\ndatagrams\ntimes\nend\n"


def compile_with_sdk(compiler: str, out: Path, *sources: Path) -> Path:
    """A program linked with libcapstan; skips without the compiler."""
    if shutil.which(compiler) is None:
        pytest.skip(f"no {compiler}")
    sdk = paths.sdk()
    lib = sdk / "lib"
    flags = [f"-I{sdk / 'include'}", f"-L{lib}", f"-Wl,-rpath,{lib}", "-lcapstan", "-pthread"]
    line = [compiler, "-O2", "-Wall", "-Wextra", "-Werror", "-o", out, *sources, *flags]
    subprocess.run(line, check=True, timeout=120)
    return out


@pytest.fixture(scope="module", params=["gcc", "musl-gcc"])
def program(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compile_with_sdk(request.param, tmp_path_factory.mktemp("channel") / "channel", SOURCE)


def test_on_linux(program: Path) -> None:
    done = subprocess.run([program], capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stdout) == (0, SAID), done.stderr


@pytest.mark.parametrize("accel", ACCELS)
@pytest.mark.parametrize("more", ["", "--cpus=2", "--kernel-word=torture --cpus=2"])
def test_in_guest(program: Path, accel: str, more: str) -> None:
    environ = {**os.environ, "CAPSTAN_ROOT": str(program.parent / "root")}
    line = [sys.executable, "-m", "capstan", "run", "--timeout=150", f"--accel={accel}"]
    done = subprocess.run(
        [*line, *shlex.split(more), program],
        capture_output=True,
        text=True,
        env=environ,
        timeout=200,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, SAID), done.stderr
