# SPDX-License-Identifier: BSD-2-Clause
"""Opening: SYNs and what answers them, options, resets of strangers, floods."""

from __future__ import annotations

import random
import time

from scapy.layers.inet import IP, TCP
from scapy.layers.l2 import Ether
from scapy.packet import Raw

from tests.net.conformance.peer import (
    CLOSED,
    ECHO,
    FULL,
    ISS,
    PUPPET,
    Lab,
    Peer,
    case,
    pattern,
    require,
)
from tests.net.conformance.wire import FLOODERS, OUR_MAC, PEER4, US4, WAIT, Failure, is_tcp


@case("SYN to a closed port", "RFC 9293 3.10.7.1", both=True)
def closed_syn(lab: Lab) -> None:
    p = lab.peer(CLOSED)
    p.irs = -1 & 0xFFFFFFFF  # the answer's number is 0
    p.put("S", -1)
    p.expect("a reset", "RA", 0, 0)
    p.put("S", -1, data=b"12345")
    p.expect("a reset that acknowledges the data", "RA", 0, 5)


@case("other segments to a closed port", "RFC 9293 3.10.7.1", both=True)
def closed_others(lab: Lab) -> None:
    p = lab.peer(CLOSED)
    p.put("A", 10, 1234)
    p.expect("a reset with the acknowledged number", "R", 1234)
    p.put("", 10, data=b"xy")  # no ACK: the reset acknowledges
    p.irs = -1 & 0xFFFFFFFF
    p.expect("a reset that acknowledges", "RA", 0, 12)
    p.put("R", 0)
    p.put("RA", 0, 0)
    p.quiet("a reset was answered")


@case("what a listener answers", "RFC 9293 3.10.7.2")
def listener(lab: Lab) -> None:
    p = lab.peer()
    p.put("R", 0)
    p.quiet("a reset was answered")
    p.put("A", 5, 777)
    p.expect("a reset for an ACK", "R", 777)
    p.put("SA", 5, 778)
    p.expect("a reset for a SYN-ACK", "R", 778)
    p.put("", 5, data=b"data")
    p.put("SF", 5)
    p.put("F", 5)
    p.quiet("something else was answered")


@case("SYN with data", "RFC 9293 3.10.7.2; data is not taken without TFO")
def syn_data(lab: Lab) -> None:
    p = lab.peer()
    p.put("S", -1, data=b"early")
    seg = p.get("SYN-ACK")
    require(seg.ack in (0, 5), f"it acknowledges {seg.ack}")
    p.irs = seg.frame.packet[TCP].seq
    p.put("A", 0, 0, b"early")
    slot = lab.accept()
    require(slot is not None and lab.read_soon(slot, 5) == b"early", "the data is wrong")


@case("SYN repeated", "RFC 9293 3.10.7.4", both=True)
def syn_again(lab: Lab) -> None:
    p = lab.peer()
    first = p.syn()
    p.put("S", -1, options=[("MSS", 1460)])
    p.expect("the same SYN-ACK", "SA", first.seq, 0)


@case("another SYN while half open", "RFC 9293 3.10.7.4 and RFC 5961 4.2")
def syn_other(lab: Lab) -> None:
    p = lab.peer()
    p.syn()
    p.put("S", 5000, options=[("MSS", 1460)])
    p.expect("an ACK of the first one", "A", 0, 0)
    # The host that started anew answers with a reset, then its SYN is taken.
    p.put("R", 0)
    q = lab.peer(own_port=p.own_port, iss=ISS + 100000)
    q.open()


@case("a wrong ACK while half open", "RFC 9293 3.10.7.4", both=True)
def half_bad_ack(lab: Lab) -> None:
    p = lab.peer()
    p.syn()
    p.put("A", 0, 1)
    p.expect("a reset with its number", "R", 1)
    p.put("A", 0, -1)
    p.expect("a reset with its number", "R", -1)
    require(lab.accept() is None, "a connection came about")
    p.put("A", 0, 0)
    require(lab.accept() is not None, "the right ACK does not work any more")


@case("a reset while half open", "RFC 9293 3.10.7.4, RFC 5961 3.2")
def half_reset(lab: Lab) -> None:
    p = lab.peer()
    p.syn()
    p.put("R", 100000)  # out of the window
    p.put("A", 0, 0)
    require(lab.accept() is not None, "a reset out of the window was believed")
    p = lab.peer()
    p.syn()
    p.put("R", 0)
    p.put("A", 0, 0)
    p.expect("a reset: the handshake was over", "R", 0)


@case("SYN-ACK is repeated", "RFC 6298 2.1, 5.5")
def syn_ack_again(lab: Lab) -> None:
    p = lab.peer()
    p.syn()
    start = time.monotonic()
    p.expect("the second SYN-ACK", "SA", -1, 0)
    require(0.7 < time.monotonic() - start < 2.5, f"after {time.monotonic() - start:.2f} s")
    p.put("R", 0)


