# SPDX-License-Identifier: BSD-2-Clause
"""Strangers on an open connection: resets, SYNs, acknowledgements, old duplicates."""

from __future__ import annotations

from scapy.layers.inet import IP, TCP
from scapy.packet import Raw

from tests.net.conformance.peer import FULL, Lab, case, pattern, require
from tests.net.conformance.wire import PEER4, US4, Failure

RESET = 104


@case("a reset with the exact number", "RFC 5961 3.2", both=True)
def exact(lab: Lab) -> None:
    p = lab.peer()
    p.open()
    p.put("R", 0)
    p.quiet("a reset was answered")
    require(lab.read(p.slot) == RESET, "the program sees no reset")
    require(lab.read(p.slot) == b"", "no end behind the error")
    p.say("close")


@case("a reset in the window", "RFC 5961 3.2", both=True)
def in_window(lab: Lab) -> None:
    p = lab.peer()
    p.open()
    p.put("R", 100)
    p.expect("a challenge ACK", "A", 0, 0)
    p.is_open()
    lab.pause()
    p.put("RA", 60000, 0)
    p.expect("a challenge ACK", "A", 0, 0)
    p.is_open()
    p.say("abort")


@case("a reset out of the window", "RFC 5961 3.2", both=True)
def out_of_window(lab: Lab) -> None:
    p = lab.peer()
    p.open()
    for seq in (100000, -1, -100000, 1 << 31):
        p.put("R", seq)
    p.quiet("a reset out of the window was answered")
    p.is_open()
    p.put("R", 0)
    p.say("close")


@case("challenges are limited", "RFC 5961 7")
def limited(lab: Lab) -> None:
    p = lab.peer()
    p.open()
    for number in range(200):
        p.put("R", 10 + number)
    lab.wire.fence()
    count = 0
    while p.maybe(0) is not None:
        count += 1
    require(1 <= count <= 20, f"{count} challenge ACKs for 200 resets")
    p.is_open()
    p.say("abort")


@case("a SYN on an open connection", "RFC 5961 4.2", both=True)
def open_syn(lab: Lab) -> None:
    p = lab.peer()
    p.open()
    for seq in (5, 0, -1, 1 << 30):
        p.put("S", seq)
        p.expect(f"a challenge ACK for a SYN at {seq}", "A", 0, 0)
        p.is_open()
        lab.pause()
    p.put("SA", -1, 0, options=[("MSS", 1460)])  # its own SYN-ACK
    p.expect("an ACK for a SYN-ACK", "A", 0, 0)
    p.say("abort")


@case("acknowledgements of nothing sent", "RFC 5961 5.2", both=True)
def bad_ack(lab: Lab) -> None:
    p = lab.peer()
    p.open()
    p.put("A", 0, 10, b"evil!")
    p.expect("an ACK", "A", 0, 0)
    lab.pause()
    p.put("A", 0, -200000, b"evil!")
    p.expect("an ACK", "A", 0, 0)
    require(lab.read(p.slot) == 11, "its data was taken")
    p.put("", 0, 0, b"noack")  # without ACK: dropped
    p.quiet("a segment without ACK was answered")
    require(lab.read(p.slot) == 11, "data without ACK was taken")
    p.put("A", 0, 0, b"good")
    require(lab.read_soon(p.slot) == b"good", "the connection is not in order")
    p.say("abort")


@case("data out of the window", "RFC 9293 3.10.7.4", both=True)
def data_outside(lab: Lab) -> None:
    p = lab.peer()
    p.open()
    p.put("A", 200000, 0, b"far away")
    p.expect("an ACK", "A", 0, 0)
    p.put("A", -50, 0, b"x" * 20)
    p.expect("an ACK", "A", 0, 0)
    require(lab.read(p.slot) == 11, "data from outside was taken")
    p.say("abort")


@case("wrong checksums", "RFC 9293 3.1 (MUST-3)", both=True)
def sums(lab: Lab) -> None:
    p = lab.peer()
    p.open()
    p.put("A", 0, 0, b"damaged", chksum=0x1234)
    p.put("R", 0, chksum=0x4321)
    p.put("A", 0, 0, b"none", chksum=0)
    p.quiet("a damaged segment was answered")
    require(lab.read(p.slot) == 11, "damaged data was taken")
    p.is_open()
    if not lab.v6:
        good = p.packet("A", 0, 0, b"header")
        good[IP].chksum = 0x1111
        lab.wire.send(good)
        p.quiet("a damaged IP header was answered")
        require(lab.read(p.slot) == 11, "a packet with a damaged header was taken")
    p.say("abort")


@case("PAWS: an older timestamp", "RFC 7323 5.3", both=True)
def paws(lab: Lab) -> None:
    p = lab.peer()
    p.open(FULL)
    p.stamp = 5000
    p.put("A", 0, 0, b"new")
    require(lab.read_soon(p.slot) == b"new", "data")
    p.sync()
    p.stamp = 4000
    p.put("A", 3, 0, b"old")
    p.expect("an ACK for an old segment", "A", 0, 3)
    require(lab.read(p.slot) == 11, "an old segment was taken")
    p.stamp = 0x10
    p.put("R", 3)  # a reset is not checked
    lab.wire.fence()
    require(lab.read(p.slot) == RESET, "PAWS held up a reset")
    p.say("close")


