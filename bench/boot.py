#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""Start-up times, sizes and smallest memory: prints a table; measures in one sitting, interleaved.

usage: bench/boot.py [--count N] [--json FILE] [--probe PROBE.elf] [--tree DIR]

Rows and method:
  probe     QEMU exec to the first serial byte of a bare PVH guest (the floor of this machine)
  static    QEMU exec to the first byte of a static hello on the virtio console users get
  dynamic   the same for a dynamic hello
  run       `capstan run hello`, start to exit, image already built
Best of N (20), times in ms. A CPU that is busy elsewhere adds to all rows alike.
"""

from __future__ import annotations

import argparse
import json
import os
import select
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
CAPSTAN = str(ROOT / ".venv" / "bin" / "capstan")
BASE = [
    "qemu-system-x86_64",
    "-nodefaults",
    "-no-user-config",
    "-display",
    "none",
    "-no-reboot",
    "-M",
    "microvm,acpi=off",
    "-accel",
    "kvm",
    "-cpu",
    "host,arch-capabilities=off",
    "-device",
    "isa-debug-exit,iobase=0x501,iosize=2",
]


def first_byte(args: list[str], fd: int, pass_fds: tuple[int, ...], deadline: float = 10) -> float:
    """Milliseconds from exec to the first byte on fd; inf when none comes."""
    start = time.monotonic()
    proc = subprocess.Popen(
        args,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        pass_fds=pass_fds,
    )
    ready, _, _ = select.select([fd], [], [], deadline)
    got = os.read(fd, 1) if ready else b""
    spent = (time.monotonic() - start) * 1000
    proc.kill()
    proc.wait()
    return spent if got else float("inf")


def probe_once(kernel: Path) -> float:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        line = [
            *BASE,
            "-m",
            "256",
            "-chardev",
            f"socket,id=s,fd={theirs.fileno()}",
            "-serial",
            "chardev:s",
            "-kernel",
            str(kernel),
        ]
        return first_byte(line, ours.fileno(), (theirs.fileno(),))


def guest_line(image: dict, memory: int, fds: dict[str, int], params: str) -> list[str]:
    return [
        *BASE,
        "-m",
        str(memory),
        "-kernel",
        image["kernel"],
        "-initrd",
        params,
        "-global",
        "virtio-mmio.force-legacy=false",
        "-drive",
        f"if=none,id=d,format=raw,readonly=on,file={image['disk']},file.locking=off",
        "-device",
        "virtio-blk-device,drive=d",
        "-device",
        "virtio-serial-device,max_ports=4",
        "-chardev",
        f"socket,id=o,fd={fds['out']}",
        "-device",
        "virtserialport,chardev=o,nr=1",
        "-chardev",
        "null,id=e",
        "-device",
        "virtserialport,chardev=e,nr=2",
        "-chardev",
        f"socket,id=c,fd={fds['ctl']}",
        "-device",
        "virtserialport,chardev=c,nr=3",
        "-device",
        "virtio-rng-device",
        "-chardev",
        "null,id=s",
        "-serial",
        "chardev:s",
    ]


def guest_once(image: dict, memory: int = 256, deadline: float = 10) -> float:
    blob = b"".join(
        p.encode() + b"\0"
        for p in [
            "capstan-params=1",
            f"arg={image['argv'][0]}",
            "env=HOME=/root",
            "seed=" + "5a" * 32,
        ]
    )
    out, out_end = socket.socketpair()
    ctl, ctl_end = socket.socketpair()
    with out, out_end, ctl, ctl_end, tempfile.NamedTemporaryFile() as params:
        params.write(blob)
        params.flush()
        line = guest_line(
            image, memory, {"out": out_end.fileno(), "ctl": ctl_end.fileno()}, params.name
        )
        return first_byte(line, out.fileno(), (out_end.fileno(), ctl_end.fileno()), deadline)


def build_image(name: str, binary: Path) -> tuple[dict, float]:
    binary.touch()  # or the cache would answer
    start = time.monotonic()
    subprocess.run(
        [CAPSTAN, "build", "-q", "-t", name, str(binary)], check=True, stdout=subprocess.DEVNULL
    )
    seconds = time.monotonic() - start
    code = (
        "import json,sys; from capstan.store import Store; "
        "i = Store().open(sys.argv[1]); "
        "print(json.dumps({'disk': str(i.disk), 'kernel': str(i.kernel), "
        "'argv': list(i.manifest.config.argv)}))"
    )
    shown = subprocess.run(
        [str(Path(CAPSTAN).parent / "python"), "-c", code, name],
        check=True,
        capture_output=True,
        text=True,
    )
    return json.loads(shown.stdout), seconds


def smallest_memory(image: dict) -> int:
    """The least -m (MiB) with which the program's line appears, three times in a row."""
    for memory in range(4, 65):
        if all(guest_once(image, memory, 5) != float("inf") for _ in range(3)):
            return memory
    return 0


def timed(args: list[str]) -> float:
    start = time.monotonic()
    subprocess.run(
        args,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        check=False,
    )
    return (time.monotonic() - start) * 1000


def measure(options: argparse.Namespace, folder: Path) -> dict[str, float]:
    source = ROOT / "bench" / "hello.c"
    for flavour, flags in (("static", ["-static"]), ("dynamic", [])):
        subprocess.run(["gcc", "-O2", *flags, "-o", str(folder / flavour), str(source)], check=True)
    static, _ = build_image("bench-static", folder / "static")
    dynamic, build_ms = build_image("bench-dynamic", folder / "dynamic")
    rows: dict[str, list[float]] = {"probe": [], "static": [], "dynamic": [], "run": []}
    for _ in range(options.count):
        if options.probe:
            rows["probe"].append(probe_once(options.probe))
        rows["static"].append(guest_once(static))
        rows["dynamic"].append(guest_once(dynamic))
        rows["run"].append(timed([CAPSTAN, "run", "bench-dynamic"]))
    best = {f"{k} ms": min(v) for k, v in rows.items() if v}
    best |= {f"{k} median ms": sorted(v)[len(v) // 2] for k, v in rows.items() if v}
    best["memory static MiB"] = smallest_memory(static)
    best["memory dynamic MiB"] = smallest_memory(dynamic)
    best["kernel bytes"] = Path(static["kernel"]).stat().st_size
    best["build hello s"] = min(build_ms, build_image("bench-dynamic", folder / "dynamic")[1])
    if options.tree:
        capstanfile = folder / "Capstanfile"
        capstanfile.write_text(
            f"cmdline: {folder / 'static'}\nfiles:\n  /tree: {json.dumps(str(options.tree))}\n"
        )
        args = [CAPSTAN, "build", "-q", "-t", "bench-tree", "-f", str(capstanfile), str(folder)]
        seconds = []
        for _ in range(2):
            (folder / "static").touch()
            seconds.append(timed(args) / 1000)
        best["build tree s"] = min(seconds)
    return best


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--count", type=int, default=20)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--probe", type=Path)
    parser.add_argument("--tree", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        best = measure(options, Path(folder))
    print(f"best of {options.count}, load {os.getloadavg()[0]:.1f}")
    for name, value in best.items():
        print(f"{name:<20} {value:10.1f}")
    if options.json:
        options.json.write_text(json.dumps(best))
    return 0


if __name__ == "__main__":
    sys.exit(main())
