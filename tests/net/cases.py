# SPDX-License-Identifier: BSD-2-Clause
"""The rows of ci/net_apps.toml: read, made into images, run, checked.

A run is one guest: a program, a network (user or tap) and how it is accelerated. With a tap
a server is checked over IPv4 and IPv6 in one run, a client has one run for each.
"""

from __future__ import annotations

import contextlib
import socket
import subprocess
import time
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.net import content, dns_checks, guest, http_checks, lab, store_checks, stream_checks
from tests.net.guest import App, Broken, Guest, Reach

ROOT = Path(__file__).resolve().parents[2]
TABLE = ROOT / "ci" / "net_apps.toml"
FOLDER = ROOT / "build" / "net"
WORDS = {
    "files": str(FOLDER / "www"),
    "tls": str(FOLDER / "tls"),
    "src": str(ROOT / "tests" / "apps" / "net"),
}


@dataclass(frozen=True, slots=True)
class Case:
    """One row."""

    name: str
    command: Sequence[str]
    packages: Sequence[str] = ()
    build: str = ""
    args: Sequence[str] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    write: Mapping[str, str] = field(default_factory=dict)
    include: Sequence[str] = ()
    tcp: Sequence[int] = ()
    udp: Sequence[int] = ()
    check: Sequence[str] = ()
    probe: str = ""
    ready: str = ""
    last_words: bool = False
    end: Sequence[int] = (0,)
    stdin: str = ""
    output: Sequence[str] = ()
    memory: str = "256M"
    cpus: int = 1
    one_cpu_on_tcg: bool = False
    seconds: float = 15
    nets: Sequence[str] = ("user", "tap")
    families: Sequence[int] = (4, 6)
    long: bool = False

    @property
    def is_client(self) -> bool:
        return bool(self.output)


@dataclass(frozen=True, slots=True)
class Run:
    """One guest to start."""

    case: Case
    net: str
    accel: str = "kvm"
    machine: str = "microvm"

    def __str__(self) -> str:
        more = "" if self.machine == "microvm" else f" {self.machine}"
        return f"{self.case.name:<16} {self.net:<4} {self.accel}{more}"


def table(path: Path = TABLE) -> dict[str, Case]:
    """All rows, by name."""
    rows = tomllib.loads(path.read_text())
    return {name: Case(name, **row) for name, row in rows.items()}


def put(text: str, words: Mapping[str, object]) -> str:
    """`text` with {word} replaced; other braces stay."""
    for word, value in words.items():
        text = text.replace("{" + word + "}", str(value))
    return text


def prepare() -> None:
    """The files and the certificate."""
    content.write_files(Path(WORDS["files"]))
    content.make_certificate(Path(WORDS["tls"]))


def image(case: Case) -> str:
    """The name of the case's image, built."""
    folder = FOLDER / case.name
    folder.mkdir(parents=True, exist_ok=True)
    known = {**WORDS, "dir": str(folder)}
    if case.build:
        done = subprocess.run(
            ["sh", "-ec", put(case.build, known)],
            cwd=folder, capture_output=True, timeout=300, check=False,
        )  # fmt: skip
        if done.returncode:
            raise Broken(f"its build failed: {done.stderr.decode(errors='replace')}")
    app = App(
        case.name,
        [put(word, known) for word in case.command],
        [put(path, known) for path in case.include],
        {path: put(text, known) for path, text in case.write.items()},
        case.memory,
        case.cpus,
    )
    return guest.build(app, folder)


# --- checks, by name ---


def _simple(function: Callable[[Reach], None]) -> Callable[[Reach, Guest, int], None]:
    return lambda reach, _guest, _port: function(reach)


def _http(
    function: Callable[[http_checks.Connect], None],
) -> Callable[[Reach, Guest, int], None]:
    return lambda reach, _guest, port: function(http_checks.plain(reach, port))


def _tls(reach: Reach, _guest: Guest, port: int) -> None:
    certificate = Path(WORDS["tls"]) / "cert.pem"
    connect = http_checks.encrypted(http_checks.plain(reach, port), certificate)
    http_checks.files(connect)
    http_checks.parallel(connect, clients=12)


def _relayed(connect: http_checks.Connect) -> None:
    http_checks.files(connect)
    http_checks.parallel(connect)


def _plain_files(connect: http_checks.Connect) -> None:
    http_checks.files(connect)
    http_checks.head_and_missing(connect)
    http_checks.pipelined(connect)


CHECKS: Mapping[str, Callable[[Reach, Guest, int], None]] = {
    "redis": _simple(store_checks.redis),
    "memcached": _simple(store_checks.memcached),
    "files": _http(http_checks.all_of),
    "plain_files": _http(_plain_files),
    "relayed": _http(_relayed),
    "posts": _http(http_checks.posts),
    "tls": _tls,
    "dns_own": _simple(dns_checks.own_names),
    "dns": _simple(dns_checks.dns),
    "echo": _simple(stream_checks.echo),
    "echo_udp": _simple(stream_checks.echo_udp),
    "iperf3": lambda reach, machine, _port: stream_checks.iperf3(reach, machine),
}


