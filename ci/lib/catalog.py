#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""The catalog: builds images of `catalog/` and asks the booted machines.

    ci/lib/catalog.py [--list] [--jobs N] [NAME...]

A folder has a Capstanfile and a test.toml:

    about      one line
    packages   Debian packages the files come from
    args, stdin, stdout, status    a run: its output (a regular expression) and status (0)
    [[ask]]    a server: port, and send (text) or hex (bytes) or http (a path); udp = true;
               expect: a regular expression the answer has in it

An empty list as `args` and no `[[ask]]` is no test; tests/unit/test_catalog.py looks at the shape.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gatelib import free_port

TOP = Path(__file__).resolve().parents[2]
CATALOG = TOP / "catalog"
READY = 30.0
EARLY = 5.0
RUN = 60.0
KEYS = {"about", "packages", "args", "stdin", "stdout", "status", "ask"}
ASK_KEYS = {"port", "send", "hex", "http", "udp", "expect"}


@dataclass(frozen=True)
class Entry:
    """One program."""

    name: str
    test: dict[str, Any]

    @property
    def folder(self) -> Path:
        return CATALOG / self.name

    @property
    def about(self) -> str:
        return str(self.test["about"])

    @property
    def packages(self) -> list[str]:
        return list(self.test["packages"])


@dataclass
class Outcome:
    """What came of one; `trouble` is empty when all is well. Seconds, bytes."""

    name: str
    trouble: str = ""
    built: float = 0.0
    answered: float = 0.0
    size: int = 0


class Failed(Exception):
    """What is wrong."""


def entries(names: list[str] | None = None) -> list[Entry]:
    """The programs, by name."""
    found = [
        Entry(path.parent.name, tomllib.loads(path.read_text()))
        for path in sorted(CATALOG.glob("*/test.toml"))
    ]
    if not found:
        raise SystemExit(f"no programs in {CATALOG}")
    if names:
        unknown = set(names) - {entry.name for entry in found}
        if unknown:
            raise SystemExit(f"not in the catalog: {', '.join(sorted(unknown))}")
        found = [entry for entry in found if entry.name in names]
    return found


def check(entry: Entry, capstan: list[str], tag: str | None = None) -> Outcome:
    """Build, boot, ask."""
    outcome = Outcome(entry.name)
    name = tag or entry.name
    try:
        start = time.monotonic()
        done = call([*capstan, "build", "-q", "-t", name, str(entry.folder)], timeout=300)
        if done.returncode:
            raise Failed("build: " + last(done.stderr))
        outcome.built = time.monotonic() - start
        outcome.size = size_of(name, capstan)
        start = time.monotonic()
        if "ask" in entry.test:
            ask_all(entry, name, capstan)
        else:
            run_once(entry, name, capstan)
        outcome.answered = time.monotonic() - start
    except Failed as err:
        outcome.trouble = str(err)
    return outcome


def call(
    args: list[str], *, stdin: bytes = b"", timeout: float
) -> subprocess.CompletedProcess[bytes]:
    try:
        return subprocess.run(args, input=stdin, capture_output=True, timeout=timeout, check=False)
    except subprocess.TimeoutExpired as err:
        raise Failed(f"{args[1]}: no end after {timeout:.0f} s") from err


def last(data: bytes) -> str:
    lines = data.decode(errors="replace").strip().splitlines()
    return " / ".join(lines[-2:])[-200:] if lines else "no output"


def size_of(name: str, capstan: list[str]) -> int:
    """Bytes of the image on disk."""
    done = call([*capstan, "images", "--format", "{{.name}}:{{.tag}} {{.id}}"], timeout=60)
    root = os.environ.get("CAPSTAN_ROOT")
    base = Path(root) if root else Path.home() / ".local/share/capstan"
    wanted = name if ":" in name.rsplit("/", 1)[-1] else f"{name}:latest"
    for line in done.stdout.decode().splitlines():
        shown, _, digest = line.partition(" ")
        if shown == wanted:
            for disk in base.glob(f"objects/{digest.removeprefix('sha256:')}*/disk.img"):
                return disk.stat().st_blocks * 512
    return 0


def run_once(entry: Entry, name: str, capstan: list[str]) -> None:
    """A program that ends."""
    test = entry.test
    stdin = str(test.get("stdin", "")).encode()
    done = call([*capstan, "run", name, *test.get("args", [])], stdin=stdin, timeout=RUN)
    if done.returncode != test.get("status", 0):
        raise Failed(f"status {done.returncode}: {last(done.stderr or done.stdout)}")
    if not re.search(test["stdout"].encode(), done.stdout, re.DOTALL):
        raise Failed(f"wrote {done.stdout[:200]!r}")


