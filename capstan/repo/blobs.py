# SPDX-License-Identifier: BSD-2-Clause
"""Blobs of any size, to and from a registry, going on where a broken transfer ended.

    downloads/sha256-HEX        a whole blob, checked
    downloads/sha256-HEX.part   what has come of one so far

A part is continued with Range; the whole is checked against its digest before it gets its name.
Both are removed when the image is in the store, or by age.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import time
import urllib.parse
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

from capstan import fs
from capstan.errors import RepoError
from capstan.oci import Descriptor
from capstan.repo.answers import NotFound, Transient, clean
from capstan.repo.http import Live, Request
from capstan.repo.limits import CHUNK, ERROR_MAX
from capstan.repo.registry import Repository, lies, sha256, short

Advance = Callable[[int], None]
"""Hears of more bytes, or of bytes to be done again (negative)."""

_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+|\*)")
_MAX_AGE = 7 * 86_400.0
_PROGRESS = 64 << 10  # bytes that make a try count as one that brought something


class Downloads:
    """The directory of blobs that are arriving."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, digest: str) -> Path:
        """Where the whole blob is."""
        return self.folder / digest.replace(":", "-")

    def get(self, source: Repository, wanted: Descriptor, advance: Advance) -> Path:
        """The blob as a file with the right content.

        Raises:
            RepoError: it cannot be had.
        """
        with self._opened(source, wanted, advance):
            return self.path(wanted.digest)

    def read(self, source: Repository, wanted: Descriptor, advance: Advance) -> bytes:
        """The blob, also when another process removes its file meanwhile.

        Raises:
            RepoError: it cannot be had.
        """
        with self._opened(source, wanted, advance) as file:
            return file.read()

    def forget(self, digest: str) -> None:
        """The blob is not needed any more."""
        self.path(digest).unlink(missing_ok=True)

    def clean(self, now: float | None = None) -> None:
        """Remove what has been left for a week."""
        now = time.time() if now is None else now
        for path in self.folder.glob("*"):
            with contextlib.suppress(OSError):
                if now - path.stat().st_mtime > _MAX_AGE:
                    path.unlink()

    @contextlib.contextmanager
    def _opened(
        self, source: Repository, wanted: Descriptor, advance: Advance
    ) -> Iterator[BinaryIO]:
        """The right file, from its start."""
        place = self.path(wanted.digest)
        with contextlib.ExitStack() as stack:
            file: BinaryIO | None = None
            with contextlib.suppress(FileNotFoundError):
                file = stack.enter_context(place.open("rb"))
            if file is not None and _is(file, wanted):
                advance(wanted.size)
            else:
                self.folder.mkdir(parents=True, exist_ok=True)
                path, file = stack.enter_context(self._part(place))
                Download(source, wanted, file, advance).run()
                fs.rename(path, place)
            file.seek(0)
            yield file

    @contextlib.contextmanager
    def _part(self, place: Path) -> Iterator[tuple[Path, BinaryIO]]:
        """The blob's part file, or one of our own while another process has that."""
        import fcntl

        shared = place.with_name(place.name + ".part")
        own = place.with_name(f"{place.name}.{os.getpid()}.part")
        for path in (shared, own):
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
            with os.fdopen(fd, "r+b") as file:
                try:
                    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    continue
                if not path.exists() or not os.path.samestat(path.stat(), os.fstat(fd)):
                    continue  # finished by another process a moment ago
                try:
                    yield path, file
                finally:
                    if path == own:
                        own.unlink(missing_ok=True)
                return
        raise RepoError(f"{place}: somebody else is loading this blob", hint="try again")


def _is(file: BinaryIO, wanted: Descriptor) -> bool:
    if os.fstat(file.fileno()).st_size != wanted.size:
        return False
    return hashlib.file_digest(file, "sha256").hexdigest() == wanted.digest[7:]  # type: ignore[arg-type]


class Download:
    """One blob on its way into a file."""

    def __init__(
        self, source: Repository, wanted: Descriptor, file: BinaryIO, advance: Advance
    ) -> None:
        self._source, self._wanted, self._file, self._advance = source, wanted, file, advance
        self._what = f"blob {short(wanted.digest)}"
        self._hash = hashlib.sha256()
        self._got = 0

    def run(self) -> None:
        """Load what is missing and check the whole.

        Raises:
            RepoError: it cannot be had, or is not what its digest says.
        """
        self._take_up()
        resumed = self._got > 0
        self._load()
        if self._hash.hexdigest() != self._wanted.digest[7:] and resumed:
            self._restart()  # what was here before may be what is wrong
            self._load()
        if self._hash.hexdigest() != self._wanted.digest[7:]:
            self._restart()
            raise self._lies("its content is not that of its digest")
        self._file.flush()

    def _take_up(self) -> None:
        self._file.seek(0)
        while piece := self._file.read(1 << 20):
            self._hash.update(piece)
            self._got += len(piece)
        if self._got > self._wanted.size:
            self._restart()
        self._advance(self._got)

    def _restart(self) -> None:
        self._advance(-self._got)
        self._file.seek(0)
        self._file.truncate()
        self._hash, self._got = hashlib.sha256(), 0

    def _load(self) -> None:
        backoff = self._source.http.backoff()
        while self._got < self._wanted.size:
            before = self._got
            try:
                self._one_try()
                if self._got < self._wanted.size:
                    host = self._source.full_name
                    text = f"{host}: {self._what}: ends after {self._got} of {self._wanted.size}"
                    raise Transient(f"{text} bytes", hint="try again: what has arrived is kept")
            except Transient as err:
                if self._got - before >= _PROGRESS:
                    backoff.progress()
                backoff.wait(err)

    def _one_try(self) -> None:
        headers = {"Range": f"bytes={self._got}-"} if self._got else {}
        request = self._source.request(
            "GET", f"blobs/{self._wanted.digest}", self._what, headers=headers, ok=(200, 206, 416)
        )
        with self._source.http.stream(request) as live:
            if live.status == 416:
                self._restart()
                raise Transient(f"{self._source.full_name}: {self._what}: range refused")
            self._check_length(live)
            for piece in live.pieces():
                if self._got + len(piece) > self._wanted.size:
                    raise self._lies(f"more than the {self._wanted.size} bytes it should have")
                self._file.write(piece)
                self._hash.update(piece)
                self._got += len(piece)
                self._advance(len(piece))

    def _check_length(self, live: Live) -> None:
        """Compare what is announced with what is wanted; a whole answer starts again."""
        length = live.headers.get("content-length")
        if live.status == 206:
            found = _RANGE.fullmatch(live.headers.get("content-range", ""))
            is_right = found is not None and int(found[1]) == self._got
            if not is_right or found is None or found[3] not in ("*", str(self._wanted.size)):
                raise self._lies(f"wrong Content-Range {live.headers.get('content-range')!r}")
            return
        if self._got:
            self._restart()
        if length is not None and length != str(self._wanted.size):
            raise self._lies(f"announced with {clean(length)} bytes, not {self._wanted.size}")

    def _lies(self, how: str) -> RepoError:
        return lies(self._source.full_name, self._what, how)


