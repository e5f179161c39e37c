# SPDX-License-Identifier: BSD-2-Clause
"""Names in backtraces: a small "kernel" with symbols, and its stripped copy."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from capstan import paths
from capstan.errors import BuildError
from capstan.run import symbols

TOP = Path(__file__).resolve().parents[3]
TOOLS = ("gcc", "ld", "objcopy", "addr2line", "nm")
pytestmark = pytest.mark.skipif(
    any(shutil.which(tool) is None for tool in TOOLS), reason=f"needs {', '.join(TOOLS)}"
)
SOURCE = """
__attribute__((noinline)) int inner(int x) { return x * 3; }
__attribute__((noinline)) int outer(int x) { return inner(x) + 1; }
int _start(int x) { return outer(x) + 2; }
"""


@pytest.fixture
def kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """kernel.elf, and kernel.debug beside it."""

    def no_other() -> Path:
        raise BuildError("none")

    monkeypatch.setattr(paths, "guest_kernel", no_other)
    monkeypatch.setattr(paths, "checkout", lambda: None)
    folder = tmp_path / "guest" / "kernel"
    folder.mkdir(parents=True)
    (folder / "k.c").write_text(SOURCE)
    debug, kernel = tmp_path / "kernel.debug", tmp_path / "kernel.elf"
    flags = ["-g", "-O1", "-nostdlib", "-static", "-fno-pie", "-no-pie", "-mcmodel=kernel"]
    place = ["-Wl,-Ttext=0xffffffff80100000", "-Wl,--build-id=none"]
    subprocess.run(["gcc", *flags, *place, folder / "k.c", "-o", debug], check=True)
    subprocess.run(["objcopy", "--strip-all", debug, kernel], check=True)
    return kernel


def address(elf: Path, name: str) -> int:
    out = subprocess.run(["nm", elf], capture_output=True, check=True, text=True).stdout
    found = re.search(rf"^(\w+) . {name}$", out, re.MULTILINE)
    assert found is not None
    return int(found[1], 16)


def log(kernel: Path) -> list[str]:
    """The report of a fault at the first byte of `inner`, called from `outer`."""
    debug = kernel.with_suffix(".debug")
    inner, outer = address(debug, "inner"), address(debug, "outer")
    after_call = outer + 9  # inside of outer in any case
    return [
        f"kernel page fault (vector 14, error 0) at {inner:x}, address 8",
        f"backtrace: {inner:016x} {after_call:016x}",
        "panic: page fault in the kernel",
    ]


def test_frames_have_names(kernel: Path) -> None:
    lines = symbols.explain(log(kernel), kernel)
    assert re.fullmatch(r"  ffffffff80\w+ inner at guest/kernel/k.c:2", lines[2])
    assert re.fullmatch(r"  ffffffff80\w+ outer at guest/kernel/k.c:3", lines[3])
    assert lines[4].startswith("panic") and len(lines) == 5


def test_another_kernel_gives_a_hint(kernel: Path) -> None:
    data = kernel.read_bytes()
    at = data.index(b"\x8d\x04\x7f")  # lea (%rdi,%rdi,2),%eax
    kernel.write_bytes(data[:at] + b"\x8d\x04\x3f" + data[at + 3 :])
    lines = symbols.explain(log(kernel), kernel)
    assert len(lines) == 4 and "make -C guest" in lines[-1]


def test_a_log_without_backtrace_stays(tmp_path: Path) -> None:
    assert symbols.explain(["no news"], tmp_path / "missing") == ["no news"]
    assert symbols.code_digest(tmp_path / "missing") is None
    (tmp_path / "text").write_bytes(b"\x7fELF\x02 cut off")
    assert symbols.code_digest(tmp_path / "text") is None


def test_crash_report(tmp_path: Path) -> None:
    source, program = tmp_path / "p.c", tmp_path / "p"
    source.write_text("int main(void) { return *(volatile int *)8; }\n")
    subprocess.run(["gcc", "-g", "-o", program, source], check=True)
    offset = address(program, "main")  # linked so that text has vaddr == offset
    report = f"capstan: p (thread 2) died of SIGSEGV: address 0x8, at 0x55 {program}+0x{offset:x}\n"
    tool = [sys.executable, str(TOP / "guest" / "tools" / "symbolize")]
    done = subprocess.run(tool, input=report, capture_output=True, text=True, check=True)
    assert done.stdout.startswith(report) and f"main at {source}:1" in done.stdout
