# SPDX-License-Identifier: BSD-2-Clause
"""Tap interfaces of the host: opening, and giving them an address, a bridge, a state.

A tap made by opening it goes with its last descriptor; one that was made before stays. One made
for several queues (IFF_MULTI_QUEUE) is opened once for each, and always with that flag.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import ipaddress
import os
import socket
import struct
from pathlib import Path

from capstan.errors import MachineError

INTERFACES = Path("/sys/class/net")
TUN_DEVICE = Path("/dev/net/tun")
# linux/if_tun.h, linux/sockios.h, linux/if.h
TUNSETIFF = 0x400454CA
SIOCGIFFLAGS, SIOCSIFFLAGS = 0x8913, 0x8914
SIOCSIFADDR, SIOCSIFNETMASK = 0x8916, 0x891C
SIOCBRADDIF = 0x89A2
IFF_UP = 0x1
IFF_TAP, IFF_NO_PI, IFF_VNET_HDR, IFF_MULTI_QUEUE = 0x0002, 0x1000, 0x4000, 0x0100
IFREQ = "16s24s"


class TapInUse(MachineError):
    """Somebody else has the interface."""


def is_multi_queue(name: str) -> bool | None:
    """Whether the tap was made for several queues; None: there is no such tap yet."""
    with contextlib.suppress(OSError, ValueError):
        flags = int((INTERFACES / name / "tun_flags").read_text(), 16)
        return bool(flags & IFF_MULTI_QUEUE)
    return None


def open_queue(name: str, *, is_multi: bool) -> int:
    """A descriptor of one queue of the tap, which is made when it is not there.

    Raises:
        MachineError: it cannot be opened; the hint says what to do.
    """
    try:
        fd = os.open(TUN_DEVICE, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as err:
        raise MachineError(
            f"{TUN_DEVICE}: {err.strerror}",
            hint="load the module (modprobe tun), allow it for your user, or use --net user",
        ) from err
    flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR | (IFF_MULTI_QUEUE if is_multi else 0)
    request = struct.pack("16sH22x", os.fsencode(name), flags)
    try:
        fcntl.ioctl(fd, TUNSETIFF, request)
    except OSError as err:
        os.close(fd)
        hints = {
            errno.EPERM: f"make it once: sudo ip tuntap add {name} mode tap user $USER && "
            f"sudo ip link set {name} up; or use --net user",
            errno.EBUSY: "another machine uses it: choose another interface",
            errno.EINVAL: "this interface is not a tap: choose another name",
        }
        raise (TapInUse if err.errno == errno.EBUSY else MachineError)(
            f"tap interface {name}: {err.strerror}",
            hint=hints.get(err.errno or 0, "use --net user, which needs no rights"),
        ) from err
    return fd


def _configure(name: str, request: int, payload: bytes, what: str) -> bytes:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        try:
            return fcntl.ioctl(s, request, struct.pack(IFREQ, os.fsencode(name), payload))
        except OSError as err:
            raise MachineError(
                f"interface {name}: cannot {what}: {err.strerror}",
                hint="this needs CAP_NET_ADMIN: sudo, or prepare a tap and name it: --net tap=NAME",
            ) from err


def _sockaddr(address: str) -> bytes:
    return struct.pack("HH4s8x", socket.AF_INET, 0, socket.inet_aton(address))


def set_address(name: str, address: str) -> None:
    """Give the host's end an address, ADDRESS/BITS."""
    own = ipaddress.IPv4Interface(address)
    _configure(name, SIOCSIFADDR, _sockaddr(str(own.ip)), f"set the address {own}")
    _configure(name, SIOCSIFNETMASK, _sockaddr(str(own.netmask)), f"set the address {own}")


def set_up(name: str) -> None:
    """Bring the interface up."""
    old = _configure(name, SIOCGIFFLAGS, b"", "read its flags")
    flags = struct.unpack_from("H", old, 16)[0] | IFF_UP
    _configure(name, SIOCSIFFLAGS, struct.pack("H", flags), "set it up")


def join_bridge(name: str, bridge: str) -> None:
    """Make the interface a port of the bridge."""
    index = struct.pack("i", socket.if_nametoindex(name))
    _configure(bridge, SIOCBRADDIF, index, f"add {name} to it")