# --- uploads -----------------------------------------------------------------------------------


def upload(target: Repository, data: bytes) -> None:
    """Put a blob into the registry that it does not have yet.

    Raises:
        RepoError: refused, or the connection does not hold.
    """
    digest = sha256(data)
    what = f"blob {short(digest)}"
    backoff = target.http.backoff()
    while True:
        try:
            location = _begin(target, digest, what)
            if location is not None:
                _send(target, location, data, digest, what)
            return
        except (Transient, NotFound) as err:  # a session that vanished is begun again
            if isinstance(err, NotFound):
                err = Transient(err.message, hint=err.hint)
            if target.has_blob(digest, len(data)):
                return
            backoff.wait(err)


def mount(target: Repository, digest: str, source: str) -> bool:
    """Whether the registry has taken the blob from its repository `source`."""
    what = f"blob {short(digest)}"
    location = _begin(target, digest, what, source)
    if location is None:
        return True
    with contextlib.suppress(RepoError):  # the upload it began instead
        target.http.fetch(Request("DELETE", location, what, scope=target.scope, ok=(204,)), 0)
    return False


def _begin(target: Repository, digest: str, what: str, mount_from: str | None = None) -> str | None:
    """The URL of a new upload; None when the registry took the blob from `mount_from`."""
    query = ""
    if mount_from is not None:
        query = "?" + urllib.parse.urlencode({"mount": digest, "from": mount_from})
    request = target.request("POST", f"blobs/uploads/{query}", what, ok=(201, 202))
    answer = target.http.fetch(request, ERROR_MAX)
    if answer.status == 201 and mount_from is not None:
        return None
    return _location(target, answer.headers.get("location"), answer.url, what)


def _location(target: Repository, location: str | None, base: str, what: str) -> str:
    if not location:
        raise lies(target.full_name, what, "no Location for the upload")
    url = urllib.parse.urljoin(base, location)
    parts = urllib.parse.urlsplit(url)
    is_lower = base.startswith("https:") and parts.scheme != "https"
    if parts.scheme not in ("http", "https") or is_lower or "@" in parts.netloc:
        raise lies(target.full_name, what, f"wants the upload at {clean(url)}, not by TLS")
    return url


def _send(target: Repository, location: str, data: bytes, digest: str, what: str) -> None:
    """Send `data`: in one piece, or, when it is large, in chunks that can be repeated."""
    backoff = target.http.backoff()
    at = 0
    while len(data) - at > CHUNK:
        chunk = data[at : at + CHUNK]
        headers = {
            "Content-Type": "application/octet-stream",
            "Content-Range": f"{at}-{at + len(chunk) - 1}",
        }
        request = Request("PATCH", location, what, headers, chunk, target.scope, ok=(202, 201, 204))
        try:
            with target.http.stream(request) as live:
                live.read(ERROR_MAX)
                location = _location(target, live.headers.get("location"), live.url, what)
                at += len(chunk)
                backoff.progress()
        except Transient as err:
            backoff.wait(err)
            at, location = _where(target, location, len(data), what)
    glue = "&" if "?" in location else "?"
    url = f"{location}{glue}{urllib.parse.urlencode({'digest': digest})}"
    headers = {"Content-Type": "application/octet-stream"}
    if at:
        headers["Content-Range"] = f"{at}-{len(data) - 1}"
    last = Request("PUT", url, what, headers, data[at:], target.scope, ok=(201, 204))
    with target.http.stream(last) as live:
        live.read(ERROR_MAX)


def _where(target: Repository, location: str, size: int, what: str) -> tuple[int, str]:
    """How much of an upload the registry has, and where it goes on."""
    request = Request("GET", location, what, scope=target.scope, ok=(204, 200))
    answer = target.http.fetch(request, ERROR_MAX)
    _, _, last = answer.headers.get("range", "").rpartition("-")
    at = int(last) + 1 if last.isdecimal() and last != "0" else 0
    if at > size:
        raise lies(target.full_name, what, f"claims to have {at} of {size} bytes")
    return at, _location(target, answer.headers.get("location", location), answer.url, what)
