# SPDX-License-Identifier: BSD-2-Clause
"""The guest's network: what the options mean, QEMU's words for it, and what is told beforehand."""

from __future__ import annotations

import dataclasses
import ipaddress
import os
import socket
from pathlib import Path

import pytest

from capstan.errors import MachineError, UsageError
from capstan.manifest import RunConfig
from capstan.run import net, tap, tapattach
from capstan.run.hostcaps import HostCaps
from capstan.run.net import Forward, NetKind, NetOptions, NetSpec
from capstan.run.qemu_argv import argv
from capstan.run.spec import Accel, MachineSpec, MachineType

ENTROPY = b"\x01\x02\xff"


def plan(*ports: str, **options: object) -> NetSpec | None:
    image = RunConfig(("/x",), ports=ports)
    return net.plan(NetOptions(**options), image, {"lo", "br0", "capstan0"}, ENTROPY)  # type: ignore[arg-type]


def planned(*ports: str, **options: object) -> NetSpec:
    spec = plan(*ports, **options)
    assert spec is not None
    return spec


def test_nobody_asks_for_a_card() -> None:
    assert plan() is None
    assert plan(net="none") is None
    assert plan("80:80", net="none") is None


@pytest.mark.parametrize(
    ("text", "forwards"),
    [
        ("80", [("tcp", "0.0.0.0", 80, 80)]),
        ("8080:80", [("tcp", "0.0.0.0", 8080, 80)]),
        ("127.0.0.1:5353:53/udp", [("udp", "127.0.0.1", 5353, 53)]),
        ("10-11:20-21/tcp", [("tcp", "0.0.0.0", 10, 20), ("tcp", "0.0.0.0", 11, 21)]),
    ],
)
def test_publish(text: str, forwards: list[tuple[str, str, int, int]]) -> None:
    assert net.parse_publish(text) == tuple(Forward(*f) for f in forwards)


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("", "is not [ADDRESS:]"),
        ("a:b", "is not [ADDRESS:]"),
        ("80/sctp", "sctp"),
        ("0", "1 to 65535"),
        ("65536:1", "1 to 65535"),
        ("9-8", "1 to 65535"),
        ("1-2:3-5", "2 ports"),
        ("host:1:2", "IPv4"),
        ("1.2.3:1:2", "IPv4"),
        ("[::1]:1:2", "is not [ADDRESS:]"),
    ],
)
def test_bad_publish(text: str, word: str) -> None:
    with pytest.raises(UsageError) as caught:
        net.parse_publish(text)
    assert word in f"{caught.value.message} {caught.value.hint}"
    assert caught.value.hint


def test_user_network() -> None:
    spec = planned("7000:70", publish=("8080:80",))
    assert spec.kind is NetKind.USER
    assert (spec.ip, spec.gateway) == (("10.0.2.15/24", "fec0::15/64"), ("10.0.2.2", "fec0::2"))
    assert spec.dns == ("10.0.2.3",)
    assert spec.forwards == (Forward("tcp", "0.0.0.0", 8080, 80),)


def test_ports_of_the_image_are_published_when_asked() -> None:
    assert planned("80:8080").forwards == ()
    assert planned("80:8080", publish_all=True).forwards == (Forward("tcp", "0.0.0.0", 80, 8080),)


@pytest.mark.parametrize("own", ["192.168.9.2/24", "192.168.9.3/24", "10.1.2.3/8", "10.0.0.4/28"])
def test_qemu_is_not_at_the_guests_address(own: str) -> None:
    spec = planned(net="user", ip=(own,))
    inside = ipaddress.IPv4Interface(own).network
    others = {spec.gateway[0], *spec.dns}
    assert len(others) == 2 and own.split("/", maxsplit=1)[0] not in others
    assert all(ipaddress.IPv4Address(a) in inside for a in others)


def test_tap_of_this_run() -> None:
    spec = planned(net="tap")
    assert (spec.interface, spec.host_ip) == ("capstan1", "10.77.1.1/24")
    assert (spec.ip, spec.gateway) == (("10.77.1.2/24",), ("10.77.1.1",))
    assert spec.mac == "52:54:00:01:02:ff"


def test_named_tap_and_bridge_ask_for_an_address() -> None:
    mine, bridge = planned(net="tap=mine"), planned(net="bridge=br0", mac="52:54:00:AA:bb:cc")
    assert (mine.interface, mine.host_ip, mine.ip) == ("mine", None, ("dhcp", "auto"))
    assert (bridge.bridge, bridge.interface, bridge.ip) == ("br0", "capstan1", ("dhcp", "auto"))
    assert bridge.mac == "52:54:00:aa:bb:cc"
    fixed = planned(net="tap=mine", ip=("fd00::2/64", "10.1.1.2/24"), gateway=("10.1.1.1",))
    assert (fixed.ip, fixed.gateway) == (("fd00::2/64", "10.1.1.2/24"), ("10.1.1.1",))


