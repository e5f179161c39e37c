# SPDX-License-Identifier: BSD-2-Clause
"""How the launcher connects a guest, and what it refuses before a start.

Bridge with DHCP and router advertisements, published ranges, ports of the image, captures.
"""

from __future__ import annotations

import contextlib
import json
import socket
import struct
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import cast

from tests.net import cases, guest, lab
from tests.net.guest import App, Broken

BRIDGE = "br0"
ROUTER4, ROUTER6 = "192.168.78.1", "fd78::1"
PYTHON = ("/usr/bin/python3", "/usr/lib/python3.11")


def _image(name: str, script: str, ports: tuple[str, ...] = ()) -> str:
    path = f"{cases.WORDS['src']}/{script}"
    app = App(name, [PYTHON[0], path], [path, PYTHON[1]], ports=ports)
    return guest.build(app, cases.FOLDER / name)


def want(what: str, got: object, wanted: object) -> None:
    """Nothing; it is an error when they differ."""
    if got != wanted:
        raise Broken(f"{what}: {got!r} for {wanted!r}")


# --- a bridge, its DHCP server and router ---


@contextlib.contextmanager
def router(where: lab.Lab) -> Iterator[None]:
    """dnsmasq on the bridge: addresses, a domain, names, an announced IPv6 prefix."""
    with tempfile.TemporaryDirectory() as folder:
        line = ["dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null", "--no-ping"]
        line += ["--user=root"]
        line += ["--no-resolv", "--no-hosts", "--log-facility=-", "--bind-interfaces"]
        line += [f"--interface={BRIDGE}", f"--pid-file={folder}/pid"]
        line += [f"--dhcp-leasefile={folder}/leases", "--domain=lab.test"]
        line += ["--dhcp-range=192.168.78.100,192.168.78.120,10m"]
        line += [f"--dhcp-range={ROUTER6},ra-only", "--enable-ra"]
        line += ["--address=/service.lab.test/10.1.2.3"]
        with subprocess.Popen([*where.prefix, *line], stderr=subprocess.DEVNULL) as server:
            try:
                yield
            finally:
                server.kill()


def _ask(where: lab.Lab, image: str, options: list[str], names: list[str]) -> dict[str, object]:
    """What netinfo.py says in a guest on the bridge."""
    line = [*where.prefix, *guest.CAPSTAN, "run", f"--net=bridge={BRIDGE}", "--timeout=60"]
    line += ["--name=box", *options, image, *names]
    done = subprocess.run(line, capture_output=True, timeout=90, check=False)
    if done.returncode or done.stderr:
        raise Broken(f"status {done.returncode}: {done.stderr.decode(errors='replace')}")
    return cast("dict[str, object]", json.loads(done.stdout))


def _servers(said: dict[str, object]) -> tuple[list[str], list[str]]:
    """Name servers: of IPv4, and the links of those of IPv6.

    A router announces itself as a link-local one, which needs the link's name (RFC 4007, 11).
    """
    lines = [line.split() for line in cast("list[str]", said["resolv"])]
    servers = [words[1] for words in lines if words[:1] == ["nameserver"]]
    six = [server.partition("%")[2] for server in servers if ":" in server]
    return [server for server in servers if ":" not in server], six


def bridge_and_dhcp(name: str) -> str:
    """A guest on a bridge gets its address, router, name server, domain and IPv6 prefix."""
    image = _image("netinfo", "netinfo.py")
    with lab.lab(name, tap=False) as made:
        made.ip(f"link add {BRIDGE} type bridge")
        made.ip(f"addr add {ROUTER4}/24 dev {BRIDGE}")
        made.ip(f"addr add {ROUTER6}/64 dev {BRIDGE} nodad")
        made.ip(f"link set {BRIDGE} up")
        with router(made):
            both = _ask(made, image, [], ["service.lab.test", "service", "box.lab.test"])
            six = _ask(made, image, ["--ip=auto"], ["service.lab.test"])
    [own] = cast("list[str]", both["own"])
    if not 100 <= int(own.rpartition(".")[2]) <= 120 or not own.startswith("192.168.78."):
        raise Broken(f"the guest's address is {own}")
    want("search", cast("list[str]", both["resolv"])[0], "search lab.test")
    want("name servers", _servers(both), ([ROUTER4], ["eth0"]))
    names = {"service.lab.test": ["10.1.2.3"], "service": ["10.1.2.3"], "box.lab.test": [own]}
    want("names", both["names"], names)
    want("name servers, only IPv6", _servers(six), ([], ["eth0"]))
    want("names, only IPv6", six["names"], {"service.lab.test": ["10.1.2.3"]})
    for said in (both, six):
        if not any(address.startswith("fd78::") for address in cast("list[str]", said["ipv6"])):
            raise Broken(f"no address of the announced prefix: {said['ipv6']}")
    return f"address {own} and {len(cast('list[str]', both['ipv6']))} of IPv6; IPv6 alone"


