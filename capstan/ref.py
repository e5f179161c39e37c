# SPDX-License-Identifier: BSD-2-Clause
"""Names of images: `name[:tag]`."""

from __future__ import annotations

import re
from dataclasses import dataclass

from capstan.errors import UsageError

DEFAULT_TAG = "latest"
_PART = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_NAME = re.compile(rf"{_PART}(?:/{_PART})*")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
_MAX = 128


@dataclass(frozen=True, slots=True, order=True)
class ImageRef:
    """An image's name and tag, both checked."""

    name: str
    tag: str = DEFAULT_TAG

    def __str__(self) -> str:
        """The full form, with the tag."""
        return f"{self.name}:{self.tag}"


def try_parse(text: str) -> ImageRef | None:
    """The reference `text` stands for, None when it cannot be one."""
    name, colon, tag = text.partition(":")
    if not colon:
        tag = DEFAULT_TAG
    if len(name) > _MAX or not _NAME.fullmatch(name) or not _TAG.fullmatch(tag):
        return None
    return ImageRef(name, tag)


def parse(text: str) -> ImageRef:
    """The reference `text` stands for.

    Raises:
        UsageError: it is not `name[:tag]`.
    """
    ref = try_parse(text)
    if ref is None:
        raise UsageError(
            f"{text!r} is not the name of an image",
            hint="use name[:tag]: lower-case letters, digits and . _ - / in the name",
        )
    return ref


def from_file_name(text: str) -> ImageRef:
    """The name an image gets when its user gave none."""
    plain = re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:_MAX].strip("-")
    return ImageRef(plain or "image")
