# SPDX-License-Identifier: BSD-2-Clause
"""Settings: flag, environment, project's file, user's file, default, in any combination."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capstan import settings, settings_files
from capstan.settings import Origin

WORDS = st.text("abcXYZ019 .-", min_size=1, max_size=8).filter(lambda t: t.strip() == t)
PLACES = (Origin.FLAG, Origin.ENVIRONMENT, Origin.PROJECT, Origin.USER)


LETTERS = st.text("ab", min_size=1)
SAMPLES = (
    ("pairs with paths", st.builds("{}=/{}".format, LETTERS, LETTERS)),
    ("a number from", st.integers(1, 3600).map(str)),
    ("path", st.text("ab/", min_size=1, max_size=8).map("/{}".format)),
    ("size", st.builds("{}{}".format, st.integers(1, 9999), st.sampled_from("KMG"))),
    ("whole number", st.integers(1, 10**6).map(str)),
    ("list", st.lists(st.text("abc", min_size=1), min_size=1, max_size=3).map(",".join)),
    ("", WORDS),
)
"""What values look like, by a word of `Kind.expected`."""


def texts(row: settings.Setting) -> st.SearchStrategy[str]:
    """Values of a setting as one writes them on a command line."""
    if row.kind.choices:
        return st.sampled_from(row.kind.choices)
    return next(made for word, made in SAMPLES if word in row.kind.expected)


def as_toml(row: settings.Setting, text: str) -> str:
    """The same value in a file."""
    value: Any = row.kind.parse(text)
    if isinstance(value, (int, float)) and row.kind is not settings.SIZE:
        return json.dumps(value)
    if isinstance(value, tuple):
        return json.dumps(list(value))
    if isinstance(value, dict):
        inner = ", ".join(f"{json.dumps(k)} = {json.dumps(v)}" for k, v in value.items())
        return f"{{ {inner} }}"
    return json.dumps(text)


@st.composite
def cases(draw: st.DrawFn) -> tuple[settings.Setting, dict[Origin, str]]:
    row = draw(st.sampled_from(settings.TABLE))
    places = [place for place in PLACES if place is not Origin.PROJECT or row.project]
    chosen = draw(st.sets(st.sampled_from(places)))
    return row, {place: draw(texts(row)) for place in chosen}


@given(cases())
def test_the_first_place_counts(case: tuple[settings.Setting, dict[Origin, str]]) -> None:
    row, values = case
    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory() as folder:
        top = Path(folder).resolve()
        (top / "project").mkdir()
        for other in settings.TABLE:
            patch.delenv(other.env, raising=False)
        patch.setenv("HOME", str(top))
        patch.setenv("CAPSTAN_CONFIG", str(top / "user.toml"))
        old = Path.cwd()
        os.chdir(top / "project")
        settings_files._is_ours.cache_clear()
        try:
            files = {Origin.PROJECT: top / "project/capstan.toml", Origin.USER: top / "user.toml"}
            for place, path in files.items():
                if place in values:
                    path.write_text(f"{row.key} = {as_toml(row, values[place])}\n")
            if Origin.ENVIRONMENT in values:
                patch.setenv(row.env, values[Origin.ENVIRONMENT])
            found = settings.lookup(row.key, values.get(Origin.FLAG))
        finally:
            os.chdir(old)
    first = next((place for place in PLACES if place in values), Origin.DEFAULT)
    assert found.origin is first
    wanted = row.kind.parse(values[first]) if first in values else row.default
    assert found.value == wanted
