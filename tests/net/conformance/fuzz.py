# SPDX-License-Identifier: BSD-2-Clause
"""Frames nobody should send, some thousands a second, while a client checks an echo's bytes."""

from __future__ import annotations

import random
import select
import time
from dataclasses import dataclass

from scapy.layers.inet import ICMP, IP, TCP, UDP, IPOption
from scapy.layers.inet6 import (
    ICMPv6DestUnreach,
    ICMPv6EchoRequest,
    ICMPv6ND_NA,
    ICMPv6ND_NS,
    ICMPv6ND_RA,
    ICMPv6ND_Redirect,
    ICMPv6NDOptDstLLAddr,
    ICMPv6NDOptMTU,
    ICMPv6NDOptPrefixInfo,
    ICMPv6NDOptSrcLLAddr,
    ICMPv6PacketTooBig,
    IPv6,
    IPv6ExtHdrDestOpt,
    IPv6ExtHdrFragment,
    IPv6ExtHdrHopByHop,
    IPv6ExtHdrRouting,
)
from scapy.layers.l2 import ARP, Ether
from scapy.packet import Packet, Raw

from tests.net.conformance.client import CLIENT
from tests.net.conformance.peer import CLOSED, ECHO, FULL, PUPPET
from tests.net.conformance.wire import (
    OUR_MAC,
    PEER4,
    PEER6,
    US4,
    US6,
    Wire,
    checksum,
)

CLIENT_BYTES = bytes(int(part) for part in CLIENT.split("."))
BURST = 50


def valid_packets() -> list[Packet]:
    """One of each kind."""
    found: list[Packet] = []
    for head in (IP(src=PEER4, dst=US4), IPv6(src=PEER6, dst=US6)):
        for flags in ("S", "SA", "A", "PA", "FA", "R", "RA", "FSRPAU", ""):
            for port in (ECHO, PUPPET, CLOSED):
                options = list(FULL) if "S" in flags else [("SAck", (1, 1000, 2000, 3000))]
                found.append(
                    head.copy()
                    / TCP(sport=30000, dport=port, flags=flags, options=options)
                    / Raw(b"payload " * 4)
                )
        for port in (ECHO, CLOSED, 68):
            found.append(head.copy() / UDP(sport=30000, dport=port) / Raw(b"datagram"))
    head4, head6 = IP(src=PEER4, dst=US4), IPv6(src=PEER6, dst=US6)
    quote4 = IP(src=US4, dst=PEER4) / TCP(sport=ECHO, dport=30000) / Raw(b"x" * 8)
    quote6 = IPv6(src=US6, dst=PEER6) / TCP(sport=ECHO, dport=30000) / Raw(b"x" * 8)
    found += [
        head4.copy() / ICMP(type=kind, code=code) / quote4
        for kind, code in ((3, 0), (3, 3), (3, 4), (4, 0), (5, 1), (11, 0), (12, 0))
    ]
    found += [head4.copy() / ICMP() / Raw(b"ping" * 100), head4.copy() / ICMP(type=13)]
    found += [
        IP(src=PEER4, dst=US4, options=[IPOption(b"\x07\x07\x04\0\0\0\0")])
        / UDP(sport=1, dport=ECHO)
        / Raw(b"options")
    ]
    found += [
        IP(src=PEER4, dst=US4, flags="MF", frag=at, id=7, proto=17) / Raw(bytes(80))
        for at in (0, 1, 10, 100, 8000)
    ]
    found += [
        IP(src=PEER4, dst=dst) / UDP(sport=1, dport=ECHO) / Raw(b"g")
        for dst in ("224.0.0.1", "239.1.2.3", "255.255.255.255", "10.66.0.255")
    ]
    found += [
        head6.copy() / part / UDP(sport=1, dport=ECHO) / Raw(b"x")
        for part in (
            IPv6ExtHdrHopByHop(),
            IPv6ExtHdrDestOpt(),
            IPv6ExtHdrRouting(addresses=[PEER6]),
            IPv6ExtHdrFragment(id=9, m=1),
            IPv6ExtHdrFragment(id=9, offset=5),
        )
    ]
    found += [
        head6.copy() / ICMPv6PacketTooBig(mtu=1280) / quote6,
        head6.copy() / ICMPv6DestUnreach(code=4) / quote6,
        head6.copy() / ICMPv6EchoRequest(data=b"ping" * 50),
    ]
    near = IPv6(src="fe80::66", dst=US6, hlim=255)
    mac = ICMPv6NDOptSrcLLAddr(lladdr=OUR_MAC)
    found += [
        near / ICMPv6ND_NS(tgt=US6) / mac,
        near / ICMPv6ND_NA(tgt=PEER6) / ICMPv6NDOptDstLLAddr(lladdr=OUR_MAC),
        near
        / ICMPv6ND_RA()
        / mac
        / ICMPv6NDOptMTU(mtu=1400)
        / ICMPv6NDOptPrefixInfo(prefix="fd70::", prefixlen=64),
        near / ICMPv6ND_Redirect(tgt="fe80::5", dst="2001:db8::1"),
    ]
    return found


