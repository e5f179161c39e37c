# SPDX-License-Identifier: BSD-2-Clause
"""Whom to believe about a registry's identity: the system, and certs.d directories as Docker's."""

from __future__ import annotations

import ssl
from collections.abc import Sequence
from pathlib import Path

from capstan.errors import RepoError

CERTS_D = (Path("/etc/docker/certs.d"), Path("/etc/containers/certs.d"))


def directories(host: str, home: Path) -> Sequence[Path]:
    """Where certificates for `host` ("name" or "name:port") may be; the user's come last."""
    if "/" in host or host in ("", ".", ".."):
        return []
    roots = (*CERTS_D, home / ".config" / "containers" / "certs.d")
    return [root / host for root in roots if (root / host).is_dir()]


def context(host: str, *, verify: bool, home: Path) -> ssl.SSLContext:
    """How TLS with `host` is set up: *.crt are authorities, NAME.cert with NAME.key are ours.

    Raises:
        RepoError: a file there cannot be used.
    """
    made = ssl.create_default_context()
    made.minimum_version = ssl.TLSVersion.TLSv1_2
    if not verify:
        made.check_hostname = False
        made.verify_mode = ssl.CERT_NONE
    for folder in directories(host, home):
        for path in sorted(folder.iterdir()):
            try:
                if path.suffix == ".crt":
                    made.load_verify_locations(cafile=path)
                elif path.suffix == ".cert":
                    made.load_cert_chain(path, path.with_suffix(".key"))
            except (OSError, ssl.SSLError) as err:
                raise RepoError(
                    f"{path}: not a usable certificate ({err})",
                    hint=f"put PEM files there, or remove {path}",
                ) from err
    return made
