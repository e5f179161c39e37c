# SPDX-License-Identifier: BSD-2-Clause
"""Where things are: the only module that knows directories outside a store or an image."""

from __future__ import annotations

from pathlib import Path

from capstan import settings
from capstan.errors import BuildError

LIBCAPSTAN = "libcapstan.so.0"
PACKAGE = Path(__file__).resolve().parent


def data_root() -> Path:
    """The directory of the local store: `CAPSTAN_ROOT`, or the user's data directory."""
    given = settings.get("root")
    if given is not None:
        return Path(given).absolute()
    import platformdirs

    return Path(platformdirs.user_data_dir("capstan"))


def checkout() -> Path | None:
    """The source tree this package runs from, None when it is installed."""
    top = PACKAGE.parent
    return top if (top / "guest" / "Makefile").is_file() else None


def guest_kernel() -> Path:
    """The guest kernel for new images.

    In a source tree that is what `make -C guest` last built, so that an old copy in the package
    cannot hide it.
    """
    given = settings.get("kernel")
    if given is not None:
        return Path(given).absolute()
    top = checkout()
    if top is not None:
        built = top / "guest" / "build" / "kernel.elf"
        if built.is_file():
            return built
    packaged = PACKAGE / "kernel.elf"
    if packaged.is_file():
        return packaged
    raise BuildError(
        "there is no guest kernel",
        hint="run `make -C guest`" if top is not None else "install capstan again from its wheel",
    )


def sdk() -> Path:
    """The directory with `include/capstan/` and `lib/libcapstan.so`."""
    top = checkout()
    built = top / "guest" / "build" / "sdk" if top is not None else PACKAGE / "data" / "sdk"
    if (built / "lib" / LIBCAPSTAN).is_file():
        return built
    raise BuildError(
        f"there is no {LIBCAPSTAN}",
        hint="run `make -C guest`" if top is not None else "install capstan again from its wheel",
    )
