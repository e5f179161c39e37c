# SPDX-License-Identifier: BSD-2-Clause
"""ICMP errors in and out, path MTU discovery, ARP, neighbour discovery, groups."""

from __future__ import annotations

import struct
import time

from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import (
    ICMPv6DestUnreach,
    ICMPv6EchoRequest,
    ICMPv6PacketTooBig,
    IPv6,
)
from scapy.layers.l2 import Ether
from scapy.packet import Packet, Raw

from tests.net.conformance.peer import CLOSED, FULL, Lab, Peer, case, require
from tests.net.conformance.wire import (
    OUR_MAC,
    PEER4,
    PEER6,
    US4,
    US6,
    WAIT,
    ip,
    is_pong,
    ping,
)

BROADCAST = "ff:ff:ff:ff:ff:ff"


def is_unreachable(p: Packet) -> bool:
    """Any error of ours."""
    return (ICMP in p and p[ICMP].type in (3, 11, 12)) or ICMPv6DestUnreach in p


@case("UDP to a closed port", "RFC 1122 4.1.3.1; RFC 4443 3.1", both=True)
def port_unreachable(lab: Lab) -> None:
    sent = ip(lab.v6) / UDP(sport=9000, dport=CLOSED) / Raw(b"hello " * 100)
    lab.wire.send(sent)
    got = lab.wire.take(is_unreachable)
    require(got is not None, "no error")
    assert got is not None
    if lab.v6:
        message = got.packet[ICMPv6DestUnreach]
        require(message.code == 4, f"code {message.code}")
        require(got.data[14 + 48 :] == bytes(sent)[: len(got.data) - 62], "the quotation")
        require(len(got.data) <= 14 + 1280, "longer than 1280 bytes (RFC 4443 2.4 c)")
    else:
        message = got.packet[ICMP]
        require((message.type, message.code) == (3, 3), f"{message.type}, {message.code}")
        quote = bytes(message.payload)
        require(quote[20:28] == bytes(sent[UDP])[:8], "the quotation")
        require(len(got.data) <= 14 + 576, "longer than 576 bytes (RFC 1812 4.3.2.3)")


@case("errors are limited", "RFC 1812 4.3.2.8; RFC 4443 2.4 f", both=True, slow6=True)
def error_limit(lab: Lab) -> None:
    raw = bytes(
        Ether(src=OUR_MAC, dst=lab.wire.us_mac)
        / ip(lab.v6)
        / UDP(sport=9100, dport=CLOSED)
        / Raw(b"x")
    )
    start = time.monotonic()
    for _ in range(4000):
        lab.wire.send_bytes(raw)
    lab.wire.fence()
    seconds = time.monotonic() - start
    count = 0
    while lab.wire.take(is_unreachable, 0):
        count += 1
    require(count <= 1100 + 1100 * seconds, f"{count} errors in {seconds:.1f} s")
    time.sleep(1)  # the budget comes back
    lab.wire.send(ip(lab.v6) / UDP(sport=9101, dport=CLOSED) / Raw(b"x"))
    require(lab.wire.take(is_unreachable), "no errors at all any more")


@case("no errors about errors and groups", "RFC 1122 3.2.2; RFC 4443 2.4 e", both=True)
def no_errors(lab: Lab) -> None:
    udp = UDP(sport=9200, dport=CLOSED) / Raw(b"x")
    packets: list[Packet] = []
    mac = lab.wire.us_mac
    if lab.v6:
        packets = [
            Ether(src=OUR_MAC, dst="33:33:00:00:00:01") / IPv6(src=PEER6, dst="ff02::1") / udp,
            Ether(src=OUR_MAC, dst=BROADCAST) / ip(True) / udp,
            Ether(src=OUR_MAC, dst=mac) / IPv6(src="::", dst=US6) / udp,
            Ether(src=OUR_MAC, dst=mac) / IPv6(src="ff02::9", dst=US6) / udp,
            Ether(src=OUR_MAC, dst=mac) / ip(True, nh=58) / Raw(b"\x05\0\0\0" + bytes(60)),
        ]
    else:
        packets = [
            Ether(src=OUR_MAC, dst=BROADCAST) / IP(src=PEER4, dst="10.66.0.255") / udp,
            Ether(src=OUR_MAC, dst=mac) / IP(src=PEER4, dst="10.66.0.255") / udp,
            Ether(src=OUR_MAC, dst=BROADCAST) / IP(src=PEER4, dst="255.255.255.255") / udp,
            Ether(src=OUR_MAC, dst=BROADCAST) / ip(False) / udp,
            Ether(src=OUR_MAC, dst="01:00:5e:00:00:01") / IP(src=PEER4, dst="224.0.0.1") / udp,
            Ether(src=OUR_MAC, dst=mac) / IP(src="0.0.0.0", dst=US4) / udp,
            Ether(src=OUR_MAC, dst=mac) / IP(src="127.0.0.1", dst=US4) / udp,
            Ether(src=OUR_MAC, dst=mac) / IP(src="224.0.0.9", dst=US4) / udp,
            Ether(src=OUR_MAC, dst=mac) / ip(False, proto=17, frag=10) / Raw(b"x" * 40),
            Ether(src=OUR_MAC, dst=mac)
            / ip(False)
            / ICMP(type=3, code=3)
            / IP(src=US4, dst=PEER4)
            / UDP(sport=CLOSED, dport=1)
            / Raw(b"x"),
            Ether(src=OUR_MAC, dst=mac) / ip(False) / ICMP(type=77),
        ]
    for packet in packets:
        lab.wire.send(packet)
        lab.wire.quiet(is_unreachable, f"an error about {packet.summary()}")


