# SPDX-License-Identifier: BSD-2-Clause
"""The Capstanfile: what is written comes back; what is wrong is told with file and line."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from capstan import capstanfile
from capstan.capstanfile import Capstanfile
from capstan.errors import UsageError

PATH, FOLDER = Path("/none/Capstanfile"), Path("/none")
TEXT = st.text(
    st.characters(codec="utf-8", exclude_categories=["Cc", "Cs", "Co", "Cn"]),
    min_size=1,
    max_size=20,
)
WORD = st.text("abcdefgh0123456789_-.", min_size=1, max_size=10)
GUEST = st.lists(WORD.filter(lambda w: w.strip(".")), min_size=1, max_size=4).map(
    lambda parts: "/" + "/".join(parts)
)
NAME = st.text("ABCXYZ_019", min_size=1, max_size=10)
MODELS: st.SearchStrategy[dict[str, Any]] = st.fixed_dictionaries(
    {"cmdline": st.lists(TEXT, min_size=1, max_size=4)},
    optional={
        "base": WORD,
        "files": st.dictionaries(GUEST, WORD, min_size=1, max_size=4),
        "build": st.lists(TEXT, min_size=1, max_size=3),
        "env": st.dictionaries(NAME, TEXT, min_size=1, max_size=4),
        "workdir": GUEST,
        "memory": st.integers(4, 1 << 20).map("{}M".format),
        "cpus": st.integers(1, capstanfile.CPUS_MAX),
        "ports": st.lists(WORD, min_size=1, max_size=3),
        "volumes": st.lists(GUEST, min_size=1, max_size=3),
        "nolink": st.lists(GUEST, min_size=1, max_size=3),
        "network": st.sampled_from(["user", "none"]),
    },
)


def expected(model: dict[str, Any]) -> Capstanfile:
    """What the file means, written down a second time."""
    given: dict[str, Any] = {"cmdline": tuple(model["cmdline"])}
    for key in ("ports", "volumes", "nolink", "build"):
        if key in model:
            given[key] = tuple(model[key])
    for key in ("base", "files", "env", "workdir", "cpus"):
        if key in model:
            given[key] = model[key]
    if "memory" in model:
        given["memory"] = int(model["memory"][:-1]) << 20
    if "network" in model:
        given["network"] = model["network"] == "user"
    return Capstanfile(PATH, FOLDER, **given)


def parse(text: str | bytes) -> Capstanfile:
    return capstanfile.parse(text if isinstance(text, bytes) else text.encode(), PATH, FOLDER)


@given(MODELS, st.booleans(), st.booleans())
def test_what_is_written_comes_back(model: dict[str, Any], flow: bool, listed: bool) -> None:
    written = dict(model)
    if listed and "env" in model:
        written["env"] = [f"{name}={value}" for name, value in model["env"].items()]
    text = yaml.safe_dump(written, default_flow_style=flow, allow_unicode=True)
    assert parse(text) == expected(model)


@given(st.lists(TEXT, min_size=1, max_size=4))
def test_a_command_line_is_split_as_a_shell_does(words: list[str]) -> None:
    text = yaml.safe_dump({"cmdline": shlex.join(words)}, allow_unicode=True)
    assert parse(text).cmdline == tuple(words)


@given(st.one_of(st.binary(max_size=200), st.text(max_size=200).map(str.encode)))
@example(b"cmdline: &a [*a]")
@example(b"cmdline: !!python/object:os.system x")
def test_anything_is_a_file_or_an_error_with_its_place(data: bytes) -> None:
    try:
        made = parse(data)
    except UsageError as err:
        assert err.message.startswith(str(PATH))
    else:
        assert made.cmdline


@given(MODELS, st.data())
def test_a_wrong_value_is_told_with_its_line(model: dict[str, Any], data: st.DataObject) -> None:
    key = data.draw(st.sampled_from(sorted(model)))
    wrong: dict[str, object] = {**model, key: {"a": {"b": ["c"]}}}
    if key == "files":
        wrong[key] = ["x"]
    text = yaml.safe_dump(wrong, default_flow_style=False, sort_keys=False)
    try:
        parse(text)
    except UsageError as err:
        found = re.match(rf"{PATH}:(\d+): {key}", err.message)
        assert found is not None, err.message
        lines = text.splitlines()
        assert any(line.startswith(f"{key}:") for line in lines[: int(found[1])])
    else:
        raise AssertionError(f"{key} was taken")


@given(MODELS, st.text("abcdefghijklmnop", min_size=1, max_size=9))
def test_an_unknown_key_is_named(model: dict[str, Any], key: str) -> None:
    if key in capstanfile._READERS:
        return
    try:
        parse(yaml.safe_dump({**model, key: "x"}, allow_unicode=True))
    except UsageError as err:
        assert f": {key}: " in err.message and err.hint
    else:
        raise AssertionError(f"{key} was taken")
