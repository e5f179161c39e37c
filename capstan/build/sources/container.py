# SPDX-License-Identifier: BSD-2-Clause
"""A container image as the tree and configuration of one of ours.

Sources are written as other tools write them: `oci:DIR[:TAG]`, `oci-archive:FILE[:TAG]`,
`docker-archive:FILE[:NAME]`. `docker://HOST/NAME:TAG` is fetched into a layout by the caller first.
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from capstan import ref
from capstan.build.rootfs import Facts, Tree
from capstan.build.sources.config import ImageConfig
from capstan.build.sources.contents import Contents
from capstan.build.sources.layers import is_remembered, read_layer
from capstan.build.sources.limits import Limits, Meter
from capstan.build.sources.oci import (
    Archive,
    Container,
    Files,
    Folder,
    layers_of,
    read_docker,
    read_oci,
)
from capstan.build.sources.overlay import Overlay
from capstan.build.sources.streams import Damaged, damaged
from capstan.build.zfs.tree import Node
from capstan.errors import BuildError, UsageError


class Transport(Enum):
    """Where a container image is."""

    DOCKER = "docker"
    OCI = "oci"
    OCI_ARCHIVE = "oci-archive"
    DOCKER_ARCHIVE = "docker-archive"


@dataclass(frozen=True, slots=True)
class Source:
    """A container image to start from.

    `name` is what the result is called by default, `title` how the user wrote it when the place is
    only a temporary one.
    """

    transport: Transport
    place: str
    tag: str = ""
    name: str = ""
    title: str = ""

    def __str__(self) -> str:
        """As the user writes it."""
        if self.title:
            return self.title
        if self.transport is Transport.DOCKER:
            return f"docker://{self.place}"
        return f"{self.transport.value}:{self.place}" + (f":{self.tag}" if self.tag else "")


def parse(text: str) -> Source | None:
    """The source `text` means, None when it does not begin as one.

    Raises:
        UsageError: it begins as one, but names nothing.
    """
    kind, colon, rest = text.partition(":")
    if not colon or kind not in {transport.value for transport in Transport}:
        return None
    transport = Transport(kind)
    if transport is Transport.DOCKER:
        if not rest.startswith("//"):
            return None
        image = ref.parse(rest[2:])
        return Source(transport, rest[2:], name=_short(image.name, image.tag))
    place, tag = _split(rest, is_name=transport is Transport.DOCKER_ARCHIVE)
    if not place:
        raise UsageError(f"{text}: names no file", hint=f"write {kind}:PATH")
    return Source(transport, place, tag)


def _split(rest: str, *, is_name: bool) -> tuple[str, str]:
    """PATH[:TAG]; a path that exists may have colons of its own."""
    if Path(rest).exists():
        return rest, ""
    if is_name:
        # The name may have a registry's port and a tag: the file is up to the first colon.
        place, _, tag = rest.partition(":")
    else:
        place, colon, tag = rest.rpartition(":")
        if not colon or "/" in tag:
            return rest, ""
    return place, tag


def _short(name: str, tag: str) -> str:
    last = name.rpartition("/")[2]
    return f"{last}:{tag}" if tag else last


@dataclass(frozen=True, slots=True)
class Loaded:
    """A container image, unpacked."""

    tree: Tree
    config: ImageConfig
    name: str
    title: str
    history: tuple[str, ...] = ()


def load(source: Source, contents: Contents) -> Loaded:
    """The tree and the configuration of a container image in files.

    Raises:
        BuildError: it is damaged, or asks for more than the limits.
        UsageError: it does not exist.
    """
    allowed = Limits.from_settings()
    meter = Meter(allowed, str(source))
    try:
        container = _open(source, contents, allowed)
        config = ImageConfig.parse(container.config)
        overlay = Overlay(contents, meter)
        for layer in container.layers:
            rows = read_layer(layer, contents, meter)
            try:
                overlay.apply(rows, layer.name)
            except Damaged as err:
                raise damaged(f"{source}: {layer.name}", str(err)) from err
        root = overlay.finish()
    except Damaged as err:
        raise damaged(str(source), str(err)) from err
    except RecursionError as err:
        raise damaged(str(source), "a document nested too deeply") from err
    tree = Tree(None)
    tree.root = root
    _set_facts(tree, root, contents)
    name = source.name or _name(source, container)
    return Loaded(tree, config, name, str(source), _history(container))


def remembered(manifest: bytes, config: bytes, contents: Contents) -> set[str]:
    """The digests of the layers of an image that were unpacked before; none if it is damaged."""
    try:
        pairs = layers_of(manifest, config)
    except Damaged:
        return set()
    known = {diff_id for _, diff_id in pairs if is_remembered(diff_id, contents)}
    return {digest for digest, diff_id in pairs if diff_id in known}


def _history(container: Container) -> tuple[str, ...]:
    """How each layer was made, as the image says it; what is not text is left out."""
    rows = container.config.get("history")
    if not isinstance(rows, list):
        return ()
    found = [row.get("created_by") for row in rows if isinstance(row, dict)]
    return tuple("".join(filter(str.isprintable, text)) for text in found if isinstance(text, str))


def _open(source: Source, contents: Contents, allowed: Limits) -> Container:
    path = Path(source.place)
    if not path.exists():
        raise UsageError(f"{path} does not exist", hint=f"{source} names an existing file")
    is_folder = path.is_dir()
    if source.transport is Transport.OCI and is_folder:
        files: Files = Folder(path)
    elif source.transport is Transport.OCI or is_folder:
        kind = "no directory" if not is_folder else "a directory"
        hint = "oci: takes a directory, oci-archive: and docker-archive: take a file"
        raise UsageError(f"{source}: {path} is {kind}", hint=hint)
    else:
        files = Archive(path, contents.scratch(), allowed)
    if source.transport is Transport.DOCKER_ARCHIVE:
        return read_docker(files, source.tag)
    return read_oci(files, source.tag)


def _name(source: Source, container: Container) -> str:
    for tag in (source.tag, *container.tags[:1]):
        image = ref.try_parse(tag)
        if image is not None and source.transport is Transport.DOCKER_ARCHIVE:
            return _short(image.name, image.tag)
    path = Path(source.place)
    name = ref.from_file_name(path.stem if path.is_file() else path.name).name
    tag = (source.tag or (container.tags[0] if container.tags else "")).rpartition(":")[2]
    return f"{name}:{tag}" if ref.try_parse(f"{name}:{tag}") else name


def _set_facts(tree: Tree, root: Node, contents: Contents) -> None:
    """Say which files are contents, so that they count by digest, not by time."""
    todo = [root]
    while todo:
        node = todo.pop()
        todo.extend(node.children.values())
        if stat.S_ISREG(node.mode) and isinstance(node.source, Path):
            host = os.fspath(node.source)
            if host not in tree.facts:
                try:
                    tree.facts[host] = Facts.of(os.lstat(host))
                except OSError as err:
                    raise BuildError(
                        f"{host}: removed during the build", hint="build again"
                    ) from err
                tree.digests[host] = contents.name_of(node.source)
