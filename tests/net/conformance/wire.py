# SPDX-License-Identifier: BSD-2-Clause
"""Raw frames on the host's side of the line: sent as built, received with a check of their sums.

The interface has no addresses, so the host's kernel answers nothing; `Wire` answers ARP and
neighbour solicitations for every address the tests pretend to have.
"""

from __future__ import annotations

import logging
import select
import socket
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import (
    ICMPv6EchoReply,
    ICMPv6EchoRequest,
    ICMPv6ND_NA,
    ICMPv6ND_NS,
    ICMPv6NDOptDstLLAddr,
    IPv6,
)
from scapy.layers.l2 import ARP, Ether
from scapy.packet import Packet, Raw

from tests.net.conformance.client import CLIENT

logging.getLogger("scapy.runtime").setLevel(logging.ERROR)
SOL_PACKET, PACKET_STATISTICS, PACKET_VNET_HDR, PACKET_IGNORE_OUTGOING = 263, 6, 15, 23
SO_RCVBUFFORCE, SO_TIMESTAMPNS = 33, 35
VNET_HEADER = struct.Struct("<BBHHHH")
NEEDS_CSUM = 1
OUR_MAC = "02:66:00:00:00:01"
US4, US6 = "10.66.0.2", "fd66::2"  # whoever is tested
PEER4, PEER6 = "10.66.0.1", "fd66::1"  # the router, and the usual peer
CONTROL = "10.66.0.9"
FENCE = "10.66.0.8"
FLOODERS = 172  # the network of those whose answers are not looked at
WAIT = 4.0  # for what must come; others may use this machine too
SETTLE = 0.015


class Failure(Exception):
    """The stack did something else."""


def require(condition: object, what: str) -> None:
    """Fails the case when a fact does not hold."""
    if not condition:
        raise Failure(what)


def checksum(data: bytes) -> int:
    """The Internet checksum (RFC 1071)."""
    if len(data) % 2:
        data += b"\0"
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


@dataclass(slots=True)
class Frame:
    """One frame that was received."""

    data: bytes
    packet: Packet
    gso_size: int
    at: float  # when the interface had it, by the clock of the day


def complete(header: tuple[int, ...], data: bytes) -> bytes:
    """The frame with its checksum as a card would complete it."""
    flags, _, _, _, start, offset = header
    if not flags & NEEDS_CSUM:
        return data
    value = checksum(data[start:]) or 0xFFFF
    where = start + offset
    return data[:where] + struct.pack("!H", value) + data[where + 2 :]


def transport_of(data: bytes) -> tuple[int, bytes, bytes] | None:
    """Protocol, pseudo-header, bytes of the transport; None when there is nothing to check."""
    kind = struct.unpack_from("!H", data, 12)[0]
    if kind == 0x0800:
        size = (data[14] & 15) * 4
        total, frag = struct.unpack_from("!HxxH", data, 16)
        body = data[14 + size : 14 + total]
        is_part = bool(frag & 0x3FFF)
        return (
            None
            if is_part
            else (data[23], data[26:34] + struct.pack("!HH", data[23], len(body)), body)
        )
    if kind == 0x86DD:
        body = data[54 : 54 + struct.unpack_from("!H", data, 18)[0]]
        return data[20], data[22:54] + struct.pack("!II", len(body), data[20]), body
    return None


def sums_are_right(data: bytes) -> bool:
    """Are the checksums of IP, TCP, UDP and ICMP of a frame right?"""
    is_v4 = data[12:14] == b"\x08\0"
    if is_v4 and checksum(data[14 : 14 + (data[14] & 15) * 4]):
        return False
    found = transport_of(data)
    if found is None or found[0] not in (1, 6, 17, 58):
        return True
    proto, pseudo, body = found
    if proto == 17 and body[6:8] == b"\0\0":
        return is_v4
    return not checksum(body if proto == 1 else pseudo + body)


