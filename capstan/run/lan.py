# SPDX-License-Identifier: BSD-2-Clause
"""A private network of several machines: an Ethernet carried by UDP multicast on the host's lo.

Each machine's QEMU joins the network's group and sends every frame to it, so there is no process
in between, nothing on disk and nothing to clean up: the network is gone with its last member. It
needs no rights. Membership is on `lo` only; no frame leaves the host. What keeps networks apart
is the pair of group and port, chosen at random from 2^18 * 2^12.
"""

from __future__ import annotations

import ipaddress
import re
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from capstan.errors import MachineError, UsageError

if TYPE_CHECKING:
    from collections.abc import Container

IGMP = Path("/proc/net/igmp")
LOCAL = "127.0.0.1"
# RFC 2365: the organisation-local scope. Ports outside of those the kernel hands out.
GROUPS = ipaddress.IPv4Network("239.192.0.0/14")
PORTS = range(61000, 65096)
FRAME_MAX = 1514
MAX_LANS = 4  # cards beside the one for the outside that the guest takes


@dataclass(frozen=True, slots=True)
class Segment:
    """One private network: where its frames go."""

    group: str
    port: int


@dataclass(frozen=True, slots=True)
class Lan:
    """A machine's card in a private network: its address there is `ip`, ADDRESS/BITS."""

    segment: Segment
    ip: str
    mac: str

    @property
    def parameter(self) -> str:
        """What the guest is told (docs/host-guest.md, `lan`)."""
        return f"{self.mac} {self.ip}"


def card_address(ip: str) -> str:
    """The Ethernet address of the machine with the address `ip` (ADDRESS/BITS) of a network."""
    last = ipaddress.IPv4Interface(ip).ip.packed
    return "52:54:" + ":".join(f"{byte:02x}" for byte in last)


def check_lans(lans: tuple[Lan, ...]) -> tuple[Lan, ...]:
    """`lans`, which one machine can be in.

    Raises:
        UsageError: too many.
    """
    if len(lans) > MAX_LANS:
        raise UsageError(f"{len(lans)} private networks: {MAX_LANS} is the most for one machine")
    return lans


def choose(entropy: bytes, taken: Container[Segment], joined: Container[str]) -> Segment:
    """A segment that is not `taken` and whose group nobody has `joined`; from 6 random bytes.

    Raises:
        MachineError: no free one was found near the random choice.
    """
    start = int.from_bytes(entropy[:4], "big")
    port = PORTS[int.from_bytes(entropy[4:6], "big") % len(PORTS)]
    for step in range(1024):
        group = str(GROUPS[(start + step) % GROUPS.num_addresses])
        segment = Segment(group, port)
        if segment not in taken and group not in joined:
            return segment
    raise MachineError("no free multicast group for a private network", hint="try again")


def joined_groups(table: str | None = None) -> frozenset[str]:
    """The multicast groups somebody on this host is in (`/proc/net/igmp`)."""
    if table is None:
        try:
            table = IGMP.read_text()
        except OSError:
            return frozenset()
    found = re.findall(r"^\s+([0-9A-F]{8})\s", table, re.MULTILINE)
    return frozenset(socket.inet_ntoa(bytes.fromhex(text)[::-1]) for text in found)


def parse_hosts(entries: tuple[str, ...]) -> tuple[str, ...]:
    """`/etc/hosts` lines for the `--add-host` values in `entries`: NAME:ADDRESS or NAME=ADDRESS.

    Raises:
        UsageError: something else.
    """
    return tuple(_host(text) for text in entries)


def _host(text: str) -> str:
    found = re.fullmatch(r"([A-Za-z0-9_](?:[A-Za-z0-9_.-]{0,252}))[:=](\S+)", text)
    try:
        if not found:
            raise ValueError
        address = ipaddress.ip_address(found[2].strip("[]"))
    except ValueError as err:
        raise UsageError(
            f"--add-host {text!r} is not NAME:ADDRESS", hint="--add-host db:192.168.1.10"
        ) from err
    return f"{address}\t{found[1]}"


def open_socket(segment: Segment) -> socket.socket:
    """A socket that is a member of `segment`: each datagram is one frame.

    Raises:
        MachineError: this host cannot carry multicast on lo.
    """
    member = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    try:
        local = socket.inet_aton(LOCAL)
        member.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        member.bind((segment.group, segment.port))
        request = socket.inet_aton(segment.group) + local
        member.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, request)
        member.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, local)
        member.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_LOOP, 1)
    except OSError as err:
        member.close()
        raise MachineError(
            f"the private network {segment.group}:{segment.port} cannot be used: {err.strerror}",
            hint="lo must be up: `ip link set lo up`",
        ) from err
    return member