@pytest.mark.parametrize(
    "options",
    [
        {"net": "usr"},
        {"net": "user=x"},
        {"net": "bridge"},
        {"net": "bridge=br9"},
        {"net": "tap="},
        {"net": "tap=a/b"},
        {"net": "tap=sixteen-letters-"},
        {"net": "none", "publish": ("80",)},
        {"net": "none", "ip": ("dhcp",)},
        {"net": "tap", "publish": ("80",)},
        {"net": "user", "ip": ("dhcp",)},
        {"net": "user", "ip": ("10.0.0.1",)},
        {"net": "user", "ip": ("10.0.0.1/30",)},
        {"net": "user", "ip": ("10.0.0.0/24",)},
        {"net": "user", "ip": ("10.0.0.255/24",)},
        {"net": "user", "gateway": ("10.0.2.1",)},
        {"net": "tap", "ip": ("224.0.0.1/24",)},
        {"net": "tap", "gateway": ("x",)},
        {"net": "tap", "dns": ("1.1.1.1/8",)},
        {"net": "tap", "dns": ("1.1.1.1",) * 5},
        {"mac": "52:54:00"},
        {"mac": "01:00:00:00:00:00"},
        {"mac": "00:00:00:00:00:00"},
        {"publish": ("80", "80:81")},
    ],
)
def test_refused_with_a_reason(options: dict[str, object]) -> None:
    with pytest.raises(UsageError) as caught:
        plan(**options)
    assert len(caught.value.message) > 10


USER = """\
-netdev user,id=net0,net=10.0.2.0/24,host=10.0.2.2,dns=10.0.2.3,\
ipv6-net=fec0::/64,ipv6-host=fec0::2,\
hostfwd=tcp:0.0.0.0:8080-10.0.2.15:80,hostfwd=udp:127.0.0.1:5353-10.0.2.15:53
-device virtio-net-{0}
-object filter-dump,id=pcap,netdev=net0,file=/d/a,,b.pcap"""


@pytest.mark.parametrize(
    ("machine", "device"),
    [
        (MachineType.MICROVM, "device,netdev=net0"),
        (MachineType.Q35, "pci,netdev=net0,romfile=,disable-legacy=on"),
    ],
)
def test_command_line_user(machine: MachineType, device: str) -> None:
    card = planned(publish=("8080:80", "127.0.0.1:5353:53/udp"), pcap=Path("/d/a,b.pcap"))
    spec = MachineSpec(Path("k"), Accel.KVM, 3, machine=machine, net=card)
    line = argv(spec, HostCaps(Path("q"), (7, 2, 22)))
    golden = [word for part in USER.format(device).splitlines() for word in part.split(" ")]
    assert line[-6:] == golden


def test_command_line_tap() -> None:
    spec = MachineSpec(Path("k"), Accel.KVM, 3, net=planned(net="tap"), taps=(9,))
    line = argv(spec, HostCaps(Path("q"), (7, 2, 22)))
    device = "virtio-net-device,netdev=net0,mac=52:54:00:01:02:ff"
    assert line[-4:] == ["-netdev", "tap,id=net0,fd=9", "-device", device]


@pytest.mark.parametrize("protocol", ["tcp", "udp"])
def test_port_in_use_is_told(protocol: str) -> None:
    kind = socket.SOCK_STREAM if protocol == "tcp" else socket.SOCK_DGRAM
    with socket.socket(socket.AF_INET, kind) as taken:
        taken.bind(("127.0.0.1", 0))
        if protocol == "tcp":
            taken.listen()
        port = taken.getsockname()[1]
        spec = planned(publish=(f"127.0.0.1:{port}:80/{protocol}",))
        with pytest.raises(MachineError) as caught:
            net.check(spec)
    assert str(port) in caught.value.message and "another" in str(caught.value.hint)
    net.check(spec)  # now it is free


def test_foreign_address_is_told() -> None:
    with pytest.raises(MachineError) as caught:
        net.check(planned(publish=("192.0.2.1:8080:80",)))
    assert "192.0.2.1:8080/tcp" in caught.value.message and "ip address" in str(caught.value.hint)


def test_capture_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(MachineError) as caught:
        net.check(planned(net="user", pcap=tmp_path / "no" / "x"))
    assert "no/x" in caught.value.message


