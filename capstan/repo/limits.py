# SPDX-License-Identifier: BSD-2-Clause
"""How much a registry may send, and how long anything may take."""

from __future__ import annotations

from dataclasses import dataclass

MANIFEST_MAX = 4 << 20
CONFIG_MAX = 32 << 20
TOKEN_MAX = 1 << 20
ERROR_MAX = 64 << 10
JSON_DEPTH = 64
REDIRECTS = 5
FRAME_MAX = 64 << 20  # bytes on disk of one frame
UNPACKED_MAX = 64 << 20  # bytes of files in one frame
DISK_MAX = 1 << 42
PIECES_MAX = 65_536
CHUNK = 8 << 20  # of an upload
READ = 64 << 10


@dataclass(frozen=True, slots=True)
class Patience:
    """Deadlines and retries; tests make them small."""

    connect: float = 10.0
    silence: float = 30.0  # without a byte; also for the whole of a head or a small document
    speed_min: int = 2048  # bytes a second of a blob, after `silence` seconds
    tries: int = 5
    tries_max: int = 60  # of one blob, however much each try brought
    pause: float = 0.5  # doubled each time
    pause_max: float = 20.0
    retry_after_max: float = 60.0
