# SPDX-License-Identifier: BSD-2-Clause
"""Style as a test: linters, size limits, headers, layers, licence lines.

A missing tool is a skip that names it; `ci/test` installs all of them.
"""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

TOP = Path(__file__).resolve().parents[2]
KERNEL = TOP / "guest" / "kernel"
MAX_FILE = 800
MAX_FUNCTION = 80
CODE = {".c", ".h", ".S", ".py", ".ld", ".cc", ".go", ".rs", ".js", ".def", ".sh", ".toml", ".mk"}
FOLDERS = ("capstan", "guest", "tests", "ci", "bench", "examples")
MADE = {"build", "build-debug", "__pycache__", "data", "node_modules"}

# design.md 4: arrows point down only. Same number: side by side.
LAYERS = {
    "lib": 0,
    "arch": 1,
    "drivers": 1,
    "sched": 2,
    "mm": 2,
    "fs": 3,
    "net": 3,
    "exec": 3,
    "linux": 4,
}
PARAM = "param.h"  # the boot parameters: plain values, anybody may read them

UPWARD = {
    ("lib", "arch/irq.h"): "spinlocks that turn interrupts off",
    ("lib", "arch/arch.h"): "cpu_relax, the clock of the deadlock check, rep_is_fast",
    ("arch", "main.h"): "the entry code ends in kmain",
    ("arch", "sched/sched.h"): "its header lists what arch may call",
    ("arch", "exec/exec.h"): "exceptions show original program counters",
    ("arch", "mm/mm.h"): "a page fault goes to mm_fault",
    ("arch", "linux/syscall.h"): "a system call goes to syscall_dispatch",
    ("arch", "linux/task.h"): "a fault of the program becomes a signal",
    ("drivers", "mm/mm.h"): "stdio copies to and from the program",
    ("drivers", "mm/heap.h"): "memory for queues",
    ("drivers", "mm/page.h"): "memory for queues",
    ("drivers", "net/netif.h"): "the network card is an interface",
    ("drivers", "net/netstack.h"): "the network card gives its frames to the stack",
    ("drivers", "sched/mutex.h"): "drivers sleep",
    ("drivers", "sched/thread.h"): "drivers sleep",
    ("drivers", "sched/wait.h"): "drivers sleep",
    ("drivers", "fs/vfs.h"): "the console and the terminal are files",
    ("drivers", "linux/task.h"): "the terminal and the host send signals",
    ("sched", "linux/task.h"): "a futex belongs to a process",
    ("mm", "fs/vfs.h"): "pages of mapped files",
    ("mm", "fs/fs_internal.h"): "pages of mapped files",
    ("fs", "linux/task.h"): "the caller's descriptors, directory, credentials",
    ("net", "linux/task.h"): "the caller's credentials",
    ("exec", "linux/task.h"): "what is executed belongs to a process",
    ("exec", "linux/clocks.h"): "the vDSO's clocks",
}
"""(folder, header) an arrow may go up to, with the reason."""


def needs(tool: str, package: str) -> str:
    """The path of a tool, beside this Python or in PATH; skips the test without it."""
    beside = Path(sys.executable).parent / tool
    found = str(beside) if beside.is_file() else shutil.which(tool)
    if found is None:
        pytest.skip(f"needs {tool} (apt-get or pip install {package})")
    return found