def templates(us_mac: str) -> list[bytes]:
    """Frames to begin with."""
    found = [bytes(Ether(src=OUR_MAC, dst=us_mac) / p) for p in valid_packets()]
    everybody = "ff:ff:ff:ff:ff:ff"
    found += [
        bytes(Ether(src=OUR_MAC, dst=everybody) / ARP(op=op, hwsrc=OUR_MAC, psrc=PEER4, pdst=US4))
        for op in (1, 2)
    ]
    return found


def resum(f: bytearray) -> None:
    """Right checksums, so that the frame gets further than the first check."""
    if f[12:14] == b"\x08\0" and len(f) >= 34:
        size = (f[14] & 15) * 4
        f[24:26] = b"\0\0"
        f[24:26] = checksum(bytes(f[14 : 14 + size])).to_bytes(2, "big")
        proto, start, pseudo = f[23], 14 + size, bytes(f[26:34])
    elif f[12:14] == b"\x86\xdd" and len(f) >= 54:
        proto, start, pseudo = f[20], 54, bytes(f[22:54])
    else:
        return
    at = {6: 16, 17: 6, 1: 2, 58: 2}.get(proto)
    body = f[start:]
    if at is None or len(body) < at + 2:
        return
    body[at : at + 2] = b"\0\0"
    head = b"" if proto == 1 else pseudo + len(body).to_bytes(4, "big") + bytes((0, 0, 0, proto))
    body[at : at + 2] = checksum(head + bytes(body)).to_bytes(2, "big")
    f[start:] = body


def mutate(rng: random.Random, base: bytes, us: bytes) -> bytes:
    """A frame like `base`, but not quite."""
    f = bytearray(base)
    kind = rng.randrange(20)
    if kind == 0:  # noise
        return us + rng.randbytes(rng.randrange(6, 1400))
    if kind == 1:
        return us + bytes(f[6:14]) + rng.randbytes(rng.randrange(120))
    for _ in range(rng.choice((0, 1, 1, 2, 4, 12))):
        at = rng.randrange(12, len(f))
        f[at] = rng.choice(
            (0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256), f[at] ^ 1 << rng.randrange(8))
        )
    if f[12:14] == b"\x08\0" and len(f) > 38:
        f[29] = rng.randrange(100, 200)  # many peers
        f[34:36] = rng.randbytes(2)
    if rng.random() < 0.1:
        f = f[: rng.randrange(14, len(f) + 1)]
    elif rng.random() < 0.1:
        f += rng.randbytes(rng.randrange(1400 - len(f)) if len(f) < 1400 else 0)
    if rng.random() < 0.75:
        resum(f)
    return bytes(f)


def poisons(f: bytes) -> bool:
    """ARP that says the client is elsewhere: that is believed, as the protocol wants."""
    return f[12:14] == b"\x08\x06" and f[28:32] == CLIENT_BYTES


@dataclass(frozen=True, slots=True)
class Sent:
    """What was sent."""

    frames: int
    seconds: float


def fuzz(wire: Wire, seconds: float, seed: int, rate: int = 10000) -> Sent:
    """Sends for so long, at most `rate` frames a second."""
    rng = random.Random(seed)
    bases = templates(wire.us_mac)
    us = bytes(int(part, 16) for part in wire.us_mac.split(":"))
    start = time.monotonic()
    sent = 0
    while (now := time.monotonic() - start) < seconds:
        if sent > now * rate:
            select.select([], [], [], 0.002)
            continue
        for _ in range(BURST):
            f = mutate(rng, rng.choice(bases), us)
            if poisons(f):
                continue
            try:
                wire.send_bytes(f[:1514])
            except OSError:  # the line's queue is full
                select.select([], [], [], 0.001)
            sent += 1
    return Sent(sent, time.monotonic() - start)
