# SPDX-License-Identifier: BSD-2-Clause
"""The link: ARP, neighbour discovery, addresses by advertisement, groups."""

from __future__ import annotations

import random
import time
from collections.abc import Callable

from scapy.layers.inet import IP, UDP
from scapy.layers.inet6 import (
    ICMPv6EchoReply,
    ICMPv6EchoRequest,
    ICMPv6ND_NA,
    ICMPv6ND_NS,
    ICMPv6ND_RA,
    ICMPv6ND_Redirect,
    ICMPv6NDOptDstLLAddr,
    ICMPv6NDOptPrefixInfo,
    ICMPv6NDOptSrcLLAddr,
    IPv6,
    IPv6ExtHdrFragment,
)
from scapy.layers.l2 import ARP, Ether
from scapy.packet import Packet, Raw

from tests.net.conformance.peer import ECHO, Lab, case, require
from tests.net.conformance.wire import (
    OUR_MAC,
    PEER4,
    PEER6,
    US4,
    US6,
    is_pong,
    is_udp,
    ping,
)

BROADCAST = "ff:ff:ff:ff:ff:ff"


# --- ARP ---


def arp_fields(**more: object) -> ARP:
    return ARP(**{"hwsrc": OUR_MAC, "psrc": PEER4, "pdst": US4, **more})


def arps() -> Callable[[Packet], bool]:
    return lambda p: ARP in p and p[ARP].op == 2


@case("ARP: who is answered", "RFC 826; RFC 5227 2.1.1")
def arp(lab: Lab) -> None:
    lab.wire.send(Ether(src=OUR_MAC, dst=BROADCAST) / arp_fields(op=1))
    got = lab.wire.take(arps())
    require(got and got.packet[ARP].psrc == US4 and got.packet[ARP].hwdst == OUR_MAC, "no reply")
    lab.wire.send(Ether(src=OUR_MAC, dst=BROADCAST) / arp_fields(op=1, psrc="0.0.0.0"))
    require(lab.wire.take(arps()), "no reply to a probe")
    for fields in (
        {"pdst": "10.66.0.77"},
        {"pdst": "10.66.0.255"},
        {"op": 2},
        {"op": 9},
        {"hwtype": 6},
        {"ptype": 0x86DD},
        {"hwlen": 8},
        {"plen": 16},
        {"psrc": "224.0.0.1"},
    ):
        lab.wire.send(Ether(src=OUR_MAC, dst=BROADCAST) / arp_fields(**{"op": 1, **fields}))
        lab.wire.quiet(arps(), f"ARP {fields} was answered")
    raw = bytes(Ether(src=OUR_MAC, dst=BROADCAST) / arp_fields(op=1))
    for size in range(14, 42):
        lab.wire.send_bytes(raw[:size])
    lab.wire.quiet(arps(), "a short ARP packet was answered")


@case("ARP: somebody claims our address", "RFC 5227 2.4")
def arp_conflict(lab: Lab) -> None:
    for op in (1, 2):
        lab.wire.send(
            Ether(src="02:66:00:00:00:66", dst=BROADCAST)
            / ARP(op=op, hwsrc="02:66:00:00:00:66", psrc=US4, pdst=US4)
        )
    lab.wire.fence()
    lab.wire.send(ping(False, b"still there", 5200))
    require(lab.wire.take(is_pong(False, 5200)), "it lost its address")


@case("ARP: a neighbour moves", "RFC 826; gratuitous ARP")
def arp_moves(lab: Lab) -> None:
    p = lab.peer(source="10.66.0.110")
    p.open()
    new = "02:66:00:00:00:99"
    lab.wire.send(
        Ether(src=new, dst=BROADCAST) / ARP(op=1, hwsrc=new, psrc="10.66.0.110", pdst="10.66.0.110")
    )
    lab.wire.fence()
    time.sleep(1.1)  # Linux keeps an entry for a second
    lab.wire.send(
        Ether(src=new, dst=BROADCAST) / ARP(op=1, hwsrc=new, psrc="10.66.0.110", pdst="10.66.0.110")
    )
    lab.wire.fence()
    p.say("send 10")
    seg = p.get("data")
    require(seg.frame.packet.dst == new, f"data still goes to {seg.frame.packet.dst}")
    p.say("abort")


