# SPDX-License-Identifier: BSD-2-Clause
"""A program in a guest: its image, its run, how it is reached, and how it ends."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.net import lab as labs

END_DEADLINE = 30.0
ADDRESSES = {socket.AF_INET: labs.GUEST4, socket.AF_INET6: labs.GUEST6}
CAPSTAN = [sys.executable, "-m", "capstan"]


class Broken(Exception):
    """Something is not as it has to be; the text says what."""


@dataclass(frozen=True, slots=True)
class App:
    """A program for an image; texts of `write` are its files, by path."""

    name: str
    command: Sequence[str]
    include: Sequence[str] = ()
    write: Mapping[str, str] = field(default_factory=dict)
    memory: str = "256M"
    cpus: int = 1
    ports: Sequence[str] = ()
    env: Mapping[str, str] = field(default_factory=dict)


def build(app: App, folder: Path, timeout: float = 300) -> str:
    """The name of the image made of `app`, with its files in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = [f"cmdline: {json.dumps(list(app.command))}", f"memory: {app.memory}"]
    lines += [f"cpus: {app.cpus}", f"ports: {json.dumps(list(app.ports))}", "env:"]
    env = {"LANG": "C.UTF-8", **app.env}
    lines += [f"  {key}: {json.dumps(value)}" for key, value in env.items()]
    files = {path: path for path in app.include}
    for number, (path, text) in enumerate(app.write.items()):
        source = folder / f"file{number}"
        source.write_text(text)
        files[path] = str(source)
    if files:
        lines.append("files:")
        lines += [f"  {json.dumps(path)}: {json.dumps(host)}" for path, host in files.items()]
    capstanfile = folder / "Capstanfile"
    capstanfile.write_text("\n".join(lines) + "\n")
    name = f"net-{app.name}"
    command = [*CAPSTAN, "build", "-q", "-t", name, "-f", str(capstanfile), str(folder)]
    done = subprocess.run(command, capture_output=True, timeout=timeout, check=False)
    if done.returncode:
        raise Broken(f"capstan build: {done.stderr.decode(errors='replace').strip()}")
    return name


@dataclass(slots=True)
class Reach:
    """How a client on the host gets to a guest's ports, over one family."""

    family: socket.AddressFamily
    address: str
    ports: Mapping[tuple[str, int], int] | None = None  # None: as they are in the guest
    # The host as the guest sees it.
    host: str = labs.HOST4

    def where(self, port: int, protocol: str = "tcp") -> tuple[str, int]:
        """Address and port for a guest's port."""
        return self.address, self.ports[protocol, port] if self.ports is not None else port

    def tcp(self, port: int, timeout: float = 60) -> socket.socket:
        """A connection to a guest's port."""
        return socket.create_connection(self.where(port), timeout)

    def udp(self, port: int, timeout: float = 30) -> socket.socket:
        """A datagram socket connected to a guest's port."""
        sock = socket.socket(self.family, socket.SOCK_DGRAM)
        sock.settimeout(timeout)
        sock.connect(self.where(port, "udp"))
        return sock

    @property
    def url_host(self) -> str:
        """The address as it stands in a URL."""
        return f"[{self.address}]" if self.family is socket.AF_INET6 else self.address


def free_port() -> int:
    """A port of the host that nobody has at the moment, neither for TCP nor for UDP."""
    while True:
        with (
            socket.socket(socket.AF_INET, socket.SOCK_STREAM) as stream,
            socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagram,
        ):
            stream.bind(("127.0.0.1", 0))
            with contextlib.suppress(OSError):
                datagram.bind(stream.getsockname())
                return int(stream.getsockname()[1])


def user_network(tcp: Sequence[int], udp: Sequence[int]) -> tuple[list[str], list[Reach]]:
    """Options of `capstan run` for QEMU's own network, and the way to the guest."""
    free = {port: free_port() for port in {*tcp, *udp}}
    ports = {("tcp", port): free[port] for port in tcp}
    ports |= {("udp", port): free[port] for port in udp}
    options = ["--net=user"]
    options += [f"-p127.0.0.1:{host}:{port}/{proto}" for (proto, port), host in ports.items()]
    return options, [Reach(socket.AF_INET, "127.0.0.1", ports, "10.0.2.2")]


