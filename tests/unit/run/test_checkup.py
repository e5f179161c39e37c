# SPDX-License-Identifier: BSD-2-Clause
"""What `capstan doctor` says of the store, the settings and the packages."""

from __future__ import annotations

import importlib.metadata
from pathlib import Path

import pytest

from capstan.run import checkup
from capstan.run.checkup import Level


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CAPSTAN_ROOT", str(tmp_path / "store"))
    monkeypatch.setenv("CAPSTAN_CONFIG", str(tmp_path / "config.toml"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_store(here: Path) -> None:
    assert checkup._store().text == f"{here}/store, not begun yet"
    (here / "store").mkdir()
    (here / "store" / "version").write_text("1\n")
    assert checkup._store().text == f"{here}/store, version 1"
    (here / "store" / "version").write_text("999\n")
    found = checkup._store()
    assert found.level is Level.BAD and "999" in found.text and found.advice


def test_settings(here: Path) -> None:
    assert [row.name for row in checkup._settings()] == ["settings"]
    (here / "config.toml").write_text('memory = "1G"\ncpus = 1\n')
    (here / "capstan.toml").write_text('kernel = "/evil"\n')
    project, user = checkup._settings()
    assert user.level is Level.OK and user.text.endswith(": memory, cpus")
    assert project.level is Level.BAD and "cannot set kernel" in project.text and project.advice


def test_a_damaged_settings_file_is_a_finding(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CAPSTAN_ROOT")
    (here / "config.toml").write_text("oh =")
    monkeypatch.setenv("PATH", str(here))
    levels = {row.name: row.level for row in checkup.examine()}
    assert levels["user file"] is Level.BAD and levels["store"] is Level.BAD
    assert levels["skopeo"] is levels["buildah"] is levels["qemu-img"] is Level.OPTIONAL


def test_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    needed = ["click>=8.1", "none-such", 'pytest>=7; extra == "dev"']
    monkeypatch.setattr(importlib.metadata, "requires", lambda _name: needed)
    found = {row.name: row.level for row in checkup._packages()}
    assert found == {"python click": Level.OK, "python none-such": Level.BAD}
