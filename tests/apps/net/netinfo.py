# SPDX-License-Identifier: BSD-2-Clause
"""What the guest's network looks like from inside, as JSON; the arguments are names to look up.

Waits a few seconds for an IPv6 address that a router has to announce first.
"""

import json
import socket
import sys
import time


def addresses():
    with open("/proc/net/if_inet6") as table:
        rows = [line.split() for line in table]
    found = [bytes.fromhex(row[0]) for row in rows if row[5] != "lo"]
    return [socket.inet_ntop(socket.AF_INET6, raw) for raw in found]


def lookup(name):
    try:
        return sorted({a[4][0] for a in socket.getaddrinfo(name, 80, type=socket.SOCK_STREAM)})
    except OSError as err:
        return str(err)


deadline = time.monotonic() + 8
while time.monotonic() < deadline and all(a.startswith("fe80") for a in addresses()):
    time.sleep(0.1)
with open("/etc/resolv.conf") as resolv, open("/etc/hosts") as hosts:
    said = {
        "hostname": socket.gethostname(),
        "own": lookup(socket.gethostname()),
        "ipv6": addresses(),
        "resolv": resolv.read().split("\n"),
        "hosts": hosts.read().split("\n"),
        "names": {name: lookup(name) for name in sys.argv[1:]},
    }
print(json.dumps(said), flush=True)
