# SPDX-License-Identifier: BSD-2-Clause
"""Private networks: choosing one, what QEMU and the guest are told, names."""

from __future__ import annotations

import contextlib
import dataclasses
import ipaddress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capstan.errors import MachineError, UsageError
from capstan.run import lan, params
from capstan.run.hostcaps import HostCaps
from capstan.run.qemu_argv import argv
from capstan.run.spec import Accel, MachineSpec, RunSpec

SEGMENT = lan.Segment("239.192.1.2", 61000)
CARD = lan.Lan(SEGMENT, "10.89.3.2/24", lan.card_address("10.89.3.2/24"))
HOST = HostCaps(Path("/usr/bin/qemu-system-x86_64"), (7, 2, 0))


@given(st.binary(min_size=6, max_size=6))
def test_a_segment_is_in_the_local_scope(entropy: bytes) -> None:
    found = lan.choose(entropy, (), ())
    assert ipaddress.ip_address(found.group) in lan.GROUPS
    assert found.port in lan.PORTS


@given(st.binary(min_size=6, max_size=6))
def test_taken_and_joined_ones_are_not_chosen(entropy: bytes) -> None:
    first = lan.choose(entropy, (), ())
    second = lan.choose(entropy, (first,), ())
    third = lan.choose(entropy, (first,), (second.group,))
    assert len({first, second, third}) == 3


def test_no_segment_left() -> None:
    class Everything:
        def __contains__(self, _: object) -> bool:
            return True

    with pytest.raises(MachineError, match="no free multicast group"):
        lan.choose(b"123456", Everything(), ())


def test_groups_of_the_kernel_s_table() -> None:
    table = (
        "Idx\tDevice    : Count Querier\tGroup    Users Timer\tReporter\n"
        "1\tlo        :     2      V3\n"
        "\t\t\t\t0201C0EF     2 0:00000000\t\t0\n"
        "\t\t\t\t010000E0     1 0:00000000\t\t0\n"
    )
    assert lan.joined_groups(table) == {"239.192.1.2", "224.0.0.1"}


def test_a_member_shows_in_the_table() -> None:
    with lan.open_socket(SEGMENT):
        assert SEGMENT.group in lan.joined_groups()
    assert SEGMENT.group not in lan.joined_groups()


def test_frames_stay_in_their_segment() -> None:
    others = (
        lan.Segment(SEGMENT.group, SEGMENT.port + 1),
        lan.Segment("239.192.1.3", SEGMENT.port),
    )
    with contextlib.ExitStack() as opened:
        one, two, *strangers = (
            opened.enter_context(lan.open_socket(place)) for place in (SEGMENT, SEGMENT, *others)
        )
        one.sendto(b"frame", (SEGMENT.group, SEGMENT.port))
        two.settimeout(5)
        assert two.recv(100) == b"frame"
        for stranger in strangers:
            stranger.setblocking(False)
            with pytest.raises(BlockingIOError):
                stranger.recv(100)


def test_a_card_s_address_is_its_own() -> None:
    assert CARD.mac == "52:54:0a:59:03:02"
    assert CARD.parameter == "52:54:0a:59:03:02 10.89.3.2/24"


def test_the_card_comes_before_the_one_for_the_outside() -> None:
    spec = MachineSpec(kernel=Path("/k"), accel=Accel.TCG, serial=3, lans=(CARD,))
    line = argv(spec, HOST)
    assert "socket,id=lan0,mcast=239.192.1.2:61000,localaddr=127.0.0.1" in line
    assert "virtio-net-device,netdev=lan0,mac=52:54:0a:59:03:02" in line


def test_what_the_guest_is_told() -> None:
    spec = RunSpec(Path("/d"), Path("/k"), ("/p",), {}, lans=(CARD,), hosts=("10.89.3.3\tdb",))
    blob = params.build(spec, params.Terminal(), bytes(32), 0).split(b"\0")
    assert b"lan=52:54:0a:59:03:02 10.89.3.2/24" in blob
    assert b"host=10.89.3.3\tdb" in blob
    bare = params.build(dataclasses.replace(spec, lans=(), hosts=()), params.Terminal(), b"", 0)
    assert b"lan=" not in bare and b"host=" not in bare


def test_hosts() -> None:
    assert lan.parse_hosts(("db:10.0.0.1", "v6=[2001:db8::1]")) == (
        "10.0.0.1\tdb",
        "2001:db8::1\tv6",
    )


@pytest.mark.parametrize(
    "text", ["db", "db:", ":1.2.3.4", "db:1.2.3", "d b:1.2.3.4", "a\nb:1.2.3.4"]
)
def test_bad_hosts(text: str) -> None:
    with pytest.raises(UsageError, match="NAME:ADDRESS"):
        lan.parse_hosts((text,))


def test_a_socket_needs_a_group() -> None:
    with pytest.raises(MachineError, match="cannot be used"):
        lan.open_socket(lan.Segment("127.0.0.1", 61000))
