# SPDX-License-Identifier: BSD-2-Clause
"""Data: overlaps, windows, acknowledgements, retransmission."""

from __future__ import annotations

import itertools
import random
import time

from tests.net.conformance.peer import (
    ECHO,
    FULL,
    Lab,
    Peer,
    Seg,
    case,
    noise,
    pattern,
    require,
)
from tests.net.conformance.wire import WAIT

SACK = (("MSS", 1460), ("SAckOK", b""))
NODELAY = "set {} 6 1 1"


@case("pieces in any order", "RFC 9293 3.10.7.4", both=True)
def any_order(lab: Lab) -> None:
    p = lab.peer()
    p.open(SACK)
    rng = random.Random(3)
    data = noise(900, 1)
    pieces = [(at, rng.randrange(1, 120)) for at in range(0, 900, 30)]
    pieces += [(rng.randrange(900), rng.randrange(1, 200)) for _ in range(60)]
    rng.shuffle(pieces)
    for at, n in pieces:
        p.put("A", at, 0, data[at : at + n])
    for at in range(0, 900, 100):
        p.put("A", at, 0, data[at : at + 100])
    require(lab.read_soon(p.slot, 900) == data, "the bytes are not those that were sent")
    p.say("abort")


@case("overlaps that differ: what is acknowledged stays", "RFC 9293 3.10.7.4")
def overlap_old(lab: Lab) -> None:
    p = lab.peer()
    p.open()
    p.put("A", 0, 0, b"AAAAA")
    p.sync()
    p.put("A", 0, 0, b"BBBBBCCC")
    require(lab.read_soon(p.slot, 8) == b"AAAAACCC", "acknowledged bytes were changed")
    p.say("abort")


@case("overlaps that differ: behind a hole", "free (RFC 9293 3.10.7.4); first wins but whole")
def overlap_new(lab: Lab) -> None:
    p = lab.peer()
    p.open()
    p.put("A", 5, 0, b"AAAAA")
    p.put("A", 7, 0, b"BBBBB")  # the tail is new
    p.put("A", 2, 0, b"CCCCC")  # the head is new
    p.put("A", 0, 0, b"DDDD")
    got = lab.read_soon(p.slot, 12)
    require(got in (b"DDDDCAAAAABB", b"DDCCCAAAAABB"), f"{got!r}")
    p.say("abort")


@case("SACK blocks", "RFC 2018 4, RFC 2883", both=True)
def sack(lab: Lab) -> None:
    p = lab.peer()
    p.open(SACK)
    base = p.iss + 1

    def blocks(seg: Seg) -> list[tuple[int, int]]:
        flat = seg.options.get("SAck", ())
        assert isinstance(flat, tuple)
        numbers = [(int(v) - base) & 0xFFFFFFFF for v in flat]
        return list(zip(numbers[::2], numbers[1::2], strict=True))

    p.put("A", 100, 0, b"x" * 100)
    require(blocks(p.expect("dup ACK", "A", 0, 0)) == [(100, 200)], "the first block")
    p.put("A", 300, 0, b"x" * 100)
    require(
        blocks(p.expect("dup ACK", "A", 0, 0)) == [(300, 400), (100, 200)],
        "the newest block must be the first",
    )
    p.put("A", 100, 0, b"x" * 100)
    got = blocks(p.expect("dup ACK", "A", 0, 0))
    require(got[0] == (100, 200), f"D-SACK {got}")
    p.put("A", 0, 0, b"x" * 100)
    require(blocks(p.expect("an ACK", "A", 0, 200)) == [(300, 400)], "blocks after the hole")
    p.put("A", 0, 0, b"x" * 50)
    got = blocks(p.expect("an ACK", "A", 0, 200))
    require(got[0] == (0, 50), f"D-SACK below the ACK {got}")
    p.say("abort")


