# SPDX-License-Identifier: BSD-2-Clause
"""How much an archive may ask for, and the error when it asks for more.

`Limits` has the numbers; two of them can be raised by settings. A `Meter` counts what one image
used, over all its layers.
"""

from __future__ import annotations

from dataclasses import dataclass

from capstan import settings
from capstan.errors import BuildError

KEY_SIZE, KEY_ENTRIES = "max_unpacked", "max_entries"
DOCUMENT_MAX = 4 << 20  # manifests and indexes; registries refuse larger ones
CONFIG_MAX = 16 << 20
LAYERS_MAX = 1024
HEADER_MAX = 1 << 20  # one extended header
PATH_MAX = 4096  # `man 7 path_resolution`
NAME_MAX = 255
XATTRS_MAX = 48 << 10  # of one file; OpenZFS keeps 64 KiB beside a file, names included
FILE_MAX = 1 << 40  # holes count
SPARSE_PARTS_MAX = 1 << 16
WINDOW_MAX = 128 << 20  # zstd
ENTRY_COST = 256  # bytes of memory that count for each entry beside its strings

_UNITS = {"": 1 << 20, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}


@dataclass(frozen=True, slots=True)
class Limits:
    """What one image may need at most."""

    unpacked: int = 16 << 30  # bytes out of all layers
    entries: int = 500_000  # files, directories, links, whiteouts
    metadata: int = 512 << 20  # names, link targets, attributes, `ENTRY_COST` for each entry

    @classmethod
    def from_settings(cls) -> Limits:
        """The limits with what the user set.

        Raises:
            UsageError: a setting is no size or number.
        """
        default = cls()
        size, entries = settings.get_int(KEY_SIZE), settings.get_int(KEY_ENTRIES)
        return cls(
            unpacked=size or default.unpacked,
            entries=entries or default.entries,
            metadata=max(default.metadata, (entries or 0) * 1024),
        )


@dataclass(slots=True)
class Meter:
    """What one image used so far; `where` names it in errors."""

    limits: Limits
    where: str
    unpacked: int = 0
    entries: int = 0
    metadata: int = 0
    entry: str = ""  # being read, for errors

    def more_bytes(self, count: int, layer: str) -> None:
        """Count unpacked bytes.

        Raises:
            BuildError: more than the limit.
        """
        self.unpacked += count
        if self.unpacked > self.limits.unpacked:
            entry = f"{self.entry}: " if self.entry else ""
            raise BuildError(
                f"{self.where}: {layer}: {entry}more than {_shown(self.limits.unpacked)} unpacked",
                hint="if you trust it, allow more: "
                f"{_variable(KEY_SIZE)}={_shown(2 * self.limits.unpacked)}",
            )

    def more_entries(self, metadata: int, layer: str, entry: str, count: int = 1) -> None:
        """Count an entry whose strings take `metadata` bytes.

        Raises:
            BuildError: more than the limit.
        """
        self.entries += count
        if self.entries > self.limits.entries:
            raise BuildError(
                f"{self.where}: {layer}: {entry}: more than {self.limits.entries} files",
                hint=_more_entries(self.limits),
            )
        self.more_metadata(metadata + count * ENTRY_COST, layer)

    def more_metadata(self, count: int, layer: str) -> None:
        """Count bytes of names, links and attributes, or the work they make.

        Raises:
            BuildError: more than the limit.
        """
        self.metadata += count
        if self.metadata > self.limits.metadata:
            raise BuildError(
                f"{self.where}: {layer}: names and attributes of the files take more "
                f"than {_shown(self.limits.metadata)}",
                hint=_more_entries(self.limits),
            )


def _more_entries(limits: Limits) -> str:
    return f"if you trust it, allow more: {_variable(KEY_ENTRIES)}={4 * limits.entries}"


def _variable(key: str) -> str:
    return next(row.env for row in settings.TABLE if row.key == key)


def _shown(size: int) -> str:
    for unit in "TGMK":
        if size and size % _UNITS[unit] == 0:
            return f"{size // _UNITS[unit]}{unit}"
    return f"{size} bytes"