@case("an unknown protocol", "RFC 1122 3.2.2.1")
def protocol(lab: Lab) -> None:
    lab.wire.send(ip(False, proto=200) / Raw(b"what is this"))
    got = lab.wire.take(is_unreachable)
    require(got and (got.packet[ICMP].type, got.packet[ICMP].code) == (3, 2), "no error")


@case("ping to groups and broadcast", "RFC 1122 3.2.2.6 (may be ignored)", linux="")
def group_ping(lab: Lab) -> None:
    for dst, mac in (
        ("10.66.0.255", BROADCAST),
        ("255.255.255.255", BROADCAST),
        ("10.66.0.255", lab.wire.us_mac),
    ):
        lab.wire.send(Ether(src=OUR_MAC, dst=mac) / IP(src=PEER4, dst=dst) / ICMP(id=5, seq=5000))
    lab.wire.quiet(is_pong(False, 5000), "a ping to everybody was answered (smurf)")


@case("pings that are damaged", "RFC 792; RFC 4443 2.3", both=True)
def bad_ping(lab: Lab) -> None:
    packet = ping(lab.v6, b"x" * 50, 5100)
    if lab.v6:
        packet[ICMPv6EchoRequest].cksum = 0x1234
    else:
        packet[ICMP].chksum = 0x1234
    lab.wire.send(packet)
    lab.wire.quiet(is_pong(lab.v6, 5100), "a damaged ping was answered")
    for size in range(8):
        lab.wire.send(ip(lab.v6, **({"nh": 58} if lab.v6 else {"proto": 1})) / Raw(bytes(size)))
    lab.wire.fence()


# --- path MTU ---


def quote_of(p: Peer, seq: int, size: int = 28) -> bytes:
    """What a router would quote of a segment of theirs."""
    them, us = (PEER6, US6) if p.lab.v6 else (PEER4, US4)
    head = TCP(sport=p.port, dport=p.own_port, seq=(p.irs + 1 + seq) & 0xFFFFFFFF, flags="A")
    if p.lab.v6:
        return bytes(IPv6(src=us, dst=them, plen=1400) / head)
    return bytes(IP(src=us, dst=them, len=1500, flags="DF") / head)[: size + 20]


def too_big(p: Peer, seq: int, mtu: int) -> Packet:
    """`Packet too big` or `fragmentation needed`, from a router."""
    if p.lab.v6:
        return ip(True, src="fd66::5") / ICMPv6PacketTooBig(mtu=mtu) / Raw(quote_of(p, seq))
    return ip(False, src="10.66.0.5") / ICMP(type=3, code=4, nexthopmtu=mtu) / Raw(quote_of(p, seq))


def far_peer(lab: Lab, number: int) -> Peer:
    """A peer with an address of its own: what is learnt of its path stays there."""
    p = lab.peer(source=f"fd66::1:{number:x}" if lab.v6 else f"10.66.0.{number}")
    p.open(FULL)
    return p


def segments_of(p: Peer, n: int) -> set[int]:
    """Sends n bytes through the puppet; the sizes of the segments. All are acknowledged."""
    p.say(f"send {n}")
    return sizes_until(p, n)


def sizes_until(p: Peer, n: int) -> set[int]:
    sizes, end, edge = set(), time.monotonic() + 2 * WAIT, 0
    while edge < n:
        seg = p.get(f"data, {edge} of {n}", end - time.monotonic())
        sizes.add(seg.frame.gso_size or len(seg.payload))
        if seg.seq <= edge:
            edge = max(edge, seg.seq + len(seg.payload))
        p.put("A", 0, edge)
    return sizes


def retarget(packet: Packet, p: Peer) -> Packet:
    """The quotation with the peer's own address."""
    raw = bytearray(bytes(packet[Raw]))
    if p.lab.v6:
        raw[24:40] = bytes(IPv6(dst=p.source))[24:40]
    else:
        raw[16:20] = bytes(IP(dst=p.source))[16:20]
    packet[Raw].load = bytes(raw)
    return packet


@case("path MTU: smaller segments", "RFC 1191 6.3; RFC 8201 4; RFC 5927", both=True)
def pmtu(lab: Lab) -> None:
    p = far_peer(lab, 101)
    p.say("send 8000")
    p.get("data")
    lab.wire.fence()
    while p.maybe(0):
        pass
    lab.wire.send(retarget(too_big(p, 0, 1300), p))
    p.sync()  # a tail loss probe may have been under way
    sizes = sizes_until(p, 8000)
    head = 72 if lab.v6 else 52
    require(max(sizes) <= 1300 - head, f"segments of {sizes} bytes on a path of 1300")
    p.say("abort")


