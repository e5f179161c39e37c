# SPDX-License-Identifier: BSD-2-Clause
"""The two hands of a case: `Lab` moves the puppet behind the stack, `Peer` plays the other end.

Sequence numbers of a `Peer` are relative: 0 is the first byte behind each side's SYN.
"""

from __future__ import annotations

import itertools
import random
import time
from collections.abc import Callable
from dataclasses import dataclass

from scapy.layers.inet import IP, TCP, UDP
from scapy.packet import Packet, Raw

from tests.net.conformance.wire import (
    CONTROL,
    PEER4,
    US4,
    WAIT,
    Failure,
    Frame,
    Wire,
    checksum,
    describe,
    ip,
    is_tcp,
    require,
)

ECHO, PUPPET, CLOSED = 7, 1000, 4444
ISS = 0x10000000
IPPROTO_TCP, SOL_SOCKET = 6, 1
# Not the same in each run: Linux, the oracle, outlives them.
_ports = itertools.count(random.SystemRandom().randrange(10000, 50000))
FULL = (("MSS", 1460), ("SAckOK", b""), ("Timestamp", (1000, 0)), ("NOP", None), ("WScale", 7))


@dataclass
class Lab:
    """One stack under test."""

    wire: Wire
    name: str
    v6: bool = False
    number: int = 0

    def command(self, line: str) -> str:
        """What the puppet answers."""
        self.number += 1
        packet = (
            IP(src=CONTROL, dst=US4)
            / UDP(sport=999, dport=9)
            / Raw(f"{self.number} {line}".encode())
        )
        for _ in range(4):  # the puppet does a command with the same number once
            self.wire.send(packet)
            got = self.wire.take(self._is_answer, WAIT / 2)
            if got is not None:
                return bytes(got.packet[UDP].payload).decode().split(" ", 1)[1]
        raise Failure(f"the puppet does not answer to {line!r}")

    def _is_answer(self, packet: Packet) -> bool:
        return (
            UDP in packet
            and packet[UDP].sport == 9
            and packet[IP].dst == CONTROL
            and bytes(packet[UDP].payload).startswith(b"%d " % self.number)
        )

    def do(self, line: str) -> int:
        """The number the puppet answers with; an error fails the case."""
        answer = self.command(line)
        require(answer.startswith("ok "), f"{line}: {answer}")
        return int(answer.split()[1])

    def accept(self) -> int | None:
        """The slot of the next connection, or None."""
        answer = self.command("accept")
        return int(answer.split()[1]) if answer.startswith("ok") else None

    def read(self, slot: int, most: int = 1024) -> bytes | int:
        """Bytes, or the error's number (11: nothing there)."""
        words = self.command(f"read {slot} {most}").split()
        require(words[0] == "ok", f"read: {words}")
        return int(words[2]) if words[1] == "-1" else bytes.fromhex(words[2] if words[2:] else "")

    def read_soon(self, slot: int, least: int = 1) -> bytes:
        """At least so many bytes."""
        end = time.monotonic() + WAIT
        data = b""
        while len(data) < least:
            some = self.read(slot)
            if isinstance(some, bytes):
                require(some, f"the end after {len(data)} of {least} bytes")
                data += some
            else:
                require(some == 11 and time.monotonic() < end, f"reading ends with error {some}")
        return data

    def peer(self, port: int = PUPPET, **more: object) -> Peer:
        """A new peer."""
        return Peer(self, port, **more)  # type: ignore[arg-type]

    def state(self, slot: int) -> int:
        """As in TCP_INFO: 1 established, 4 FIN_WAIT1, 5 FIN_WAIT2, 7 closed, 8 CLOSE_WAIT."""
        return int(self.command(f"info {slot}").split()[1])

    def pause(self) -> None:
        """Until Linux sends one more challenge ACK: it has one in half a second."""
        if self.name == "linux":
            time.sleep(0.55)

    def mss(self, slot: int) -> int:
        """What TCP_INFO says of the segment size."""
        return int(self.command(f"info {slot}").split()[2])


@dataclass
class Seg:
    """A segment that came, numbers relative."""

    flags: str
    seq: int
    ack: int
    window: int
    payload: bytes
    options: dict[str, object]
    frame: Frame

    def __str__(self) -> str:
        return (
            f"[{self.flags}] seq {self.seq} ack {self.ack} len {len(self.payload)} "
            f"window {self.window} {self.options}"
        )


def signed(value: int) -> int:
    """A difference of sequence numbers."""
    value &= 0xFFFFFFFF
    return value - (1 << 32) if value >> 31 else value