def test_tap_without_the_device(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(tap, "TUN_DEVICE", tmp_path / "tun")
    with pytest.raises(MachineError) as caught, tapattach.attach(planned(net="tap")):
        pass
    assert "--net user" in str(caught.value.hint)


@pytest.mark.skipif(
    not os.access(tap.TUN_DEVICE, os.W_OK) or os.geteuid() != 0,
    reason="needs root and /dev/net/tun",
)
def test_tap_is_made_and_goes_again() -> None:
    spec = net.plan(NetOptions(net="tap"), (), net.host_interfaces(), ENTROPY)
    assert spec is not None and spec.host_ip is not None
    with tapattach.attach(spec) as (card, fds):
        assert len(fds) == 1 and card is spec
        assert spec.interface in net.host_interfaces()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
            s.bind((spec.host_ip.split("/")[0], 0))  # the host has the address
        with tapattach.attach(spec) as (other, _):  # as two runs that plan at the same moment
            assert other is not None and other.interface != spec.interface
            number = other.interface.removeprefix("capstan")
            assert (other.ip, other.gateway) == ((f"10.77.{number}.2/24",), (f"10.77.{number}.1",))
        named = dataclasses.replace(spec, is_ours=False)
        with pytest.raises(MachineError) as caught, tapattach.attach(named):
            pass
        assert spec.interface in caught.value.message
    assert spec.interface not in net.host_interfaces()


def test_attach_wants_nothing_for_user() -> None:
    with tapattach.attach(None) as nothing, tapattach.attach(planned(net="user")) as user:
        assert nothing == (None, ()) and user == (planned(net="user"), ())


def test_queues_are_one_per_cpu_where_that_is_possible() -> None:
    card = planned(net="tap")

    def number(spec: net.NetSpec | None, given: int | None, *, is_pci: bool, cpus: int) -> int:
        found = net.with_queues(spec, given, is_pci=is_pci, cpus=cpus)
        return found.queues if found else 0

    assert number(card, None, is_pci=True, cpus=4) == 4
    assert number(card, 2, is_pci=True, cpus=4) == 2
    assert number(card, None, is_pci=False, cpus=4) == 1
    assert number(card, 1, is_pci=False, cpus=4) == 1
    assert number(planned(net="user"), None, is_pci=True, cpus=4) == 1
    assert number(planned(net="tap", pcap=Path("x")), None, is_pci=True, cpus=4) == 1
    assert number(None, None, is_pci=True, cpus=4) == 0


@pytest.mark.parametrize(
    ("options", "given", "is_pci", "word"),
    [
        ({"net": "tap"}, 2, False, "PCI"),
        ({"net": "user"}, 2, True, "own network"),
        ({"net": "tap", "pcap": Path("x")}, 2, True, "--pcap"),
        ({"net": "tap"}, 5, True, "there are 4"),
        ({"net": "tap"}, 0, True, "there are 4"),
    ],
)
def test_queues_that_cannot_be(
    options: dict[str, object], given: int, is_pci: bool, word: str
) -> None:
    with pytest.raises(UsageError) as caught:
        net.with_queues(planned(**options), given, is_pci=is_pci, cpus=4)
    assert word in caught.value.message and caught.value.hint


def test_command_line_queues() -> None:
    card = net.with_queues(planned(net="tap"), None, is_pci=True, cpus=2)
    spec = MachineSpec(Path("k"), Accel.KVM, 3, machine=MachineType.Q35, net=card, taps=(9, 10))
    line = argv(spec, HostCaps(Path("q"), (7, 2, 22)))
    assert line[-3] == "tap,id=net0,fds=9:10"
    assert "mq=on,vectors=6" in line[-1]


def test_a_tap_of_one_queue_stays_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(tap, "INTERFACES", tmp_path)
    (tmp_path / "mine").mkdir()
    flags = tmp_path / "mine" / "tun_flags"
    flags.write_text("0x1002\n")
    assert tap.is_multi_queue("mine") is False and tap.is_multi_queue("other") is None
    card = net.with_queues(planned(net="tap=mine"), 2, is_pci=True, cpus=2)
    with pytest.raises(MachineError) as caught, tapattach.attach(card):
        pass
    assert "multi_queue" in str(caught.value.hint)
    flags.write_text("0x1102\n")
    assert tap.is_multi_queue("mine") is True


def test_no_name_is_left_for_a_tap() -> None:
    taken = {f"capstan{n}" for n in range(256)}
    with pytest.raises(UsageError, match="all in use"):
        net.plan(NetOptions(net="tap"), RunConfig(("/x",)), taken, ENTROPY)