@case("acknowledgements are not too late", "RFC 9293 3.8.6.3 (MUST-58, 59)")
def delayed(lab: Lab) -> None:
    p = lab.peer()
    p.open()
    for number in range(20):  # past the quick ones at the start
        p.put("A", number * 10, 0, b"0123456789")
        p.expect("an ACK", "A", 0, number * 10 + 10)
    start = time.monotonic()
    p.put("A", 200, 0, b"x")
    p.expect("a delayed ACK", "A", 0, 201)
    require(time.monotonic() - start < 0.5, "it took more than half a second")
    p.put("A", 201, 0, b"x" * 1460)
    p.put("A", 1661, 0, b"x" * 1460)
    start = time.monotonic()
    acked = 0
    while acked < 3121:
        acked = p.get("the ACK of two full segments").ack
    p.say("abort")


@case(
    "zero window, probes, and their back-off",
    "RFC 9293 3.8.6.1 (MUST-35 .. 37)",
    both=True,
    slow6=True,
)
def zero_window(lab: Lab) -> None:
    p = lab.peer()
    p.open(window=0)
    p.put("A", 0, 0, window=0)
    p.say("send 5000")
    times = []
    for _ in range(4):
        seg = p.get("a probe")
        require(len(seg.payload) <= 1, f"{len(seg.payload)} bytes into a closed window")
        times.append(seg.frame.at)
        p.put("A", 0, 0, window=0)
    gaps = [b - a for a, b in itertools.pairwise(times)]
    require(all(b > a * 1.5 for a, b in itertools.pairwise(gaps)), f"gaps {gaps}")
    p.put("A", 0, 0, window=65535)
    got = collect(p, 5000)
    require(got == pattern(5000), "the bytes are not those that were sent")
    p.say("abort")


def collect(p: Peer, n: int, window: int = 65535) -> bytes:
    """Takes and acknowledges what comes until there are n bytes."""
    data = bytearray(n)
    have: set[int] = set()
    end = time.monotonic() + 2 * WAIT
    while len(have) < n:
        seg = p.get(f"data, {len(have)} of {n} bytes", end - time.monotonic())
        data[seg.seq : seg.seq + len(seg.payload)] = seg.payload
        have.update(range(max(seg.seq, 0), seg.seq + len(seg.payload)))
        edge = next((i for i in range(n) if i not in have), n)
        p.put("A", 0, edge, window=window)
    return bytes(data[:n])


@case("our window closes and opens", "RFC 9293 3.8.6.2.2", both=True, slow6=True)
def our_window(lab: Lab) -> None:
    p = lab.peer()
    p.open(FULL)
    lab.do(f"set {p.slot} 1 8 4096")  # SO_RCVBUF
    p.sync()
    sent, window = 0, 65535
    p.put("A", 0, 0, b"x" * 1000)
    sent = 1000
    for _ in range(400):
        seg = p.get("an ACK")
        require(seg.ack <= sent, "more was acknowledged than sent")
        window = (seg.window << 7) - (sent - seg.ack)
        if window <= 0:
            break
        n = min(1000, window)
        p.put("A", sent, 0, b"x" * n)
        sent += n
    require(window <= 0, f"the window does not close: {sent} bytes")
    p.sync()
    p.put("A", sent, 0, b"y")  # a probe
    seg = p.expect("an ACK for a probe", "A", 0)
    taken = seg.ack
    require(taken <= sent + 1, "numbers")
    total = 0
    while total < taken:
        total += len(lab.read_soon(p.slot))
    end = time.monotonic() + WAIT
    while seg.window << 7 < 1000:
        seg = p.get("a window update", end - time.monotonic())
    p.say("abort")


@case("a window that shrinks", "RFC 9293 3.8.6 (SHLD-15, MUST-34)")
def shrinks(lab: Lab) -> None:
    p = lab.peer()
    p.open(SACK, window=4000)
    p.put("A", 0, 0, window=4000)
    p.say("send 10000")
    got = 0
    while got < 2920:
        got += len(p.get("data").payload)
    p.put("A", 0, 1460, window=100)  # the right edge moves to the left
    p.sync()
    p.put("A", 0, 2920, window=0)
    require(collect_slowly(p, 10000) == pattern(10000)[2920:], "the rest is wrong")
    p.say("abort")


def collect_slowly(p: Peer, n: int) -> bytes:
    """Opens the window step by step; the bytes from 2920 on."""
    data = bytearray(n)
    edge = 2920
    end = time.monotonic() + 4 * WAIT
    while edge < n:
        p.put("A", 0, edge, window=1460)
        seg = p.maybe(0.5)
        require(time.monotonic() < end, f"it stands at {edge}")
        if seg is None or not seg.payload:
            continue
        require(seg.seq + len(seg.payload) <= edge + 1460, f"beyond the window: {seg}")
        data[seg.seq : seg.seq + len(seg.payload)] = seg.payload
        if seg.seq <= edge:
            edge = max(edge, seg.seq + len(seg.payload))
    return bytes(data[2920:n])


@case("no silly windows: the sender", "RFC 9293 3.8.6.2.1 (MUST-38)")
def silly(lab: Lab) -> None:
    p = lab.peer()
    p.open(SACK)
    p.say("send 20000")
    first = p.get("data")
    p.put("A", 0, first.seq + len(first.payload), window=2)  # two bytes of room at a time
    p.sync()
    edge = 0
    while (seg := p.maybe(0.05)) is not None:
        edge = max(edge, seg.seq + len(seg.payload))
    p.put("A", 0, max(edge, len(first.payload)), window=2)
    small = [s for s in p.all_data(0.15) if len(s.payload) <= 2 and s.seq >= edge]
    require(len(small) <= 1, f"{len(small)} tiny segments at once")
    p.say("abort")


@case("Nagle", "RFC 9293 3.7.4 (SHLD-7, MUST-17)")
def nagle(lab: Lab) -> None:
    p = lab.peer()
    p.open()
    p.say("send 10")
    p.expect("the first small segment", "A", 0, 0, pattern(10))
    p.say("send 20")
    p.say("send 30")
    p.put("A", 0, 10)
    p.expect("the rest, when the first is acknowledged", "A", 10, 0, pattern(50, 10))
    p.put("A", 0, 60)
    lab.do(NODELAY.format(p.slot))
    p.say("send 5")
    p.expect("at once", "A", 60, 0, pattern(5, 60))
    p.say("send 5")
    p.expect("at once", "A", 65, 0, pattern(5, 65))
    p.say("abort")


@case("the peer's segment size is kept", "RFC 9293 3.7.1 (MUST-14, 16)", both=True)
def segment_size(lab: Lab) -> None:
    default = 1220 if lab.v6 else 536
    for options, limit in (
        ((("MSS", 600),), 600),
        ((), default),
        ((("MSS", 600), ("Timestamp", (1000, 0))), 588),
    ):
        p = lab.peer()
        p.open(options)
        p.say("send 4000")
        end = 0
        while end < 4000:
            seg = p.get("data")
            size = seg.frame.gso_size or len(seg.payload)
            require(size <= limit, f"{size} bytes in a segment, {limit} are allowed")
            end = max(end, seg.seq + len(seg.payload))
            p.put("A", 0, end)
        p.say("abort")


@case("the initial window", "RFC 6928 2", both=True)
def initial(lab: Lab) -> None:
    p = lab.peer()
    p.open(FULL)
    p.say("send 100000")
    start = p.get("data")
    total = len(start.payload) + sum(
        len(s.payload)
        for s in p.all_data(0.1)
        if s.frame.at < start.frame.at + 0.005  # a tail loss probe comes later
    )
    require(total <= 10 * 1460, f"{total} bytes at once")
    p.say("abort")


@case("retransmission times double", "RFC 6298 5.5; RFC 9293 3.8.1")
def backoff(lab: Lab) -> None:
    p = lab.peer()
    p.open()
    p.say("send 100")
    times = []
    for _ in range(5):
        seg = p.expect("the segment again", "A", 0, 0, pattern(100))
        times.append(seg.frame.at)
    gaps = [b - a for a, b in itertools.pairwise(times)]
    require(gaps[0] > 0.15, f"the first time-out is {gaps[0]:.3f} s")
    require(all(1.6 < b / a < 2.6 for a, b in itertools.pairwise(gaps[1:])), f"gaps {gaps}")
    p.say("abort")


@case("three duplicate ACKs", "RFC 5681 3.2")
def fast(lab: Lab) -> None:
    p = lab.peer()
    p.open()
    p.say("send 14600")
    segs = gather(p, 14600)
    start = time.monotonic()
    for _ in range(3):
        p.put("A", 0, 0)
    seg = p.expect("the first segment at once", "A", 0, 0)
    require(time.monotonic() - start < 0.15, "it waited for a time-out")
    require(seg.payload == pattern(len(seg.payload)), "its bytes")
    require(segs > 0, "segments")
    p.say("abort")


def gather(p: Peer, n: int) -> int:
    """Waits for n bytes without acknowledging."""
    end, count = 0, 0
    while end < n:
        seg = p.get(f"data, {end} of {n}")
        end = max(end, seg.seq + len(seg.payload))
        count += 1
    return count


@case("SACK shows a loss: only that is repeated", "RFC 6675 5, RFC 8985")
def fast_sack(lab: Lab) -> None:
    p = lab.peer()
    p.open(SACK)
    p.say("send 14600")
    gather(p, 14600)
    base = (p.irs + 1) & 0xFFFFFFFF
    lost = 1460
    for edge in (4380, 7300, 14600):
        p.put(
            "A",
            0,
            lost,
            options=[("SAck", ((base + lost + 1460) & 0xFFFFFFFF, (base + edge) & 0xFFFFFFFF))],
        )
    seg = p.expect("the lost one", "A", lost, 0, pattern(1460, lost))
    require(seg.seq == lost, "number")
    again = [s for s in p.all_data(0.1) if s.seq > lost]
    require(not again, f"repeated as well: {[s.seq for s in again]}")
    p.put("A", 0, 14600)
    p.say("abort")


@case("SACK blocks that cannot be", "RFC 2018 5; RFC 6675")
def bad_sack(lab: Lab) -> None:
    p = lab.peer()
    p.open(SACK)
    p.say("send 14600")
    gather(p, 14600)
    base = (p.irs + 1) & 0xFFFFFFFF
    for start, end in (
        (20000, 30000),
        (14600, 14601),
        (5000, 4000),
        (-9000, -8000),
        (0, 1 << 31),
        (-5, 14600),
        (14000, 15000),
    ):
        p.put("A", 0, 0, options=[("SAck", ((base + start) % 2**32, (base + end) % 2**32))])
    lab.wire.fence()
    p.is_open()
    require(collect(p, 14600) == pattern(14600), "the bytes are wrong")
    p.say("abort")


@case("a lost tail", "RFC 8985 7", linux="")
def tail(lab: Lab) -> None:
    p = lab.peer()
    p.open(FULL)
    p.say("send 4000")
    gather(p, 4000)
    seg = p.get("the tail again", 1.5)
    require(seg.seq + len(seg.payload) == 4000 or seg.seq == 0, f"{seg}")
    p.say("abort")


@case("bulk with losses both ways", "RFC 9293; the bytes of an echo", both=True, slow6=True)
def lossy_echo(lab: Lab) -> None:
    rng = random.Random(9)
    p = lab.peer(ECHO)
    p.open(FULL)
    data = noise(60000, 4)
    acked, edge, have = 0, 0, bytearray(len(data))
    known: set[int] = set()
    end = time.monotonic() + 5 * WAIT
    while edge < len(data) or acked < len(data):
        require(time.monotonic() < end, f"it stands at {acked}, {edge}")
        window = data[acked : acked + 6 * 1400]
        for at in range(0, len(window), 1400):
            if rng.random() > 0.1:
                p.put("A", acked + at, edge, window[at : at + 1400])
        while (seg := p.maybe(0.02)) is not None:
            acked = max(acked, seg.ack)
            if seg.payload and rng.random() > 0.1:
                have[seg.seq : seg.seq + len(seg.payload)] = seg.payload
                known.update(range(seg.seq, seg.seq + len(seg.payload)))
        while edge in known:
            edge += 1
        p.stamp = (p.stamp or 0) + 10
        p.put("A", acked, edge)
    require(bytes(have) == data, "the echo has other bytes")
    p.put("R", acked)
