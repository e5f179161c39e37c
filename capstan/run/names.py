# SPDX-License-Identifier: BSD-2-Clause
"""Names of instances: host names, given by the user or made from the image's."""

from __future__ import annotations

import re
from itertools import count
from typing import TYPE_CHECKING

from capstan.errors import MachineError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}")
BASE_MAX = 56  # a number has room behind it
HOST_MAX = 63


def is_name(text: str) -> bool:
    """Whether an instance could be called so."""
    return _NAME.fullmatch(text) is not None


def check(text: str) -> str:
    """`text`, which is a name.

    Raises:
        UsageError: it is none.
    """
    if not is_name(text):
        raise UsageError(
            f"{text!r} is no name for an instance",
            hint="letters, digits, '.', '_' and '-', 63 at most, a letter or digit first",
        )
    return text


def taken(text: str) -> MachineError:
    """The error when another instance has the name."""
    return MachineError(
        f"there is an instance {text} already",
        hint=f"`capstan rm {text}` removes it; or choose another --name",
    )


def base(image: str, most: int = BASE_MAX) -> str:
    """The part of an image's name, or of a path, that names its instances and their host."""
    last = image.rstrip("/").rsplit("/", 1)[-1].partition("@")[0].partition(":")[0]
    return re.sub(r"[^A-Za-z0-9._-]", "-", last).lstrip(".-_")[:most] or "capstan"


def after(image: str) -> Iterator[str]:
    """Names to try: redis-1, redis-2, ..."""
    stem = base(image)
    return (f"{stem}-{number}" for number in count(1))
