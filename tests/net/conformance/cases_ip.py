# SPDX-License-Identifier: BSD-2-Clause
"""IPv4 and IPv6: headers, options, fragments, extension headers, ICMP, path MTU."""

from __future__ import annotations

import itertools
import random
import struct
import time
from collections.abc import Callable

from scapy.layers.inet import ICMP, IP, TCP, UDP, IPOption
from scapy.layers.inet6 import (
    ICMPv6DestUnreach,
    ICMPv6ParamProblem,
    ICMPv6TimeExceeded,
    IPv6,
    IPv6ExtHdrDestOpt,
    IPv6ExtHdrFragment,
    IPv6ExtHdrHopByHop,
    IPv6ExtHdrRouting,
)
from scapy.layers.l2 import Ether
from scapy.packet import Packet, Raw

from tests.net.conformance.peer import CLOSED, ECHO, Lab, case, noise, pattern, require
from tests.net.conformance.wire import (
    OUR_MAC,
    PEER4,
    PEER6,
    US4,
    US6,
    Failure,
    checksum,
    describe,
    ip,
    is_udp,
    ping,
)


def reassemble(lab: Lab, wanted: Callable[[Packet], bool], seconds: float = 3.0) -> bytes:
    """The payload of the IP packet that comes, whole or in fragments."""
    parts: dict[int, bytes] = {}
    total = -1
    while total < 0 or sum(len(part) for part in parts.values()) < total:
        frame = lab.wire.take(wanted, seconds)
        if frame is None:
            raise Failure(f"{sum(map(len, parts.values()))} of {total} bytes came back")
        at, more, body = fragment_of(frame.packet, frame.data)
        parts[at] = body
        if not more:
            total = at + len(body)
    return b"".join(parts[at] for at in sorted(parts))


def fragment_of(packet: Packet, data: bytes) -> tuple[int, bool, bytes]:
    """Offset, more to come, bytes of the transport's packet."""
    if IP in packet:
        header = packet[IP].ihl * 4
        body = data[14 + header : 14 + packet[IP].len]
        return packet[IP].frag * 8, bool(packet[IP].flags.MF), body
    end = 54 + packet[IPv6].plen
    if packet[IPv6].nh == 44:
        word = struct.unpack_from("!H", data, 56)[0]
        return word & 0xFFF8, bool(word & 1), data[62:end]
    return 0, False, data[54:end]


def is_from_us(v6: bool, proto: int, to: str) -> Callable[[Packet], bool]:
    """IP packets of a protocol, fragments too."""
    if v6:
        return lambda p: (
            IPv6 in p
            and p[IPv6].dst == to
            and (p[IPv6].nh == proto or (p[IPv6].nh == 44 and p[IPv6ExtHdrFragment].nh == proto))
        )
    return lambda p: IP in p and p[IP].dst == to and p[IP].proto == proto


