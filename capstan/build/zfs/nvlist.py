# SPDX-License-Identifier: BSD-2-Clause
"""Name-value lists in XDR form: the configuration in labels and in the pool."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Union

Value = Union[bool, int, str, bytes, "NvList", "Sequence[NvList]"]
NvList = dict[str, Value]

_HEADER = bytes((1, 1, 0, 0))  # XDR, little-endian host
_UNIQUE_NAME = 1
_BOOLEAN, _UINT64, _STRING, _BYTES, _NVLIST, _NVLIST_ARRAY = 1, 8, 9, 10, 19, 20
_DECODED_PAIR = 16
_DECODED_LIST = 24


def encode(values: NvList) -> bytes:
    """The packed list; `True` stands for a boolean without value."""
    return _HEADER + _encode_list(values)


def _encode_list(values: NvList) -> bytes:
    parts = [struct.pack(">II", 0, _UNIQUE_NAME)]
    parts += [_encode_pair(name, value) for name, value in values.items()]
    return b"".join(parts) + bytes(8)


def _encode_pair(name: str, value: Value) -> bytes:
    count = 1
    if value is True:
        kind, count, data, decoded = _BOOLEAN, 0, b"", 0
    elif isinstance(value, int):
        kind, data, decoded = _UINT64, struct.pack(">Q", value), 8
    elif isinstance(value, str):
        kind, data, decoded = _STRING, _xdr_string(value), _round8(len(value.encode()) + 1)
    elif isinstance(value, bytes):
        # Unlike the elements of other arrays, bytes are not widened; the count stands once.
        kind, count, data = _BYTES, len(value), value + bytes(-len(value) % 4)
        decoded = _round8(len(value))
    elif isinstance(value, dict):
        kind, data, decoded = _NVLIST, _encode_list(value), _DECODED_LIST
    else:
        kind, count = _NVLIST_ARRAY, len(value)
        data = b"".join(_encode_list(item) for item in value)
        decoded = count * (8 + _DECODED_LIST)
    body = _xdr_string(name) + struct.pack(">II", kind, count) + data
    decoded += _round8(_DECODED_PAIR + len(_raw(name)) + 1)
    return struct.pack(">II", len(body) + 8, decoded) + body


def _raw(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def _xdr_string(text: str) -> bytes:
    raw = _raw(text)
    return struct.pack(">I", len(raw)) + raw + bytes(-len(raw) % 4)


def _round8(size: int) -> int:
    return size + -size % 8


def decode(data: bytes) -> NvList:
    """The list packed in `data`.

    Raises:
        ValueError: damaged, or a type our pools do not have.
    """
    if data[:2] != _HEADER[:2]:
        raise ValueError("not an XDR name-value list")
    try:
        return _decode_list(data, len(_HEADER))[0]
    except (struct.error, UnicodeDecodeError) as err:
        raise ValueError(f"damaged name-value list: {err}") from err


def _decode_list(data: bytes, at: int) -> tuple[NvList, int]:
    values: NvList = {}
    at += 8
    while True:
        size, _ = struct.unpack_from(">II", data, at)
        if size == 0:
            return values, at + 8
        name, value = _decode_pair(data, at + 8)
        values[name] = value
        at += size


def _decode_pair(data: bytes, at: int) -> tuple[str, Value]:
    name, at = _decode_string(data, at)
    kind, count = struct.unpack_from(">II", data, at)
    at += 8
    if kind == _BOOLEAN:
        return name, True
    if kind == _UINT64:
        return name, int(struct.unpack_from(">Q", data, at)[0])
    if kind == _STRING:
        return name, _decode_string(data, at)[0]
    if kind == _BYTES:
        if len(data) < at + count:
            raise ValueError(f"the bytes of {name!r} end early")
        return name, data[at : at + count]
    if kind == _NVLIST:
        return name, _decode_list(data, at)[0]
    if kind == _NVLIST_ARRAY:
        items = []
        for _ in range(count):
            item, at = _decode_list(data, at)
            items.append(item)
        return name, items
    raise ValueError(f"name-value type {kind} of {name!r}")


def _decode_string(data: bytes, at: int) -> tuple[str, int]:
    (size,) = struct.unpack_from(">I", data, at)
    raw = data[at + 4 : at + 4 + size]
    return raw.decode("utf-8", "surrogateescape"), at + 4 + size + -size % 4
