# SPDX-License-Identifier: BSD-2-Clause
"""Ethernet, ARP, IPv4 and TCP as bytes: as much as asking a port takes. Pure functions.

RFC 826, RFC 791, RFC 9293.
"""

from __future__ import annotations

import ipaddress
import struct
from dataclasses import dataclass

BROADCAST = b"\xff" * 6
ARP, IPV4 = 0x0806, 0x0800
REQUEST, REPLY = 1, 2
FIN, SYN, RST, PSH, ACK = 1, 2, 4, 8, 16
WINDOW = 65535
MSS = 1400
_ETHERNET = struct.Struct("!6s6sH")
_ARP = struct.Struct("!HHBBH6s4s6s4s")
_IP = struct.Struct("!BBHHHBBH4s4s")
_TCP = struct.Struct("!HHIIBBHHH")


@dataclass(frozen=True, slots=True)
class End:
    """One machine of a network."""

    mac: bytes
    ip: bytes


@dataclass(frozen=True, slots=True)
class Arp:
    """An ARP packet."""

    op: int
    sender: End
    target: End


@dataclass(frozen=True, slots=True)
class Segment:
    """A TCP segment."""

    source: End
    target: End
    sport: int
    dport: int
    seq: int
    ack: int
    flags: int
    data: bytes = b""


def end(mac: str, ip: str) -> End:
    """The machine with these addresses, as text."""
    return End(bytes.fromhex(mac.replace(":", "")), ipaddress.IPv4Address(ip).packed)


def checksum(data: bytes) -> int:
    """The Internet checksum (RFC 1071)."""
    if len(data) % 2:
        data += b"\0"
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def pack_arp(arp: Arp) -> bytes:
    """The frame; a request goes to everybody."""
    to = BROADCAST if arp.op == REQUEST else arp.target.mac
    body = _ARP.pack(
        1, IPV4, 6, 4, arp.op, arp.sender.mac, arp.sender.ip, arp.target.mac, arp.target.ip
    )
    return _ETHERNET.pack(to, arp.sender.mac, ARP) + body


def pack_segment(segment: Segment) -> bytes:
    """The frame."""
    options = struct.pack("!BBH", 2, 4, MSS) if segment.flags & SYN else b""
    offset = (_TCP.size + len(options)) // 4 << 4
    parts = (segment.sport, segment.dport, segment.seq, segment.ack, offset, segment.flags, WINDOW)
    tcp = _TCP.pack(*parts, 0, 0) + options + segment.data
    pseudo = segment.source.ip + segment.target.ip + struct.pack("!HH", 6, len(tcp))
    tcp = _TCP.pack(*parts, checksum(pseudo + tcp), 0) + options + segment.data
    ends = (segment.source.ip, segment.target.ip)
    ip = _IP.pack(0x45, 0, _IP.size + len(tcp), 0, 0x4000, 64, 6, 0, *ends)
    ip = _IP.pack(0x45, 0, _IP.size + len(tcp), 0, 0x4000, 64, 6, checksum(ip), *ends)
    return _ETHERNET.pack(segment.target.mac, segment.source.mac, IPV4) + ip + tcp


def unpack(frame: bytes) -> Arp | Segment | None:
    """What the frame is; None: damaged, or something else."""
    if len(frame) < _ETHERNET.size:
        return None
    target, source, kind = _ETHERNET.unpack_from(frame)
    body = frame[_ETHERNET.size :]
    if kind == ARP:
        return _arp(body)
    return _segment(source, target, body) if kind == IPV4 else None


def _arp(body: bytes) -> Arp | None:
    if len(body) < _ARP.size:
        return None
    hardware, protocol, hlen, plen, op, smac, sip, tmac, tip = _ARP.unpack_from(body)
    if (hardware, protocol, hlen, plen) != (1, IPV4, 6, 4):
        return None
    return Arp(op, End(smac, sip), End(tmac, tip))


def _segment(source: bytes, target: bytes, body: bytes) -> Segment | None:
    if len(body) < _IP.size:
        return None
    version, _, total, _, fragment, _, protocol, _, sip, tip = _IP.unpack_from(body)
    header = (version & 15) * 4
    if version >> 4 != 4 or protocol != 6 or fragment & 0x3FFF or not header <= total <= len(body):
        return None
    tcp = body[header:total]
    if header < _IP.size or len(tcp) < _TCP.size:
        return None
    sport, dport, seq, ack, offset, flags, _, _, _ = _TCP.unpack_from(tcp)
    start = (offset >> 4) * 4
    if not _TCP.size <= start <= len(tcp):
        return None
    if checksum(sip + tip + struct.pack("!HH", 6, len(tcp)) + tcp):
        return None
    ends = (End(source, sip), End(target, tip))
    return Segment(*ends, sport, dport, seq, ack, flags, tcp[start:])
