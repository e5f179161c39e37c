# SPDX-License-Identifier: BSD-2-Clause
"""Debian packages as part of an image: which ones, from where, and their files in a tree.

A package that is installed here (in the wanted version, if one was given) comes from the installed
system: the files dpkg lists for it and for what it depends on, as they are now. When one of the
wanted packages is not, all of them are downloaded by apt into a folder of the store and unpacked
like layers of a container image; apt checks the signatures, nothing is installed on this machine.

Dependencies are followed, but not into essential packages (a shell, coreutils, perl-base, ...) nor
into what only maintainer scripts need: no maintainer script is run. Manual pages, documentation
and translations stay behind, copyright files do not.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from capstan import proc
from capstan.build.rootfs import Tree
from capstan.build.sources.contents import Contents
from capstan.errors import BuildError, UsageError

FOR_SCRIPTS = frozenset(
    {
        *("adduser", "passwd", "base-passwd", "base-files", "debconf", "debconf-2.0"),
        *("debianutils", "dpkg", "init-system-helpers", "libc-bin", "lsb-base", "procps"),
        *("sysvinit-utils", "ucf", "usr-is-merged", "usrmerge"),
    }
)
"""Packages that others depend on for their maintainer scripts or init scripts."""
LEFT_OUT = re.compile(
    r"/usr/share/(man|info|groff|linda|lintian|bug|locale|doc-base)(/|$)"
    r"|(/usr)?/lib/[^/]*/libthread_db\.so.*|/usr/share/doc/(?!.*/copyright$).*/.*"
)
_NAME = re.compile(r"([a-z0-9][a-z0-9+.-]+)(?:=([A-Za-z0-9.+~:-]+))?")
_FIELDS = ("Status-Abbrev", "Package", "Version", "Essential", "Pre-Depends", "Depends", "Provides")
_TIMEOUT = 300.0


@dataclass(frozen=True, slots=True)
class Package:
    """One package: what it needs (each a list of alternatives) and what it stands for."""

    name: str
    version: str
    depends: tuple[tuple[str, ...], ...] = ()
    provides: tuple[str, ...] = ()
    essential: bool = False

    def __str__(self) -> str:
        """As apt writes it."""
        return f"{self.name}={self.version}"


@dataclass(frozen=True, slots=True)
class Wanted:
    """A package the user named, in a version or any."""

    name: str
    version: str | None = None


def parse(text: str) -> Wanted:
    """The package `NAME[=VERSION]`.

    Raises:
        UsageError: it is none.
    """
    found = _NAME.fullmatch(text)
    if found is None:
        raise UsageError(f"{text!r} is not a Debian package", hint="write NAME or NAME=VERSION")
    return Wanted(found[1], found[2])


def add_packages(tree: Tree, names: Sequence[str], contents: Contents) -> None:
    """Put the files of Debian packages, and of what they depend on, into the tree.

    Raises:
        BuildError: this is no Debian, there is no such package, or apt failed.
        UsageError: a name is none, or the tree is of another root.
    """
    wanted = [parse(name) for name in names]
    if tree.host_root:
        raise UsageError(
            f"packages with --root {tree.host_root}: they are those of this machine",
            hint="leave out --root, or name files instead of packages",
        )
    if shutil.which("dpkg-query") is None:
        raise BuildError(
            f"the package {names[0]}: there is no dpkg here",
            hint="packages are taken from a Debian system; name files instead",
        )
    here = installed()
    if all(_fits(here.get(one.name), one) for one in wanted):
        chosen = closure([one.name for one in wanted], here)
        _add_installed(tree, chosen)
    else:
        from capstan.build.sources.debs import add_downloaded

        chosen = add_downloaded(tree, wanted, contents)
    more = f" (+{len(chosen) - len(wanted)})" if len(chosen) > len(wanted) else ""
    tree.record("packages", ", ".join(str(p) for p in chosen[: len(wanted)]) + more)
    tree.warnings.append(
        f"packages {', '.join(one.name for one in wanted)}: maintainer scripts are not run; users, "
        "links in /etc/alternatives and files they would make are missing"
    )


def _fits(package: Package | None, wanted: Wanted) -> bool:
    return package is not None and wanted.version in (None, package.version)


def closure(names: Iterable[str], known: Mapping[str, Package]) -> list[Package]:
    """The packages `names` and all they need, those named first.

    Raises:
        BuildError: something needed is not among the known ones.
    """
    providers: dict[str, Package] = {}
    for package in known.values():
        for name in package.provides:
            providers.setdefault(name, package)
    chosen: dict[str, Package] = {}
    for name in names:
        one = known.get(name) or providers.get(name)
        if one is None:
            raise BuildError(
                f"there is no package {name}", hint="`apt-cache search WORD` finds packages"
            )
        chosen[one.name] = one
    todo = list(chosen.values())
    for package in todo:  # grows meanwhile
        for alternatives in package.depends:
            if any(_is_left_out(name, known) for name in alternatives):
                continue
            found = next(
                (p for name in alternatives if (p := known.get(name) or providers.get(name))), None
            )
            if found is None:
                raise BuildError(
                    f"the package {package.name} needs {' or '.join(alternatives)}",
                    hint="`apt-get install -f` mends an incomplete installation",
                )
            if found.name not in chosen and not _is_left_out(found.name, known):
                chosen[found.name] = found
                todo.append(found)
    return list(chosen.values())


def _is_left_out(name: str, known: Mapping[str, Package]) -> bool:
    package = known.get(name)
    return name in FOR_SCRIPTS or (package is not None and package.essential)


def depends_of(*fields: str) -> tuple[tuple[str, ...], ...]:
    """The names in dependency fields: `a (>= 1), b | c:any [amd64]`."""
    groups = []
    for field in fields:
        for part in field.split(","):
            names = tuple(_plain(choice) for choice in part.split("|") if choice.strip())
            if names:
                groups.append(names)
    return tuple(groups)


def _plain(text: str) -> str:
    words = text.split()
    return words[0].partition(":")[0].partition("(")[0]


# --- the installed system ----------------------------------------------------------------------


def installed() -> dict[str, Package]:
    """The packages of this machine, by name; of several architectures the machine's own."""
    form = "\t".join(f"${{{'db:' if f == 'Status-Abbrev' else ''}{f}}}" for f in _FIELDS)
    done = proc.run(["dpkg-query", "-W", "-f", f"{form}\n"], timeout=_TIMEOUT)
    packages: dict[str, Package] = {}
    for line in done.stdout.decode(errors="replace").splitlines():
        fields = line.split("\t")
        if len(fields) == len(_FIELDS) and fields[0].startswith(("ii", "hi")):
            _, name, version, essential, before, needs, provides = fields
            stands_for = tuple(names[0] for names in depends_of(provides))
            packages.setdefault(
                name,
                Package(name, version, depends_of(before, needs), stands_for, essential == "yes"),
            )
    return packages


def _add_installed(tree: Tree, packages: Sequence[Package]) -> None:
    names = [package.name for package in packages]
    done = proc.run(["dpkg-query", "-L", *names], timeout=_TIMEOUT)
    if done.status != 0:
        raise BuildError(
            f"dpkg-query -L: {done.stderr.decode(errors='replace').strip()[:300]}",
            hint="`dpkg --audit` says what is wrong with the installation",
        )
    paths = {line for line in os.fsdecode(done.stdout).split("\n") if line.startswith("/")}
    for path in sorted(paths - {"/."}):
        if not LEFT_OUT.match(path):
            tree.add_entry(path)
