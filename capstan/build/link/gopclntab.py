# SPDX-License-Identifier: BSD-2-Clause
"""Where Go functions begin: the runtime's own table, present in stripped programs too.

The four layouts since Go 1.2 (facts: Go's `debug/gosym`, `cmd/link`). Entries are offsets from
`runtime.text` since 1.18; where that is, the table's header says until 1.25, later a symbol or the
`.text` section. A wrong base would move every function, so it is proved: Go pads functions with
int3 to a multiple of 16 or 32, and most functions must have that padding in front of them.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from capstan.build.link.objfile import ObjFile, Section

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

SECTIONS = (".gopclntab", ".data.rel.ro.gopclntab", ".lrodata.gopclntab")
GO_1_2, GO_1_16, GO_1_18, GO_1_20 = 0xFFFFFFFB, 0xFFFFFFFA, 0xFFFFFFF0, 0xFFFFFFF1
MAX_FUNCTIONS = 1 << 24
SAMPLE = 400
PADDED = 0.75
INT3 = 0xCC


def go_functions(obj: ObjFile) -> NDArray[np.uint64] | None:
    """Sorted starts of all Go functions, the last one being the end of Go's text."""
    for name in SECTIONS:
        section = obj.section(name)
        if section is not None:
            for starts in _candidates(obj, section):
                if _is_proved(obj, starts):
                    return starts
    return None


def _candidates(obj: ObjFile, section: Section) -> list[NDArray[np.uint64]]:
    """The table, once per possible base."""
    import numpy as np

    if section.size < 80:
        return []
    magic, quantum, pointer, count = struct.unpack_from("<I2xBBQ", obj.data, section.offset)
    is_relative = magic in {GO_1_18, GO_1_20}
    width = 4 if is_relative else 8
    table = _table_at(obj, section, magic)
    end = table + (2 * count + 1) * width
    is_known = table and quantum == 1 and pointer == 8 and 0 < count < MAX_FUNCTIONS
    if not is_known or end > section.offset + section.size:
        return []
    raw = np.frombuffer(bytes(obj.data[table:end]), "<u4" if is_relative else "<u8")
    starts = raw[::2].astype(np.uint64)
    bases = [0]
    if is_relative:
        header_base: int = struct.unpack_from("<Q", obj.data, section.offset + 24)[0]
        bases = [header_base, _runtime_text(obj), *(r.start for r in obj.exec_ranges)]
        bases = [base for base in dict.fromkeys(bases) if base]
    is_sorted = not bool((starts[1:] < starts[:-1]).any())
    return [starts + np.uint64(base) for base in bases] if is_sorted else []


def _table_at(obj: ObjFile, section: Section, magic: int) -> int:
    """Where in the file the function table is; 0 for an unknown layout."""
    if magic == GO_1_2:
        return section.offset + 16
    where = {GO_1_16: 56, GO_1_18: 64, GO_1_20: 64}.get(magic)
    if where is None:
        return 0
    distance: int = struct.unpack_from("<Q", obj.data, section.offset + where)[0]
    return section.offset + distance


def _runtime_text(obj: ObjFile) -> int:
    """The address of the symbol `runtime.text`; 0 if there is none."""
    symbols = obj.symbols
    for index, names in enumerate(symbols.names):
        at = names.find(b"\0runtime.text\0")
        if at >= 0:
            found = (symbols.table == index) & (symbols.name_at == at + 1)
            if found.any():
                return int(symbols.value[found][0])
    return 0


def _is_proved(obj: ObjFile, starts: NDArray[np.uint64]) -> bool:
    """Whether the functions lie in program text with padding in front of most."""
    text = obj.range_of(int(starts[0]))
    if text is None or int(starts[-1]) > text.end:
        return False
    inner = starts[1:-1]
    sample = inner[:: max(1, len(inner) // SAMPLE)]
    if not len(sample):
        return False
    padded = sum(obj.data[int(s) - 1 - text.start + text.offset] == INT3 for s in sample)
    return padded >= PADDED * len(sample)