# --- running ---


@dataclass(frozen=True, slots=True)
class Hosts:
    """Ports of the servers on the host."""

    http: int
    https: int
    dns: int


@contextlib.contextmanager
def hosts() -> Iterator[Hosts]:
    """The servers on the host, in the namespace of the calling thread."""
    with (
        content.host_server() as http,
        content.host_server(Path(WORDS["tls"]) / "both.pem") as https,
        dns_checks.name_server() as dns,
    ):
        yield Hosts(http, https, dns)


def words(reach: Reach, servers: Hosts) -> dict[str, object]:
    """What {host} and its like stand for in this run."""
    host = reach.host
    return {
        "host": host,
        "url_host": f"[{host}]" if ":" in host else host,
        "http": servers.http,
        "https": servers.https,
        "dns": servers.dns,
    }


def execute(run: Run, servers: Hosts, prefix: Sequence[str] = ()) -> str:
    """A line about a good run. The calling thread is in the right namespace already.

    Raises:
        Broken: it was not good.
    """
    case = run.case
    if run.net == "user":
        options, reaches = guest.user_network(case.tcp, case.udp)
    else:
        options, reaches = guest.tap_network()
    by_family = {socket.AF_INET: 4, socket.AF_INET6: 6}
    reaches = [reach for reach in reaches if by_family[reach.family] in case.families]
    options += [f"--accel={run.accel}", f"--machine={run.machine}", "--timeout=300"]
    if case.one_cpu_on_tcg and run.accel == "tcg":
        options.append("--cpus=1")
    if case.is_client:
        return _run_client(run, servers, prefix, options, reaches)
    return _run_server(run, servers, prefix, options, reaches)


def _run_server(
    run: Run, servers: Hosts, prefix: Sequence[str], options: list[str], reaches: list[Reach]
) -> str:
    case = run.case
    slower = 8 if run.accel == "tcg" else 1
    known = words(reaches[0], servers)
    options += [f"-e{key}={put(value, known)}" for key, value in case.env.items()]
    args = [put(arg, known) for arg in case.args]
    start = time.monotonic()
    with guest.running(f"net-{case.name}", options, args, prefix) as machine:
        began = _wait(case, machine, reaches[0], case.seconds * slower)
        for reach in reaches:
            for check in case.check:
                name, _, port = check.partition(":")
                CHECKS[name](reach, machine, int(port or 0))
        if case.last_words:
            stream_checks.last_words(reaches[-1], machine)
        checked = time.monotonic()
        status = machine.wait() if case.last_words else machine.stop()
        if status not in case.end:
            raise Broken(f"status {status} after SIGTERM, not {case.end}")
        if said := machine.messages():
            raise Broken(f"the guest complained: {said[0]}")
    return (
        f"up {began:5.2f} s, checked {checked - start - began:5.2f} s, "
        f"ended {time.monotonic() - checked:5.2f} s"
    )


def _wait(case: Case, machine: Guest, reach: Reach, timeout: float) -> float:
    if case.ready:
        return machine.wait_for_text(case.ready, timeout)
    return machine.wait_for_answer(reach, case.tcp[0], case.probe.encode(), timeout)


def _expected(name: str) -> bytes:
    if name.startswith("small-*"):
        return b"".join(content.body(small) for small in content.SMALL[1:21])
    return content.body(name.removeprefix("http:"))


def _run_client(
    run: Run, servers: Hosts, prefix: Sequence[str], options: list[str], reaches: list[Reach]
) -> str:
    case = run.case
    wanted = b"".join(_expected(name) for name in case.output)
    start = time.monotonic()
    for reach in reaches:
        args = [put(arg, words(reach, servers)) for arg in case.args]
        command = [*prefix, *guest.CAPSTAN, "run", *options, f"net-{case.name}", *args]
        done = subprocess.run(
            command, input=case.stdin.encode(), capture_output=True, timeout=300, check=False
        )
        got = done.stdout
        if case.output[0].startswith("http:"):
            got = got.partition(b"\r\n\r\n")[2]
        said = done.stderr.decode(errors="replace").strip()
        if done.returncode:
            raise Broken(f"to {reach.host}: status {done.returncode}\n{said}")
        http_checks.same(f"stdout, from {reach.host}", got, wanted)
        if any(line.startswith("capstan:") for line in said.splitlines()):
            raise Broken(f"to {reach.host}: the guest complained: {said}")
    return f"{len(reaches)} x {len(wanted)} bytes, {time.monotonic() - start:5.2f} s"


@contextlib.contextmanager
def place(net: str, name: str) -> Iterator[tuple[Hosts, list[str]]]:
    """The servers on the host and the command prefix for guests of one kind of network."""
    if net == "user":
        with hosts() as servers:
            yield servers, []
        return
    with lab.lab(name) as made, made.inside(), hosts() as servers:
        yield servers, made.prefix
