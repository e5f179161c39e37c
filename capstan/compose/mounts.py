# SPDX-License-Identifier: BSD-2-Clause
"""Files of the host in a machine: an image on top of the service's, made when they change."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from capstan import fs
from capstan.build.collect import BuildOptions
from capstan.build.image import build_path
from capstan.errors import CapstanError

if TYPE_CHECKING:
    from capstan.compose.model import Mount, Service
    from capstan.store import StoredImage

FOLDER = "mounts"  # in the title of the image, which is a part of what it is found by


def with_mounts(
    image: StoredImage, service: Service, scratch: Path, warn: Callable[[str], None]
) -> StoredImage:
    """`image` with the service's files of the host in it; how it is started stays the same.

    Raises:
        CapstanError: a file cannot be read.
    """
    if not service.mounts:
        return image
    import yaml

    files: dict[str, str] = {}
    spec = {
        "base": image.digest,
        "cmdline": list(image.manifest.config.argv),
        "files": files,
    }
    options = BuildOptions(reuse=True, unnamed=True)
    try:
        with fs.temp_dir(scratch) as temp:
            (temp / FOLDER).mkdir()
            for number, mount in enumerate(service.mounts):
                files[mount.target] = _host_path(mount, temp / FOLDER, f"text{number}")
            (temp / FOLDER / "Capstanfile").write_text(yaml.safe_dump(spec))
            made = build_path(temp / FOLDER, (), options, None, warn)
    except CapstanError as err:
        raise type(err)(f"service {service.name}: volumes: {err.message}", hint=err.hint) from err
    manifest = dataclasses.replace(made.manifest, config=image.manifest.config)
    return dataclasses.replace(made, ref=image.ref, manifest=manifest)


def _host_path(mount: Mount, folder: Path, name: str) -> str:
    """Where the files come from; a text is written to `folder` first."""
    if mount.source is not None:
        return str(mount.source.absolute())
    path = folder / name
    path.write_text(mount.content)
    os.utime(path, (0, 0))  # the same text is the same image
    return name
