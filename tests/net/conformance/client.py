# SPDX-License-Identifier: BSD-2-Clause
"""A client with the host kernel's TCP: sends random bytes to the echo service, compares.

usage: python -m tests.net.conformance.client ADDRESS SECONDS|BYTESb [MAX_STALL]

Prints one line of JSON: bytes compared, the longest time without a byte, connections. Exit status
1: a wrong byte, a stall longer than MAX_STALL seconds, or no connection.
"""

from __future__ import annotations

import json
import random
import selectors
import socket
import sys
import time

CLIENT = "10.66.0.200"
PORT = 7
CHUNK = 16384
AT_ONCE = 256 << 10
TICK = 0.1


class Wrong(Exception):
    """Another byte than was sent, an end too early, or nothing for too long."""


def echo(address: str, seconds: float, total: int, max_stall: float) -> tuple[int, float]:
    """One connection: bytes compared and the longest stall."""
    rng = random.Random(time.monotonic_ns())
    with socket.create_connection((address, PORT), timeout=max(max_stall, 5)) as sock:
        sock.setblocking(False)
        waiting = bytearray()  # sent, not come back
        unsent = b""
        sent = got = 0
        start = last = time.monotonic()
        stall = longest = 0.0
        picker = selectors.DefaultSelector()
        picker.register(sock, selectors.EVENT_READ | selectors.EVENT_WRITE)
        while True:
            now = time.monotonic()
            may_send = (now - start < seconds) if not total else sent < total
            if not may_send and not waiting and not unsent:
                return got, longest
            wants = selectors.EVENT_READ
            if unsent or (may_send and len(waiting) < AT_ONCE):
                wants |= selectors.EVENT_WRITE
            picker.modify(sock, wants)
            events = picker.select(TICK)[0:1]
            mask = events[0][1] if events else 0
            # Time in which this process itself was held up is nobody's stall.
            stall += min(time.monotonic() - last, 2 * TICK)
            last = time.monotonic()
            if mask & selectors.EVENT_WRITE:
                if not unsent:
                    unsent = rng.randbytes(min(CHUNK, total - sent) if total else CHUNK)
                    waiting += unsent
                    sent += len(unsent)
                n = sock.send(unsent)
                unsent = unsent[n:]
            if mask & selectors.EVENT_READ:
                data = sock.recv(1 << 20)
                if not data:
                    raise Wrong(f"the end after {got} bytes")
                if data != waiting[: len(data)]:
                    raise Wrong(f"wrong bytes after {got}")
                del waiting[: len(data)]
                got += len(data)
                longest = max(longest, stall)
                stall = 0.0
            elif not waiting:
                stall = 0.0
            elif stall > max_stall:
                raise Wrong(f"nothing for {stall:.1f} s after {got} bytes")


def main() -> int:
    address, amount = sys.argv[1:3]
    max_stall = float(sys.argv[3]) if len(sys.argv) > 3 else 2.0
    try:
        if amount.endswith("b"):
            got, longest = echo(address, 0, int(amount[:-1]), max_stall)
            count = 1
        else:
            end = time.monotonic() + float(amount)
            got, longest, count = 0, 0.0, 0
            while time.monotonic() < end:
                left = min(5.0, max(end - time.monotonic(), 0.1))
                some, stall = echo(address, left, 0, max_stall)
                got, longest, count = got + some, max(longest, stall), count + 1
    except (OSError, Wrong) as err:
        print(json.dumps({"error": str(err)}))
        return 1
    print(json.dumps({"bytes": got, "longest": round(longest, 3), "connections": count}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
