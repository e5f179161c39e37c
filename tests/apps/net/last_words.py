# SPDX-License-Identifier: BSD-2-Clause
"""At SIGTERM: write 4 MB to the client and be gone, without closing anything."""

import os
import random
import signal
import socket


def end(number, frame):
    client.sendall(random.Random(9).randbytes(4_000_000))
    os._exit(0)


server = socket.create_server(("::", 9), family=socket.AF_INET6, dualstack_ipv6=True)
while True:
    client, _ = server.accept()
    try:
        client.sendall(b"hello")
        signal.signal(signal.SIGTERM, end)
        client.recv(1)
    except ConnectionError:
        pass
