# SPDX-License-Identifier: BSD-2-Clause
"""Small programs for the linker's tests, made with gcc; each text is built once per run."""

from __future__ import annotations

import atexit
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
PIE = ("-nostdlib", "-static-pie", "-Wl,-e,text_begin")
EXEC = ("-nostdlib", "-static", "-no-pie", "-Wl,-e,text_begin")


@cache
def _folder() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="capstan-link-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


@cache
def build(text: str, *args: str, language: str = "assembler-with-cpp") -> Path:
    """The program gcc makes of `text`; skips the test where there is no gcc."""
    if shutil.which("gcc") is None:
        pytest.skip("needs gcc (apt-get install gcc)")
    number = len(list(_folder().iterdir()))
    source, out = _folder() / f"{number}.src", _folder() / f"{number}.out"
    source.write_text(text)
    line = ["gcc", "-x", language, str(source), "-o", str(out), *args]
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return out


def cases(*args: str) -> Path:
    """`cases.S`, built."""
    return build((HERE / "cases.S").read_text(), *(args or PIE))


def tool(*line: str | Path) -> str:
    """The output of a tool of binutils; skips the test without it."""
    if shutil.which(str(line[0])) is None:
        pytest.skip(f"needs {line[0]} (apt-get install binutils)")
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout
