# SPDX-License-Identifier: BSD-2-Clause
"""Closing: half closed, TIME_WAIT, what comes too late."""

from __future__ import annotations

import time

from tests.net.conformance.peer import FULL, ISS, Lab, Peer, case, pattern, require
from tests.net.conformance.wire import WAIT

WRITE = 1


@case("the peer closes, we still send", "RFC 9293 3.6", both=True)
def half_close(lab: Lab) -> None:
    p = lab.peer()
    p.open()
    p.put("A", 0, 0, b"last")
    p.sync()
    p.put("FA", 4, 0)
    p.expect("an ACK of the FIN", "A", 0, 5)
    require(lab.state(p.slot) == 8, "not CLOSE_WAIT")
    require(lab.read_soon(p.slot, 4) == b"last", "data before the FIN")
    require(lab.read(p.slot) == b"", "no end")
    p.say("send 100")
    p.expect("data after their FIN", "A", 0, 5, pattern(100))
    p.put("A", 5, 100)
    p.say("close")
    p.expect("our FIN", "FA", 100, 5)
    p.put("A", 5, 101)
    p.put("A", 5, 101)
    p.expect("a reset: it is over", "R", 101)


@case("we close, the peer still sends", "RFC 9293 3.6", both=True)
def half_close_ours(lab: Lab) -> None:
    p = lab.peer()
    p.open()
    p.say(f"shut {WRITE}")
    p.expect("our FIN", "FA", 0, 0)
    p.put("A", 0, 1)
    lab.wire.fence()
    require(lab.state(p.slot) == 5, "not FIN_WAIT2")
    p.put("A", 0, 1, b"more")
    require(lab.read_soon(p.slot, 4) == b"more", "data in FIN_WAIT2")
    p.sync()
    p.put("FA", 4, 1)
    p.expect("an ACK of the FIN", "A", 1, 5)
    p.say("close")


@case("FIN with data, FIN repeated", "RFC 9293 3.10.7.4", both=True)
def fin_data(lab: Lab) -> None:
    p = lab.peer()
    p.open()
    p.put("FA", 0, 0, b"the end")
    p.expect("an ACK of data and FIN", "A", 0, 8)
    p.put("FA", 0, 0, b"the end")
    p.expect("the same ACK", "A", 0, 8)
    p.put("FA", 7, 0)
    p.expect("the same ACK", "A", 0, 8)
    require(lab.read_soon(p.slot, 7) == b"the end" and lab.read(p.slot) == b"", "the end")
    p.put("A", 8, 0, b"behind it")
    p.sync()
    require(lab.read(p.slot) == b"", "data behind the FIN was taken")
    p.say("abort")


@case("FIN out of order", "RFC 9293 3.10.7.4")
def fin_early(lab: Lab) -> None:
    p = lab.peer()
    p.open()
    p.put("FA", 5, 0, b"FGHIJ")
    p.expect("a duplicate ACK", "A", 0, 0)
    require(lab.state(p.slot) == 1, "the FIN counted before its data")
    p.put("A", 0, 0, b"ABCDE")
    p.expect("an ACK of all", "A", 0, 11)
    require(lab.read_soon(p.slot, 10) == b"ABCDEFGHIJ", "data")
    p.say("abort")


@case("our FIN is repeated", "RFC 6298 5; RFC 9293 3.10.4")
def fin_again(lab: Lab) -> None:
    p = lab.peer()
    p.open()
    p.say("close")
    p.expect("our FIN", "FA", 0, 0)
    p.expect("our FIN again", "FA", 0, 0)
    p.put("A", 0, 1)
    p.quiet("FIN_WAIT2 sent something", 0.5)
    p.put("FA", 0, 1)
    p.expect("the last ACK", "A", 1, 1)


@case("both close at once", "RFC 9293 3.6, figure 13", both=True)
def together(lab: Lab) -> None:
    p = lab.peer()
    p.open()
    p.say("close")
    p.expect("our FIN", "FA", 0, 0)
    p.put("FA", 0, 0)
    p.expect("an ACK of theirs", "A", 1, 1)
    p.put("A", 1, 1)
    p.quiet("CLOSING sent something")
    p.put("FA", 0, 1)  # TIME_WAIT: a FIN again
    p.expect("the ACK again", "A", 1, 1)


def time_wait(lab: Lab, **more: object) -> Peer:
    """A connection in TIME_WAIT on their side; our side is at 1, theirs too."""
    p = lab.peer()
    p.open(**more)  # type: ignore[arg-type]
    p.say("close")
    p.expect("our FIN", "FA", 0, 0)
    p.put("FA", 0, 1)
    p.expect("the last ACK", "A", 1, 1)
    return p


@case(
    "TIME_WAIT: reset, old segments",
    "RFC 1337 3; RFC 9293 3.10.7.4",
    both=True,
    linux="net.ipv4.tcp_rfc1337 is 0 by default",
)
def tw_reset(lab: Lab) -> None:
    p = time_wait(lab)
    p.put("R", 1)
    p.quiet("a reset was answered")
    p.put("FA", 0, 1)
    p.expect("still there: an ACK", "A", 1, 1)
    lab.pause()
    p.put("A", 0, 1, b"old")
    p.expect("an ACK for an old duplicate", "A", 1, 1)
    p.put("A", 1, 1)
    p.quiet("a plain ACK was answered")


@case("TIME_WAIT: a newer SYN opens again", "RFC 9293 3.6.1; RFC 6191", both=True)
def tw_reopen(lab: Lab) -> None:
    p = time_wait(lab)
    old = p.irs
    q = lab.peer(own_port=p.own_port, iss=p.iss + 50000)
    q.open()
    require(((q.irs - old) & 0xFFFFFFFF) < 1 << 31, "the new numbers are below the old ones")
    q.say("abort")


@case("TIME_WAIT: an old SYN does not", "RFC 9293 3.6.1; RFC 6191 2")
def tw_old_syn(lab: Lab) -> None:
    p = time_wait(lab)
    p.put("S", -100)
    p.expect("an ACK", "A", 1, 1)
    # With timestamps a newer stamp opens, an older one does not.
    p = time_wait(lab, options=FULL)
    p.sync()
    p.put("S", 50000, options=[("Timestamp", (500, 0))])
    p.expect("an ACK for an older stamp", "A", 1, 1)
    q = lab.peer(own_port=p.own_port, iss=ISS - 50000)
    q.syn([("MSS", 1460), ("Timestamp", (9000, 0))])
    q.stamp = 9001
    q.put("A")
    require(lab.accept() is not None, "a newer stamp does not open")


@case("data for a program that has gone", "RFC 9293 3.6.1 (RFC 1122 4.2.2.13)", both=True)
def gone(lab: Lab) -> None:
    p = lab.peer()
    p.open()
    p.say("close")
    p.expect("our FIN", "FA", 0, 0)
    p.put("A", 0, 1, b"nobody reads this")
    seg = p.get("a reset")
    require("R" in seg.flags, f"{seg}")


@case("close with unread data resets", "RFC 2525 2.17", both=True)
def unread(lab: Lab) -> None:
    p = lab.peer()
    p.open()
    p.put("A", 0, 0, b"unread")
    p.sync()
    p.say("close")
    seg = p.get("a reset")
    require("R" in seg.flags and seg.seq == 0, f"{seg}")


@case("abort: linger 0", "RFC 9293 3.10.5 (MUST-12)")
def abort(lab: Lab) -> None:
    p = lab.peer()
    p.open()
    p.say("send 100")
    p.expect("data", "A", 0, 0)
    p.say("abort")
    p.expect("a reset", "RA", 100, 0)
    p.put("A", 0, 100)
    p.expect("a reset for what comes after", "R", 100)


@case("an orphan's closed window", "RFC 9293 3.8.6.1; not for ever without a program", slow=True)
def orphan_window(lab: Lab) -> None:
    p = lab.peer()
    p.open(window=0)
    p.put("A", 0, 0, window=0)
    p.say("send 100")
    p.say("close")
    start = time.monotonic()
    while time.monotonic() - start < 240:
        seg = p.maybe(130)
        if seg is None or "R" in seg.flags:
            return
        p.put("A", 0, 0, window=0)
    require(False, "a peer that only says `no room` keeps it for ever")


@case("FIN into a closed window", "RFC 9293 3.8.6.1")
def fin_window(lab: Lab) -> None:
    p = lab.peer()
    p.open(window=0)
    p.put("A", 0, 0, window=0)
    p.say("send 50")
    p.say(f"shut {WRITE}")
    end = time.monotonic() + WAIT
    seg = p.get("a probe")
    require(len(seg.payload) <= 1, f"{seg}")
    p.put("A", 0, 0, window=1000)
    while "F" not in seg.flags:
        seg = p.get("the rest and the FIN", end - time.monotonic())
    require(seg.seq + len(seg.payload) == 50, f"{seg}")
    p.put("A", 0, 51)
    p.say("abort")
