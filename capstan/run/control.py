# SPDX-License-Identifier: BSD-2-Clause
"""The control socket of an instance: one line of JSON to its owner, one back.

The owner answers from its poll loop; a request that takes time (`stop`, `wait`) keeps its
connection and is answered later. The socket is in a directory only the user can enter, and is
bound and reached through /proc/self/fd, since a path of a socket has 107 characters at most.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import socket
import time
from typing import TYPE_CHECKING, Any

from capstan.errors import MachineError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    Message = Mapping[str, Any]

LINE_MAX = 256 << 10
MOST_CLIENTS = 64
CONNECT_DEADLINE = 5.0


class NoAnswer(MachineError):
    """The owner did not answer in time."""


@contextlib.contextmanager
def _reachable(path: Path) -> Any:
    folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)


class Client:
    """One connection at the owner's end."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.received = bytearray()
        self.to_send = bytearray()
        self.is_last = False

    def answer(self, **values: object) -> None:
        """Send a line; the connection goes on."""
        self.to_send += json.dumps(values).encode() + b"\n"
        self.push()

    def fail(self, message: str) -> None:
        """Refuse what was asked."""
        self.answer(error=message)

    def push(self) -> None:
        """Send what the peer takes."""
        with contextlib.suppress(BlockingIOError):
            try:
                del self.to_send[: self.sock.send(self.to_send)]
            except BlockingIOError:
                raise
            except OSError:
                self.to_send.clear()
                self.is_last = True


class Server:
    """The owner's end; `handle` is called with each request."""

    def __init__(self, path: Path, handle: Callable[[Client, Message], None]) -> None:
        self._handle = handle
        self._clients: dict[int, Client] = {}
        self._sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        path.unlink(missing_ok=True)
        with _reachable(path) as name:
            self._sock.bind(name)
        self._sock.listen(16)

    def wants(self) -> dict[int, int]:
        """Descriptors and poll masks."""
        wanted = {self._sock.fileno(): select.POLLIN}
        for fd, client in self._clients.items():
            wanted[fd] = select.POLLIN | (select.POLLOUT if client.to_send else 0)
        return wanted

    def serve(self, ready: Mapping[int, int]) -> None:
        """Deal with the descriptors that are ready."""
        for fd, client in list(self._clients.items()):
            if ready.get(fd, 0) & select.POLLOUT:
                client.push()
            if ready.get(fd, 0) & (select.POLLIN | select.POLLHUP | select.POLLERR):
                self._receive(client)
            if client.is_last and not client.to_send:
                self._drop(fd)
        if self._sock.fileno() in ready:
            self._accept()

    def close(self, deadline: float = 1.0) -> None:
        """Send what is left, and end all connections."""
        end = time.monotonic() + deadline
        for client in self._clients.values():
            client.sock.setblocking(True)
            client.sock.settimeout(max(0.01, end - time.monotonic()))
            with contextlib.suppress(OSError):
                client.sock.sendall(client.to_send)
            client.sock.close()
        self._clients.clear()
        self._sock.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            sock, _ = self._sock.accept()
            sock.setblocking(False)
            if len(self._clients) >= MOST_CLIENTS:
                sock.close()
                return
            self._clients[sock.fileno()] = Client(sock)

    def _drop(self, fd: int) -> None:
        self._clients.pop(fd).sock.close()

    def _receive(self, client: Client) -> None:
        try:
            data = client.sock.recv(65536)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        client.received += data
        if not data or len(client.received) > LINE_MAX:
            client.is_last = True
            client.to_send.clear()
            return
        *lines, rest = client.received.split(b"\n")
        client.received = bytearray(rest)
        for line in lines:
            self._take(client, bytes(line))

    def _take(self, client: Client, line: bytes) -> None:
        try:
            message = json.loads(line)
        except ValueError:
            message = None
        if isinstance(message, dict) and isinstance(message.get("op"), str):
            self._handle(client, message)
        else:
            client.fail("not a request")


class Connection:
    """The other end: a command that asks an instance's owner.

    Raises:
        MachineError: from the constructor: nobody listens.
    """

    def __init__(self, path: Path) -> None:
        self._sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._sock.settimeout(CONNECT_DEADLINE)
        self._rest = b""
        try:
            with _reachable(path) as name:
                self._sock.connect(name)
        except OSError as err:
            self._sock.close()
            raise MachineError(f"the instance does not answer: {err.strerror or err}") from err

    def __enter__(self) -> Connection:
        return self

    def __exit__(self, *_: object) -> None:
        self._sock.close()

    def fileno(self) -> int:
        """The descriptor, for poll."""
        return self._sock.fileno()

    def send(self, op: str, **values: object) -> None:
        """Ask; `receive` gets the answer.

        Raises:
            MachineError: the owner is gone.
        """
        try:
            self._sock.sendall(json.dumps({"op": op, **values}).encode() + b"\n")
        except OSError as err:
            raise MachineError(f"the instance does not answer: {err}") from err

    def receive(self, deadline: float | None) -> dict[str, Any] | None:
        """The next answer, None when the owner ended without one.

        Raises:
            NoAnswer: none within `deadline` seconds.
            MachineError: a refusal.
        """
        end = None if deadline is None else time.monotonic() + deadline
        while b"\n" not in self._rest:
            self._sock.settimeout(None if end is None else max(0.001, end - time.monotonic()))
            try:
                data = self._sock.recv(65536)
            except TimeoutError as err:
                raise NoAnswer(f"no answer within {deadline:g} seconds") from err
            except OSError:
                data = b""
            if not data:
                return None
            self._rest += data
        line, _, self._rest = self._rest.partition(b"\n")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise MachineError(str(answer["error"]), hint=answer.get("hint"))
        return answer
