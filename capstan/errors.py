# SPDX-License-Identifier: BSD-2-Clause
"""Every failure of the tool, and the exit status it leads to.

    CapstanError                 125  the tool failed
      UsageError                 125  a command line or Capstanfile is wrong
      BuildError                 125  an image cannot be made
      ImageError                 125  an image or the local store is damaged or unknown
      MachineError               125  QEMU or the host cannot do it
        TimeoutExpired           124  the program ran longer than --timeout
      RepoError                  125  a registry said no

A program's own exit status (0-255) passes through; 128+n: it died of signal n.
Only `capstan.cli.main` catches these and prints them.
"""

from __future__ import annotations

EXIT_TIMEOUT = 124
EXIT_TOOL = 125

EXIT_STATUSES = {
    "0": "Done; the program ended with 0.",
    "1": "The answer is no. `check`, `doctor`: it would not run; `config get`: not set.",
    "124": "The time of `run --timeout` passed.",
    "125": "Capstan failed, or the command line is wrong; a line on stderr says why.",
    "126": "The program cannot be executed.",
    "127": "The program was not found in the image.",
    "128+N": "Signal N ended the program, or capstan: 130 is Ctrl-C, 141 a closed pipe.",
    "others": "The program's own status: of `run`, `attach` and `start --attach`.",
}
"""What the exit statuses mean: the table in docs/cli.md and in the manual pages."""


class CapstanError(Exception):
    """What failed, on which object (`message`), and what to do next (`hint`)."""

    exit_code = EXIT_TOOL

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class UsageError(CapstanError):
    """A command line, setting or Capstanfile is wrong."""


class BuildError(CapstanError):
    """An image cannot be made from this input."""


class ImageError(CapstanError):
    """An image or the local store is damaged, unknown or of another version."""


class MachineError(CapstanError):
    """QEMU, KVM or the host refused, or the guest stopped without a word."""


class TimeoutExpired(MachineError):
    """The program ran longer than it was allowed to."""

    exit_code = EXIT_TIMEOUT


class RepoError(CapstanError):
    """A registry could not be reached or refused."""
