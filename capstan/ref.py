# SPDX-License-Identifier: BSD-2-Clause
"""Names of images: `[HOST[:PORT]/]NAME[:TAG][@sha256:DIGEST]`, NAME with any number of `/` parts.

As with other tools, the first part is a host when it has a dot or a port or is `localhost`. The
digest is that of a registry's manifest (OCI Distribution 1.1, "pulling manifests").
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from capstan.errors import UsageError

DEFAULT_TAG = "latest"
_PART = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_NAME = re.compile(rf"{_PART}(?:/{_PART})*")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?"
_HOST = re.compile(rf"(?:{_LABEL}(?:\.{_LABEL})*|\[[0-9a-fA-F:]+\])(?::[0-9]{{1,5}})?")
_MAX = 128
_MAX_WITH_HOST = 254  # and a "/": many registries take 255 in all, file systems no more


@dataclass(frozen=True, slots=True, order=True)
class ImageRef:
    """A checked name. `tag` is empty only when the digest alone was given."""

    name: str
    tag: str = DEFAULT_TAG
    host: str = ""
    digest: str = ""

    def __str__(self) -> str:
        """The full form, with the tag."""
        tag = f":{self.tag}" if self.tag else ""
        digest = f"@{self.digest}" if self.digest else ""
        return f"{self.repository}{tag}{digest}"

    @property
    def repository(self) -> str:
        """Host and name, without tag and digest."""
        return f"{self.host}/{self.name}" if self.host else self.name


def try_parse(text: str) -> ImageRef | None:
    """The reference `text` stands for, None when it cannot be one."""
    rest, at, digest = text.partition("@")
    if at and not _DIGEST.fullmatch(digest):
        return None
    host, rest = _split_host(rest)
    name, colon, tag = rest.partition(":")
    if not colon:
        tag = "" if digest else DEFAULT_TAG
    if (
        len(name) > _MAX
        or len(host) + len(name) > _MAX_WITH_HOST
        or not _NAME.fullmatch(name)
        or (host and not _HOST.fullmatch(host))
    ):
        return None
    if (colon or tag) and not _TAG.fullmatch(tag):
        return None
    return ImageRef(name, tag, host, digest)


def parse(text: str) -> ImageRef:
    """The reference `text` stands for.

    Raises:
        UsageError: it is not `[host/]name[:tag][@digest]`.
    """
    ref = try_parse(text)
    if ref is None:
        raise UsageError(
            f"{text!r} is not the name of an image",
            hint="use [host[:port]/]name[:tag][@sha256:...]: lower-case letters, digits "
            "and . _ - / in the name",
        )
    return ref


def from_file_name(text: str) -> ImageRef:
    """The name an image gets when its user gave none."""
    plain = re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:_MAX].strip("-")
    return ImageRef(plain or "image")


def _split_host(text: str) -> tuple[str, str]:
    first, slash, rest = text.partition("/")
    is_host = "." in first or ":" in first or first == "localhost"
    return (first, rest) if slash and is_host else ("", text)
