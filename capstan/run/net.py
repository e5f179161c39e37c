# SPDX-License-Identifier: BSD-2-Clause
"""The guest's network: what the command line says, checked, and the host's side of it.

`plan` and the parsers are pure; `check` and `attach` find out on the host what would fail.
"""

from __future__ import annotations

import errno
import ipaddress
import re
import socket
from dataclasses import dataclass, replace
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING

from capstan.errors import MachineError, UsageError

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from capstan.manifest import RunConfig

INTERFACES = Path("/sys/class/net")
MAX_LIST = 4  # addresses, gateways, name servers the guest takes
MAX_FORWARDS = 4096
MAX_INTERFACE_NAME = 15
TAPS = 256  # capstan0 ... of ours
USER_IP6, USER_ROUTER6 = "fec0::15/64", "fec0::2"  # QEMU's own choice


class NetKind(Enum):
    """Who carries the guest's frames."""

    USER = "user"
    TAP = "tap"
    BRIDGE = "bridge"


@dataclass(frozen=True, slots=True)
class Forward:
    """One port of the host that leads to one of the guest."""

    protocol: str
    address: str
    host: int
    guest: int


@dataclass(frozen=True, slots=True)
class NetOptions:
    """The command line's share of the network; empty and None mean: the default."""

    net: str | None = None
    publish: tuple[str, ...] = ()
    publish_all: bool = False
    ip: tuple[str, ...] = ()
    gateway: tuple[str, ...] = ()
    dns: tuple[str, ...] = ()
    mac: str | None = None
    pcap: Path | None = None
    queues: int | None = None


@dataclass(frozen=True, slots=True)
class NetSpec:
    """One network card. `host_ip`: what `attach` gives the host's end, when it makes that.

    `is_ours`: nobody named the tap, so `attach` may take another one.
    `queues`: pairs of queues, each a descriptor of the tap; unless `queues_given`, one when the
    interface was made for one.
    """

    kind: NetKind
    ip: tuple[str, ...]
    gateway: tuple[str, ...] = ()
    dns: tuple[str, ...] = ()
    forwards: tuple[Forward, ...] = ()
    interface: str = ""
    bridge: str = ""
    host_ip: str | None = None
    mac: str | None = None
    pcap: Path | None = None
    queues: int = 1
    queues_given: bool = False
    is_ours: bool = False


# --- what the user writes ---


def parse_publish(text: str) -> tuple[Forward, ...]:
    """The forwards in `[ADDRESS:][HOST:]GUEST[/udp]`.

    HOST and GUEST may be ranges of the same length; without HOST it is the guest's number.

    Raises:
        UsageError: anything else.
    """
    found = re.fullmatch(
        r"(?:(?P<addr>[^:]+):(?=[^:]+:))?(?:(?P<host>[\d-]+):)?(?P<guest>[\d-]+)(?:/(?P<proto>\w+))?",
        text,
    )
    hint = "like 8080:80, 127.0.0.1:5353:53/udp or 9000-9010:9000-9010"
    if not found:
        raise UsageError(f"port {text!r} is not [ADDRESS:][HOST:]GUEST[/udp]", hint=hint)
    protocol = found["proto"] or "tcp"
    if protocol not in ("tcp", "udp"):
        raise UsageError(f"port {text!r}: protocol {protocol!r} is not tcp or udp", hint=hint)
    guest = _range(found["guest"], text)
    host = _range(found["host"], text) if found["host"] else guest
    if len(host) != len(guest):
        raise UsageError(
            f"port {text!r}: {len(host)} ports of the host for {len(guest)} of the guest",
            hint="make both ranges the same length",
        )
    address = _host_address(found["addr"] or "0.0.0.0", text)
    return tuple(Forward(protocol, address, h, g) for h, g in zip(host, guest, strict=True))


def _range(text: str, whole: str) -> range:
    found = re.fullmatch(r"(\d{1,5})(?:-(\d{1,5}))?", text)
    first = int(found[1]) if found else 0
    last = int(found[2]) if found and found[2] else first
    if not 1 <= first <= last <= 65535:
        raise UsageError(
            f"port {whole!r}: {text!r} is not a port or a range of ports",
            hint="ports go from 1 to 65535, ranges upwards",
        )
    return range(first, last + 1)


