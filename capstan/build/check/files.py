# SPDX-License-Identifier: BSD-2-Clause
"""Files that the image's programs are likely to open and that are not in the image.

Known from: the command line; literals in their data that name a file which exists where the image
is built; and what libraries open for certain functions (`RULES`). Which of them a program needs
only its author knows, so these are notes, but for the few without which it does not start.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from capstan.build.check.binaries import Binaries
from capstan.build.check.loading import Programs
from capstan.build.check.report import Finding, Kind, Severity
from capstan.build.check.view import View
from capstan.build.closure import GLIBC_CACHE, GLIBC_DIRS, Object, parse_cache
from capstan.errors import BuildError

MAX_LITERALS = 40
ORDINARY = frozenset(
    {
        *GLIBC_DIRS,
        *("/usr/bin", "/usr/sbin", "/usr/share", "/usr/local", "/usr/local/bin", "/usr/libexec"),
        *("/usr/share/locale", "/usr/lib/locale", "/usr/lib/x86_64-linux-gnu/gconv"),
        *("/etc/ld.so.cache", "/usr/lib/x86_64-linux-gnu/gconv/gconv-modules.cache"),
    }
)
"""Names that are in the data of any program: parts of other names, or libc's own business."""
MADE = frozenset({"/etc/hosts", "/etc/resolv.conf"})
"""The guest writes these when it starts."""
_PYTHON = re.compile(r"python3\.\d+")
_NAMES = "getaddrinfo getnameinfo gethostbyname gethostbyname2 gethostbyname_r gethostbyaddr"
_USERS = "getpwnam getpwuid getpwnam_r getpwuid_r getpwent"
_GROUPS = "getgrnam getgrgid getgrnam_r getgrgid_r getgrent getgrouplist initgroups"
_TIMES = "localtime localtime_r tzset mktime"
_SERVICES = "getservbyname getservbyname_r getservbyport"
_PROTOCOLS = "getprotobyname getprotobyname_r getprotobynumber"
_CERTIFICATES = (
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/ssl/cert.pem",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/usr/lib/ssl/cert.pem",
)
_TERMINALS = ("/etc/terminfo", "/lib/terminfo", "/usr/lib/terminfo", "/usr/share/terminfo")


@dataclass(frozen=True, slots=True)
class Rule:
    """One of `files` should be there for those who import a function or load a library."""

    files: tuple[str, ...]
    why: str
    functions: frozenset[str] = frozenset()
    libraries: tuple[str, ...] = ()


RULES = (
    Rule(("/etc/passwd",), "names of users", frozenset(_USERS.split())),
    Rule(("/etc/group",), "names of groups", frozenset(_GROUPS.split())),
    Rule(("/etc/services",), "names of ports", frozenset(_SERVICES.split())),
    Rule(("/etc/protocols",), "names of protocols", frozenset(_PROTOCOLS.split())),
    Rule(("/bin/sh",), "system() and popen() start it", frozenset({"system", "popen"})),
    Rule(_CERTIFICATES, "certificates to trust", libraries=("libssl.", "libgnutls.")),
    Rule(_TERMINALS, "what terminals can do", libraries=("libncurses", "libtinfo.")),
)


def findings(view: View, programs: Programs, binaries: Binaries) -> Iterator[Finding]:
    """What is likely to be opened in vain; each file once for each that opens it."""
    seen: set[tuple[str, str]] = set()
    for finding in _all(view, programs, binaries):
        key = (finding.object, finding.subject)
        if key not in seen:
            seen.add(key)
            yield finding


def _all(view: View, programs: Programs, binaries: Binaries) -> Iterator[Finding]:
    yield from _of_command(view, programs)
    yield from _of_python(view, programs)
    objects = [obj for _, obj in programs.objects()]
    own = [obj for obj in objects if not binaries.is_c_library(obj)]
    for rule in RULES:
        if not any(view.has(path) for path in rule.files):
            yield from _of_rule(view, rule, own, binaries)
    yield from _of_zone(view, own, binaries)
    yield from _of_locale(view, own, binaries)
    yield from _of_services(view, objects, own, binaries)
    host = parse_cache(_host_bytes(view, GLIBC_CACHE))
    for obj in own:
        yield from _of_literals(view, obj, binaries)
        yield from _of_opened(view, obj, binaries, host)


def _of_command(view: View, programs: Programs) -> Iterator[Finding]:
    """Arguments that are files here and not in the image."""
    for word in view.config.argv[1:]:
        path = posixpath.join(view.config.workdir, word)
        if word[:1] in {"/", "."} and not (path in MADE or view.has(path)) and view.on_host(path):
            detail = "the command line names it, and it is not in the image"
            yield _missing(programs.main.path, path, detail, Severity.WARNING)


def _of_python(view: View, programs: Programs) -> Iterator[Finding]:
    """Python does not start without its library."""
    obj = programs.main.objects[0] if programs.main.objects else None
    if obj is None or "PYTHONHOME" in view.config.env:
        return
    folder, _, name = obj.real.rpartition("/")
    if _PYTHON.fullmatch(name):
        lib = f"{posixpath.dirname(folder)}/lib/{name}"
        if not view.has(f"{lib}/encodings"):
            detail = "Python does not start without its standard library"
            yield _missing(obj.path, lib, detail, Severity.ERROR)