def tap_network() -> tuple[list[str], list[Reach]]:
    """The same for the tap of a lab: both families."""
    options = [f"--net=tap={labs.TAP}", f"--ip={labs.GUEST4}/24", f"--ip={labs.GUEST6}/64"]
    options += [f"--gateway={labs.HOST4}", f"--gateway={labs.HOST6}"]
    return options, [
        Reach(socket.AF_INET, labs.GUEST4),
        Reach(socket.AF_INET6, labs.GUEST6, host=labs.HOST6),
    ]


class Watch:
    """A deadline for polling that leaves out times in which nobody here ran.

    The host may stop all of us for a while, or starve us: one look never counts for more than
    a second and a half.
    """

    LONGEST = 1.5

    def __init__(self, seconds: float) -> None:
        self._left = seconds
        self._last = time.monotonic()

    def is_over(self) -> bool:
        """To be called at each look."""
        now = time.monotonic()
        self._left -= min(now - self._last, self.LONGEST)
        self._last = now
        return self._left < 0


class Guest:
    """A guest that runs; `stop` ends it and gives its status."""

    def __init__(self, child: subprocess.Popen[bytes], log: Path) -> None:
        self.child = child
        self.log = log

    def output(self) -> str:
        """What it has written so far, stdout and stderr."""
        return self.log.read_text(errors="replace")

    def messages(self) -> list[str]:
        """What the launcher and the kernel had to say: nothing, in a good run."""
        return [s for s in self.output().splitlines() if s.startswith("capstan:")]

    def wait_for_answer(self, reach: Reach, port: int, probe: bytes, timeout: float) -> float:
        """Seconds until somebody at `port` answers `probe` with anything."""
        start = time.monotonic()
        watch = Watch(timeout)
        patience = 0.1
        while not watch.is_over():
            if self.child.poll() is not None:
                raise Broken(f"it ended with status {self.child.returncode} at once")
            if _answers(reach, port, probe, patience):
                return time.monotonic() - start
            patience = min(patience * 1.2, 1)
            time.sleep(0.02)
        raise Broken(f"nobody answered at port {port} for {timeout:g} s")

    def wait_for_text(self, text: str, timeout: float) -> float:
        """Seconds until it has written `text`."""
        start = time.monotonic()
        watch = Watch(timeout)
        while text not in self.output():
            if self.child.poll() is not None and text not in self.output():
                raise Broken(f"it ended with status {self.child.returncode} before {text!r}")
            if watch.is_over():
                raise Broken(f"no {text!r} for {timeout:g} s")
            time.sleep(0.02)
        return time.monotonic() - start

    def stop(self, number: int = signal.SIGTERM, timeout: float = END_DEADLINE) -> int:
        """Its status after this signal to the launcher."""
        self.child.send_signal(number)
        return self.wait(timeout)

    def wait(self, timeout: float = END_DEADLINE) -> int:
        """Its status when it has ended."""
        try:
            return self.child.wait(timeout)
        except subprocess.TimeoutExpired as err:
            raise Broken(f"it did not end within {timeout:g} s") from err


def _answers(reach: Reach, port: int, probe: bytes, patience: float) -> bool:
    """QEMU's network accepts for a guest that does not listen yet: a connection says nothing."""
    try:
        with reach.tcp(port, patience) as sock:
            sock.sendall(probe)
            return sock.recv(1) != b""
    except OSError:
        return False


@contextlib.contextmanager
def running(
    image: str, options: Sequence[str], args: Sequence[str] = (), prefix: Sequence[str] = ()
) -> Iterator[Guest]:
    """The image in a guest; when the body does not end it, it is killed."""
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "log"
        command = [*prefix, *CAPSTAN, "run", *options, image, *args]
        with log.open("wb") as out:
            child = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT,
                env=os.environ,
            )  # fmt: skip
        guest = Guest(child, log)
        try:
            yield guest
        except (Broken, OSError, AssertionError, ValueError) as err:
            said = "\n".join(f"    {line}" for line in guest.output().splitlines()[-60:])
            raise Broken(f"{type(err).__name__}: {err}\n{said}") from err
        finally:
            child.kill()
            child.wait(END_DEADLINE)