def run(*argv: str | Path) -> None:
    """Run a checker; its output is the failure."""
    done = subprocess.run(argv, cwd=TOP, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"\n{done.stdout}{done.stderr}"


def sources(*suffixes: str) -> list[Path]:
    """Our files with these suffixes (programs without suffix count as "")."""
    found: list[Path] = []
    for folder in FOLDERS:
        for where, folders, files in os.walk(TOP / folder):
            folders[:] = sorted(name for name in folders if name not in MADE)
            found += [Path(where, name) for name in sorted(files)]
    return [path for path in found if path.suffix in suffixes and ".git" not in path.parts]


def is_script(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(2) == b"#!"


def shown(path: Path) -> str:
    return str(path.relative_to(TOP))


# --- Python ------------------------------------------------------------------------------------


def test_ruff_check() -> None:
    run(needs("ruff", "ruff"), "check", "capstan", "tests", "guest", "ci")


def test_ruff_format() -> None:
    scripts = ("clidocs.py", "gendocs.py", "testrun.py")
    ours = ("capstan", "tests", "guest", *(f"ci/lib/{name}" for name in scripts))
    run(needs("ruff", "ruff"), "format", "--check", *ours)


def test_mypy() -> None:
    run(needs("mypy", "mypy"), "--strict", "capstan")


def imports(path: Path) -> Iterator[str]:
    """The capstan modules a module imports."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


def test_python_layers() -> None:
    """cli -> compose -> build, run, repo -> core; only cli knows click, no side knows another."""
    sides = {"build", "run", "repo"}
    known = {"cli": set(), "compose": {"cli"}, "core": sides | {"cli", "compose"}}
    wrong = []
    for path in sources(".py"):
        parts = path.relative_to(TOP).parts
        if parts[0] != "capstan":
            continue
        layer = parts[1] if len(parts) > 2 else "core"
        banned = known.get(layer, sides - {layer} | {"cli", "compose"})
        for name in imports(path):
            words = name.split(".")
            up = words[0] == "capstan" and len(words) > 1 and words[1] in banned
            up = up or (layer in {"compose", *sides} and words[0] == "click")
            if parts[1] != "__main__.py" and up:
                wrong.append(f"{shown(path)} imports {name}")
    assert not wrong, "\n".join(wrong)


# --- size --------------------------------------------------------------------------------------


def python_functions(path: Path) -> Iterator[tuple[str, int]]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node.name, (node.end_lineno or node.lineno) - node.lineno + 1


def c_functions(path: Path) -> Iterator[tuple[str, int]]:
    """A function's braces stand alone in the first column."""
    start, head = 0, ""
    for number, line in enumerate(path.read_text().splitlines(), 1):
        if line == "{":
            start = number
        elif line.startswith("}") and start:
            yield head, number - start + 1
            start = 0
        elif not start and (found := re.match(r"[\w].*?(\w+)\(", line)):
            head = found[1]


def test_files_are_short() -> None:
    lengths = {path: path.read_text().count("\n") for path in sources(".c", ".h", ".S", ".py")}
    long = [f"{shown(path)}: {n} lines" for path, n in lengths.items() if n > MAX_FILE]
    assert not long, f"more than {MAX_FILE} lines:\n" + "\n".join(long)


def test_functions_are_short() -> None:
    long = []
    for path in sources(".c", ".h", ".py"):
        if "tests" in path.parts and path.suffix != ".py":
            continue  # programs that check one thing after the other
        functions = python_functions(path) if path.suffix == ".py" else c_functions(path)
        long += [f"{shown(path)}: {name}: {n} lines" for name, n in functions if n > MAX_FUNCTION]
    assert not long, f"more than {MAX_FUNCTION} lines:\n" + "\n".join(long)


# --- guest C -----------------------------------------------------------------------------------


def test_clang_format() -> None:
    """Advisory until the tree has been formatted once."""
    tool = needs("clang-format", "clang-format")
    files = [path for path in sources(".c", ".h") if KERNEL in path.parents]

    def differs(path: Path) -> bool:
        line = [tool, "--dry-run", "-Werror", path]
        return subprocess.run(line, capture_output=True, check=False).returncode != 0

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        wrong = [
            shown(path) for path, bad in zip(files, pool.map(differs, files), strict=True) if bad
        ]
    if wrong:
        warnings.warn(f"{len(wrong)} of {len(files)} files differ from clang-format", stacklevel=1)


def guest_flags() -> list[str]:
    """The compiler flags of guest/Makefile."""
    line = ["make", "-s", "-C", str(TOP / "guest"), "--eval", "flags: ; @echo $(FLAGS)", "flags"]
    done = subprocess.run(line, capture_output=True, text=True, check=True)
    return [word for word in done.stdout.split() if word not in ("-MMD", "-MP", "-g", "-O2")]


def test_each_header_compiles_alone() -> None:
    gcc = needs("gcc", "gcc")
    needs("make", "make")
    line = [gcc, *guest_flags(), "-Wno-unused-function", "-fsyntax-only", "-x", "c", "-"]
    headers = [path for path in sources(".h") if KERNEL in path.parents]

    def compile_one(path: Path) -> str:
        text = f'#include "{path.relative_to(KERNEL)}"\n'
        done = subprocess.run(
            line, input=text, cwd=TOP / "guest", capture_output=True, text=True, check=False
        )
        return done.stderr

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        errors = [text for text in pool.map(compile_one, headers) if text]
    assert headers and not errors, "\n".join(errors)


def test_headers_begin_as_agreed() -> None:
    """SPDX, the essay, then #pragma once."""
    wrong = []
    for path in sources(".h"):
        if KERNEL in path.parents:
            code = re.sub(r"/\*.*?\*/", "", path.read_text(), flags=re.DOTALL).lstrip()
            if not code.startswith("#pragma once\n"):
                wrong.append(shown(path))
    assert not wrong, f"no #pragma once in front: {wrong}"


def guest_includes() -> Iterator[tuple[Path, str]]:
    for path in sources(".c", ".h", ".S"):
        if KERNEL in path.parents and len(path.relative_to(KERNEL).parts) > 1:
            for header in re.findall(r'^#include "([^"]+)"', path.read_text(), re.MULTILINE):
                yield path, header


def test_guest_layers() -> None:
    wrong = []
    for path, header in guest_includes():
        folder = path.relative_to(KERNEL).parts[0]
        if (TOP / "guest" / "include" / header).is_file():
            continue  # shared with the host and with programs: below everything
        other = header.split("/")[0] if "/" in header else None
        above = len(LAYERS) if other is None else LAYERS.get(other, 0)
        goes_up = above > LAYERS[folder] and header != PARAM
        if goes_up and (folder, header) not in UPWARD:
            wrong.append(f"{shown(path)} includes {header}")
    assert not wrong, "arrows point down only (design.md 4):\n" + "\n".join(wrong)


# --- all files ---------------------------------------------------------------------------------


def test_licence_lines() -> None:
    # tests/apps: programs to run unmodified, as a user's would be.
    files = [path for path in sources(*CODE) if path.parent != TOP / "tests" / "apps"]
    files += [path for path in sources("") if is_script(path)]
    files += [TOP / "pyproject.toml", TOP / "guest" / "Makefile"]
    without = []
    for path in files:
        head = path.read_text(errors="replace").split("\n", 4)[:4]
        if not any("SPDX-License-Identifier: BSD-2-Clause" in line for line in head):
            without.append(shown(path))
    assert not without, f"no SPDX line: {without}"


def test_shellcheck() -> None:
    tool = needs("shellcheck", "shellcheck")
    scripts = [
        path
        for path in sources("", ".sh")
        if path.suffix == ".sh" or (is_script(path) and b"bash" in path.read_bytes()[:40])
    ]
    run(tool, "-x", "-S", "warning", "-P", TOP, *scripts)
