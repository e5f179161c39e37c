# SPDX-License-Identifier: BSD-2-Clause
"""Longer queues for the ports that QEMU's own network publishes.

libslirp calls listen(fd, 1) and accepts one connection per turn of QEMU's loop: of 50 clients
that connect at once, Linux drops most handshakes, and each waits for a retransmission (1, 2, 4
seconds). The length of the queue belongs to the socket, so whoever holds a copy of the
descriptor may set it anew; a parent may copy its child's (`man 2 pidfd_getfd`).
"""

from __future__ import annotations

import ctypes
import os
import socket
from pathlib import Path

LENGTH = 4096  # Linux cuts it to net.core.somaxconn
SYS_PIDFD_GETFD = 438  # x86-64; Linux 5.6


def lengthen(pid: int, pidfd: int) -> int:
    """How many listening sockets of the child `pid` now have a queue of LENGTH connections.

    Raises:
        OSError: the host does not let us copy descriptors (a container's filter, Yama).
    """
    count = 0
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        try:
            is_socket = entry.readlink().name.startswith("socket:")
        except FileNotFoundError:
            continue  # closed in the meantime
        if is_socket:
            count += _lengthen_one(pidfd, int(entry.name))
    return count


def _lengthen_one(pidfd: int, number: int) -> bool:
    with socket.socket(fileno=_copy(pidfd, number)) as copy:
        internet = copy.family in (socket.AF_INET, socket.AF_INET6)
        if not internet or not copy.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
            return False
        copy.listen(LENGTH)
    return True


def _copy(pidfd: int, number: int) -> int:
    call = ctypes.CDLL(None, use_errno=True).syscall
    fd = int(call(SYS_PIDFD_GETFD, pidfd, number, 0))
    if fd < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return fd
