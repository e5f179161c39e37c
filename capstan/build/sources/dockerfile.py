# SPDX-License-Identifier: BSD-2-Clause
"""Dockerfiles, through buildah: it makes the container image, the rest is as for any other.

buildah keeps its own cache of steps, in its own storage (`STORAGE_DRIVER` and its other variables
work as always).
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from capstan import proc, ref
from capstan.build.sources.container import Source, Transport
from capstan.errors import BuildError

NAMES = ("Containerfile", "Dockerfile")


@dataclass(frozen=True, slots=True)
class Dockerfile:
    """What is to be built: the file, the folder it is about, `--build-arg`s, the stage."""

    path: Path
    folder: Path
    args: tuple[str, ...] = ()
    target: str | None = None


def find(folder: Path) -> Path | None:
    """The Containerfile or Dockerfile of a folder."""
    return next((folder / name for name in NAMES if (folder / name).is_file()), None)


def is_one(path: Path) -> bool:
    """Whether a file named with -f is a Dockerfile by its name."""
    name = path.name.lower()
    return any(
        name == kind or name.startswith(f"{kind}.") or name.endswith(f".{kind}")
        for kind in ("dockerfile", "containerfile")
    )


def build(what: Dockerfile, into: Path) -> Source:
    """The container image that buildah made, as a layout in the folder `into`.

    Raises:
        BuildError: there is no buildah, or a step failed (its own words are on stderr).
    """
    if shutil.which("buildah") is None:
        raise BuildError(
            f"{what.path}: Dockerfiles are built by buildah, which is not installed",
            hint="`apt-get install buildah`; or build the image elsewhere, `docker save` it and "
            "name docker-archive:FILE",
        )
    layout, ident = into / "layout", into / "id"
    # In two steps: buildah 1.28 cannot write an image whose steps are all cached to a layout.
    done = proc.run_visible([*_words(what), "--iidfile", os.fspath(ident), os.fspath(what.folder)])
    if done == 0:
        image = ident.read_text().strip().removeprefix("sha256:")
        done = proc.run_visible(["buildah", "push", "--quiet", image, f"oci:{layout}:built"])
    if done != 0:
        raise BuildError(
            f"{what.path}: buildah ended with status {done}", hint="mend what it says above"
        )
    name = ref.from_file_name(what.folder.resolve().name).name
    return Source(Transport.OCI, os.fspath(layout), "built", name, os.fspath(what.path))


def _words(what: Dockerfile) -> Sequence[str]:
    words = ["buildah", "bud", "--isolation", os.environ.get("BUILDAH_ISOLATION", "chroot")]
    words += ["--layers", "--format", "oci", "--file", os.fspath(what.path)]
    for arg in what.args:
        words += ["--build-arg", arg]
    if what.target is not None:
        words += ["--target", what.target]
    return words
