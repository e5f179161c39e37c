# SPDX-License-Identifier: BSD-2-Clause
"""YAML text in, nodes with their places out; errors name file and line."""

from __future__ import annotations

from typing import TYPE_CHECKING

from capstan.errors import UsageError

if TYPE_CHECKING:
    from pathlib import Path

    from yaml.nodes import Node

MAX_SIZE = 1 << 20


def document(data: bytes, path: Path, kind: str) -> Node | None:
    """The document in `data`, None when there is nothing in it; `kind` is what it should be.

    Raises:
        UsageError: not YAML, or too large.
    """
    import yaml

    if len(data) > MAX_SIZE:
        raise UsageError(f"{path}: larger than {MAX_SIZE >> 20} MiB, not a {kind}")
    try:
        node: Node | None = yaml.compose(data, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as err:
        mark = err.problem_mark or err.context_mark
        line = f":{mark.line + 1}" if mark is not None else ""
        raise UsageError(f"{path}{line}: not valid YAML: {err.problem or err.context}") from err
    except (yaml.YAMLError, RecursionError, ValueError) as err:
        reason = str(err).split("\n", 1)[0] or "nested too deeply"
        raise UsageError(f"{path}: not valid YAML: {reason}") from err
    return node
