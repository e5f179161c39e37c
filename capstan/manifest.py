# SPDX-License-Identifier: BSD-2-Clause
"""The description every image carries: all that `capstan run` needs to know.

`docs/host-guest.md` has the layout of the disk file; this module has the numbers.
"""

from __future__ import annotations

import dataclasses
import json
import re
from dataclasses import dataclass, field
from typing import Any

from capstan.errors import ImageError

ABI = 1
FORMAT_VERSION = 1
HEADER_OFFSET = 512 << 10
HEADER_SIZE = 4096
MANIFEST_OFFSET = 516 << 10
MANIFEST_MAX = 508 << 10
KERNEL_OFFSET = 1 << 20
KERNEL_MAX = 3 << 20
MAGIC = b"CAPSTAN\0"
DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
"""Where programs are looked for when nothing else is said."""


@dataclass(frozen=True, slots=True)
class RunConfig:
    """How the program is started unless the command line says otherwise."""

    argv: tuple[str, ...]
    env: dict[str, str] = field(default_factory=dict)
    workdir: str = "/"
    memory: int = 256 << 20
    cpus: int = 1
    ports: tuple[str, ...] = ()
    volumes: tuple[str, ...] = ()
    network: bool = False  # a card without being asked
    fixed: int | None = None  # words of argv that stay when there are arguments; None: all
    user: str = ""  # as the image's author wrote it
    ids: tuple[int, ...] = ()  # user, group, further groups; none: root
    stop_signal: str = ""  # SIGTERM when empty
    labels: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class KernelInfo:
    """The guest kernel inside the image."""

    sha256: str
    size: int
    abi: int = ABI


@dataclass(frozen=True, slots=True)
class PoolInfo:
    """The ZFS pool the image is."""

    name: str
    guid: int
    size: int


@dataclass(frozen=True, slots=True)
class LinkedFile:
    """A file whose system calls are jumps: what it was on the host and what it is in the image."""

    path: str
    sha256: str
    linked_sha256: str
    sites: int
    left: int  # sites that still trap


@dataclass(frozen=True, slots=True)
class Step:
    """One thing the image was made of: what kind, which, and how much came with it."""

    kind: str  # base, rootfs, files, include, program, ...
    detail: str
    files: int = 0
    size: int = 0


@dataclass(frozen=True, slots=True)
class ImageManifest:
    """One image; `created` is in seconds since 1970."""

    name: str
    created: int
    config: RunConfig
    kernel: KernelInfo
    pool: PoolInfo
    files: int = 0
    linked: tuple[LinkedFile, ...] = ()
    history: tuple[Step, ...] = ()
    version: int = FORMAT_VERSION

    def to_json(self) -> bytes:
        """The canonical bytes (sorted keys, one trailing newline)."""
        text = json.dumps(dataclasses.asdict(self), sort_keys=True, indent=1)
        return text.encode() + b"\n"

    @classmethod
    def from_json(cls, data: bytes, where: str) -> ImageManifest:
        """The manifest in `data`; `where` names it in errors.

        Raises:
            ImageError: not JSON, a key missing or of the wrong kind, or a newer version.
        """
        try:
            raw: Any = json.loads(data)
            if raw["version"] != FORMAT_VERSION:
                raise ImageError(
                    f"{where}: image format {raw['version']} is not {FORMAT_VERSION}",
                    hint="rebuild the image with this version of capstan",
                )
            config = raw["config"]
            return cls(
                name=str(raw["name"]),
                created=int(raw["created"]),
                config=RunConfig(
                    argv=tuple(str(a) for a in config["argv"]),
                    env={str(k): str(v) for k, v in config["env"].items()},
                    workdir=str(config["workdir"]),
                    memory=int(config["memory"]),
                    cpus=int(config["cpus"]),
                    ports=tuple(str(p) for p in config["ports"]),
                    volumes=tuple(str(v) for v in config["volumes"]),
                    network=bool(config.get("network", False)),
                    fixed=None if config.get("fixed") is None else int(config["fixed"]),
                    user=str(config.get("user", "")),
                    ids=tuple(int(n) for n in config.get("ids", ())),
                    stop_signal=str(config.get("stop_signal", "")),
                    labels={str(k): str(v) for k, v in config.get("labels", {}).items()},
                ),
                kernel=_kernel(raw["kernel"]),
                pool=PoolInfo(
                    str(raw["pool"]["name"]), int(raw["pool"]["guid"]), int(raw["pool"]["size"])
                ),
                files=int(raw["files"]),
                linked=tuple(LinkedFile(**row) for row in raw.get("linked", ())),
                history=tuple(_step(row) for row in raw.get("history", ())),
            )
        except (ValueError, KeyError, TypeError, AttributeError) as err:
            raise ImageError(
                f"{where}: damaged manifest ({err!r})", hint="rebuild or pull the image again"
            ) from err


def _kernel(raw: Any) -> KernelInfo:
    """The kernel's row; its digest becomes the name of a file."""
    sha256 = str(raw["sha256"])
    if not re.fullmatch("[0-9a-f]{64}", sha256):
        raise ValueError("kernel.sha256 is no SHA-256")
    return KernelInfo(sha256, int(raw["size"]), int(raw["abi"]))


def _step(raw: Any) -> Step:
    return Step(str(raw["kind"]), str(raw["detail"]), int(raw["files"]), int(raw["size"]))