def _host_address(text: str, whole: str) -> str:
    try:
        return str(ipaddress.IPv4Address(text))
    except ValueError as err:
        raise UsageError(
            f"port {whole!r}: {text!r} is not an IPv4 address of the host",
            hint="QEMU forwards ports of IPv4 addresses only; use --net tap for IPv6",
        ) from err


def parse_mac(text: str) -> str:
    """`text`, a unicast Ethernet address.

    Raises:
        UsageError: it is none.
    """
    if not re.fullmatch(r"[0-9A-Fa-f]{2}(:[0-9A-Fa-f]{2}){5}", text):
        raise UsageError(f"--mac {text!r} is not an Ethernet address", hint="52:54:00:12:34:56")
    if int(text[:2], 16) & 1 or int(text.replace(":", ""), 16) == 0:
        raise UsageError(
            f"--mac {text}: no card can have this address",
            hint="the first byte must be even, such as 52:54:00:12:34:56",
        )
    return text.lower()


def parse_ip(text: str) -> str:
    """`dhcp`, `auto`, or an address of one host in `ADDRESS/BITS`.

    Raises:
        UsageError: none of these.
    """
    if text in ("dhcp", "auto"):
        return text
    try:
        if "/" not in text:
            raise ValueError("no prefix length")
        found = ipaddress.ip_interface(text)
    except ValueError as err:
        raise UsageError(
            f"--ip {text!r} is not ADDRESS/BITS ({err})", hint="--ip 192.168.1.10/24, dhcp or auto"
        ) from err
    if found.ip.is_multicast or found.ip.is_unspecified or found.ip.is_loopback:
        raise UsageError(f"--ip {text}: no card can have this address", hint="choose another one")
    return str(found)


def _addresses(option: str, texts: Sequence[str]) -> tuple[str, ...]:
    found = []
    for text in texts:
        try:
            found.append(str(ipaddress.ip_address(text)))
        except ValueError as err:
            raise UsageError(
                f"{option} {text!r} is not an IP address", hint=f"{option} 192.168.1.1"
            ) from err
    return tuple(found)


# --- deciding ---


def plan(
    options: NetOptions, image: RunConfig, interfaces: Collection[str], entropy: bytes
) -> NetSpec | None:
    """The network that `options` and the image ask for, None for no card.

    A card costs boot time, so there is one only when something names it or the programs of the
    image look as if they used one. `interfaces`: those of the host; `entropy`: three bytes for a
    new Ethernet address.

    Raises:
        UsageError: a value that is wrong, or does not go with the others.
    """
    text = options.net or ("user" if _is_wanted(options, image) else "none")
    kind, equals, name = text.partition("=")
    published = (*options.publish, *(image.ports if options.publish_all else ()))
    forwards = tuple(f for text in published for f in parse_publish(text))
    _check_together(options, kind, bool(forwards))
    if kind == "none" and not equals:
        return None
    common = _Common(
        ip=tuple(parse_ip(text) for text in options.ip),
        gateway=_addresses("--gateway", options.gateway),
        dns=_addresses("--dns", options.dns),
        mac=parse_mac(options.mac) if options.mac is not None else None,
        pcap=options.pcap,
    )
    if kind == "user" and not equals:
        return _user(common, forwards)
    mac = common.mac or "52:54:00:" + ":".join(f"{byte:02x}" for byte in entropy[:3])
    if kind == "tap":
        return _tap(common, mac, _interface(name, text) if equals else "", interfaces)
    if kind == "bridge" and equals:
        return _bridge(common, mac, _interface(name, text), interfaces)
    raise UsageError(
        f"--net {text!r}: there is no such network",
        hint="user, tap[=INTERFACE], bridge=BRIDGE or none",
    )


