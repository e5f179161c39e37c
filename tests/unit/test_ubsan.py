# SPDX-License-Identifier: BSD-2-Clause
"""guest/kernel/lib/ubsan.c: compiled for the host, each kind of undefined behaviour once."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

TOP = Path(__file__).resolve().parents[2]
KERNEL = TOP / "guest" / "kernel"

MAIN = r"""
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

void panic(const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    vprintf(fmt, args);
    putchar('\n');
    exit(0);
}

static int table[4];
enum small { ONE };

int main(int argc, char **argv)
{
    volatile int zero = 0, max = 0x7fffffff, min = -max - 1, seven = 7, big = 40;
    volatile unsigned char two = 2;
    int *volatile null = 0;
    long volatile wide = -0x7fffffffffffffffl;
    switch (atoi(argv[1])) {
    case 0: return max + seven;
    case 1: return min - seven;
    case 2: return wide * seven > 5;
    case 3: return seven / zero;
    case 4: return -min;
    case 5: return seven << big;
    case 6: return table[seven];
    case 7: return *null;
    case 8: return *(bool *)&two;
    case 9: if (argc) __builtin_unreachable(); return 1;
    case 10: return *(volatile int *)(argv[0] + ((long)argv[0] & 1 ? 0 : 1));
    }
    return 2;
}
"""
EXPECTED = [
    "2147483647 + 7 does not fit 'int'",
    "-2147483648 - 7 does not fit 'int'",
    "7 * -9223372036854775807 does not fit 'long int'",
    "7 / 0 does not fit 'int'",
    "-2147483648 does not fit 'int'",
    "7 shifted by 40, type 'int'",
    "index 7 of 'int [4]'",
    "load of 'int' at 0: NULL",
    "2 is no value of '_Bool'",
    "unreachable code was reached",
    "not aligned",
]


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if shutil.which("gcc") is None:
        pytest.skip("needs gcc")
    folder = tmp_path_factory.mktemp("ubsan")
    (folder / "lib").mkdir()
    (folder / "main.c").write_text(MAIN)
    (folder / "lib" / "string.h").write_text("#include <stdio.h>\n")
    # Objects are linked without -fsanitize, so only our handlers are there.
    flags = ["-O0", "-w", "-std=gnu11", f"-I{folder}", f"-I{KERNEL}"]
    sanitize = ["-fsanitize=undefined"]
    main, ubsan = folder / "main.o", folder / "ubsan.o"
    subprocess.run(["gcc", *flags, *sanitize, "-c", folder / "main.c", "-o", main], check=True)
    source = folder / "ubsan.c"
    shutil.copyfile(KERNEL / "lib" / "ubsan.c", source)
    subprocess.run(["gcc", *flags, "-DDEBUG=1", "-c", source, "-o", ubsan], check=True)
    subprocess.run(["gcc", main, ubsan, "-o", folder / "p"], check=True)
    return folder / "p"


@pytest.mark.parametrize("number", range(len(EXPECTED)))
def test_report(program: Path, number: int) -> None:
    done = subprocess.run([program, str(number)], capture_output=True, text=True, check=False)
    assert done.stdout.startswith("undefined behaviour: ") and "main.c:" in done.stdout
    assert EXPECTED[number] in done.stdout
