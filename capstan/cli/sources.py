# SPDX-License-Identifier: BSD-2-Clause
"""Where build and repo meet: a container image is fetched, then unpacked; a Dockerfile is built."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from capstan.errors import UsageError

if TYPE_CHECKING:
    from capstan.build.collect import BuildOptions
    from capstan.build.sources.container import Source

SCHEMES = ("docker:", "oci:", "oci-archive:", "docker-archive:")


def looks_like_source(text: str) -> bool:
    """Whether `text` is to name a container image; cheap, for the start of a command."""
    return text.startswith(SCHEMES)


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the command line named, beside the options of every build."""

    path: Path = field(default_factory=Path)
    source: str | None = None
    build_args: tuple[str, ...] = ()
    stage: str | None = None


def wanted_by(target: str) -> Wanted:
    """What `capstan run TARGET` may be about: a container image or a folder with a Dockerfile."""
    if looks_like_source(target):
        return Wanted(source=target)
    return Wanted(Path(target) if "/" in target or target in (".", "..") else Path("/dev/null"))


@contextlib.contextmanager
def opened(wanted: Wanted, options: BuildOptions) -> Iterator[BuildOptions]:
    """The options with the container image to start from, if any; it is there in the block.

    Raises:
        CapstanError: the image is misspelt, cannot be fetched or built.
    """
    with contextlib.ExitStack() as stack:
        source = _source(wanted, options, stack)
        if source is None:
            for name in ("build_args", "stage"):
                if getattr(wanted, name):
                    flag = {"build_args": "--build-arg", "stage": "--target"}[name]
                    raise UsageError(
                        f"{flag} is for a Dockerfile", hint="name its folder, or it with -f"
                    )
            yield options
        else:
            yield dataclasses.replace(options, source=source, capstanfile=None)


def _source(wanted: Wanted, options: BuildOptions, stack: contextlib.ExitStack) -> Source | None:
    if wanted.source is not None:
        return _named(wanted.source, stack)
    given, folder = options.capstanfile, wanted.path
    if not (folder.is_dir() and (given is not None or not (folder / "Capstanfile").exists())):
        return None
    from capstan.build.sources import dockerfile

    found = given if given is None or dockerfile.is_one(given) else None
    if given is None:
        found = dockerfile.find(folder)
    if found is None:
        return None
    what = dockerfile.Dockerfile(found, folder, wanted.build_args, wanted.stage)
    return dockerfile.build(what, stack.enter_context(_scratch()))


def _named(text: str, stack: contextlib.ExitStack) -> Source:
    from capstan.build.sources import container

    source = container.parse(text)
    if source is None:
        raise UsageError(
            f"{text} names no container image",
            hint="docker://HOST/NAME:TAG, oci:DIR[:TAG], oci-archive:FILE, docker-archive:FILE",
        )
    if source.transport is container.Transport.DOCKER:
        return stack.enter_context(_fetched(source))
    return source


def _scratch() -> contextlib.AbstractContextManager[Path]:
    from capstan import fs
    from capstan.build.sources.contents import TMP
    from capstan.store import Store

    return fs.temp_dir(Store().sources / TMP)


@contextlib.contextmanager
def _fetched(source: Source) -> Iterator[Source]:
    """A container image of a registry, fetched into a layout."""
    from capstan import ref, ui
    from capstan.build.sources import container
    from capstan.cli.reach import reach
    from capstan.repo.fetch import fetch_oci

    with _scratch() as folder:
        with ui.progress(f"Loading {source}") as bar:
            name = ref.parse(source.place)
            layout = fetch_oci(name, folder / "layout", reach(), progress=bar, have=_remembered)
        oci = container.Transport.OCI
        yield container.Source(oci, str(layout), name=source.name, title=str(source))


def _remembered(manifest: bytes, config: bytes) -> set[str]:
    """The layers of an image that need no fetching: they were unpacked before."""
    from capstan.build.sources.container import remembered
    from capstan.build.sources.plan import contents_of
    from capstan.store import Store

    return remembered(manifest, config, contents_of(Store()))