@dataclass(frozen=True, slots=True)
class _Common:
    ip: tuple[str, ...]
    gateway: tuple[str, ...]
    dns: tuple[str, ...]
    mac: str | None
    pcap: Path | None


def _is_wanted(options: NetOptions, image: RunConfig) -> bool:
    return options != NetOptions() or bool(image.ports) or image.network


def _check_together(options: NetOptions, kind: str, has_forwards: bool) -> None:
    if has_forwards and kind != "user":
        raise UsageError(
            f"--net {options.net}: no ports can be published",
            hint="leave out -p: the guest has an address of its own"
            if kind != "none"
            else "leave out --net none",
        )
    if kind == "none" and options != NetOptions(net=options.net):
        raise UsageError(
            "--net none: the other network options mean nothing", hint="leave them or --net out"
        )
    for option, given in (
        ("--ip", options.ip),
        ("--gateway", options.gateway),
        ("--dns", options.dns),
    ):
        if len(given) > MAX_LIST:
            raise UsageError(f"{option} {len(given)} times: {MAX_LIST} is the most")


def _interface(name: str, text: str) -> str:
    if not 0 < len(name) <= MAX_INTERFACE_NAME or re.search(r"[\s/:]", name) or name in (".", ".."):
        raise UsageError(
            f"--net {text}: {name!r} is not the name of an interface",
            hint=f"1 to {MAX_INTERFACE_NAME} characters without blanks, '/' and ':'",
        )
    return name


def _user(common: _Common, forwards: tuple[Forward, ...]) -> NetSpec:
    """QEMU's own network: `ip` is one IPv4 address, gateway and name server are QEMU's."""
    if common.gateway:
        raise UsageError("--gateway: the network `user` has its own", hint="leave it out")
    if len(common.ip) > 1 or any("." not in text for text in common.ip):
        raise UsageError(
            f"--ip {' '.join(common.ip)}: the network `user` takes one IPv4 address",
            hint="--ip 10.0.2.15/24, or --net tap",
        )
    if len(forwards) > MAX_FORWARDS:
        raise UsageError(f"{len(forwards)} published ports: {MAX_FORWARDS} is the most")
    seen: set[tuple[str, str, int]] = set()
    for f in forwards:
        if (f.protocol, f.address, f.host) in seen:
            raise UsageError(f"port {f.host}/{f.protocol} of the host is published twice")
        seen.add((f.protocol, f.address, f.host))
    own = ipaddress.IPv4Interface(common.ip[0] if common.ip else "10.0.2.15/24")
    free = user_hosts(own)
    return NetSpec(
        kind=NetKind.USER,
        ip=(str(own), USER_IP6),
        gateway=(free[0], USER_ROUTER6),
        dns=common.dns or (free[1],),
        forwards=forwards,
        mac=common.mac,
        pcap=common.pcap,
    )


def user_hosts(own: ipaddress.IPv4Interface) -> tuple[str, str]:
    """Addresses of QEMU's router and name server in the network of `own`.

    Raises:
        UsageError: the network has no room for them.
    """
    net = own.network
    if net.prefixlen > 28:
        raise UsageError(f"--ip {own}: this network is too small", hint="/28 or larger")
    # 2 and 3 are QEMU's own choice in 10.0.2.0/24.
    free = [net[n] for n in range(2, 5) if net[n] != own.ip]
    if own.ip in (net.network_address, net.broadcast_address):
        raise UsageError(f"--ip {own}: no card can have this address", hint="choose another one")
    return str(free[0]), str(free[1])


def _tap(common: _Common, mac: str, name: str, interfaces: Collection[str]) -> NetSpec:
    """A tap interface: a named one belongs to the user, one without a name to this run."""
    host_ip, is_ours = None, not name
    ip, gateway = common.ip, common.gateway
    if is_ours:
        number = next((n for n in range(TAPS) if f"capstan{n}" not in interfaces), None)
        if number is None:
            raise UsageError(
                "--net tap: capstan0 to capstan255 are all in use",
                hint="name a tap: --net tap=NAME",
            )
        name = f"capstan{number}"
        if not ip:
            host_ip = f"10.77.{number}.1/24"
            ip = (f"10.77.{number}.2/24",)
            gateway = gateway or (f"10.77.{number}.1",)
    return NetSpec(
        NetKind.TAP,
        ip or ("dhcp", "auto"),
        gateway,
        common.dns,
        interface=name,
        host_ip=host_ip,
        mac=mac,
        pcap=common.pcap,
        is_ours=is_ours,
    )


