# SPDX-License-Identifier: BSD-2-Clause
"""What to make an instance of: the request of the command line and of compose."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from capstan.run.restart import RestartPolicy
    from capstan.run.spec import RunSpec


@dataclass(frozen=True, slots=True)
class InstanceRequest:
    """`digest` is the image's ID in the store; without a name it gets one after the image.

    `restart` None: never. Limits of the log that are None are those of the settings.
    """

    spec: RunSpec
    image: str
    digest: str = ""
    name: str | None = None
    labels: dict[str, str] = field(default_factory=dict)
    restart: RestartPolicy | None = None
    auto_remove: bool = False
    open_stdin: bool = False
    log_size: int | None = None
    log_files: int | None = None