def ask_all(entry: Entry, name: str, capstan: list[str]) -> None:
    """A server: all questions are answered, and SIGTERM ends it."""
    asks = entry.test["ask"]
    ports = {(ask["port"], bool(ask.get("udp"))): free_port() for ask in asks}
    publish = [
        f"-p127.0.0.1:{host}:{guest}/{'udp' if udp else 'tcp'}"
        for (guest, udp), host in ports.items()
    ]
    with running([*capstan, "run", *publish, name, *entry.test.get("args", [])]) as server:
        for ask in asks:
            answer_to(ask, ports[ask["port"], bool(ask.get("udp"))], server)


@contextlib.contextmanager
def running(args: list[str]) -> Iterator[subprocess.Popen[bytes]]:
    server = subprocess.Popen(
        args, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    try:
        yield server
        server.send_signal(signal.SIGTERM)
        try:
            server.communicate(timeout=20)
        except subprocess.TimeoutExpired as err:
            raise Failed("it does not end at SIGTERM") from err
    finally:
        if server.poll() is None:
            server.kill()
        server.communicate(timeout=20)


def answer_to(ask: dict[str, Any], port: int, server: subprocess.Popen[bytes]) -> None:
    """Ask again and again until the answer is right or the time is over."""
    end = time.monotonic() + READY
    early = end - READY + EARLY
    said = b""
    while time.monotonic() < end:
        if server.poll() is not None:
            text, _ = server.communicate(timeout=20)
            raise Failed(f"it ended ({server.returncode}): {last(text)}")
        # Before the guest listens QEMU takes connections that nobody answers.
        said = converse(ask, port, 0.3 if time.monotonic() < early else 3.0) or said
        if re.search(ask["expect"].encode("latin-1"), said, re.DOTALL):
            return
        time.sleep(0.05)
    raise Failed(f"port {ask['port']} answered {said[:200]!r}")


def question(ask: dict[str, Any], port: int) -> bytes:
    if "http" in ask:
        return f"GET {ask['http']} HTTP/1.0\r\nHost: localhost:{port}\r\n\r\n".encode()
    return bytes.fromhex(ask["hex"]) if "hex" in ask else str(ask.get("send", "")).encode("latin-1")


def converse(ask: dict[str, Any], port: int, patience: float) -> bytes:
    """What comes back until it is what is expected, or nothing more comes."""
    kind = socket.SOCK_DGRAM if ask.get("udp") else socket.SOCK_STREAM
    said = b""
    with contextlib.suppress(OSError), socket.socket(socket.AF_INET, kind) as client:
        client.settimeout(patience)
        client.connect(("127.0.0.1", port))
        client.sendall(question(ask, port))
        while data := client.recv(65536):
            said += data
            if re.search(ask["expect"].encode("latin-1"), said, re.DOTALL):
                break
    return said


def table(outcomes: list[Outcome], about: dict[str, str]) -> str:
    """What came of all."""
    lines = [f"{'NAME':10} {'SIZE':>9} {'BUILD':>7} {'ANSWER':>7}  "]
    for o in outcomes:
        text = o.trouble or about[o.name]
        mark = "FAILED: " if o.trouble else ""
        size = f"{o.size / 1e6:.1f} MB"
        lines.append(f"{o.name:10} {size:>9} {o.built:5.2f} s {o.answered:5.2f} s  {mark}{text}")
    return "\n".join(lines)


def main() -> int:
    """Check those that were named, or all."""
    parser = argparse.ArgumentParser(description="build and ask the images of the catalog")
    parser.add_argument("--list", action="store_true", help="print names and packages")
    parser.add_argument("--capstan", default="capstan", help="the program (capstan)")
    parser.add_argument("--jobs", type=int, default=2, help="at the same time (2)")
    parser.add_argument("names", nargs="*")
    args = parser.parse_args()
    found = entries(args.names)
    if args.list:
        for entry in found:
            print(entry.name, *entry.packages)
        return 0
    with ThreadPoolExecutor(args.jobs) as pool:
        outcomes = list(pool.map(lambda entry: check(entry, [args.capstan]), found))
    print(table(outcomes, {entry.name: entry.about for entry in found}))
    return any(outcome.trouble for outcome in outcomes)


if __name__ == "__main__":
    sys.exit(main())