def _bridge(common: _Common, mac: str, bridge: str, interfaces: Collection[str]) -> NetSpec:
    if bridge not in interfaces:
        raise UsageError(
            f"--net bridge={bridge}: the host has no such interface",
            hint=f"make it: ip link add {bridge} type bridge && ip link set {bridge} up",
        )
    name = next(f"capstan{n}" for n in range(TAPS) if f"capstan{n}" not in interfaces)
    return NetSpec(
        NetKind.BRIDGE,
        common.ip or ("dhcp", "auto"),
        common.gateway,
        common.dns,
        interface=name,
        bridge=bridge,
        mac=mac,
        pcap=common.pcap,
        is_ours=True,
    )


# --- the host's side ---


def host_interfaces() -> frozenset[str]:
    """The names of the host's network interfaces."""
    try:
        return frozenset(entry.name for entry in INTERFACES.iterdir())
    except OSError:
        return frozenset()


def check(spec: NetSpec) -> None:
    """Nothing, if the published ports are free and the capture can be written.

    Raises:
        MachineError: they are not.
    """
    for forward in spec.forwards:
        _check_port(forward)
    if spec.pcap is not None:
        try:
            spec.pcap.open("ab").close()
        except OSError as err:
            raise MachineError(
                f"--pcap {spec.pcap}: {err.strerror}", hint="name a file that can be written"
            ) from err


def _check_port(forward: Forward) -> None:
    kind = socket.SOCK_STREAM if forward.protocol == "tcp" else socket.SOCK_DGRAM
    with socket.socket(socket.AF_INET, kind) as probe:
        if kind is socket.SOCK_STREAM:  # as QEMU does
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((forward.address, forward.host))
            if kind is socket.SOCK_STREAM:
                probe.listen(1)
        except OSError as err:
            where = f"{forward.address}:{forward.host}/{forward.protocol}"
            raise MachineError(
                f"port {where} of the host cannot be used: {err.strerror}", hint=_remedy(err)
            ) from err


def _remedy(err: OSError) -> str:
    match err.errno:
        case errno.EADDRINUSE:
            return "another program has it (`ss -lnp` shows which): stop it or choose another port"
        case errno.EACCES:
            return "ports below 1024 need root: choose a higher one, such as 8080"
        case errno.EADDRNOTAVAIL:
            return "the host has no such address: `ip address` shows those it has"
        case _:
            return "choose another port"


def with_queues(
    spec: NetSpec | None, given: int | None, *, is_pci: bool, cpus: int
) -> NetSpec | None:
    """`spec` with a queue per CPU where that is possible, or as many as `given`.

    Raises:
        UsageError: `given`, and not possible.
    """
    reasons = (
        (spec is None, "there is no network card", "add --net tap"),
        (spec is not None and spec.kind is NetKind.USER, "QEMU's own network has one", "--net tap"),
        (not is_pci, "only PCI cards have an interrupt per queue", "add --machine q35"),
        (spec is not None and spec.pcap is not None, "--pcap sees one queue only", "leave one out"),
    )
    reason, hint = next(((text, hint) for holds, text, hint in reasons if holds), ("", ""))
    if given is not None and given > 1 and reason:
        raise UsageError(f"--queues {given}: {reason}", hint=hint)
    if given is not None and not 1 <= given <= cpus:
        raise UsageError(
            f"--queues {given}: each queue belongs to a CPU, and there are {cpus}",
            hint=f"from 1 to {cpus}, or more CPUs: -c {given}",
        )
    if spec is None or reason:
        return spec
    number = given if given is not None else cpus
    return replace(spec, queues=number, queues_given=given is not None)