def _of_rule(view: View, rule: Rule, own: list[Object], binaries: Binaries) -> Iterator[Finding]:
    """The rule for the first file it is about."""
    for obj in own:
        name = posixpath.basename(obj.path)
        functions = sorted(rule.functions & binaries.dynamic(obj).imports)
        if functions or name.startswith(rule.libraries or ("\0",)):
            path = next((p for p in rule.files if view.on_host(p)), rule.files[0])
            who = f"; it calls {functions[0]}" if functions else ""
            yield _missing(obj.path, path, f"not in the image: {rule.why}{who}")
            return


def _of_zone(view: View, own: list[Object], binaries: Binaries) -> Iterator[Finding]:
    """The time zone: `TZ`, or /etc/localtime."""
    zone = view.config.env.get("TZ", "").removeprefix(":")
    is_rule = zone.startswith("/") or any(c in zone for c in "0123456789<,")
    path = f"/usr/share/zoneinfo/{zone}" if zone and not is_rule else "/etc/localtime"
    if is_rule or zone in {"UTC", "UTC0"} or view.has(path):
        return
    for obj in own:
        if not binaries.dynamic(obj).imports.isdisjoint(_TIMES.split()):
            severity = Severity.WARNING if zone else Severity.NOTE
            detail = "not in the image: local time will be UTC"
            yield _missing(obj.path, path, detail, severity)
            return


def _of_locale(view: View, own: list[Object], binaries: Binaries) -> Iterator[Finding]:
    """The locale that the environment asks for."""
    env = view.config.env
    name = env.get("LC_ALL") or env.get("LC_CTYPE") or env.get("LANG") or "C"
    places = (f"/usr/lib/locale/{name}", "/usr/lib/locale/locale-archive")
    if name.split(".")[0] in {"C", "POSIX"} or any(view.has(path) for path in places):
        return
    for obj in own:
        if "setlocale" in binaries.dynamic(obj).imports:
            yield _missing(obj.path, places[1], f"not in the image: the locale {name}")
            return


def _of_services(
    view: View, objects: list[Object], own: list[Object], binaries: Binaries
) -> Iterator[Finding]:
    """The modules that nsswitch.conf names."""
    wanted = frozenset(f"{_NAMES} {_USERS} {_GROUPS}".split())
    user = next((o for o in own if not binaries.dynamic(o).imports.isdisjoint(wanted)), None)
    libc = next((o for o in objects if o.elf.soname == "libc.so.6"), None)
    text = view.text("/etc/nsswitch.conf")
    if user is None or libc is None or text is None:
        return
    built_in = (
        {"files", "dns"} if "_nss_files_parse_pwent" in binaries.dynamic(libc).defined else set()
    )
    named: dict[str, str] = {}
    for line in text.splitlines():
        database, colon, rest = line.split("#")[0].partition(":")
        if colon and database.strip() in {"passwd", "group", "hosts"}:
            for service in re.sub(r"\[[^\]]*\]", " ", rest).split():
                named.setdefault(service, database.strip())
    for service, database in named.items():
        module = f"libnss_{service}.so.2"
        if service not in built_in and not any(view.has(f"{d}/{module}") for d in GLIBC_DIRS):
            detail = f"not in the image: /etc/nsswitch.conf names it for {database}"
            place = next((f"{d}/{module}" for d in GLIBC_DIRS if view.on_host(f"{d}/{module}")), "")
            yield _missing(user.path, place or module, detail)


def _of_literals(view: View, obj: Object, binaries: Binaries) -> Iterator[Finding]:
    """Literals that are files here and not in the image."""
    facts = binaries.facts(obj)
    count = 0
    for path in facts.paths if facts is not None else ():
        plain = posixpath.normpath(path)
        if plain.count("/") < 2 or plain in ORDINARY | MADE or view.has(plain):
            continue
        if not view.on_host(plain):
            continue
        count += 1
        if count <= MAX_LITERALS:
            yield _missing(obj.path, plain, "named in its data; exists here, not in the image")
    if count > MAX_LITERALS:
        detail = f"{count - MAX_LITERALS} more named in its data exist here, not in the image"
        yield Finding(Severity.NOTE, Kind.FILE, obj.path, "more files", detail)


def _of_opened(
    view: View, obj: Object, binaries: Binaries, host: dict[str, list[str]]
) -> Iterator[Finding]:
    """Libraries named in the data of a file that opens some."""
    facts = binaries.facts(obj)
    if facts is None or "dlopen" not in binaries.dynamic(obj).imports:
        return
    known = {*obj.elf.needed, obj.elf.soname}
    for name in facts.libraries:
        found = next((path for path in host.get(name, ()) if view.on_host(path)), None)
        if found is None or name in known or view.has(found):
            continue
        if not any(view.has(f"{folder}/{name}") for folder in GLIBC_DIRS):
            detail = "named in its data, and it can open libraries; not in the image"
            yield _missing(obj.path, found, detail)


def _missing(user: str, path: str, detail: str, severity: Severity = Severity.NOTE) -> Finding:
    return Finding(severity, Kind.FILE, user, path, detail, f"add `{path}: {path}` to `files:`")


def _host_bytes(view: View, path: str) -> bytes:
    try:
        found = view.host.find(path)
        if found is not None and found.host is not None and found.is_file:
            return Path(found.host).read_bytes()
    except (OSError, BuildError):
        pass
    return b""
