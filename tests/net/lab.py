# SPDX-License-Identifier: BSD-2-Clause
"""A network of our own to test in: a namespace with a tap, addresses of both families on it.

Making one needs root and /dev/net/tun; `missing` says what is not there. A namespace dies with
its last user, so nothing is left behind in the host's own network.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

CLONE_NEWNET = 0x40000000
TAP = "tap0"
HOST4, GUEST4 = "192.168.77.1", "192.168.77.2"
HOST6, GUEST6 = "fd77::1", "fd77::2"


def missing() -> str | None:
    """Why there can be no lab here, None when there can."""
    if os.geteuid() != 0:
        return "a network namespace needs root"
    if not os.access("/dev/net/tun", os.W_OK):
        return "there is no /dev/net/tun"
    if shutil.which("ip") is None:
        return "the program `ip` is missing (apt-get install iproute2)"
    probe = f"capprobe{os.getpid()}"
    made = subprocess.run(["ip", "netns", "add", probe], capture_output=True, check=False)
    if made.returncode:
        return f"no network namespace: {made.stderr.decode().strip()}"
    subprocess.run(["ip", "netns", "del", probe], check=True)
    return None


@dataclass(frozen=True, slots=True)
class Lab:
    """A namespace and the commands that run in it."""

    name: str

    @property
    def prefix(self) -> list[str]:
        """What to put before a command so that it runs in here."""
        return ["ip", "netns", "exec", self.name]

    def ip(self, line: str) -> None:
        """Run `ip LINE` for this namespace."""
        subprocess.run(["ip", "-n", self.name, *line.split()], check=True, timeout=30)

    @contextlib.contextmanager
    def inside(self) -> Iterator[None]:
        """This thread, and threads it starts, make their sockets in here."""
        libc = ctypes.CDLL(None, use_errno=True)

        def enter(path: Path) -> None:
            fd = os.open(path, os.O_RDONLY)
            try:
                if libc.setns(fd, CLONE_NEWNET):
                    code = ctypes.get_errno()
                    raise OSError(code, os.strerror(code), str(path))
            finally:
                os.close(fd)

        back = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        try:
            enter(Path("/run/netns") / self.name)
            yield
        finally:
            enter(Path(f"/proc/self/fd/{back}"))
            os.close(back)


@contextlib.contextmanager
def lab(name: str, *, tap: bool = True) -> Iterator[Lab]:
    """A namespace `name`, with a tap that has HOST4 and HOST6 unless told otherwise."""
    subprocess.run(["ip", "netns", "add", name], check=True, timeout=30)
    try:
        made = Lab(name)
        made.ip("link set lo up")
        if tap:
            add_tap(made, TAP, [f"{HOST4}/24", f"{HOST6}/64"])
        yield made
    finally:
        subprocess.run(["ip", "netns", "del", name], check=True, timeout=30)


def add_tap(where: Lab, name: str, addresses: list[str]) -> None:
    """A tap, up, with these addresses (at once, without duplicate address detection)."""
    where.ip(f"tuntap add {name} mode tap")
    for address in addresses:
        where.ip(f"addr add {address} dev {name}" + (" nodad" if ":" in address else ""))
    where.ip(f"link set {name} up")
