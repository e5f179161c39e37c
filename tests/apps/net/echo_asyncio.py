# SPDX-License-Identifier: BSD-2-Clause
"""Echo over TCP and UDP at port 7, both families, with asyncio."""

import asyncio
import signal
import socket


async def echo(reader, writer):
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
        writer.close()
        await writer.wait_closed()
    except ConnectionError:
        pass


class Datagrams(asyncio.DatagramProtocol):
    def connection_made(self, transport):
        self.transport = transport

    def datagram_received(self, data, addr):
        self.transport.sendto(data, addr)


async def main():
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, ended.set)
    server = await asyncio.start_server(echo, ["0.0.0.0", "::"], 7, backlog=200)
    datagrams = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    datagrams.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    datagrams.bind(("::", 7))
    await loop.create_datagram_endpoint(Datagrams, sock=datagrams)
    async with server:
        await ended.wait()
    print("ended")


asyncio.run(main())
