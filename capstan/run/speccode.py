# SPDX-License-Identifier: BSD-2-Clause
"""A `RunSpec` as JSON and back: dataclasses, enums and paths carry their kind under "$".

Lists become tuples. A field the file lacks has its default, so that an older instance still
starts; a field or a kind that is not known here was written by a newer capstan.
"""

from __future__ import annotations

import dataclasses
from enum import Enum
from pathlib import Path
from signal import Signals

from capstan.errors import MachineError
from capstan.run.lan import Lan, Segment
from capstan.run.net import Forward, NetKind, NetSpec
from capstan.run.spec import Accel, MachineType, RunSpec

KINDS: dict[str, type] = {
    kind.__name__: kind
    for kind in (RunSpec, NetSpec, Forward, NetKind, Lan, Segment, Accel, MachineType, Signals)
}


def encode(value: object) -> object:
    """`value` in terms of JSON."""
    if dataclasses.is_dataclass(value):
        pairs = ((f.name, getattr(value, f.name)) for f in dataclasses.fields(value))
        return {"$": type(value).__name__, **{key: encode(item) for key, item in pairs}}
    if isinstance(value, Enum):
        return {"$": type(value).__name__, "value": value.value}
    if isinstance(value, Path):
        return {"$": "Path", "value": str(value)}
    if isinstance(value, (tuple, list)):
        return [encode(item) for item in value]
    if isinstance(value, dict):
        return {"$": "dict", "items": [[key, encode(item)] for key, item in value.items()]}
    return value


def decode(value: object) -> object:
    """What `encode` was given.

    Raises:
        MachineError: something this capstan does not know.
    """
    if isinstance(value, list):
        return tuple(decode(item) for item in value)
    if not isinstance(value, dict):
        return value
    fields = {str(key): item for key, item in value.items() if key != "$"}
    match value.get("$"):
        case "Path":
            return Path(fields["value"])
        case "dict":
            return {key: decode(item) for key, item in fields["items"]}
        case str(name) if name in KINDS:
            return _build(KINDS[name], fields)
    raise _newer(value.get("$"))


def _build(kind: type, fields: dict[str, object]) -> object:
    if issubclass(kind, Enum):
        return kind(fields["value"])
    assert dataclasses.is_dataclass(kind)
    known = {f.name for f in dataclasses.fields(kind)}
    if more := set(fields) - known:
        raise _newer(", ".join(sorted(more)))
    made: object = kind(**{key: decode(item) for key, item in fields.items()})
    return made


def run_spec(value: object) -> RunSpec:
    """The `RunSpec` in `value`.

    Raises:
        MachineError: there is none.
    """
    spec = decode(value)
    if not isinstance(spec, RunSpec):
        raise _newer("no RunSpec")
    return spec


def _newer(what: object) -> MachineError:
    return MachineError(
        f"the instance was made by another version of capstan ({what})",
        hint="remove it (`capstan rm NAME`) and make it again",
    )
