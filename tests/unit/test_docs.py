# SPDX-License-Identifier: BSD-2-Clause
"""The pages say what the code does: generated ones are up to date, examples and links work."""

from __future__ import annotations

import dataclasses
import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest

from capstan import capstanfile

TOP = Path(__file__).resolve().parents[2]
PAGES = sorted([TOP / "README.md", TOP / "guest" / "README.md", *(TOP / "docs").glob("*.md")])


def load_gendocs() -> ModuleType:
    spec = importlib.util.spec_from_file_location("gendocs", TOP / "ci" / "lib" / "gendocs.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("page", ["docs/cli.md", "docs/syscalls.md", "docs/paths.md"])
def test_generated_pages_are_up_to_date(page: str) -> None:
    made = load_gendocs().PAGES[page]()
    assert (TOP / page).read_text() == made, f"{page} is out of date: run ci/lib/gendocs.py"


def anchors(page: Path) -> set[str]:
    """What GitHub makes of the headings of a page."""
    titles = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title).strip().lower().replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(TOP)))
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if "://" in target:
            continue
        name, _, anchor = target.partition("#")
        other = page.parent / name if name else page
        assert other.exists(), f"{page.name}: {target}"
        assert not anchor or anchor in anchors(other), f"{page.name}: {target}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(TOP)))
def test_files_named_in_pages_exist(page: Path) -> None:
    top = "capstan|guest|ci|tests|docs|bench|examples"
    for name in re.findall(rf"`((?:{top})/[\w./-]*[\w-])`", page.read_text()):
        made = name.startswith(("guest/build", "capstan/data", "capstan/kernel"))
        assert made or (TOP / name).exists(), f"{page.name}: {name}"


def examples() -> list[str]:
    text = (TOP / "docs" / "capstanfile.md").read_text()
    return re.findall(r"^```yaml\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("text", examples())
def test_examples_of_the_capstanfile_page(text: str, tmp_path: Path) -> None:
    (tmp_path / "rootfs").mkdir()
    assert capstanfile.parse(text.encode(), tmp_path / "Capstanfile", tmp_path).cmdline


def test_the_capstanfile_page_has_every_key() -> None:
    text = (TOP / "docs" / "capstanfile.md").read_text()
    fields = {field.name for field in dataclasses.fields(capstanfile.Capstanfile)}
    assert set(re.findall(r"^### `(\w+)`$", text, re.MULTILINE)) == fields - {"path", "folder"}
    used = {key for example in examples() for key in re.findall(r"^(\w+):", example, re.MULTILINE)}
    assert used >= fields - {"path", "folder"}
