# SPDX-License-Identifier: BSD-2-Clause
"""Ports 9000 to 9004 say their own number, over TCP and UDP."""

import selectors
import signal
import socket
import sys

signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(0))
chosen = selectors.DefaultSelector()
for port in range(9000, 9005):
    server = socket.create_server(("0.0.0.0", port))
    chosen.register(server, selectors.EVENT_READ, port)
    datagrams = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    datagrams.bind(("0.0.0.0", port))
    chosen.register(datagrams, selectors.EVENT_READ, port)
print("listening", flush=True)
while True:
    for key, _ in chosen.select():
        if key.fileobj.type == socket.SOCK_DGRAM:
            _, peer = key.fileobj.recvfrom(100)
            key.fileobj.sendto(b"%d" % key.data, peer)
        else:
            client, _ = key.fileobj.accept()
            client.sendall(b"%d" % key.data)
            client.close()
