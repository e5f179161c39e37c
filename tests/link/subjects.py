# SPDX-License-Identifier: BSD-2-Clause
"""The binaries the linker's gates work on: the machine's own, small programs, unpacked packages.

Big packages (a JVM, node, redis) are downloaded from the machine's Debian mirror and unpacked, not
installed; what the machine has already is used as it is. Everything is kept in the folder given.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

HERE = Path(__file__).resolve().parent
ABI = HERE.parent / "abi"
LIBC = Path("/lib/x86_64-linux-gnu/libc.so.6")
LD_SO = Path("/lib64/ld-linux-x86-64.so.2")
MUSL = Path("/lib/ld-musl-x86_64.so.1")
LIBGOMP = Path("/usr/lib/x86_64-linux-gnu/libgomp.so.1")
PACKAGES = ("musl-tools", "golang-go", "rustc", "binutils", "gdb", "gcc", "g++", "libc6-dev")
"""What has to be installed for `small` (and for the gates' tools)."""
DOWNLOAD = 300

C = """
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
int main(int argc, char **argv)
{
    char *text = malloc(100);
    snprintf(text, 100, "hello %d %s\\n", argc, argv[1] ? argv[1] : "");
    fputs(text, stdout);
    fflush(stdout);
    return getppid() > 1 ? 7 : 8;
}
"""
GO = """
package main

import (
    "fmt"
    "net"
    "os"
    "runtime"
    "time"
)

func main() {
    c := make(chan int)
    for i := 0; i < 50; i++ {
        go func(i int) { time.Sleep(time.Millisecond); runtime.GC(); c <- i }(i)
    }
    sum := 0
    for i := 0; i < 50; i++ {
        sum += <-c
    }
    l, _ := net.Listen("tcp", "127.0.0.1:0")
    go func() { k, _ := l.Accept(); k.Write([]byte("over tcp")); k.Close() }()
    k, _ := net.Dial("tcp", l.Addr().String())
    b := make([]byte, 100)
    n, _ := k.Read(b)
    defer func() { fmt.Println(recover() != nil, sum, string(b[:n]), os.Getpid() > 1) }()
    var p *int
    fmt.Println(*p)
}
"""
RUST = """
use std::sync::mpsc;
use std::thread;
fn main() {
    let (s, r) = mpsc::channel();
    for i in 0..20 { let s = s.clone(); thread::spawn(move || s.send(i).unwrap()); }
    drop(s);
    println!("{} {}", r.iter().sum::<i32>(), std::fs::read_to_string("/etc/hostname").is_ok());
}
"""


class MissingError(Exception):
    """Something cannot be had here; the message says what and why."""


def run(line: list[str | Path], cwd: Path | None = None, limit: int = 120) -> None:
    """Run a tool of the system's, whatever the user has in front of it.

    Raises:
        MissingError: it failed.
    """
    env = {**os.environ, "GOCACHE": str((cwd or HERE) / "go-cache"), "GO111MODULE": "off"}
    env["PATH"] = "/usr/local/bin:/usr/bin:/bin"
    try:
        done = subprocess.run(
            line, cwd=cwd, env=env, capture_output=True, text=True, check=False, timeout=limit
        )
    except (OSError, subprocess.TimeoutExpired) as err:
        raise MissingError(f"{line[0]}: {err}") from err
    if done.returncode:
        raise MissingError(f"{' '.join(map(str, line))}: {done.stderr.strip()[-500:]}")


def made(folder: Path, name: str, text: str, suffix: str, line: list[str]) -> Path:
    """A program made of `text`; $S and $O in `line` are source and output."""
    source, out = folder / f"{name}{suffix}", folder / name
    if not out.exists() or not source.exists() or source.read_text() != text:
        source.write_text(text)
        words = [w.replace("$S", str(source)).replace("$O", str(out)) for w in line]
        run(list(words), cwd=folder)
    return out


def small(folder: Path) -> dict[str, Path]:
    """Programs of each kind of tool chain.

    Raises:
        MissingError: a tool chain is not there or failed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    go = ["env", "CGO_ENABLED=0", "go", "build", "-o", "$O"]
    return {
        "static glibc": made(
            folder, "static", C, ".c", ["gcc", "-O2", "-static", "$S", "-o", "$O"]
        ),
        "static musl": made(
            folder, "musl", C, ".c", ["musl-gcc", "-O2", "-static", "$S", "-o", "$O"]
        ),
        "musl, stripped": made(
            folder, "bare", C, ".c", ["musl-gcc", "-O2", "-static", "-s", "$S", "-o", "$O"]
        ),
        "Go": made(folder, "go", GO, ".go", [*go, "$S"]),
        "Go, PIE": made(folder, "gopie", GO, ".go", [*go, "-buildmode=pie", "$S"]),
        "Go, stripped": made(folder, "gostripped", GO, ".go", [*go, "-ldflags=-s -w", "$S"]),
        "Rust": made(folder, "rust", RUST, ".rs", ["rustc", "-O", "-o", "$O", "$S"]),
    }


def unpacked(folder: Path, package: str, pattern: str) -> Path:
    """A file of a Debian package, which is downloaded and unpacked but not installed.

    Raises:
        MissingError: the mirror cannot be reached or the file is not in it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / package
    if not target.exists():
        try:
            run(["apt-get", "download", package], cwd=folder, limit=DOWNLOAD)
        except MissingError:
            run(["apt-get", "update", "-q"], limit=DOWNLOAD)
            run(["apt-get", "download", package], cwd=folder, limit=DOWNLOAD)
        [deb] = folder.glob(f"{package}_*.deb")
        partial = folder / f".{package}"
        shutil.rmtree(partial, ignore_errors=True)
        run(["dpkg", "-x", deb, partial])
        deb.unlink()
        partial.rename(target)
    found = [path for path in target.glob(pattern) if not path.is_symlink()]
    if not found:
        raise MissingError(f"{package} has no {pattern}")
    return found[0]


def big(folder: Path) -> dict[str, Path]:
    """redis, fd, libjvm and node: the machine's own if it has them.

    Raises:
        MissingError: they cannot be had.
    """
    wanted = {
        "redis": ("/usr/bin", "redis-check-rdb", "redis-tools", "usr/bin/redis-check-rdb"),
        "fd (Rust)": ("/usr/lib/cargo/bin", "fd", "fd-find", "usr/lib/cargo/bin/fd"),
        "libjvm": (
            "/usr/lib/jvm",
            "java-17*/lib/server/libjvm.so",
            "openjdk-17-jre-headless",
            "usr/lib/jvm/java-17*/lib/server/libjvm.so",
        ),
        "node": (
            "/usr/lib/x86_64-linux-gnu",
            "libnode.so.*",
            "libnode108",
            "usr/lib/x86_64-linux-gnu/libnode.so.*",
        ),
    }
    found = {}
    for name, (root, pattern, package, inside) in wanted.items():
        here = sorted(Path(root).glob(pattern))
        found[name] = here[0] if here else unpacked(folder, package, inside)
    node = Path("/usr/bin/node")
    if node.exists() and node.stat().st_size > 50 << 20:
        found["node"] = node
    return found