def fragments(v6: bool, payload: bytes, proto: int, cuts: list[int], number: int) -> list[Packet]:
    """The packet cut at these offsets (multiples of 8)."""
    edges = [0, *cuts, len(payload)]
    found = []
    for at, end in itertools.pairwise(edges):
        more = int(end < len(payload))
        body = Raw(payload[at:end])
        if v6:
            head = IPv6ExtHdrFragment(nh=proto, offset=at // 8, m=more, id=number)
            found.append(ip(True, nh=44) / head / body)
        else:
            found.append(
                ip(False, proto=proto, id=number & 0xFFFF, frag=at // 8, flags="MF" if more else 0)
                / body
            )
    return found


def datagram(v6: bool, source: int, data: bytes) -> bytes:
    """A UDP datagram for the echo service, with its checksum."""
    packet = ip(v6) / UDP(sport=source, dport=ECHO) / Raw(data)
    return bytes(packet[UDP]) if v6 else bytes(IP(bytes(packet))[UDP])


@case("echo of all sizes", "RFC 1122 3.2.2.6; RFC 4443 4.2", both=True)
def echo_sizes(lab: Lab) -> None:
    proto = 58 if lab.v6 else 1
    number = 100
    for size in (
        0,
        1,
        2,
        7,
        8,
        55,
        56,
        57,
        120,
        121,
        1000,
        1400,
        1452,
        1453,
        1472,
        1473,
        2000,
        2961,
        8000,
        16000,
        40000,
        65000,
    ):
        number += 1
        data = noise(size, size)
        packet = ping(lab.v6, data, number)
        raw = bytes(packet)[40:] if lab.v6 else bytes(packet)[20:]
        if lab.v6:
            raw = bytes(IPv6(bytes(packet)).payload)
        if len(raw) + (40 if lab.v6 else 20) <= 1500:
            lab.wire.send(packet)
        else:
            for part in fragments(lab.v6, raw, proto, list(range(1400, len(raw), 1400)), number):
                lab.wire.send(part)
        try:
            got = reassemble(lab, is_from_us(lab.v6, proto, PEER6 if lab.v6 else PEER4))
        except Failure as err:
            raise Failure(f"{size} bytes: {err}") from err
        require(got[0] in (0, 129) and got[4:] == raw[4:], f"{size} bytes: the reply differs")
        pseudo = b""
        if lab.v6:
            src, dst = (bytes(IPv6(src=US6, dst=PEER6))[a:b] for a, b in ((8, 24), (24, 40)))
            pseudo = src + dst + struct.pack("!II", len(got), 58)
        require(checksum(pseudo + got) == 0, f"{size} bytes: the reply's checksum is wrong")


@case("fragments in any order", "RFC 791 3.2; RFC 8200 4.5", both=True, slow6=True)
def fragment_orders(lab: Lab) -> None:
    rng = random.Random(2)
    for number in range(12):
        data = noise(rng.choice((100, 1501, 3000, 9000, 30000)), number)
        raw = datagram(lab.v6, 7000 + number, data)
        step = rng.choice((56, 512, 1400))
        parts = fragments(lab.v6, raw, 17, list(range(step, len(raw), step))[:60], 5000 + number)
        if len(raw) - 60 * step > 1400:
            parts = fragments(lab.v6, raw, 17, list(range(1400, len(raw), 1400)), 5000 + number)
        rng.shuffle(parts)
        for part in parts:
            lab.wire.send(part)
        got = reassemble(lab, is_from_us(lab.v6, 17, PEER6 if lab.v6 else PEER4))
        require(got[8:] == data, f"datagram {number} came back with other bytes")


@case("fragments twice", "RFC 791 3.2; RFC 5722 4", both=True)
def fragment_twice(lab: Lab) -> None:
    data = noise(3000, 7)
    parts = fragments(lab.v6, datagram(lab.v6, 7100, data), 17, [1000, 2000], 777)
    for part in (parts[2], parts[0], parts[2], parts[0], parts[1]):
        lab.wire.send(part)
    got = reassemble(lab, is_from_us(lab.v6, 17, PEER6 if lab.v6 else PEER4))
    require(got[8:] == data, "other bytes")


@case("fragments that overlap", "RFC 5722 4; RFC 1858, 3128", both=True)
def fragment_overlap(lab: Lab) -> None:
    raw = datagram(lab.v6, 7200, b"a" * 300)
    evil = b"b" * 304
    first, second = fragments(lab.v6, raw, 17, [160], 888)
    bad = fragments(lab.v6, raw[:80] + evil, 17, [80, 240], 888)[1]
    for part in (first, bad, second):
        lab.wire.send(part)
    lab.wire.quiet(is_udp(ECHO, 7200), "a datagram with an overlap was delivered")


@case("fragments that cannot be", "RFC 791 3.2; RFC 8200 4.5", both=True)
def fragment_bad(lab: Lab) -> None:
    raw = datagram(lab.v6, 7300, b"c" * 600)
    # Beyond 65,535 bytes: the ping of death.
    long = fragments(lab.v6, raw, 17, [80], 900)[1]
    if lab.v6:
        long[IPv6ExtHdrFragment].offset = 8190
    else:
        long[IP].frag = 8190
    lab.wire.send(long)
    # Not a multiple of eight, and more to come.
    first = fragments(lab.v6, raw[:333], 17, [], 901)[0]
    if lab.v6:
        first = ip(True, nh=44) / IPv6ExtHdrFragment(nh=17, m=1, id=901) / Raw(raw[:333])
    else:
        first[IP].flags = "MF"
    lab.wire.send(first)
    # Two different ends.
    a, b = fragments(lab.v6, raw, 17, [80], 902)
    c = fragments(lab.v6, raw[:400], 17, [80], 902)[1]
    for part in (b, c, a):
        lab.wire.send(part)
    # Nothing in it.
    lab.wire.send(fragments(lab.v6, b"", 17, [], 903)[0])
    lab.wire.quiet(is_udp(ECHO, 7300), "a datagram of impossible fragments was delivered")
    fragment_twice(lab)


@case("very many fragments", "bounded memory (RFC 1858; RFC 8200 5)", both=True, slow6=True)
def fragment_flood(lab: Lab) -> None:
    raw = datagram(lab.v6, 7400, b"d" * 60000)
    frames = [
        bytearray(bytes(Ether(src=OUR_MAC, dst=lab.wire.us_mac) / part))
        for part in fragments(lab.v6, raw, 17, list(range(8, 12000, 8)), 1)[:1400]
    ]
    for number in range(100, 112):
        for frame in frames:
            if lab.v6:
                frame[58:62] = number.to_bytes(4, "big")
            else:
                frame[18:20] = number.to_bytes(2, "big")
                frame[24:26] = b"\0\0"
                frame[24:26] = checksum(bytes(frame[14:34])).to_bytes(2, "big")
            lab.wire.send_bytes(bytes(frame))
        lab.wire.fence()
    fragment_twice(lab)


@case("missing fragments: time exceeded", "RFC 1122 3.3.2; RFC 8200 4.5", both=True, slow=True)
def fragment_timeout(lab: Lab) -> None:
    raw = datagram(lab.v6, 7500, b"e" * 600)
    first, second = fragments(lab.v6, raw, 17, [80], 4242)
    lab.wire.send(first)
    other = fragments(lab.v6, raw, 17, [80], 4243)[1]
    lab.wire.send(other)  # without its first fragment: silence
    if lab.v6:
        got = lab.wire.take(lambda p: ICMPv6TimeExceeded in p, 70)
        require(got and got.packet[ICMPv6TimeExceeded].code == 1, "no time exceeded")
    else:
        got = lab.wire.take(lambda p: ICMP in p and p[ICMP].type == 11, 70)
        require(got and got.packet[ICMP].code == 1, "no time exceeded")
    lab.wire.send(second)
    lab.wire.quiet(is_udp(ECHO, 7500), "a datagram was delivered after its time")


@case("IPv4 options", "RFC 1122 3.2.1.8; RFC 6814")
def options4(lab: Lab) -> None:
    for raw in (
        b"\x01\x01\x01\x00",
        b"\x07\x07\x04\0\0\0\0\0",
        b"\x44\x08\x05\0\0\0\0\0",
        b"\x94\x04\0\0",
        bytes(40),
        b"\x99\x04\0\0",
    ):
        packet = IP(src=PEER4, dst=US4, options=[IPOption(raw)]) / UDP(sport=7600, dport=ECHO)
        lab.wire.send(packet / Raw(b"with options"))
        got = lab.wire.take(is_udp(ECHO, 7600))
        require(got, f"a datagram with the options {raw.hex()} was lost")


@case("headers that cannot be", "RFC 791 3.1; RFC 1122 3.2.1", both=True)
def bad_headers(lab: Lab) -> None:
    data = UDP(sport=7700, dport=ECHO) / Raw(b"x" * 64)
    packets: list[Packet] = []
    if lab.v6:
        packets = [ip(True, version=5) / data, ip(True, plen=4000) / data, ip(True, plen=3) / data]
    else:
        packets = [
            ip(False, version=5) / data,
            ip(False, ihl=4) / data,
            ip(False, ihl=15) / Raw(b"x"),
            ip(False, len=19) / data,
            ip(False, len=4000) / data,
            ip(False, chksum=0x1111) / data,
            ip(False, flags="MF", frag=1, len=20),
        ]
    for packet in packets:
        lab.wire.send(packet)
    cut = bytes(Ether(src=OUR_MAC, dst=lab.wire.us_mac) / ip(lab.v6) / data)
    for size in range(14, 60):
        lab.wire.send_bytes(cut[:size])
    lab.wire.quiet(is_udp(ECHO, 7700), "a packet that cannot be was delivered")
    lab.wire.send(ip(lab.v6) / data)
    require(lab.wire.take(is_udp(ECHO, 7700)), "a right packet is lost")


@case("TTL 0 and 1 for us", "RFC 1122 3.2.1.7", both=True)
def ttl(lab: Lab) -> None:
    for value in (1, 0):
        field = {"hlim": value} if lab.v6 else {"ttl": value}
        lab.wire.send(ip(lab.v6, **field) / UDP(sport=7800, dport=ECHO) / Raw(b"ttl"))
        require(lab.wire.take(is_udp(ECHO, 7800)), f"TTL {value}: a packet for us is lost")


@case("packets for somebody else", "RFC 1122 3.2.1.3 (a host does not forward)", both=True)
def not_ours(lab: Lab) -> None:
    dst = "fd66::77" if lab.v6 else "10.66.0.77"
    for port in (ECHO, CLOSED):
        lab.wire.send(ip(lab.v6, dst=dst) / UDP(sport=7900, dport=port) / Raw(b"x"))
    lab.wire.send(ip(lab.v6, dst=dst) / TCP(sport=7900, dport=ECHO, flags="S"))
    lab.wire.quiet(
        lambda p: (
            (UDP in p and p[UDP].sport != 9)
            or TCP in p
            or (ICMP in p and p[ICMP].type != 0)
            or ICMPv6DestUnreach in p
        ),
        "a packet for somebody else was answered",
    )


@case("our own address from the wire", "RFC 1122 3.2.1.3; LAND, echo loops", both=True)
def from_ourselves(lab: Lab) -> None:
    us = US6 if lab.v6 else US4
    lab.wire.send(ip(lab.v6, src=us) / UDP(sport=ECHO, dport=ECHO) / Raw(b"for ever"))
    lab.wire.send(ip(lab.v6, src=us) / UDP(sport=7950, dport=9) / Raw(b"999999 accept"))
    lab.wire.fence()
    time.sleep(0.1)
    lab.wire.fence()
    require(lab.do("udp 0") == 0, "the echo service took a datagram from our own address")


@case("UDP: lengths and checksums", "RFC 768; RFC 8200 8.1", both=True)
def udp_rules(lab: Lab) -> None:
    for fields in ({"len": 7}, {"len": 500}, {"chksum": 0x1234}):
        lab.wire.send(ip(lab.v6) / UDP(sport=8000, dport=ECHO, **fields) / Raw(b"bad"))
    if lab.v6:  # a checksum is required
        lab.wire.send(ip(True) / UDP(sport=8000, dport=ECHO, chksum=0) / Raw(b"none"))
    lab.wire.quiet(is_udp(ECHO, 8000), "a bad datagram was delivered")
    if not lab.v6:
        lab.wire.send(ip(False) / UDP(sport=8001, dport=ECHO, chksum=0) / Raw(b"none"))
        require(lab.wire.take(is_udp(ECHO, 8001)), "a datagram without a checksum was lost")
    lab.wire.send(ip(lab.v6) / UDP(sport=8002, dport=ECHO, len=11) / Raw(b"abcdefgh"))
    lab.wire.send(ip(lab.v6) / UDP(sport=8003, dport=ECHO))
    got = lab.wire.take(is_udp(ECHO, 8003))
    require(got and got.packet[UDP].len == 8, "an empty datagram")


@case("extension headers", "RFC 8200 4", v6=True)
def extensions(lab: Lab) -> None:
    data = UDP(sport=8100, dport=ECHO) / Raw(b"behind headers")
    for headers in (
        IPv6ExtHdrDestOpt(),
        IPv6ExtHdrHopByHop(),
        IPv6ExtHdrHopByHop() / IPv6ExtHdrDestOpt() / IPv6ExtHdrDestOpt(),
        IPv6ExtHdrRouting(segleft=0, addresses=[]),
        IPv6ExtHdrFragment(nh=17, id=5),  # atomic (RFC 6946)
        IPv6ExtHdrDestOpt() / IPv6ExtHdrFragment(id=6) / IPv6ExtHdrDestOpt(),
    ):
        lab.wire.send(ip(True) / headers / data)
        got = lab.wire.take(is_udp(ECHO, 8100))
        require(got, f"lost behind {describe(headers)}")
    lab.wire.send(ip(True) / IPv6ExtHdrRouting(segleft=1, addresses=["fd66::5"]) / data)
    got = lab.wire.take(lambda p: ICMPv6ParamProblem in p)
    require(got and got.packet[ICMPv6ParamProblem].ptr == 42, "routing header 0 (RFC 5095)")
    lab.wire.send(ip(True, nh=0) / Raw(b"\x11\x00\xc2\x04" + struct.pack("!I", 100000)) / data)
    lab.wire.send(ip(True, nh=60) / Raw(b"\x11\xff" + bytes(6)) / data)
    lab.wire.send(ip(True, nh=59) / data)
    lab.wire.quiet(is_udp(ECHO, 8100), "a jumbogram or a broken header was taken")


@case("unknown options and headers", "RFC 8200 4.2; RFC 4443 3.4", v6=True)
def unknown(lab: Lab) -> None:
    data = Raw(datagram(True, 8200, b"x"))
    for kind, code in ((0x1E, None), (0x5E, 0), (0x9E, 2), (0xDE, 2)):
        lab.wire.send(ip(True, nh=60) / Raw(bytes((17, 0, kind, 4, 0, 0, 0, 0))) / data)
        if code is None:
            require(lab.wire.take(is_udp(ECHO, 8200)), "an option to skip was not")
        elif code == 0:
            lab.wire.quiet(lambda p: ICMPv6ParamProblem in p or is_udp(ECHO, 8200)(p), "option")
        else:
            got = lab.wire.take(lambda p: ICMPv6ParamProblem in p)
            require(
                got
                and got.packet[ICMPv6ParamProblem].code == 2
                and got.packet[ICMPv6ParamProblem].ptr == 42,
                f"option {kind:#x}",
            )
    lab.wire.send(ip(True, nh=200) / Raw(b"what is this"))
    got = lab.wire.take(lambda p: ICMPv6ParamProblem in p)
    require(
        got and (got.packet[ICMPv6ParamProblem].code, got.packet[ICMPv6ParamProblem].ptr) == (1, 6),
        "an unknown next header",
    )
    lab.wire.send(ip(True, nh=60) / Raw(bytes((200, 0, 1, 4, 0, 0, 0, 0))) / Raw(b"what"))
    got = lab.wire.take(lambda p: ICMPv6ParamProblem in p)
    require(
        got
        and (got.packet[ICMPv6ParamProblem].code, got.packet[ICMPv6ParamProblem].ptr) == (1, 40),
        "an unknown next header behind another one",
    )


@case("long fragments and packets we send", "RFC 791; RFC 8200 5", both=True)
def we_fragment(lab: Lab) -> None:
    to = PEER6 if lab.v6 else PEER4
    for size in (1472, 1473, 5000, 30000):
        lab.do(f"sendto {to} 8300 {size}")
        got = reassemble(lab, is_from_us(lab.v6, 17, to))
        require(got[8:] == pattern(size), f"{size} bytes: other bytes came")
        require(len(got) == size + 8, "length")