OPTION_ZOO: tuple[tuple[str, list[tuple[str, object]]], ...] = (
    ("none", []),
    ("MSS 0", [("MSS", 0)]),
    ("MSS 1", [("MSS", 1)]),
    ("MSS 65535", [("MSS", 65535)]),
    ("scale 15", [("MSS", 1460), ("WScale", 15)]),
    ("scale 255", [("WScale", 255)]),
    ("unknown", [(200, b"abcdef")]),  # type: ignore[list-item]
    ("many", [("NOP", None)] * 40),
    ("SACK blocks in a SYN", [("SAck", (1, 2, 3, 4))]),
)


@case("options of all kinds", "RFC 9293 3.2, 3.7.1; RFC 7323 2.3", both=True)
def option_zoo(lab: Lab) -> None:
    for name, options in OPTION_ZOO:
        p = lab.peer(ECHO)
        try:
            p.open(options)
            p.put("A", 0, 0, b"x" * 100)
            got = b""
            while len(got) < 100:
                got += p.get("the echo").payload
        except Failure as err:
            raise Failure(f"{name}: {err}") from err
        require(got == b"x" * 100, f"{name}: the echo is wrong")
        p.put("R", 100)


@case("malformed options", "RFC 9293 3.1 (options must not harm)")
def bad_options(lab: Lab) -> None:
    for raw in (
        b"\x02\x00\x05\xb4",  # length 0
        b"\x02\x01\x05\xb4",  # length 1
        b"\x02\xff\x05\xb4",  # longer than the header
        b"\x01\x01\x01\x02",  # cut short
        b"\x08\x0a\x00\x00",
        b"\x03\x03\x07\x05",  # a scale, then SACK without a length
        b"\x02\x03\x05\x00",  # MSS of three bytes
        b"\x00\x02\x05\xb4",  # behind the end
    ):
        p = lab.peer(ECHO)
        packet = (
            IP(src=PEER4, dst=US4)
            / TCP(sport=p.own_port, dport=ECHO, flags="S", seq=p.iss, dataofs=6)
            / Raw(raw)
        )
        lab.wire.send(packet)
        seg = p.get(f"SYN-ACK for options {raw.hex()}")
        p.irs = seg.frame.packet[TCP].seq
        p.put("A", 0, 0, b"abc")
        p.expect(f"the echo with options {raw.hex()}", "A", 0, 3)
        p.put("R", 3)


@case("a header shorter or longer than allowed", "RFC 9293 3.1")
def bad_offset(lab: Lab) -> None:
    p = lab.peer(ECHO)
    for words in (0, 1, 4, 15):
        p.put("S", -1, dataofs=words, options=[])
        p.quiet(f"a header of {words} words was answered")


@case("options are answered in kind", "RFC 7323 1.3, 3.2; RFC 2018 2", both=True)
def in_kind(lab: Lab) -> None:
    p = lab.peer()
    seg = p.syn(FULL)
    stamp = seg.options.get("Timestamp")
    require(isinstance(stamp, tuple) and stamp[1] == 1000, f"timestamp {stamp}")
    require("SAckOK" in seg.options and "WScale" in seg.options, f"options {seg.options}")
    p.put("R", 0)
    p = lab.peer()
    seg = p.syn([])
    extra = set(seg.options) - {"MSS", "NOP"}
    require(not extra, f"options nobody asked for: {extra}")
    want = 1440 if lab.v6 else 1460
    require(seg.options.get("MSS") == want, f"MSS {seg.options.get('MSS')}")
    p.put("R", 0)


@case("our connect: SYN, SYN-ACK, ACK", "RFC 9293 3.10.7.3", both=True)
def connect(lab: Lab) -> None:
    p = called(lab)
    p.put("SA", -1, 0, options=[("MSS", 1000)])
    p.expect("the ACK", "A", 0, 0)
    p.is_open()
    p.say("send 3000")
    sizes = {len(p.get("data").payload) for _ in range(1)}
    require(max(sizes) <= 3000, "sizes")
    p.say("abort")


def called(lab: Lab) -> Peer:
    """The stack calls us: the SYN was received."""
    p = lab.peer()
    p.port = random.Random(p.own_port).randrange(20000, 30000)
    addr = "fd66::1" if lab.v6 else PEER4
    p.slot = lab.do(f"connect {addr} {p.own_port} {p.port}")
    frame = lab.wire.take(is_tcp(p.own_port, lab.v6))
    require(frame is not None and str(frame.packet[TCP].flags) == "S", "no SYN came")
    assert frame is not None
    p.irs = frame.packet[TCP].seq
    return p


@case("our connect: wrong answers", "RFC 9293 3.10.7.3")
def connect_wrong(lab: Lab) -> None:
    p = called(lab)
    p.put("SA", -1, 5)
    p.expect("a reset for a SYN-ACK of something else", "R", 5)
    p.put("A", 0, 7)
    p.expect("a reset for an ACK of something else", "R", 7)
    p.put("RA", 0, 9)  # not for our SYN
    p.put("R", 0)
    p.put("", 0, data=b"zz")
    lab.wire.quiet(
        lambda x: is_tcp(p.own_port, lab.v6)(x) and str(x[TCP].flags) != "S",
        "something was answered",
    )
    require(lab.state(p.slot) == 2, "the attempt was given up")
    p.put("RA", 0, 0)
    lab.wire.fence()
    require(lab.do(f"error {p.slot}") == 111, "the right reset does not refuse")
    p.say("close")


