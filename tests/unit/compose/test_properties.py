# SPDX-License-Identifier: BSD-2-Clause
"""Laws of merging, of variables, of the bytes on the wire and of addresses."""

from __future__ import annotations

import ipaddress
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from capstan.compose import plan, project, read, show, state, tree, wire
from capstan.compose.interpolate import BadText, interpolate, parse_env
from capstan.compose.merge import merge, strip
from capstan.compose.model import Attachment, Network, Project, Service
from capstan.compose.project import Request
from capstan.compose.tree import Node, Place
from capstan.errors import UsageError
from capstan.run import lan

PLACE = Place(Path("f"), 1)
KEYS = st.sampled_from(["a", "b", "environment", "ports", "command"])
PLAIN = st.text("abc$={}:-", max_size=6)


def node(value: object, key: str = "") -> Node:
    if isinstance(value, dict):
        return Node({k: node(v, f"{key}.{k}" if key else k) for k, v in value.items()}, key, PLACE)
    if isinstance(value, list):
        return Node(tuple(node(v, key) for v in value), key, PLACE)
    assert value is None or isinstance(value, str)
    return Node(value, key, PLACE)


VALUES = st.recursive(
    st.one_of(st.none(), PLAIN),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(KEYS, inner, max_size=3)),
    max_leaves=8,
)
MAPS = st.dictionaries(KEYS, VALUES, max_size=4)


@given(MAPS)
def test_nothing_on_top_changes_nothing(one: dict[str, object]) -> None:
    assert merge(node(one), node({})) == node(one)


@given(MAPS)
def test_twice_the_same_is_once(one: dict[str, object]) -> None:
    once = node(one)
    twice = merge(once, once)
    if not any(isinstance(v, list) and len(v) != len({repr(i) for i in v}) for v in _all(one)):
        assert twice == once


def _all(value: object) -> Iterator[object]:
    yield value
    for item in (
        value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    ):
        yield from _all(item)


@given(MAPS, MAPS)
def test_each_key_of_both_is_there(one: dict[str, object], two: dict[str, object]) -> None:
    merged = merge(node(one), node(two))
    assert set(merged.pairs()) == set(one) | set(two)
    for key, value in two.items():
        if isinstance(value, str):
            assert merged.pairs()[key].value == value


@given(MAPS, MAPS, MAPS)
def test_grouping_does_not_matter(
    one: dict[str, object], two: dict[str, object], three: dict[str, object]
) -> None:
    """For mappings of texts, as in `environment`; kinds that change make it untrue in Compose."""
    maps = [{k: v for k, v in m.items() if isinstance(v, str)} for m in (one, two, three)]
    a, b, c = (node({"environment": m}) for m in maps)
    assert merge(merge(a, b), c) == merge(a, merge(b, c))


@given(MAPS)
def test_stripping_is_done_once(one: dict[str, object]) -> None:
    assert strip(strip(node(one))) == strip(node(one))


@given(st.text(max_size=20))
def test_doubled_dollars_are_text(text: str) -> None:
    assert interpolate(text.replace("$", "$$"), {}, lambda _: None) == text


@given(st.text("ab${}:-?+_", max_size=16), st.dictionaries(st.sampled_from("ab"), PLAIN))
def test_variables_end_or_complain(text: str, variables: dict[str, str]) -> None:
    try:
        interpolate(text, variables, lambda _: None)
    except BadText as err:
        assert str(err)


@given(st.text(st.characters(blacklist_characters="'\r", blacklist_categories=["Cs"]), max_size=20))
def test_single_quotes_keep_everything(text: str) -> None:
    assert parse_env(f"A='{text}'", {})["A"] == text


@given(st.text(max_size=60))
def test_env_files_are_read_or_refused(text: str) -> None:
    try:
        parse_env(text, {})
    except BadText as err:
        assert str(err).startswith("line ")


@given(st.binary(max_size=200))
def test_compose_files_are_read_or_refused(data: bytes) -> None:
    try:
        tree.parse(data, Path("f"), lambda text, _place: text)
    except UsageError as err:
        assert err.message.startswith("f")


ENDS = st.builds(wire.End, st.binary(min_size=6, max_size=6), st.binary(min_size=4, max_size=4))
PORTS = st.integers(0, 65535)
NUMBERS = st.integers(0, 2**32 - 1)


@given(st.builds(wire.Segment, ENDS, ENDS, PORTS, PORTS, NUMBERS, NUMBERS, st.integers(0, 31),
                 st.binary(max_size=50)))  # fmt: skip
def test_segments_there_and_back(segment: wire.Segment) -> None:
    assert wire.unpack(wire.pack_segment(segment)) == segment


@given(st.builds(wire.Arp, st.sampled_from([1, 2]), ENDS, ENDS))
def test_arp_there_and_back(arp: wire.Arp) -> None:
    assert wire.unpack(wire.pack_arp(arp)) == arp


@given(st.binary(max_size=90), st.integers(0, 53), st.integers(1, 255))
def test_damage_is_not_taken_for_a_segment(data: bytes, at: int, change: int) -> None:
    wire.unpack(data)
    one = wire.End(b"abcdef", b"wxyz")
    frame = bytearray(wire.pack_segment(wire.Segment(one, one, 1, 2, 3, 4, 2)))
    frame[at] ^= change
    found = wire.unpack(bytes(frame))
    if at >= 34:  # under TCP's checksum
        assert found is None


SEGMENTS = [lan.Segment("239.192.0.1", 61000 + n) for n in range(8)]


