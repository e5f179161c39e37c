# SPDX-License-Identifier: BSD-2-Clause
"""System attributes: what `stat` shows of an inode, kept in the bonus area of its dnode.

GRUB and FreeBSD's loader find MODE, SIZE, PARENT, MTIME, LINKS and a symlink's text at fixed
offsets, so the order of the attributes never changes and a symlink has exactly three ACEs.
"""

from __future__ import annotations

import stat
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache

from capstan.build.zfs import nvlist
from capstan.build.zfs.layout import BONUS_MAX, BP_SIZE

SA_MAGIC = 0x2F505A

# name: (number, bytes or 0 if variable, byte-swap class)
_ATTRIBUTES = {
    "ATIME": (0, 16, 0),
    "MTIME": (1, 16, 0),
    "CTIME": (2, 16, 0),
    "CRTIME": (3, 16, 0),
    "GEN": (4, 8, 0),
    "MODE": (5, 8, 0),
    "SIZE": (6, 8, 0),
    "PARENT": (7, 8, 0),
    "LINKS": (8, 8, 0),
    "XATTR": (9, 8, 0),
    "RDEV": (10, 8, 0),
    "FLAGS": (11, 8, 0),
    "UID": (12, 8, 0),
    "GID": (13, 8, 0),
    "PAD": (14, 32, 0),
    "ZNODE_ACL": (15, 88, 3),
    "DACL_COUNT": (16, 8, 0),
    "SYMLINK": (17, 0, 3),
    "SCANSTAMP": (18, 32, 3),
    "DACL_ACES": (19, 0, 4),
    "DXATTR": (20, 0, 3),
    "PROJID": (21, 8, 0),
}
_IDENTITY = ["MODE", "SIZE", "GEN", "UID", "GID", "PARENT", "FLAGS"]
_COMMON = [*_IDENTITY, "ATIME", "MTIME", "CTIME", "CRTIME", "LINKS"]
_ACL = ["DACL_COUNT", "DACL_ACES"]
LAYOUT_PLAIN, LAYOUT_SYMLINK, LAYOUT_DEVICE, LAYOUT_SPILL = 2, 3, 4, 5
LAYOUT_XATTR, LAYOUT_SPILL_XATTR = 6, 7
LAYOUTS = {
    LAYOUT_PLAIN: _COMMON + _ACL,
    LAYOUT_SYMLINK: [*_COMMON, *_ACL, "SYMLINK"],
    LAYOUT_DEVICE: [*_COMMON, "RDEV", *_ACL],
    LAYOUT_SPILL: ["SYMLINK"],
    LAYOUT_XATTR: ["DXATTR"],
    LAYOUT_SPILL_XATTR: ["SYMLINK", "DXATTR"],
}
XATTR_MAX = 1 << 16  # DXATTR_MAX_SA_SIZE of OpenZFS

_HEADER = struct.Struct("<IHH")
_FIXED = struct.Struct("<16Q")
_MASK = (1 << 64) - 1


def registry() -> dict[bytes, int]:
    """The table that gives each attribute its number, length and byte-swap class."""
    return {
        f"ZPL_{name}".encode(): size << 24 | swap << 16 | number
        for name, (number, size, swap) in _ATTRIBUTES.items()
    }


def layouts() -> dict[bytes, tuple[int, ...]]:
    """The table of attribute orders in use."""
    return {
        str(number).encode(): tuple(_ATTRIBUTES[name][0] for name in names)
        for number, names in LAYOUTS.items()
    }