@dataclass
class Wire:
    """The line to one stack. `silent`: addresses nobody answers for."""

    interface: str
    silent: set[str] = field(default_factory=set)
    inbox: list[Frame] = field(default_factory=list)
    us_mac: str = "ff:ff:ff:ff:ff:ff"

    def __post_init__(self) -> None:
        self.socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
        self.socket.setsockopt(SOL_PACKET, PACKET_VNET_HDR, 1)
        self.socket.setsockopt(SOL_PACKET, PACKET_IGNORE_OUTGOING, 1)
        self.socket.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
        # After a flood thousands of SYN-ACKs come at once, and again some seconds later.
        self.socket.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 64 << 20)
        self.socket.bind((self.interface, 0))
        self.fences = 0

    def lost(self) -> int:
        """How many frames this end had no room for, since it was asked last."""
        return int(struct.unpack("II", self.socket.getsockopt(SOL_PACKET, PACKET_STATISTICS, 8))[1])

    def send_bytes(self, data: bytes) -> None:
        """A frame as it is."""
        self.socket.send(bytes(10) + data)

    def send(self, packet: Packet) -> None:
        """An IP packet, or a frame of its own."""
        if not isinstance(packet, Ether):
            packet = Ether(src=OUR_MAC, dst=self.us_mac) / packet
        self.send_bytes(bytes(packet))

    def _answer(self, packet: Packet) -> bool:
        """Answers a question for one of our addresses."""
        if ARP in packet and packet[ARP].op == 1:
            ask = packet[ARP]
            if ask.pdst not in (US4, CLIENT, ask.psrc) and ask.pdst not in self.silent:
                reply = ARP(op=2, hwsrc=OUR_MAC, psrc=ask.pdst, hwdst=ask.hwsrc, pdst=ask.psrc)
                self.send(Ether(src=OUR_MAC, dst=ask.hwsrc) / reply)
                return True
        elif ICMPv6ND_NS in packet and packet[IPv6].src != "::":
            target = packet[ICMPv6ND_NS].tgt
            if target not in self.silent:
                self.send(
                    Ether(src=OUR_MAC, dst=packet.src)
                    / IPv6(src=target, dst=packet[IPv6].src, hlim=255)
                    / ICMPv6ND_NA(tgt=target, R=0, S=1, O=1)
                    / ICMPv6NDOptDstLLAddr(lladdr=OUR_MAC)
                )
                return True
        return False

    def pump(self, seconds: float) -> bool:
        """Takes what comes within `seconds`, at least one frame; False: none came."""
        if not select.select([self.socket], [], [], max(seconds, 0))[0]:
            return False
        data, extra, _, _ = self.socket.recvmsg(70000, 64)
        seconds, nanoseconds = struct.unpack("qq", extra[0][2])
        if data[22:24] == b"\x08\0" and data[40] == FLOODERS:
            return True
        header = VNET_HEADER.unpack_from(data)
        data = complete(header, data[10:])
        require(header[1] or sums_are_right(data), f"a frame has a wrong checksum: {data.hex()}")
        packet = Ether(data)
        if not self._answer(packet):
            self.inbox.append(
                Frame(data, packet, header[3] if header[1] else 0, seconds + nanoseconds / 1e9)
            )
        return True

    def take(self, wanted: Callable[[Packet], object], seconds: float = WAIT) -> Frame | None:
        """The first frame that is wanted; others stay."""
        end = time.monotonic() + seconds
        seen = 0
        while True:
            for number in range(seen, len(self.inbox)):
                if wanted(self.inbox[number].packet):
                    return self.inbox.pop(number)
            seen = len(self.inbox)
            if not self.pump(end - time.monotonic()) and time.monotonic() >= end:
                return None

    def fence(self) -> None:
        """Returns when the stack has dealt with everything that was sent before."""
        self.fences = (self.fences + 1) % 65536
        number = self.fences
        reply = None
        for _ in range(4):  # queues overflow in floods
            self.send(IP(src=FENCE, dst=US4) / ICMP(type=8, id=0xFE, seq=number))
            reply = self.take(
                lambda p: ICMP in p and p[ICMP].type == 0 and p[ICMP].seq == number, WAIT / 2
            )
            if reply:
                break
        require(reply, "the stack does not answer to ping any more")
        end = time.monotonic() + SETTLE
        while self.pump(end - time.monotonic()):
            pass

    def forget(self) -> None:
        """Empties the inbox."""
        self.fence()
        self.inbox.clear()

    def quiet(self, wanted: Callable[[Packet], object], what: str, seconds: float = 0) -> None:
        """Nothing that is `wanted` may come."""
        if seconds:
            found = self.take(wanted, seconds)
        else:
            self.fence()
            found = self.take(wanted, 0)
        if found is not None:
            raise Failure(f"{what}: {describe(found.packet)}")


def describe(packet: Packet) -> str:
    """One line about a packet."""
    return packet.summary()  # type: ignore[no-any-return]


def ip(v6: bool, **fields: object) -> Packet:
    """An IP header from the peer to the stack."""
    if v6:
        return IPv6(**{"src": PEER6, "dst": US6, **fields})
    return IP(**{"src": PEER4, "dst": US4, **fields})


def udp_payload(packet: Packet) -> bytes:
    """What a datagram carries."""
    return bytes(packet[UDP].payload)


def is_udp(source: int, to: int | None = None) -> Callable[[Packet], bool]:
    """Datagrams from this port of theirs to that port of ours."""

    def wanted(packet: Packet) -> bool:
        found = UDP in packet and not _is_quote(packet, UDP)
        return found and packet[UDP].sport == source and to in (None, packet[UDP].dport)

    return wanted


def _is_quote(packet: Packet, layer: type[Packet]) -> bool:
    below = packet.getlayer(layer).underlayer
    return not isinstance(below, (IP, IPv6)) and "Fragment" not in type(below).__name__


def ping(v6: bool, payload: bytes, number: int) -> Packet:
    """An echo request."""
    if v6:
        return ip(True) / ICMPv6EchoRequest(id=7, seq=number, data=payload)
    return ip(False) / ICMP(type=8, id=7, seq=number) / Raw(payload)


def is_pong(v6: bool, number: int) -> Callable[[Packet], bool]:
    """Its reply."""
    if v6:
        return lambda p: ICMPv6EchoReply in p and p[ICMPv6EchoReply].seq == number
    return lambda p: ICMP in p and p[ICMP].type == 0 and p[ICMP].seq == number


def is_tcp(ours: int, v6: bool) -> Callable[[Packet], bool]:
    """Segments to this port of ours."""
    below = IPv6 if v6 else IP
    return lambda p: TCP in p and p[TCP].dport == ours and isinstance(p[TCP].underlayer, below)