@case("both call at once", "RFC 9293 3.5, figure 7", both=True)
def simultaneous(lab: Lab) -> None:
    p = called(lab)
    p.put("S", -1, options=[("MSS", 1460)])
    p.expect("SYN-ACK", "SA", -1, 0)
    p.put("A", 0, 3)
    p.expect("a reset for a wrong ACK", "R", 3)
    p.put("SA", -1, 0, options=[("MSS", 1460)])
    lab.wire.fence()
    p.is_open()
    p.sync()
    p.say("send 10")
    p.expect("data", "A", 0, 0, pattern(10))
    p.say("abort")


@case("a SYN to broadcast or multicast", "RFC 9293 3.9.2.3 (MUST-57, 63)")
def group_syn(lab: Lab) -> None:
    p = lab.peer()
    for dst, mac in (
        ("10.66.0.255", lab.wire.us_mac),
        ("10.66.0.255", "ff:ff:ff:ff:ff:ff"),
        ("255.255.255.255", "ff:ff:ff:ff:ff:ff"),
        ("224.0.0.1", "01:00:5e:00:00:01"),
        (US4, "ff:ff:ff:ff:ff:ff"),
    ):
        syn = TCP(sport=p.own_port, dport=PUPPET, flags="S", seq=p.iss)
        lab.wire.send(Ether(src=OUR_MAC, dst=mac) / IP(src=PEER4, dst=dst) / syn)
        syn.dport = CLOSED
        lab.wire.send(Ether(src=OUR_MAC, dst=mac) / IP(src=PEER4, dst=dst) / syn)
        p.quiet(f"a SYN to {dst} at {mac} was answered")


@case("a SYN from an address that can be nobody's", "RFC 9293 3.9.2.3, RFC 1122 3.2.1.3")
def bad_source(lab: Lab) -> None:
    p = lab.peer()
    for src in ("0.0.0.0", "127.0.0.1", "224.0.0.5", "255.255.255.255", US4):
        syn = TCP(sport=p.own_port, dport=PUPPET, flags="S", seq=p.iss)
        lab.wire.send(IP(src=src, dst=US4) / syn)
        p.quiet(f"a SYN from {src} was answered")
    # Our own address, from the wire (LAND): nothing may come of it.
    lab.wire.send(IP(src=US4, dst=US4) / TCP(sport=PUPPET, dport=PUPPET, flags="S", seq=1))
    lab.wire.fence()
    require(lab.accept() is None, "somebody with our own address connected")


@case("a SYN flood: the service stays", "RFC 4987 3.6 (cookies)", slow=False)
def flood(lab: Lab) -> None:
    rng = random.Random(5)
    base = bytes(
        Ether(src=OUR_MAC, dst=lab.wire.us_mac)
        / IP(src="10.66.0.77", dst=US4)
        / TCP(sport=1, dport=ECHO, flags="S", seq=1, window=1000, options=[("MSS", 1460)])
    )
    for number in range(8000):
        frame = bytearray(base)
        frame[26:30] = bytes(
            (FLOODERS, 16 + number % 16, rng.randrange(256), rng.randrange(1, 255))
        )
        frame[34:36] = rng.randrange(1024, 65536).to_bytes(2, "big")
        lab.wire.send_bytes(resum(frame))
        if number % 100 == 0:
            while lab.wire.pump(0):
                pass
    p = lab.peer(ECHO)
    end = time.monotonic() + WAIT
    for attempt in range(3):  # a SYN may have been lost in the flood
        p.put("S", -1, options=FULL)
        seg = p.maybe(1.0 + attempt)
        if seg is not None or time.monotonic() > end:
            break
    require(seg is not None and "A" in seg.flags, "no SYN-ACK during a flood")
    assert seg is not None
    p.irs = seg.frame.packet[TCP].seq
    p.stamp = 1001
    p.put("A", 0, 0)
    p.put("PA", 0, 0, b"hello")
    got = b""
    while len(got) < 5:
        got += p.get("the echo during a flood").payload
    require(got == b"hello", f"the echo is {got!r}")
    p.put("R", 5)


def resum(frame: bytearray) -> bytes:
    """The frame (IPv4, no options) with right checksums."""
    from tests.net.conformance.wire import checksum

    frame[24:26] = b"\0\0"
    frame[24:26] = checksum(bytes(frame[14:34])).to_bytes(2, "big")
    body = bytes(frame[34:])
    at = {6: 16, 17: 6}.get(frame[23])
    if at is not None and len(body) >= at + 2:
        body = body[:at] + b"\0\0" + body[at + 2 :]
        pseudo = bytes(frame[26:34]) + bytes((0, frame[23])) + len(body).to_bytes(2, "big")
        body = body[:at] + checksum(pseudo + body).to_bytes(2, "big") + body[at + 2 :]
    return bytes(frame[:34]) + body
