# SPDX-License-Identifier: BSD-2-Clause
"""A child's listening sockets get a longer queue."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys

import pytest

from capstan.run import backlog

CHILD = """
import socket, sys
s = socket.socket(); s.bind(("127.0.0.1", 0)); s.listen(1)
other = socket.socketpair(); unbound = socket.socket()
print(s.getsockname()[1], flush=True)
sys.stdin.read()
"""
CLIENTS = 50


def test_many_clients_connect_at_once() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", CHILD], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as child:
        assert child.stdout is not None
        port = int(child.stdout.readline())
        pidfd = os.pidfd_open(child.pid)
        try:
            assert backlog.lengthen(child.pid, pidfd) == 1
        except PermissionError as err:
            pytest.skip(f"this host does not allow pidfd_getfd ({err})")
        finally:
            os.close(pidfd)
        with contextlib.ExitStack() as clients:
            # Nobody accepts: each of these would wait a second for the queue of 1.
            for _ in range(CLIENTS):
                clients.enter_context(socket.create_connection(("127.0.0.1", port), 0.5))
        assert child.stdin is not None
        child.stdin.close()


def test_a_process_that_is_gone() -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as child:
        pidfd = os.pidfd_open(child.pid)
        child.wait()
        with pytest.raises(OSError):
            backlog.lengthen(child.pid, pidfd)
        os.close(pidfd)
