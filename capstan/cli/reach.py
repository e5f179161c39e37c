# SPDX-License-Identifier: BSD-2-Clause
"""The settings and options about registries, as the service functions want them."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from capstan import settings

if TYPE_CHECKING:
    from capstan.repo.names import Reach

F = TypeVar("F", bound=Callable[..., Any])


def tls_option(command: F) -> F:
    """`--tls-verify`."""
    return click.option(
        "--tls-verify",
        type=bool,
        default=True,
        metavar="true|false",
        help="Check the registry's certificate (default true).",
    )(command)


def reach(tls_verify: bool = True) -> Reach:
    """How registries are reached.

    Raises:
        UsageError: a setting is wrong.
    """
    from capstan.repo.limits import Patience
    from capstan.repo.names import Reach

    silence = settings.get_float("registry_timeout") or 0.0
    return Reach(
        registry=settings.get("registry"),
        insecure=settings.get_list("insecure_registries"),
        verify=tls_verify,
        environ=dict(os.environ),
        home=Path.home(),
        patience=Patience(
            connect=min(10.0, silence),
            silence=silence,
            tries=settings.get_int("registry_tries") or 1,
        ),
    )
