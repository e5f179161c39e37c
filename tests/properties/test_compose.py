# SPDX-License-Identifier: BSD-2-Clause
"""Compose files on top of each other, against the rules written down a second time."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from capstan.compose import project

NAME = st.sampled_from(["A", "B", "C", "LONG_NAME"])
VALUE = st.text("abc xyz:/.-", max_size=8)
WORDS = st.lists(st.text("abc-", min_size=1, max_size=5), min_size=1, max_size=3)
ENV = st.dictionaries(NAME, VALUE, max_size=3)
SERVICE: st.SearchStrategy[dict[str, Any]] = st.fixed_dictionaries(
    {},
    optional={
        "image": st.text("abc", min_size=1, max_size=4),
        "command": WORDS,
        "entrypoint": WORDS,
        "environment": st.tuples(ENV, st.booleans()),
        "labels": st.tuples(ENV, st.booleans()),
        "dns": st.lists(st.integers(1, 9).map("10.0.0.{}".format), min_size=1, unique=True),
        "hostname": st.text("abc", min_size=1, max_size=5),
        "working_dir": st.text("ab", min_size=1, max_size=5).map("/{}".format),
        "restart": st.sampled_from(["no", "always", "on-failure", "on-failure:3"]),
    },
)
FILES = st.lists(
    st.dictionaries(st.sampled_from(["web", "db"]), SERVICE, min_size=1), min_size=1, max_size=4
)
MAPS, LISTS = ("environment", "labels"), ("dns",)


def written(service: dict[str, Any]) -> dict[str, Any]:
    """A service as a file has it; mappings also as lists of NAME=VALUE."""
    found = dict(service)
    for key in MAPS:
        if key in service:
            values, as_list = service[key]
            found[key] = [f"{k}={v}" for k, v in values.items()] if as_list else values
    return found


def merged(files: list[dict[str, dict[str, Any]]]) -> dict[str, dict[str, Any]]:
    """What the files mean together."""
    services: dict[str, dict[str, Any]] = {}
    for file in files:
        for name, service in file.items():
            found = services.setdefault(name, {})
            for key, value in service.items():
                if key in MAPS:
                    found[key] = {**found.get(key, {}), **value[0]}
                elif key in LISTS:
                    kept = [item for item in found.get(key, []) if item not in value]
                    found[key] = [*kept, *value]
                else:
                    found[key] = value
    return services


@given(FILES)
def test_later_files_win_key_by_key(files: list[dict[str, dict[str, Any]]]) -> None:
    first = {name: {"image": "base"} for file in files for name in file}
    files = [first, *files]
    with tempfile.TemporaryDirectory() as folder:
        paths = []
        for number, file in enumerate(files):
            paths.append(Path(folder) / f"{number}.yaml")
            text = {"services": {name: written(service) for name, service in file.items()}}
            paths[-1].write_text(json.dumps(text))
        made = project.load(project.Request(tuple(paths), name="p"))
    wanted = merged(files)
    assert set(made.services) == set(wanted)
    for name, service in wanted.items():
        found = made.services[name]
        assert found.image == service["image"]
        for key, value in (("command", found.command), ("entrypoint", found.entrypoint)):
            assert value == (tuple(service[key]) if key in service else None)
        assert found.environment == service.get("environment", {})
        assert {k: found.labels.get(k) for k in service.get("labels", {})} == service.get(
            "labels", {}
        )
        assert found.dns == tuple(service.get("dns", ()))
        assert found.hostname == service.get("hostname")
        assert found.workdir == service.get("working_dir")
        assert found.restart == service.get("restart", "no")