@case("the timestamp that is echoed", "RFC 7323 4.3")
def echo_rule(lab: Lab) -> None:
    p = lab.peer()
    p.open(FULL)
    p.sync()
    p.stamp = 2000
    p.put("A", 100, 0, b"behind a hole")
    seg = p.expect("a duplicate ACK", "A", 0, 0)
    require(seg.options["Timestamp"][1] == 1001, f"echo {seg.options}")  # type: ignore[index]
    p.stamp = 1900
    p.put("A", 0, 0, b"z" * 100)
    seg = p.expect("an ACK of all", "A", 0, 113)
    require(seg.options["Timestamp"][1] == 1900, f"echo {seg.options}")  # type: ignore[index]
    p.say("abort")


@case("a timestamp that wraps", "RFC 7323 5.4")
def stamp_wraps(lab: Lab) -> None:
    p = lab.peer()
    p.syn([("MSS", 1460), ("Timestamp", (0xFFFFFFF0, 0))])
    p.stamp = 0xFFFFFFF5
    p.put("A", 0, 0)
    p.slot = lab.accept() or 0
    p.stamp = 0x10
    p.put("A", 0, 0, b"past the wrap")
    require(lab.read_soon(p.slot) == b"past the wrap", "data past the wrap")
    p.say("abort")


@case("sequence numbers that wrap", "RFC 9293 3.4", both=True)
def seq_wraps(lab: Lab) -> None:
    p = lab.peer(iss=0xFFFFFFF0)
    p.open()
    data = pattern(1000)
    for at in (500, 0, 250, 750):
        p.put("A", at, 0, data[at : at + 250])
    require(lab.read_soon(p.slot, 1000) == data, "data over the wrap is wrong")
    p.say("abort")


@case("urgent data does no harm", "RFC 9293 3.8.5, RFC 6093", linux="it takes one byte out of line")
def urgent(lab: Lab) -> None:
    p = lab.peer()
    p.open()
    p.put("AU", 0, 0, b"abc", urgptr=2)
    p.put("AU", 3, 0, b"def", urgptr=60000)
    p.put("A", 6, 0, b"ghi", urgptr=9)
    got = lab.read_soon(p.slot, 7)
    require(got in (b"abcdefghi", b"abdefghi", b"acdefghi", b"abcdefgi"), f"{got!r}")
    p.say("abort")


@case("a segment with all flags, or none", "RFC 9293 3.10.7.4")
def christmas(lab: Lab) -> None:
    p = lab.peer()
    p.open()
    for flags in ("FSRPAUEC", "FPU", "", "FS", "SRA"):
        packet = (
            IP(src=PEER4, dst=US4)
            / TCP(sport=p.own_port, dport=p.port, flags=flags, seq=p.iss - 70000, ack=p.irs + 1)
            / Raw(b"?")
        )
        lab.wire.send(packet)
    lab.wire.fence()
    p.is_open()
    p.sync()
    p.put("A", 0, 0, b"good")
    require(lab.read_soon(p.slot) == b"good", "the connection is not in order")
    p.say("abort")


@case("keep-alive: our probes", "RFC 9293 3.8.4", slow=True)
def keepalive(lab: Lab) -> None:
    p = lab.peer()
    p.open()
    for option, value in ((4, 1), (5, 1), (6, 3)):
        lab.do(f"set {p.slot} 6 {option} {value}")
    lab.do(f"set {p.slot} 1 9 1")
    p.expect("a probe", "A", -1, 0, b"")
    p.put("A", 0, 0)
    for _ in range(3):
        p.expect("a probe", "A", -1, 0, b"")
    p.expect("a reset", "RA", 0, 0)
    require(lab.read(p.slot) == 110, "no ETIMEDOUT")
    p.say("close")


@case("keep-alive: the peer's probes", "RFC 9293 3.8.4", both=True)
def keepalive_peer(lab: Lab) -> None:
    p = lab.peer()
    p.open()
    p.put("A", -1, 0)
    p.expect("an ACK for a probe without data", "A", 0, 0)
    p.put("A", -1, 0, b"g")
    p.expect("an ACK for a probe with a byte", "A", 0, 0)
    require(lab.read(p.slot) == 11, "the probe's byte was taken")
    p.say("abort")


@case("two that answer each other", "RFC 9293 3.10.7.4; ACK storms")
def storm(lab: Lab) -> None:
    p = lab.peer()
    p.open()
    count = 0
    for _ in range(100):
        p.put("A", 500000, 0)  # each answer is answered with the same again
        if p.maybe(0.01) is not None:
            count += 1
    lab.wire.fence()
    if count > 20:
        raise Failure(f"{count} answers to 100 empty segments out of the window")
    p.say("abort")
