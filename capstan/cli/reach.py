# SPDX-License-Identifier: BSD-2-Clause
"""The settings and options about registries, as the service functions want them."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from capstan import settings
from capstan.errors import UsageError

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

    silence = _number("registry_timeout", 30.0, 0.1)
    return Reach(
        registry=settings.get("registry"),
        insecure=listed("insecure_registries"),
        verify=tls_verify,
        environ=dict(os.environ),
        home=Path.home(),
        patience=Patience(
            connect=min(10.0, silence), silence=silence, tries=int(_number("registry_tries", 5, 1))
        ),
    )


def listed(key: str) -> tuple[str, ...]:
    """The parts of a setting that is a list."""
    return tuple(part.strip() for part in (settings.get(key) or "").split(",") if part.strip())


def _number(key: str, default: float, least: float) -> float:
    text = settings.get(key)
    if text is None:
        return default
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not least <= value <= 3600:
        raise UsageError(
            f"the setting {key} is {text!r}", hint=f"expected a number from {least:g} to 3600"
        )
    return value