# --- published ports, captures ---


def _free_range(size: int) -> int:
    """The first of `size` ports of the host that are free, for TCP."""
    for _ in range(100):
        first = guest.free_port()
        with contextlib.suppress(OSError), contextlib.ExitStack() as probes:
            for port in range(first, first + size):
                probe = probes.enter_context(socket.socket())
                probe.bind(("127.0.0.1", port))
            return first
    raise Broken(f"no {size} free ports in a row")


def frames(path: Path) -> list[bytes]:
    """The frames of a capture (the classic format, little-endian)."""
    data = path.read_bytes()
    magic, _, _, _, _, _, link = struct.unpack_from("<IHHIIII", data)
    want("the capture's header", (magic, link), (0xA1B2C3D4, 1))
    found, at = [], 24
    while at + 16 <= len(data):
        size = struct.unpack_from("<I", data, at + 8)[0]
        found.append(data[at + 16 : at + 16 + size])
        at += 16 + size
    return found


def ranges_and_capture() -> str:
    """-p with a range, TCP and UDP; -P with the image's ports; --pcap has what was said."""
    first, more = _free_range(5), _free_range(5)
    image = _image("ports", "many_ports.py", (f"127.0.0.1:{more}-{more + 4}:9000-9004",))
    with tempfile.TemporaryDirectory() as folder:
        capture = Path(folder) / "frames.pcap"
        options = ["-P", f"--pcap={capture}", "--timeout=60"]
        options += [f"-p127.0.0.1:{first}-{first + 4}:9000-9004{end}" for end in ("", "/udp")]
        with guest.running(image, options) as machine:
            machine.wait_for_text("listening", 15)
            for number in range(5):
                wanted = b"%d" % (9000 + number)
                for port in (first + number, more + number):
                    with socket.create_connection(("127.0.0.1", port), 10) as sock:
                        want(f"TCP port {port}", sock.recv(100), wanted)
                with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
                    sock.settimeout(10)
                    sock.sendto(b"?", ("127.0.0.1", first + number))
                    want(f"UDP port {first + number}", sock.recv(100), wanted)
            want("status", machine.stop(), 0)
        seen = frames(capture)
    for number in range(9000, 9005):
        if not any(b"%d" % number in frame[34:] for frame in seen):
            raise Broken(f"the capture lacks the answer of port {number}")
    return f"15 ports, {len(seen)} frames captured"


def refusals() -> str:
    """What cannot work is told before the start: status 125 and a hint."""
    image = _image("ports", "many_ports.py")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        tries = {
            (f"-p127.0.0.1:{port}:80",): f"127.0.0.1:{port}/tcp",
            ("-p192.0.2.1:8080:80",): "no such address",
            ("--net=tap=lo",): "not a tap",
            ("--net=bridge=none0",): "no such interface",
            ("-p80-90:80-89",): "same length",
            ("-p70000:80",): "1 to 65535",
            ("--net=tap", "-p8080:80"): "address of its own",
            ("--ip=10.0.2.15",): "ADDRESS/BITS",
        }
        for options, text in tries.items():
            line = [*guest.CAPSTAN, "run", *options, image]
            done = subprocess.run(line, capture_output=True, timeout=30, check=False)
            said = done.stderr.decode(errors="replace")
            if done.returncode != 125 or text not in said or "hint:" not in said:
                raise Broken(f"{' '.join(options)}: status {done.returncode}, {said!r}")
    return f"{len(tries)} refused"
