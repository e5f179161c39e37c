# SPDX-License-Identifier: BSD-2-Clause
"""libcapstan in the guest and on Linux, and the counters of `--stats`."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from capstan import paths
from capstan.errors import CapstanError
from capstan.run import hostcaps
from tests.lib.boot import ROOT

IN_GUEST = """\
version: 2
clock: 1
variable: size 4096 flags 0x3 offset 1
heap: size 4096 flags 0x3 offset 1
untouched heap: size 0 flags 0 offset 1
code: size 4096 flags 0xd offset 1
null: Bad address
kernel: Bad address
bad out: 1
calls: 1
larger: 0 1
smaller: 0
bad out: 1
"""


def have_sdk() -> bool:
    try:
        paths.sdk()
    except CapstanError:
        return False
    return True


pytestmark = [
    pytest.mark.boot,
    pytest.mark.skipif(shutil.which(hostcaps.QEMU) is None, reason="no QEMU"),
    pytest.mark.skipif(not have_sdk(), reason="libcapstan is not built"),
]
ACCELS = [
    pytest.param(
        "kvm", marks=pytest.mark.skipif(bool(hostcaps.kvm_refusal()), reason="no /dev/kvm")
    ),
    "tcg",
]


def capstan(*args: str) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-m", "capstan", *args]
    return subprocess.run(line, capture_output=True, text=True, timeout=120, check=False)


@pytest.fixture(scope="module", params=["gcc", "musl-gcc"])
def program(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    if shutil.which(request.param) is None:
        pytest.skip(f"no {request.param}")
    built = tmp_path_factory.mktemp("sdk") / f"libcapstan-{request.param}"
    source = ROOT / "tests" / "apps" / "libcapstan.c"
    flags = shlex.split(capstan("sdk").stdout)
    subprocess.run([request.param, "-O1", "-o", built, source, *flags], check=True)
    return built


def test_on_linux(program: Path) -> None:
    done = subprocess.run([program], capture_output=True, text=True, timeout=20, check=False)
    assert (done.returncode, done.stdout) == (0, "version: 0\nclock: 1\nno guest: 1\n")


@pytest.mark.parametrize("accel", ACCELS)
def test_in_guest(program: Path, accel: str) -> None:
    done = capstan("run", "--stats", "--accel", accel, str(program))
    assert (done.returncode, done.stdout) == (0, IN_GUEST), done.stderr
    shown = re.search(r"stats: calls (\d+), trapped (\d+), page faults (\d+)", done.stderr)
    assert shown is not None, done.stderr
    calls, trapped, faults = map(int, shown.groups())
    assert calls > 100 and trapped <= calls and faults > 0
