# SPDX-License-Identifier: BSD-2-Clause
"""Could the programs of an image use a network? The image then gets a card unless told otherwise.

A card costs a few milliseconds at each start. The names of the functions that everybody has to
call are looked for in the bytes of the ELF files: in a symbol table, names stand between NULs.
"""

from __future__ import annotations

import mmap
import re
import stat
from pathlib import Path
from typing import TYPE_CHECKING

from capstan.build import elf
from capstan.build.rootfs import unreadable

if TYPE_CHECKING:
    from capstan.build.rootfs import Tree

_NAMES = re.compile(rb"\0(?:__)?(?:socket|getaddrinfo|gethostbyname|res_n?query)\0")
# The C library has them all; who calls them is another file.
_LIBRARIES = re.compile(
    r"(ld|libc|libc\.musl|libresolv|libnss_|libpthread|libanl|libnsl)([-.][^/]*)?\.so|ld-musl"
)


def uses_network(tree: Tree) -> bool:
    """Is there an ELF file that calls socket functions, or a static one that hides its names?"""
    return any(
        _file_does(node.source)
        for path, node in tree.files()
        if stat.S_ISREG(node.mode)
        and isinstance(node.source, Path)
        and not _LIBRARIES.match(path.rpartition("/")[2])
    )


def _file_does(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            if not elf.is_elf(file.read(4)):
                return False
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
                elf.parse(data)
                if _NAMES.search(data):
                    return True
                return data.find(b"\0.dynsym\0") < 0 and data.find(b"\0.symtab\0") < 0
    except OSError as err:
        raise unreadable(path, err) from err
    except elf.ElfError:
        return False
