# SPDX-License-Identifier: BSD-2-Clause
"""A bad line between two interfaces: loses, repeats, delays and reorders packets.

usage: python -m tests.net.conformance.forward IF1 IF2 LOSS% DUP% DELAY_MS JITTER_MS

Large segments are cut into packets first, so that each packet has its own fate. Runs until it is
told to end by a signal, then prints what it did.
"""

from __future__ import annotations

import heapq
import random
import select
import signal
import socket
import struct
import sys
import time
from dataclasses import dataclass
from types import FrameType

from tests.net.conformance.wire import (
    PACKET_IGNORE_OUTGOING,
    PACKET_VNET_HDR,
    SOL_PACKET,
    VNET_HEADER,
    checksum,
    complete,
)


@dataclass(frozen=True, slots=True)
class Line:
    """What the line is like."""

    loss: float
    dup: float
    delay: float
    jitter: float


class Ended(Exception):
    """Told to end."""


def open_interface(name: str) -> socket.socket:
    """All frames that come in there."""
    sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
    sock.setsockopt(SOL_PACKET, PACKET_VNET_HDR, 1)
    sock.setsockopt(SOL_PACKET, PACKET_IGNORE_OUTGOING, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 32 << 20)
    sock.bind((name, 0))
    return sock


def cut(data: bytes, size: int) -> list[bytes]:
    """The packets of a large TCP segment, as a card would send them."""
    is_v4 = data[12:14] == b"\x08\0"
    at = 14 + ((data[14] & 15) * 4 if is_v4 else 40)
    head_end = at + (data[at + 12] >> 4) * 4
    seq = struct.unpack_from("!I", data, at + 4)[0]
    flags = data[at + 13]
    found = []
    for off in range(head_end, len(data), size):
        body = data[off : off + size]
        head = bytearray(data[:head_end])
        is_last = off + size >= len(data)
        struct.pack_into("!I", head, at + 4, (seq + off - head_end) & 0xFFFFFFFF)
        head[at + 13] = flags if is_last else flags & ~0x09
        head[at + 16 : at + 18] = b"\0\0"
        length = head_end - at + len(body)
        if is_v4:
            struct.pack_into("!H", head, 16, at - 14 + length)
            ident = struct.unpack_from("!H", head, 18)[0]
            struct.pack_into("!H", head, 18, (ident + (off - head_end) // size) & 0xFFFF)
            head[24:26] = b"\0\0"
            head[24:26] = checksum(bytes(head[14:at])).to_bytes(2, "big")
            pseudo = bytes(head[26:34])
        else:
            struct.pack_into("!H", head, 18, length)
            pseudo = bytes(head[22:54])
        pseudo += struct.pack("!II", length, 6)
        value = checksum(pseudo + bytes(head[at:]) + body)
        head[at + 16 : at + 18] = value.to_bytes(2, "big")
        found.append(bytes(head) + body)
    return found


def packets_of(raw: bytes) -> list[bytes]:
    """What would have been on the wire."""
    header = VNET_HEADER.unpack_from(raw)
    if header[1] & 0x7F:
        return cut(raw[10:], header[3])
    return [complete(header, raw[10:])]


def run(ends: tuple[socket.socket, socket.socket], line: Line) -> tuple[int, int]:
    """Carries packets until Ended; how many, and how many of them were lost."""
    rng = random.Random(1)
    waiting: list[tuple[float, int, int, bytes]] = []
    count = lost = 0
    try:
        while True:
            now = time.monotonic()
            while waiting and waiting[0][0] <= now:
                _, _, to, data = heapq.heappop(waiting)
                try:
                    ends[to].send(bytes(10) + data)
                except OSError:
                    lost += 1
            pause = max(waiting[0][0] - now, 0) if waiting else 1.0
            for ready in select.select(list(ends), [], [], pause)[0]:
                to = 1 if ready is ends[0] else 0
                for data in packets_of(ready.recv(70000)):
                    count += 1
                    copies = 2 if rng.random() < line.dup else 1
                    if rng.random() < line.loss:
                        lost += 1
                        copies -= 1
                    for copy in range(copies):
                        due = now + line.delay + rng.random() * line.jitter
                        heapq.heappush(waiting, (due, count * 2 + copy, to, data))
    except Ended:
        return count, lost


def stop(_number: int, _frame: FrameType | None) -> None:
    raise Ended


def main() -> int:
    one, two, loss, dup, delay, jitter = sys.argv[1:7]
    signal.signal(signal.SIGTERM, stop)
    line = Line(float(loss) / 100, float(dup) / 100, float(delay) / 1000, float(jitter) / 1000)
    ends = (open_interface(one), open_interface(two))
    print("ready", flush=True)
    count, lost = run(ends, line)
    print(f"{count} packets, {lost} lost")
    return 0


if __name__ == "__main__":
    sys.exit(main())
