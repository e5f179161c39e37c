# SPDX-License-Identifier: BSD-2-Clause
"""What is on disk of instances: names, states, locks, notes, requests as JSON."""

from __future__ import annotations

import dataclasses
import json
import os
import typing
from enum import Enum
from pathlib import Path
from signal import Signals

import pytest

from capstan.errors import MachineError, UsageError
from capstan.run import events, lan, logs, names, net, owner, procinfo, records, spec, speccode
from capstan.run.records import TRANSITIONS, Config, Folder, Places, Record, State

FIRST, SECOND = "a" * 64, "b" * 64


@pytest.fixture
def places(tmp_path: Path) -> Places:
    made = Places(tmp_path)
    for identity in (FIRST, SECOND):
        (made.path / identity).mkdir(parents=True)
    return made


def test_names_are_unique(places: Places) -> None:
    assert places.claim("web", FIRST)
    assert not places.claim("web", SECOND)
    assert places.owner_of("web") == FIRST and places.name_of(FIRST) == "web"
    assert places.name_of(SECOND) == SECOND[:12]


def test_a_name_of_nothing_is_free(places: Places) -> None:
    places.claim("web", "c" * 64)
    assert places.claim("web", SECOND)
    places.claim("old", "c" * 64)
    places.forget_names()
    assert places.all_names() == {SECOND: "web"}


def test_rename(places: Places) -> None:
    places.claim("one", FIRST)
    places.claim("two", SECOND)
    assert not places.rename("one", "two", FIRST)
    assert places.rename("one", "three", FIRST)
    assert places.all_names() == {FIRST: "three", SECOND: "two"}
    assert places.rename(FIRST[:12], "four", "c" * 64)  # one that had lost its name


def test_notes_are_taken_once(places: Places) -> None:
    places.note("first")
    places.note("second")
    assert sorted(places.take_notes()) == ["first", "second"]
    assert not list(places.take_notes())


def test_every_state_has_its_ways() -> None:
    assert set(TRANSITIONS) == set(State)
    record = Record()
    with pytest.raises(MachineError, match="created cannot be paused"):
        record.enter(State.PAUSED)
    for state in (State.RUNNING, State.PAUSED, State.STOPPING, State.EXITED, State.RUNNING):
        record.enter(state)


def test_records_are_read_back(places: Places) -> None:
    folder = places.folder(FIRST)
    record = Record(state=State.EXITED, status=3, reason="a reason", restarts=2)
    folder.save(record)
    assert folder.record() == record
    config = Config(FIRST, "web:1", "", {"$": "RunSpec"}, 1.5, {"a": "b"})
    folder.save_config(config)
    assert folder.config() == config


@pytest.mark.parametrize("data", [b"", b"[]", b'{"state": "asleep"}', b'{"state": 1, "x": 2}'])
def test_damage_is_told(places: Places, data: bytes) -> None:
    (places.path / FIRST / "state.json").write_bytes(data)
    with pytest.raises(MachineError, match=r"state\.json is damaged"):
        places.folder(FIRST).record()
    with pytest.raises(MachineError, match="was removed"):
        Folder(places.path / ("d" * 64)).record()


def test_erase(places: Places) -> None:
    places.claim("web", FIRST)
    places.erase(places.folder(FIRST))
    assert [folder.id for folder in places.folders()] == [SECOND]
    assert not places.all_names()


def test_locks_pass_to_a_child(tmp_path: Path) -> None:
    path = tmp_path / "owner"
    fd = owner.try_lock(path)
    assert fd is not None and owner.is_held(path) and owner.try_lock(path) is None
    hear, tell = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(tell)
        os.read(hear, 1)
        os._exit(0)
    os.close(hear)
    os.close(fd)
    assert owner.is_held(path)
    os.close(tell)
    os.waitpid(child, 0)
    assert not owner.is_held(path)
    assert not owner.is_held(tmp_path / "none")