class Peer:
    """One TCP connection, played by hand."""

    def __init__(
        self, lab: Lab, port: int, *, own_port: int = 0, source: str = "", iss: int = ISS
    ) -> None:
        self.lab, self.port = lab, port
        self.own_port = own_port or next(_ports)
        self.source = source
        self.iss, self.irs = iss, 0
        self.window = 65535
        self.slot = -1
        self.stamp: int | None = None  # our timestamp, when they are on
        self.echo = 0

    # --- sending ---

    def packet(self, flags: str, seq: int, ack: int, data: bytes, **tcp: object) -> Packet:
        """A segment as scapy has it."""
        options = tcp.pop("options", None)
        if options is None:
            options = [("Timestamp", (self.stamp, self.echo))] if self.stamp is not None else []
        fields = {"src": self.source} if self.source else {}
        head = TCP(
            sport=self.own_port,
            dport=self.port,
            flags=flags,
            seq=(self.iss + 1 + seq) & 0xFFFFFFFF,
            ack=(self.irs + 1 + ack) & 0xFFFFFFFF if "A" in flags else 0,
            window=tcp.pop("window", self.window),
            options=list(options),
            **tcp,
        )
        return ip(self.lab.v6, **fields) / head / Raw(data)

    def put(self, flags: str, seq: int = 0, ack: int = 0, data: bytes = b"", **tcp: object) -> None:
        """Sends a segment."""
        self.lab.wire.send(self.packet(flags, seq, ack, data, **tcp))

    # --- receiving ---

    def _seg(self, frame: Frame) -> Seg:
        tcp = frame.packet[TCP]
        options = {str(name): value for name, value in tcp.options}
        if "Timestamp" in options:
            self.echo = options["Timestamp"][0]  # type: ignore[index]
        size = tcp.dataofs * 4
        start = len(frame.data) - len(bytes(tcp))
        end = 14 + (frame.packet.len if not self.lab.v6 else 40 + frame.packet.plen)
        return Seg(
            flags=str(tcp.flags),
            seq=signed(tcp.seq - self.irs - 1),
            ack=signed(tcp.ack - self.iss - 1),
            window=tcp.window,
            payload=frame.data[start + size : end],
            options=options,
            frame=frame,
        )

    def maybe(self, seconds: float = WAIT) -> Seg | None:
        """The next segment, or None."""
        frame = self.lab.wire.take(is_tcp(self.own_port, self.lab.v6), seconds)
        return self._seg(frame) if frame is not None else None

    def get(self, what: str, seconds: float = WAIT) -> Seg:
        """The next segment."""
        seg = self.maybe(seconds)
        if seg is None:
            raise Failure(f"{what}: nothing came")
        return seg

    def expect(
        self,
        what: str,
        flags: str,
        seq: int | None = None,
        ack: int | None = None,
        data: bytes | None = None,
        seconds: float = WAIT,
    ) -> Seg:
        """The next segment is this one. PSH does not matter."""
        seg = self.get(what, seconds)
        good = set(seg.flags) - {"P"} == set(flags) - {"P"}
        good &= seq is None or seg.seq == seq
        good &= ack is None or "A" not in flags or seg.ack == ack
        good &= data is None or seg.payload == data
        wanted = f"[{flags}] seq {seq} ack {ack} {'' if data is None else f'len {len(data)}'}"
        require(good, f"{what}: {seg} instead of {wanted}")
        return seg

    def quiet(self, what: str, seconds: float = 0) -> None:
        """Nothing may come."""
        self.lab.wire.quiet(is_tcp(self.own_port, self.lab.v6), what, seconds)

    def sync(self) -> None:
        """Forgets what came for this connection, when all has been dealt with."""
        self.lab.wire.fence()
        while self.maybe(0):
            pass

    def all_data(self, seconds: float) -> list[Seg]:
        """The segments with data of a stretch of time."""
        end = time.monotonic() + seconds
        found = []
        while (seg := self.maybe(end - time.monotonic())) is not None:
            if seg.payload:
                found.append(seg)
        return found

    # --- opening and closing ---

    def syn(self, options: object = (("MSS", 1460),), **tcp: object) -> Seg:
        """SYN, and the SYN-ACK that answers."""
        self.put("S", -1, options=options, **tcp)
        seg = self.get("the answer to a SYN")
        require(set(seg.flags) == {"S", "A"} and seg.ack == 0, f"SYN was answered with {seg}")
        self.irs = seg.frame.packet[TCP].seq
        return self._seg(seg.frame)

    def open(self, options: object = (("MSS", 1460),), **tcp: object) -> Seg:
        """The whole handshake; `slot` is the puppet's end of it."""
        seg = self.syn(options, **tcp)
        if "Timestamp" in seg.options:
            self.stamp = 1001
        self.put("A")
        if self.port == PUPPET:
            slot = self.lab.accept()
            require(slot is not None, "the connection was not accepted")
            self.slot = slot if slot is not None else -1
        return seg

    def say(self, line: str) -> int:
        """A command about this connection: `VERB ARGUMENTS`, the slot is put in."""
        verb, _, rest = line.partition(" ")
        return self.lab.do(f"{verb} {self.slot} {rest}")

    def is_open(self) -> None:
        """Fails unless the connection stands and carries data."""
        require(self.lab.state(self.slot) == 1, f"its state is {self.lab.state(self.slot)}")


def pattern(n: int, start: int = 0) -> bytes:
    """What the puppet sends."""
    return bytes((start + i) % 251 for i in range(n))


def noise(n: int, seed: int) -> bytes:
    """Bytes nobody guesses."""
    return random.Random(seed).randbytes(n)


# --- cases ---


@dataclass(frozen=True, slots=True)
class Case:
    """One rule. `families`: also over IPv6; `slow`: only in the long run; `slow6`: over IPv6."""

    name: str
    rule: str
    run: Callable[[Lab], None]
    families: tuple[bool, ...]
    slow: bool
    slow6: bool
    linux: str  # why Linux may do something else, "" when it may not


CASES: list[Case] = []


def case(
    name: str,
    rule: str,
    *,
    both: bool = False,
    v6: bool = False,
    slow: bool = False,
    slow6: bool = False,
    linux: str = "",
) -> Callable[[Callable[[Lab], None]], Callable[[Lab], None]]:
    """Puts a function into the table of cases."""

    def add(run: Callable[[Lab], None]) -> Callable[[Lab], None]:
        families = (False, True) if both else (v6,)
        CASES.append(Case(name, rule, run, families, slow, slow6, linux))
        return run

    return add


__all__ = [
    "CASES",
    "CLOSED",
    "ECHO",
    "FULL",
    "PEER4",
    "PUPPET",
    "Case",
    "Failure",
    "Lab",
    "Peer",
    "Seg",
    "case",
    "checksum",
    "describe",
    "noise",
    "pattern",
    "require",
    "signed",
]