@case("ARP: nothing is learnt from strangers, floods", "RFC 826; bounded memory")
def arp_flood(lab: Lab) -> None:
    rng = random.Random(1)
    raw = bytearray(bytes(Ether(src=OUR_MAC, dst=BROADCAST) / arp_fields(op=1)))
    for _ in range(6000):
        raw[28:32] = bytes((10, 66, rng.randrange(256), rng.randrange(1, 255)))
        raw[22:28] = raw[6:12] = bytes((2, 0x77, *rng.randbytes(4)))
        lab.wire.send_bytes(bytes(raw))
    lab.wire.fence()
    lab.wire.inbox.clear()
    meet = lab.peer(ECHO, source="10.66.0.120")
    meet.open()
    meet.put("A", 0, 0, b"after a flood")
    while not (seg := meet.get("the echo")).payload:
        pass
    require(seg.payload == b"after a flood", "the echo")
    meet.put("R", 13)
    lab.wire.send(Ether(src=OUR_MAC, dst=lab.wire.us_mac) / arp_fields(op=2))
    lab.wire.fence()


@case(
    "connect to a neighbour that is not there", "RFC 1122 2.3.2.2, 3.3.1.4", both=True, slow6=True
)
def no_neighbour(lab: Lab) -> None:
    to = "fd66::dead" if lab.v6 else "10.66.0.222"
    lab.wire.silent.add(to)
    start = time.monotonic()
    slot = lab.do(f"connect {to} 80")
    while (error := lab.do(f"error {slot}")) == 0 and time.monotonic() - start < 8:
        time.sleep(0.2)
    require(
        error == 113,
        f"error {error} instead of EHOSTUNREACH after {time.monotonic() - start:.1f} s",
    )
    lab.do(f"close {slot}")


# --- neighbour discovery ---


def nd(message: Packet, *, src: str = PEER6, dst: str = US6, **fields: object) -> Packet:
    """A message of neighbour discovery as it must be."""
    return IPv6(**{"src": src, "dst": dst, "hlim": 255, **fields}) / message


@case("NDP: who is answered", "RFC 4861 7.1.1, 7.2.4", v6=True)
def ndp(lab: Lab) -> None:
    ask = ICMPv6ND_NS(tgt=US6) / ICMPv6NDOptSrcLLAddr(lladdr=OUR_MAC)
    node, mac = "ff02::1:ff00:2", "33:33:ff:00:00:02"

    def answers(p: Packet) -> bool:
        return ICMPv6ND_NA in p

    lab.wire.send(nd(ask.copy()))
    got = lab.wire.take(answers)
    require(got and got.packet[ICMPv6ND_NA].S and got.packet[IPv6].hlim == 255, "no answer")
    lab.wire.send(Ether(src=OUR_MAC, dst=mac) / nd(ask.copy(), dst=node))
    require(lab.wire.take(answers), "no answer to its group")
    for what, packet in (
        ("hop limit 254", nd(ask.copy(), hlim=254)),
        ("hop limit 1", nd(ask.copy(), hlim=1)),
        ("code 1", nd(ICMPv6ND_NS(tgt=US6, code=1))),
        ("a group as target", nd(ICMPv6ND_NS(tgt="ff02::1"))),
        ("an option of length 0", nd(ICMPv6ND_NS(tgt=US6) / Raw(b"\x01\0" + bytes(6)))),
        ("an option cut short", nd(ICMPv6ND_NS(tgt=US6) / Raw(b"\x01\x02" + bytes(6)))),
        ("no room for the target", nd(Raw(b"\x87\0\0\0" + bytes(8)), nh=58)),
        ("a fragment header", nd(IPv6ExtHdrFragment(nh=58) / ask.copy())),
        ("a stranger's target", nd(ICMPv6ND_NS(tgt="fd66::77"))),
        ("from nobody with a link address", nd(ask.copy(), src="::", dst=node)),
    ):
        lab.wire.send(packet)
        lab.wire.quiet(answers, f"{what}: it was answered")
    lab.wire.send(Ether(src=OUR_MAC, dst=mac) / nd(ICMPv6ND_NS(tgt=US6), src="::", dst=node))
    got = lab.wire.take(answers)
    require(
        got and got.packet[IPv6].dst == "ff02::1" and not got.packet[ICMPv6ND_NA].S,
        "duplicate detection of others is not answered to all nodes",
    )


@case("NDP: unsolicited advertisements", "RFC 4861 7.2.5", v6=True)
def advertisement(lab: Lab) -> None:
    p = lab.peer(source="fd66::2:1")
    p.open()
    new = "02:66:00:00:00:98"

    def tell(**fields: object) -> None:
        lab.wire.send(
            nd(
                ICMPv6ND_NA(tgt="fd66::2:1", **fields) / ICMPv6NDOptDstLLAddr(lladdr=new),
                src="fd66::2:1",
            )
        )

    tell(S=0, O=0)
    p.say("send 10")
    seg = p.get("data")
    require(seg.frame.packet.dst == OUR_MAC, "an entry was overridden without the flag")
    p.put("A", 0, 10)
    tell(S=0, O=1)
    p.sync()
    p.say("send 10")
    require(p.get("data").frame.packet.dst == new, "the override flag was ignored")
    p.say("abort")


