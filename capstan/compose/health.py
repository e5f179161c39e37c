# SPDX-License-Identifier: BSD-2-Clause
"""Is a service ready? Asked from the host, inside the project's private network.

The host takes the network's last address for the moment and speaks just enough TCP: a port is open
when the guest itself answers with SYN-ACK. (A published port would not do: QEMU accepts
connections whether or not the guest does, and not every service has one.) A TCP check ends with
a reset before the program learns of the connection.
"""

from __future__ import annotations

import ipaddress
import re
import secrets
import select
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from capstan.compose import wire
from capstan.compose.model import Health, Probe
from capstan.compose.wire import ACK, FIN, PSH, RST, SYN, Arp, End, Segment
from capstan.run import lan

if TYPE_CHECKING:
    import socket
    from collections.abc import Iterator
    from typing import TypeGuard

REPEAT = 0.25  # a lost frame is sent again
MAX_STATUS_LINE = 4096
_STATUS = re.compile(rb"HTTP/1\.[01] (\d{3})(?: [^\r\n]*)?\r?\n")


@dataclass(frozen=True, slots=True)
class Target:
    """Whom to ask: `ip` is ADDRESS/BITS of the machine in its network."""

    segment: lan.Segment
    ip: str


def own_address(ip: str) -> str:
    """The address the host takes in the network of `ip` (ADDRESS/BITS): its last one."""
    net = ipaddress.IPv4Interface(ip).network
    return f"{net[-2]}/{net.prefixlen}"


def describe(health: Health) -> str:
    """The check as `x-capstan-health` has it."""
    return f"{health.probe.value}://:{health.port}" + (
        health.path if health.probe is Probe.HTTP else ""
    )


def parse(text: str) -> Health:
    """The check that `describe` wrote."""
    kind, _, rest = text.partition("://:")
    port, slash, path = rest.partition("/")
    return Health(Probe(kind), int(port), slash + path or "/")


def check(target: Target, health: Health, timeout: float | None = None) -> str | None:
    """None if the service is ready, else what is wrong.

    Raises:
        MachineError: this host cannot carry private networks.
    """
    end = time.monotonic() + (health.timeout if timeout is None else timeout)
    with lan.open_socket(target.segment) as member:
        dialogue = _Dialogue(member, target, health.port, end)
        return dialogue.tcp() if health.probe is Probe.TCP else dialogue.http(health.path)


class _Refused(Exception):
    """The guest said no."""


class _Late(Exception):
    """The guest did not answer in time."""


class _Dialogue:
    """One connection."""

    def __init__(self, member: socket.socket, target: Target, port: int, deadline: float) -> None:
        member.setblocking(False)
        self._member = member
        self._to = (target.segment.group, target.segment.port)
        self._deadline = deadline
        address = own_address(target.ip)
        plain = str(ipaddress.IPv4Interface(target.ip).ip)
        self._me = wire.end(lan.card_address(address), address.partition("/")[0])
        self._peer = wire.end(lan.card_address(target.ip), plain)
        self._sport = 32768 + secrets.randbelow(28000)
        self._dport = port
        self._seq = secrets.randbits(32)
        self._ack = 0

    def tcp(self) -> str | None:
        try:
            self._find()
            self._connect()
        except (_Refused, _Late) as err:
            return str(err)
        self._send(RST, seq=self._seq)
        return None

    def http(self, path: str) -> str | None:
        request = f"GET {path} HTTP/1.0\r\nHost: localhost\r\nUser-Agent: capstan\r\n\r\n".encode()
        try:
            self._find()
            self._connect()
            try:
                line = self._ask(request)
            finally:
                self._send(RST | ACK, seq=self._seq)
        except (_Refused, _Late) as err:
            return str(err)
        found = _STATUS.match(line)
        if not found:
            return f"port {self._dport} does not answer in HTTP"
        return None if 200 <= int(found[1]) < 400 else f"GET {path}: status {int(found[1])}"

    # --- steps ---

    def _find(self) -> None:
        """Let the guest know our Ethernet address, and see that it is there."""
        request = Arp(wire.REQUEST, self._me, End(bytes(6), self._peer.ip))
        for packet in self._exchange(wire.pack_arp(request), "the machine does not answer"):
            if isinstance(packet, Arp) and packet.sender == self._peer:
                return

    def _connect(self) -> None:
        first = self._frame(SYN, seq=self._seq)
        want = (self._seq + 1) & 0xFFFFFFFF
        for packet in self._exchange(first, f"port {self._dport} does not answer"):
            if not self._is_mine(packet) or packet.ack != want:
                continue
            if packet.flags & RST:
                raise _Refused(f"port {self._dport} is closed")
            if packet.flags & SYN:
                self._seq = want
                self._ack = (packet.seq + 1) & 0xFFFFFFFF
                return

    def _ask(self, request: bytes) -> bytes:
        """The beginning of the answer, its first line at least."""
        frame = self._frame(PSH | ACK, seq=self._seq, data=request)
        self._seq = (self._seq + len(request)) & 0xFFFFFFFF
        answer = b""
        for packet in self._exchange(frame, f"no answer from port {self._dport}"):
            if not self._is_mine(packet):
                continue
            if packet.flags & RST:
                raise _Refused(f"port {self._dport} ended the connection")
            if packet.seq != self._ack:
                continue
            answer += packet.data
            self._ack = (self._ack + len(packet.data)) & 0xFFFFFFFF
            if b"\n" in answer or packet.flags & FIN or len(answer) > MAX_STATUS_LINE:
                break
            if packet.data:
                self._send(ACK, seq=self._seq)
        return answer

    # --- frames ---

    def _is_mine(self, packet: Arp | Segment) -> TypeGuard[Segment]:
        return (
            isinstance(packet, Segment)
            and packet.source.ip == self._peer.ip
            and packet.target == self._me
            and (packet.sport, packet.dport) == (self._dport, self._sport)
        )

    def _frame(self, flags: int, *, seq: int, data: bytes = b"") -> bytes:
        ack = self._ack if flags & ACK else 0
        ports = (self._sport, self._dport)
        return wire.pack_segment(Segment(self._me, self._peer, *ports, seq, ack, flags, data))

    def _send(self, flags: int, *, seq: int) -> None:
        self._member.sendto(self._frame(flags, seq=seq), self._to)

    def _exchange(self, frame: bytes, late: str) -> Iterator[Arp | Segment]:
        """Send `frame`, again and again, and give back what comes; never ends but by the caller."""
        again = 0.0
        while True:
            now = time.monotonic()
            if now >= self._deadline:
                raise _Late(late)
            if now >= again:
                self._member.sendto(frame, self._to)
                again = now + REPEAT
            wait = min(again, self._deadline) - now
            ready, _, _ = select.select([self._member], [], [], max(wait, 0.001))
            if ready:
                packet = wire.unpack(self._member.recv(65536))
                if packet is not None:
                    self._answer(packet)
                    yield packet

    def _answer(self, packet: Arp | Segment) -> None:
        """The guest asks who we are."""
        if (
            isinstance(packet, Arp)
            and packet.op == wire.REQUEST
            and packet.target.ip == self._me.ip
        ):
            reply = Arp(wire.REPLY, self._me, packet.sender)
            self._member.sendto(wire.pack_arp(reply), self._to)
