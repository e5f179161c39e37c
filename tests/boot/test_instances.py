# SPDX-License-Identifier: BSD-2-Clause
"""Instances with real guests: the quick half of the gate 04-3-instances."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lib import instance_checks as checks
from tests.lib.instances import Host, expect

pytestmark = pytest.mark.boot


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    made = Host(tmp_path)
    made.build()
    yield made
    made.clear()


def test_many(host: Host) -> None:
    assert list(checks.many(host, long=False, count=4))


def test_control(host: Host) -> None:
    assert list(checks.control(host, long=False, count=0))


@pytest.mark.parametrize("state", ["running", "paused"])
def test_supervisor_is_killed(host: Host, state: str) -> None:
    assert checks.kill_owner(host, state) == 1


def test_log_of_a_killed_instance(host: Host) -> None:
    assert list(checks.cut_log(host))


def test_threads_are_told(host: Host) -> None:
    host.run("run", "-d", "--name", "one", "instance", "deaf")
    shown = host.run("top", "one", "--format", "{{.pid}} {{.tid}} {{.state}} {{.command}}")
    expect(shown == "2 2 S instance\n", f"top: {shown!r}")
    host.run("pause", "one")
    refused = host.call("top", "one")
    expect(refused.status == 125 and "it is paused" in refused.err, refused.err)