def make(networks: dict[str, set[str]], fixed: dict[str, str]) -> Project:
    services: dict[str, Service] = {}
    for name in sorted({s for members in networks.values() for s in members}):
        attached = tuple(
            Attachment(n, (), fixed.get(name)) for n, members in networks.items() if name in members
        )
        services[name] = Service(name, image="x", networks=attached)
    nets = {n: Network(n) for n in networks}
    return Project("p", Path(), (), services, nets)


NETWORKS = st.dictionaries(
    st.sampled_from(["n", "m", "o"]), st.sets(st.sampled_from("abcdef"), min_size=1), min_size=1
)


@given(NETWORKS, NETWORKS)
def test_addresses_are_unique_and_stay(
    first: dict[str, set[str]], second: dict[str, set[str]]
) -> None:
    segments = iter(SEGMENTS)
    one = state.allocate(make(first, {}), state.State(), segments)
    two = state.allocate(make(second, {}), one, segments)
    for found in (one, two):
        subnets = [ipaddress.IPv4Network(net.subnet) for net in found.networks.values()]
        assert len(set(subnets)) == len(subnets)
        for net in found.networks.values():
            assert len(set(net.members.values())) == len(net.members)
    for name in set(first) & set(second):
        assert one.networks[name].segment == two.networks[name].segment
        for service in first[name] & second[name]:
            assert one.networks[name].ip(service) == two.networks[name].ip(service)
    assert state.from_json(two.to_json(), Path("f")) == two


def test_a_fixed_address_must_be_there() -> None:
    nets = {"n": {"a", "b"}}
    for address in ("10.89.0.1", "10.89.0.255", "10.89.0.254", "10.1.1.1", "x"):
        with pytest.raises(UsageError, match="cannot be its address"):
            state.allocate(make(nets, {"a": address}), state.State(), iter(SEGMENTS))
    found = state.allocate(make(nets, {"a": "10.89.0.2"}), state.State(), iter(SEGMENTS))
    assert found.networks["n"].members == {"a": "10.89.0.2", "b": "10.89.0.3"}


def test_the_directory_is_the_lock(tmp_path: Path) -> None:
    keeper = state.Keeper(tmp_path, "p")
    with keeper.locked():
        keeper.save(state.State())
        other = os.open(keeper.path, os.O_RDONLY)
        assert not state.Keeper(tmp_path, "p")._try(other)
        os.close(other)
    with keeper.locked():
        assert keeper.load() == state.State()
        keeper.forget()
    assert not keeper.path.exists()


WORDS = st.sampled_from(
    ["a", "b", "", "1", "-1", "0.5", "true", "80", "8080:80", "1s", "64m", "x=y", "=", ":", "./f",
     "/x", "n:/x", "*", "tcp://:80", "http://:x/", "none", "CMD", "curl http://localhost", "always",
     "10.5.0.0/24", "10.5.0.9", "${A}", "é", "a.b", "[", "..", "service_healthy"]
)  # fmt: skip
SERVICE_KEYS = st.sampled_from([*read._READERS, "cap_add", "devices", "x-a", "unknown"])
SUB_KEYS = st.sampled_from(
    ["a", "b", "context", "dockerfile", "args", "target", "test", "interval", "retries", "disable",
     "condition", "aliases", "ipv4_address", "resources", "limits", "memory", "cpus", "replicas",
     "published", "type", "source", "file", "content", "path", "required", "service", "n"]
)  # fmt: skip
ANYTHING = st.recursive(
    st.one_of(st.none(), WORDS),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(SUB_KEYS, inner, max_size=3)
    ),
    max_leaves=6,
)
LIKELY = st.dictionaries(SERVICE_KEYS, ANYTHING, max_size=2).map(lambda d: {**d, "image": "x"})
SERVICES = st.dictionaries(st.sampled_from("ab"), LIKELY, min_size=1, max_size=2)
ODD = st.dictionaries(st.sampled_from(["a", "c.d", ""]), st.one_of(ANYTHING, LIKELY), max_size=2)
FILES = st.fixed_dictionaries(
    {"services": st.one_of(SERVICES, SERVICES, SERVICES, ODD, ANYTHING)},
    optional={
        key: st.one_of(ANYTHING, st.dictionaries(st.sampled_from("abn"), ANYTHING, max_size=2))
        for key in ("networks", "volumes", "configs", "secrets")
    },
)
PLAIN_FILES = st.fixed_dictionaries({"services": SERVICES})


@settings(max_examples=200, suppress_health_check=list(HealthCheck), deadline=None)
@given(st.one_of(FILES, PLAIN_FILES), st.one_of(st.none(), PLAIN_FILES))
def test_any_file_is_understood_or_refused(one: object, two: object) -> None:
    """Whatever stands in the file: a project that can be planned and shown, or one clear error."""
    with tempfile.TemporaryDirectory() as folder:
        files = []
        for number, content in enumerate((one, two)):
            if content is not None:
                files.append(Path(folder) / f"{number}.yaml")
                files[-1].write_text(yaml.safe_dump(content))
        try:
            found = project.load(Request(files=tuple(files), name="p", profiles=("*",)))
            nets = state.allocate(found, state.State(), iter(SEGMENTS))
            for service in found.services.values():
                plan.labels(found, service, nets, "d")
                plan.options(found, service, nets, ())
        except UsageError as err:
            assert err.message
            return
        (Path(folder) / "again.yaml").write_text(show.text(found, "yaml"))
        again = project.load(
            Request(files=(Path(folder) / "again.yaml",), name="p", profiles=("*",))
        )
        assert list(again.services) == list(found.services)
