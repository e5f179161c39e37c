# SPDX-License-Identifier: BSD-2-Clause
"""Who looks on while a machine runs. The base class does nothing: a run nobody else knows of.

The poll loop of `machine` owns all descriptors. It adds those the keeper `wants`, hands back the
ones that are `ready`, and tells what happens; the keeper gives orders through the machine's public
methods. A keeper with `captures` gets the output instead of the standard descriptors.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from capstan.run.machine import Machine

OUT, ERR, TALK = "stdout", "stderr", "capstan"
"""What output is labelled with; TALK is what the tool itself has to say."""


class Keeper:
    """Hooks of a machine's run, in the order in which they are called."""

    captures = False
    open_stdin = False

    def launched(self, machine: Machine, pid: int) -> None:
        """QEMU runs as process `pid`."""

    def ready(self) -> None:
        """The program is about to run."""

    def output(self, stream: str, data: bytes) -> None:
        """The program wrote `data`, or the tool did (stream TALK); only when `captures`."""

    def pause(self) -> None:
        """The output has paused, or ended: lines without an end are to be told."""

    def threads(self, line: str) -> None:
        """One line of the guest's answer to `Machine.ask_threads`; "end" is the last."""

    def signalled(self, number: int) -> None:
        """The process itself got a signal."""

    def wants(self) -> Mapping[int, int]:
        """Descriptors to wait for, with their poll masks."""
        return {}

    def serve(self, ready: Mapping[int, int]) -> None:
        """Deal with those of them that are ready."""
