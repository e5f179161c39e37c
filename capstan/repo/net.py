# SPDX-License-Identifier: BSD-2-Clause
"""Sockets with a deadline for all that is read, not only for each read.

Without it a peer that sends a byte now and then holds us forever. The deadline belongs to the
thread, which has one request at a time.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
import time
import weakref
from collections.abc import Iterable
from typing import Any

import httpcore

_thread = threading.local()


def set_deadline(until: float) -> None:
    """From `until` (of `time.monotonic`) on, what this thread reads or writes fails."""
    _thread.until = until


def _left(timeout: float | None) -> float:
    until: float = getattr(_thread, "until", 0.0)
    left = until - time.monotonic()
    return max(min(left, timeout) if timeout is not None else left, 0.0)


class Stream(httpcore.NetworkStream):
    """A connection whose reads and writes end at the thread's deadline."""

    def __init__(self, inner: httpcore.NetworkStream) -> None:
        self._inner = inner

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        """Some bytes."""
        left = _left(timeout)
        if left <= 0:
            raise httpcore.ReadTimeout("the deadline has passed")
        return self._inner.read(max_bytes, left)

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        """Send everything."""
        left = _left(timeout)
        if left <= 0:
            raise httpcore.WriteTimeout("the deadline has passed")
        self._inner.write(buffer, left)

    def close(self) -> None:
        """Close the connection."""
        self._inner.close()

    def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,
    ) -> httpcore.NetworkStream:
        """The connection with TLS around it."""
        self._inner = self._inner.start_tls(ssl_context, server_hostname, timeout)
        return self

    def abort(self) -> None:
        """Make whoever waits for this connection fail."""
        raw = self._inner.get_extra_info("socket")
        with contextlib.suppress(OSError, AttributeError):
            raw.shutdown(socket.SHUT_RDWR)

    def get_extra_info(self, info: str) -> Any:
        """Facts httpcore asks for."""
        return self._inner.get_extra_info(info)


class Backend(httpcore.NetworkBackend):
    """Makes such connections."""

    def __init__(self) -> None:
        self._inner = httpcore.SyncBackend()
        self._made: weakref.WeakSet[Stream] = weakref.WeakSet()
        self._lock = threading.Lock()

    def abort(self) -> None:
        """Make whoever waits for one of the connections fail."""
        with self._lock:
            for stream in list(self._made):
                stream.abort()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.NetworkStream:
        """A connection to a port."""
        made = Stream(self._inner.connect_tcp(host, port, timeout, local_address, socket_options))
        with self._lock:
            self._made.add(made)
        return made