@dataclass(frozen=True, slots=True)
class Attributes:
    """One inode's attributes."""

    mode: int
    size: int
    uid: int
    gid: int
    parent: int  # object of the directory it is in
    links: int
    generation: int
    mtime_ns: int
    rdev: int = 0  # major << 20 | minor
    target: bytes = b""  # of a symlink
    xattrs: Mapping[bytes, bytes] = field(default_factory=dict)

    def pack(self) -> tuple[bytes, bytes]:
        """The bonus area, and the spill block: a long target, extended attributes, or nothing.

        Raises:
            ValueError: the extended attributes are too large.
        """
        aces = acl_of_mode(self.mode)
        seconds, nanoseconds = divmod(self.mtime_ns, 1_000_000_000)
        fixed = _FIXED.pack(
            self.mode,
            self.size,
            self.generation,
            self.uid,
            self.gid,
            self.parent,
            _flags(self.mode),
            *(seconds & _MASK, nanoseconds) * 4,
            self.links,
        )
        acl = struct.pack("<Q", len(aces) // 8) + aces
        lengths = [len(aces)]
        kind = stat.S_IFMT(self.mode)
        layout, spill = LAYOUT_PLAIN, self._spill(b"")
        room = BONUS_MAX - BP_SIZE if spill else BONUS_MAX
        if kind in (stat.S_IFCHR, stat.S_IFBLK):
            layout = LAYOUT_DEVICE
            fixed += struct.pack("<Q", self.rdev)
        elif kind == stat.S_IFLNK:
            inline = _header(LAYOUT_SYMLINK, [len(aces), len(self.target)]) + fixed + acl
            target = self.target + bytes(-len(self.target) % 8)
            if len(inline) + len(target) <= room:
                return inline + target, spill
            spill = self._spill(self.target)
        return _header(layout, lengths) + fixed + acl, spill

    def _spill(self, target: bytes) -> bytes:
        """What does not fit into the bonus area."""
        xattrs = _pack_xattrs(self.xattrs) if self.xattrs else b""
        if target and xattrs:
            head = _header(LAYOUT_SPILL_XATTR, [len(target), len(xattrs)])
            return head + target + bytes(-len(target) % 8) + xattrs
        if xattrs:
            return _header(LAYOUT_XATTR, [len(xattrs)]) + xattrs
        return _header(LAYOUT_SPILL, [len(target)]) + target if target else b""

    @classmethod
    def unpack(cls, bonus: bytes, spill: bytes, layouts: dict[int, list[int]]) -> Attributes:
        """The attributes in a bonus area and a spill block (or nothing), in any layout.

        Raises:
            ValueError: damaged, or an attribute every inode has is missing.
        """
        values: dict[int, bytes] = {}
        for area in (bonus, spill):
            if area:
                values.update(_unpack_area(area, layouts))

        def number(name: str) -> int:
            return int.from_bytes(values.get(_ATTRIBUTES[name][0], b"")[:8], "little")

        try:
            seconds, nanoseconds = struct.unpack("<qQ", values[_ATTRIBUTES["MTIME"][0]])
        except KeyError as err:
            raise ValueError("inode without MTIME") from err
        return cls(
            mode=number("MODE"),
            size=number("SIZE"),
            uid=number("UID"),
            gid=number("GID"),
            parent=number("PARENT"),
            links=number("LINKS"),
            generation=number("GEN"),
            mtime_ns=seconds * 1_000_000_000 + nanoseconds,
            rdev=number("RDEV"),
            target=values.get(_ATTRIBUTES["SYMLINK"][0], b""),
            xattrs=_unpack_xattrs(values.get(_ATTRIBUTES["DXATTR"][0], b"")),
        )


def _pack_xattrs(xattrs: Mapping[bytes, bytes]) -> bytes:
    """Extended attributes as OpenZFS keeps them with `xattr=sa`: a list of byte arrays."""
    names = {name.decode("utf-8", "surrogateescape"): name for name in sorted(xattrs)}
    packed = nvlist.encode({text: bytes(xattrs[name]) for text, name in names.items()})
    if len(packed) >= XATTR_MAX - 64:
        raise ValueError(f"extended attributes of {len(packed)} bytes, 64 KiB is the most")
    return packed


def _unpack_xattrs(packed: bytes) -> dict[bytes, bytes]:
    values = nvlist.decode(packed) if packed else {}
    return {
        name.encode("utf-8", "surrogateescape"): value
        for name, value in values.items()
        if isinstance(value, bytes)
    }


def _header(layout: int, lengths: list[int]) -> bytes:
    size = 8 + -(-2 * (len(lengths) - 1) // 8) * 8
    head = _HEADER.pack(SA_MAGIC, layout | size >> 3 << 10, lengths[0])
    head += struct.pack(f"<{len(lengths) - 1}H", *lengths[1:])
    return head + bytes(size - len(head))


def _unpack_area(area: bytes, layouts: dict[int, list[int]]) -> dict[int, bytes]:
    magic, info, _ = _HEADER.unpack_from(area)
    if magic != SA_MAGIC or info & 0x3FF not in layouts:
        raise ValueError("system attributes with a bad header")
    sizes = {number: size for number, size, _ in _ATTRIBUTES.values()}
    at = (info >> 10) * 8
    lengths = iter(struct.unpack_from(f"<{(at - 6) // 2}H", area, 6))
    values = {}
    for number in layouts[info & 0x3FF]:
        size = sizes[number] or next(lengths)
        values[number] = area[at : at + size]
        if len(values[number]) != size:
            raise ValueError("system attributes end early")
        at += -(-size // 8) * 8
    return values


def _flags(mode: int) -> int:
    """Archive bits and "the ACL says no more than the mode"; 0x100 lets everybody execute."""
    flags = 0x40800000004
    if mode & 0o111 == 0o111:
        flags |= 0x100
    return flags | 0x40 if stat.S_ISDIR(mode) else flags


# NFSv4 ACL entries (RFC 7530, 6.2.1): allow or deny, for whom, which rights.
_ALLOW, _DENY = 0, 1
_OWNER, _GROUP, _EVERYONE = 0x1000, 0x2040, 0x4000
_OWNER_ALWAYS = 0x100 | 0x40000 | 0x80000 | 0x10  # write attributes, ACL, owner, named attributes
_ALL_ALWAYS = 0x80 | 0x20000 | 0x8 | 0x100000  # read attributes, ACL, named ones; synchronize


@lru_cache(maxsize=256)
def acl_of_mode(mode: int) -> bytes:
    """The ACL that says what the mode says.

    It has three entries, more where a mode forbids to some what it allows to others (0604).
    """
    owner, group, other = mode >> 6 & 7, mode >> 3 & 7, mode & 7
    rights = [_rights(bits, stat.S_ISDIR(mode)) for bits in range(8)]
    entries = [
        (_ALLOW, _OWNER, rights[owner & other & ~group]),
        (_DENY, _OWNER, rights[(group | other) & ~owner]),
        (_DENY, _GROUP, rights[other & ~group]),
    ]
    entries = [entry for entry in entries if entry[2]]
    entries += [
        (_ALLOW, _OWNER, rights[owner] | _OWNER_ALWAYS | _ALL_ALWAYS),
        (_ALLOW, _GROUP, rights[group] | _ALL_ALWAYS),
        (_ALLOW, _EVERYONE, rights[other] | _ALL_ALWAYS),
    ]
    return b"".join(struct.pack("<HHI", kind, who, mask) for kind, who, mask in entries)


def _rights(bits: int, is_directory: bool) -> int:
    """The rights that the bits r, w, x of a mode stand for."""
    read, execute = bits & 4 and 0x1, bits & 1 and 0x20
    write = bits & 2 and (0x46 if is_directory else 0x6)  # 0x40: delete entries
    return read | write | execute