@case("NDP: redirects from others than the router", "RFC 4861 8.1", v6=True)
def redirect(lab: Lab) -> None:
    good = ICMPv6ND_Redirect(tgt="fe80::5", dst="2001:db8::9")
    for what, packet in (
        ("not from a link-local address", nd(good.copy())),
        ("not the router", nd(good.copy(), src="fe80::66")),
        ("hop limit", nd(good.copy(), src="fe80::1", hlim=64)),
    ):
        lab.wire.send(packet)
        lab.wire.fence()
        p = lab.peer(source="2001:db8::9", port=ECHO)
        p.syn()
        p.put("R", 0)
        asked = lab.wire.take(lambda x: ICMPv6ND_NS in x and x[ICMPv6ND_NS].tgt == "fe80::5", 0)
        require(asked is None, f"a redirect was followed: {what}")


@case(
    "NDP: an address by advertisement",
    "RFC 4862 5.5.3, 5.4",
    v6=True,
    linux="the oracle's interface does not take router advertisements",
)
def slaac(lab: Lab) -> None:
    prefix = ICMPv6NDOptPrefixInfo(
        prefixlen=64, prefix="fd67::", validlifetime=600, preferredlifetime=300, L=1, A=1
    )
    router = ICMPv6ND_RA(routerlifetime=0, chlim=64) / ICMPv6NDOptSrcLLAddr(lladdr=OUR_MAC)

    def send(message: Packet, **fields: object) -> None:
        packet = nd(message, **{"src": "fe80::66", "dst": "ff02::1", **fields})
        lab.wire.send(Ether(src=OUR_MAC, dst="33:33:00:00:00:01") / packet)

    mac = bytes(int(part, 16) for part in lab.wire.us_mac.split(":"))
    host = bytes((mac[0] ^ 2, mac[1], mac[2], 0xFF, 0xFE, *mac[3:]))

    def address(net: str) -> str:
        raw = bytes(IPv6(dst=net + "1"))[24:32] + host
        return str(IPv6(bytes(IPv6())[:24] + raw).dst)

    send(router / prefix, hlim=64)
    send(router / prefix, src="fd66::66")
    mine = address("fd67::")
    lab.wire.quiet(
        lambda p: ICMPv6ND_NS in p and p[ICMPv6ND_NS].tgt == mine,
        "an advertisement was taken that must not be",
        0.3,
    )
    send(router / prefix)
    probe = lab.wire.take(lambda p: ICMPv6ND_NS in p and p[ICMPv6ND_NS].tgt == mine, 3)
    require(probe and probe.packet[IPv6].src == "::", "no duplicate detection")
    time.sleep(1.3)
    lab.wire.send(IPv6(src=PEER6, dst=mine) / ICMPv6EchoRequest(id=7, seq=5300))
    require(lab.wire.take(is_pong(True, 5300)), "the address is not used")
    # Another one, that somebody has.
    prefix.prefix = "fd68::"
    mine = address("fd68::")
    send(router / prefix)
    probe = lab.wire.take(lambda p: ICMPv6ND_NS in p and p[ICMPv6ND_NS].tgt == mine, 3)
    require(probe is not None, "no duplicate detection")
    send(ICMPv6ND_NA(tgt=mine, R=0, S=0, O=1) / ICMPv6NDOptDstLLAddr(lladdr=OUR_MAC), src=mine)
    time.sleep(1.3)
    lab.wire.send(IPv6(src=PEER6, dst=mine) / ICMPv6EchoRequest(id=7, seq=5301))
    lab.wire.quiet(
        lambda p: ICMPv6EchoReply in p and p[ICMPv6EchoReply].seq == 5301,
        "an address that somebody has is used",
    )


@case("a datagram to a group", "RFC 1112 6.1, 7.2; RFC 4291 2.7", both=True)
def group(lab: Lab) -> None:
    dst, mac = ("ff05::1234", "33:33:00:00:12:34") if lab.v6 else ("239.1.2.3", "01:00:5e:01:02:03")
    src = PEER6 if lab.v6 else PEER4
    packet = (
        Ether(src=OUR_MAC, dst=mac)
        / (IPv6 if lab.v6 else IP)(src=src, dst=dst)
        / UDP(sport=9300, dport=ECHO)
        / Raw(b"to the group")
    )
    lab.wire.send(packet)
    lab.wire.quiet(is_udp(ECHO, 9300), "a datagram to a group nobody joined was delivered")
    lab.do(f"join {dst}")
    lab.wire.send(packet)
    require(lab.wire.take(is_udp(ECHO, 9300)), "a member does not hear its group")
    lab.do(f"leave {dst}")
    lab.wire.send(packet)
    lab.wire.quiet(is_udp(ECHO, 9300), "a datagram came after leaving")
