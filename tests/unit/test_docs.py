# SPDX-License-Identifier: BSD-2-Clause
"""The pages say what the code does: generated ones are up to date, examples and links work."""

from __future__ import annotations

import dataclasses
import importlib.util
import re
import shutil
import subprocess
from pathlib import Path
from types import ModuleType

import click
import pytest

from capstan import capstanfile
from capstan.cli import main

TOP = Path(__file__).resolve().parents[2]
PAGES = sorted([TOP / "README.md", TOP / "guest" / "README.md", *(TOP / "docs").glob("*.md")])


def load_gendocs() -> ModuleType:
    spec = importlib.util.spec_from_file_location("gendocs", TOP / "ci" / "lib" / "gendocs.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


GENDOCS = load_gendocs()
GENERATED = GENDOCS.pages()


@pytest.mark.parametrize("page", GENERATED)
def test_generated_pages_are_up_to_date(page: str) -> None:
    path = TOP / page
    now = path.read_text() if path.exists() else ""
    assert now == GENERATED[page](), f"{page} is out of date: run ci/lib/gendocs.py"


def test_manual_pages_of_commands_that_are_gone() -> None:
    assert not GENDOCS.stale(GENERATED), "run ci/lib/gendocs.py"


def test_manual_pages_are_clean() -> None:
    mandoc = shutil.which("mandoc")
    if mandoc is None:
        pytest.skip("needs mandoc (apt-get install mandoc)")
    pages = sorted((TOP / "docs" / "man").glob("*.1"))
    line = [mandoc, "-T", "lint", "-W", "warning", *pages]
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    assert pages and done.returncode == 0, done.stdout + done.stderr


def test_the_manual_says_what_help_says() -> None:
    """Every option of every command stands in its manual page."""
    page = (TOP / "docs" / "man" / "capstan-run.1").read_text().replace("\\-", "-")
    command = main.cli.get_command(click.Context(main.cli), "run")
    assert command is not None
    names = [opt for p in command.params if isinstance(p, click.Option) for opt in p.opts]
    assert len(names) > 30
    missing = [opt for opt in names if opt not in page]
    assert not set(missing) - {"--quiet", "--debug", "--color", "-q"}


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