def test_waiting_for_a_lock_has_an_end(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with (
        owner.locked(path, "one"),
        pytest.raises(MachineError, match=r"two: .* has been locked"),
        owner.locked(path, "two", 0.05),
    ):
        pass


def test_this_process_is_known_and_killed_exactly() -> None:
    assert procinfo.start_time(os.getpid()) > 0 and procinfo.start_time(2**22 + 1) == 0
    assert procinfo.kill_exactly(os.getpid(), 1)  # another process, started at another time
    child = os.fork()
    if child == 0:
        os.execvp("sleep", ["sleep", "60"])
    assert procinfo.kill_exactly(child, procinfo.start_time(child))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -9


def test_events_are_whole_and_rotated(places: Places, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "LIMIT", 500)
    for number in range(20):
        events.tell(places, "start", FIRST, "web", number=number)
    reader = logs.Reader(places.path, events.PREFIX)
    seen = [json.loads(line)["number"] for line in reader.read()]
    assert seen == list(range(seen[0], 20)) and 4 < len(seen) < 20


@pytest.mark.parametrize("text", ["web", "Web-1", "a" * 63, "1.2_3"])
def test_good_names(text: str) -> None:
    assert names.check(text) == text


@pytest.mark.parametrize("text", ["", "-a", ".a", "a/b", "a b", "a" * 64, "ä"])
def test_bad_names(text: str) -> None:
    with pytest.raises(UsageError):
        names.check(text)


def test_generated_names() -> None:
    images = ("localhost:5000/team/redis:7@sha256:0", "./My App", "redis", "---", "x" * 99)
    made = [next(names.after(image)) for image in images]
    assert made[:4] == ["redis-1", "My-App-1", "redis-1", "capstan-1"]
    assert all(names.is_name(name) for name in made)


# --- requests as JSON ---


def example() -> spec.RunSpec:
    segment = lan.Segment(**{f.name: _any(f.type) for f in dataclasses.fields(lan.Segment)})
    return spec.RunSpec(
        disk=Path("/disk"),
        kernel=Path("/kernel"),
        argv=("a", "\udcff"),
        env={"A": "1", "$": "2"},
        stop_signal=Signals.SIGINT,
        accel=spec.Accel.TCG,
        machine=spec.MachineType.Q35,
        timeout=1.5,
        net=net.NetSpec(
            net.NetKind.USER,
            ("10.0.2.15/24",),
            forwards=(net.Forward("tcp", "0.0.0.0", 1, 2),),
            pcap=Path("/pcap"),
        ),
        lans=(lan.Lan(segment, "10.1.1.1/24", "52:54:00:00:00:01"),),
    )


def _any(kind: object) -> object:
    return {"int": 5, "str": "x"}.get(str(kind), "x")


def test_specs_are_read_back() -> None:
    made = example()
    assert speccode.run_spec(json.loads(json.dumps(speccode.encode(made)))) == made


def test_all_kinds_of_a_spec_are_known() -> None:
    """A new field of a new kind must be in `speccode.KINDS`."""
    seen: set[type] = set()

    def look(kind: type) -> None:
        hints = typing.get_type_hints(kind, None, {"Mapping": dict, "Path": Path})
        for hint in hints.values():
            for part in (hint, *typing.get_args(hint)):
                is_ours = dataclasses.is_dataclass(part) or issubclass(type(part), type(Enum))
                if is_ours and part not in seen:
                    seen.add(part)
                    if dataclasses.is_dataclass(part):
                        look(part)

    look(spec.RunSpec)
    assert {kind.__name__ for kind in seen} <= set(speccode.KINDS) and len(seen) >= 6


@pytest.mark.parametrize(
    "raw",
    [
        {"$": "RunSpec", "later": 1},
        {"$": "Later"},
        {"no": "kind"},
        {"$": "Path", "value": "/x"},
        None,
    ],
)
def test_what_a_newer_capstan_wrote_is_refused(raw: object) -> None:
    with pytest.raises((MachineError, TypeError)):
        speccode.run_spec(raw)


def test_unsynced_writes_replace_too(tmp_path: Path) -> None:
    path = tmp_path / "file"
    for data in (b"one", b"two"):
        records.write(path, data, synced=False)
        assert path.read_bytes() == data and path.stat().st_mode & 0o777 == 0o600
    assert list(tmp_path.iterdir()) == [path]