@case("path MTU: forged messages", "RFC 5927 7.2", both=True)
def pmtu_forged(lab: Lab) -> None:
    p = far_peer(lab, 102)
    p.say("send 8000")
    p.get("data")
    for seq in (100000, -100000, 1 << 31):
        lab.wire.send(retarget(too_big(p, seq, 1300), p))
    bad = retarget(too_big(p, 0, 1300), p)
    raw = bytearray(bytes(bad[Raw]))
    at = 40 if lab.v6 else 20
    raw[at : at + 2] = struct.pack("!H", 4)  # a port nobody has
    bad[Raw].load = bytes(raw)
    lab.wire.send(bad)
    sizes = sizes_until(p, 8000)
    require(max(sizes) > 1300, f"a forged message was believed: {sizes}")
    # The same about UDP, from a port that nobody uses: it must not touch TCP either.
    them, us = (p.source, US6 if lab.v6 else US4)
    head = UDP(sport=CLOSED, dport=53) / Raw(b"x" * 20)
    if lab.v6:
        lab.wire.send(
            ip(True, src="fd66::5") / ICMPv6PacketTooBig(mtu=1300) / IPv6(src=us, dst=them) / head
        )
    else:
        lab.wire.send(
            ip(False, src="10.66.0.5")
            / ICMP(type=3, code=4, nexthopmtu=600)
            / IP(src=us, dst=them)
            / head
        )
        lab.wire.send(
            ip(False, src="10.66.0.5")
            / ICMP(type=3, code=4, nexthopmtu=600)
            / IP(src=us, dst=them)
            / ICMP(id=77)
        )
    q = lab.peer(source=p.source)
    q.open(FULL)
    sizes = segments_of(q, 8000)
    require(max(sizes) > 1300, f"a message about a socket nobody has was believed: {sizes}")
    p.say("abort")
    q.say("abort")


@case("path MTU: the least", "RFC 1191 3; RFC 8201 4 (1280); Linux' 552", both=True)
def pmtu_least(lab: Lab) -> None:
    p = far_peer(lab, 103)
    p.say("send 4000")
    p.get("data")
    for mtu in (0, 60, 68, 100):
        lab.wire.send(retarget(too_big(p, 0, mtu), p))
    sizes = sizes_until(p, 4000)
    least = 1280 - 72 if lab.v6 else 500
    require(max(sizes) >= least, f"segments of {sizes} bytes were forced on it")
    p.say("abort")


@case("path MTU: larger than ours, or cut short", "RFC 1191 6.3; RFC 8201 4", both=True)
def pmtu_large(lab: Lab) -> None:
    p = far_peer(lab, 104)
    p.say("send 4000")
    p.get("data")
    for mtu in (1500, 9000, 65535):
        lab.wire.send(retarget(too_big(p, 0, mtu), p))
    whole = bytes(retarget(too_big(p, 0, 1300), p)[Raw])
    for size in (0, 1, 19, 20, 27, 39, 40, 47):
        if not lab.v6 and size >= 28:
            continue  # whole
        lab.wire.send(
            ip(lab.v6, src="fd66::5" if lab.v6 else "10.66.0.5")
            / (ICMPv6PacketTooBig(mtu=1300) if lab.v6 else ICMP(type=3, code=4, nexthopmtu=1300))
            / Raw(whole[:size])
        )
    require(max(sizes_until(p, 4000)) > 1400, "a message that cannot be was believed")
    p.say("abort")


@case("hard errors about an open connection", "RFC 5927 6.1; RFC 9293 3.9.2.2", both=True)
def hard(lab: Lab) -> None:
    p = far_peer(lab, 105)
    p.say("send 100")
    p.expect("data", "A", 0, 0)
    base = "fd66::5" if lab.v6 else "10.66.0.5"
    for code in (1, 3, 4) if lab.v6 else (1, 2, 3):
        kind = ICMPv6DestUnreach(code=code) if lab.v6 else ICMP(type=3, code=code)
        message = ip(lab.v6, src=base) / kind / Raw(quote_of(p, 0))
        lab.wire.send(retarget(message, p))
    lab.wire.fence()
    p.is_open()
    p.put("A", 0, 100)
    p.say("abort")


@case("source quench and redirects", "RFC 6633; RFC 1122 3.2.2.2")
def quench(lab: Lab) -> None:
    p = far_peer(lab, 106)
    lab.wire.send(retarget(ip(False) / ICMP(type=4) / Raw(quote_of(p, 0)), p))
    lab.wire.send(
        retarget(ip(False) / ICMP(type=5, code=1, gw="10.66.0.99") / Raw(quote_of(p, 0)), p)
    )
    lab.wire.fence()
    p.is_open()
    require(max(segments_of(p, 4000)) > 1400, "segments")
    p.say("abort")
