# SPDX-License-Identifier: BSD-2-Clause
"""The commands for instances: listings, filters, times, what is refused."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from capstan.cli import instance_rows, times
from capstan.cli.info_cmd import info
from capstan.cli.instance_cmds import port, ps, rename, rm, start, wait
from capstan.cli.run_cmds import log_limits
from capstan.cli.watch_cmds import LinePrinter, events, logs_command
from capstan.errors import CapstanError, UsageError
from capstan.run import logs, speccode
from capstan.run.instances import InstanceRequest, Instances
from capstan.run.net import Forward, NetKind, NetSpec
from capstan.run.records import Folder, Record, State
from capstan.run.spec import RunSpec


@pytest.fixture
def instances(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Instances:
    monkeypatch.setenv("CAPSTAN_ROOT", str(tmp_path))
    made = Instances(tmp_path)
    net = NetSpec(NetKind.USER, ("10.0.2.15/24",), forwards=(Forward("tcp", "0.0.0.0", 8080, 80),))
    spec = RunSpec(tmp_path / "d", tmp_path / "k", ("/bin/web", "-x"), {"A": "1"}, net=net)
    for name, labels in (("web", {"tier": "front"}), ("db", {})):
        instance = made.create(InstanceRequest(spec, f"{name}:1", "", name, labels))
        instance.release()
    return made


def put(instances: Instances, name: str, **values: object) -> None:
    folder = instances.get(name).folder
    record = folder.record()
    for key, value in values.items():
        setattr(record, key, value)
    folder.save(record)


def rows(*args: str) -> list[dict[str, object]]:
    result = CliRunner().invoke(ps, [*args, "--format", "json"])
    assert result.exit_code == 0, result.output
    found: list[dict[str, object]] = json.loads(result.stdout)
    return found


def names(*args: str) -> list[object]:
    return [row["name"] for row in rows(*args)]


def failure(result: Result) -> CapstanError:
    assert isinstance(result.exception, CapstanError), result.exception
    return result.exception


def test_ps_shows_what_runs_and_all(instances: Instances) -> None:
    assert names() == [] and names("-a") == ["db", "web"]
    (row,) = rows("-a", "--filter", "name=web")
    assert row["ports"] == "0.0.0.0:8080->80/tcp" and row["status"] == "Created"
    assert row["labels"] == {"tier": "front"} and len(str(row["id"])) == 12
    assert len(str(rows("-a", "--no-trunc")[0]["id"])) == 64
    shown = CliRunner().invoke(ps, ["-a", "--format", "{{.Names}} {{.Image}}"])
    assert shown.stdout == "db db:1\nweb web:1\n"
    assert CliRunner().invoke(ps, ["-aq"]).stdout.splitlines()[1] == row["id"]


def test_a_row_reads_the_config_once(instances: Instances, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []
    for where, name in ((Folder, "config"), (speccode, "run_spec")):

        def count(given: object, old: Any = where.__dict__[name], name: str = name) -> object:
            seen.append(name)
            return old(given)

        monkeypatch.setattr(where, name, count)
    assert len(instance_rows.rows(instances, (), everything=True, full=False)) == 2
    assert sorted(seen) == ["config", "config", "run_spec", "run_spec"]


def test_filters(instances: Instances) -> None:
    put(instances, "web", state=State.EXITED, status=3, finished=time.time())
    assert names("--filter", "status=exited") == ["web"]
    assert names("--filter", "exited=3") == ["web"] and names("--filter", "exited=0") == []
    assert names("-a", "--filter", "label=tier") == ["web"]
    assert names("-a", "--filter", "label=tier=back") == []
    assert names("-a", "--filter", "ancestor=db") == ["db"]
    assert names("-a", "--filter", "name=web", "--filter", "name=db") == ["db", "web"]
    identity = instances.get("db").id[:7]
    assert names("-a", "--filter", f"id={identity}") == ["db"]
    for wrong in ("colour=red", "name", "status=asleep"):
        assert "--filter" in failure(CliRunner().invoke(ps, ["--filter", wrong])).message


def test_killed_instance_is_told_once(instances: Instances) -> None:
    put(instances, "web", state=State.RUNNING, boot="another", pid=1)
    result = CliRunner().invoke(ps, ["-a"])
    assert result.exit_code == 0
    assert result.stderr.count("\n") == 1 and "web: the host was restarted" in result.stderr
    assert CliRunner().invoke(ps, ["-a"]).stderr == ""


def test_damaged_instance_is_named(instances: Instances) -> None:
    (instances.get("web").folder.path / "state.json").write_bytes(b"{")
    result = CliRunner().invoke(ps, ["-a"])
    assert result.exit_code == 0 and "state.json is damaged" in result.stderr
    assert "db" in result.stdout
    assert CliRunner().invoke(rm, ["-f", "web"]).exit_code == 0
    assert names("-a") == ["db"]


def test_ports(instances: Instances) -> None:
    assert CliRunner().invoke(port, ["web"]).stdout == "80/tcp -> 0.0.0.0:8080\n"
    assert CliRunner().invoke(port, ["web", "80"]).stdout == "0.0.0.0:8080\n"
    assert "does not publish" in failure(CliRunner().invoke(port, ["web", "80/udp"])).message


def test_commands_name_what_is_wrong(instances: Instances) -> None:
    runner = CliRunner()
    assert "no instance x" in failure(runner.invoke(rm, ["web", "x"])).message
    assert names("-a") == ["db", "web"]  # all names are looked up first
    assert "was not started yet" in failure(runner.invoke(wait, ["web"])).message
    assert "one instance" in failure(runner.invoke(start, ["-a", "web", "db"])).message
    assert "already" in failure(runner.invoke(rename, ["web", "db"])).message
    put(instances, "web", state=State.EXITED, status=7)
    assert runner.invoke(wait, ["web"]).stdout == "7\n"
    assert runner.invoke(rm, ["web", "db"]).stdout == "web\ndb\n"


def test_status_texts() -> None:
    now = 1000.0
    texts = {
        State.RUNNING: "Up 5 minutes",
        State.PAUSED: "Up 5 minutes (paused)",
        State.EXITED: "Exited (3) 2 minutes ago",
        State.RESTARTING: "Restarting (3) 2 minutes ago",
        State.DEAD: "Dead (3) 2 minutes ago",
        State.CREATED: "Created",
    }
    for state, text in texts.items():
        record = Record(state=state, started=700.0, finished=880.0, status=3)
        assert instance_rows.status(record, now) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.4, "less than a second"),
        (1, "1 second"),
        (59, "59 seconds"),
        (61, "1 minute"),
        (3 * 3600, "3 hours"),
        (3 * 86400, "3 days"),
        (20 * 86400, "2 weeks"),
        (90 * 86400, "3 months"),
        (3 * 365 * 86400, "3 years"),
        (-5, "less than a second"),
    ],
)
def test_lengths(seconds: float, text: str) -> None:
    assert times.length(seconds) == text


def test_times() -> None:
    assert times.parse("--since", None) is None
    assert times.parse("--since", "1795269600") == 1_795_269_600
    assert times.parse("--since", "2026-11-21T14:00:00Z") == 1_795_269_600
    ago = times.parse("--since", "1h30m")
    assert ago is not None and abs(time.time() - 5400 - ago) < 5
    for wrong in ("yesterday", "5x", "", "10"):
        with pytest.raises(UsageError, match="is no time"):
            times.parse("--since", wrong)


def test_log_options() -> None:
    assert log_limits(()) == (None, None)
    assert log_limits(("max-size=64K", "max-file=5")) == (64 << 10, 5)
    for wrong in ("max-size=x", "max-file=0", "colour=red", "max-size"):
        with pytest.raises(UsageError):
            log_limits((wrong,))


def test_lines_get_one_stamp_each(capfd: pytest.CaptureFixture[str]) -> None:
    put_line = LinePrinter(None, 2.0, timestamps=True)
    for at, stream, text in (
        (1.0, "stdout", b"one, "),
        (1.0, "stderr", b"error\n"),
        (2.0, "stdout", b"still one\n"),
        (3.0, "stdout", b"too late\n"),
    ):
        put_line(logs.Entry(at, f"T{at:g}", stream, text))
    out, err = capfd.readouterr()
    assert (out, err) == ("T1 one, still one\n", "T1 error\n")


def test_logs_by_number_and_time(instances: Instances, capfd: pytest.CaptureFixture[str]) -> None:
    writer = logs.Writer(instances.get("web").folder.path, 1 << 20, 3)
    writer.write("stdout", b"".join(b"line %d\n" % n for n in range(10)))
    runner = CliRunner()
    runner.invoke(logs_command, ["-n", "2", "web"])
    assert capfd.readouterr().out == "line 8\nline 9\n"
    runner.invoke(logs_command, ["--since", "1h", "--until", "30m", "web"])
    assert capfd.readouterr().out == ""
    assert "--tail" in failure(runner.invoke(logs_command, ["-n", "x", "web"])).message


def test_events_are_filtered(instances: Instances) -> None:
    runner = CliRunner()
    since = ["--since", "1h", "--until", "0s"]
    shown = runner.invoke(events, [*since, "--format", "{{.action}} {{.name}}"])
    assert shown.stdout == "create web\ncreate db\n"
    shown = runner.invoke(events, [*since, "--filter", "instance=db", "--filter", "event=create"])
    assert shown.stdout.count("\n") == 1 and "name=db, image=db:1" in shown.stdout
    assert runner.invoke(events, [*since, "--filter", "event=die"]).stdout == ""
    wrong = runner.invoke(events, [*since, "--filter", "x=y"])
    assert "--filter" in failure(wrong).message


@pytest.mark.parametrize(
    ("data", "text"),
    [(b"QFI\xfb" + b"\0" * 600, "QCOW2"), (b"#!/bin/sh\n", "not a runnable image")],
)
def test_info_says_what_a_file_is(tmp_path: Path, data: bytes, text: str) -> None:
    path = tmp_path / "file"
    path.write_bytes(data)
    assert text in failure(CliRunner().invoke(info, [str(path)])).message
