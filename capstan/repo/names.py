# SPDX-License-Identifier: BSD-2-Clause
"""Which registry and repository a name means, and how that registry is reached."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from capstan import ref
from capstan.errors import UsageError
from capstan.ref import ImageRef
from capstan.repo.auth import TokenAuth
from capstan.repo.credentials import Keyring
from capstan.repo.http import Access, Http, is_local
from capstan.repo.limits import Patience
from capstan.repo.registry import Repository

HUB = "docker.io"
HUB_HOST = "registry-1.docker.io"


@dataclass(frozen=True, slots=True)
class Reach:
    """The user's settings about registries."""

    registry: str | None = None  # HOST[:PORT][/NAMESPACE] of short names
    insecure: Sequence[str] = ()  # hosts whose TLS is not checked, and that may have none
    verify: bool = True
    environ: Mapping[str, str] = field(default_factory=dict)
    home: Path = field(default_factory=Path.home)
    patience: Patience = field(default_factory=Patience)

    @property
    def keyring(self) -> Keyring:
        """Where the user's passwords are."""
        return Keyring(self.environ, self.home)


@dataclass(frozen=True, slots=True)
class Place:
    """A name with its registry."""

    host: str
    repository: str
    tag: str
    digest: str = ""

    @property
    def reference(self) -> str:
        """What the registry is asked for: the digest when there is one."""
        return self.digest or self.tag

    def __str__(self) -> str:
        """The full name."""
        tag = f":{self.tag}" if self.tag else ""
        return f"{self.host}/{self.repository}{tag}" + (f"@{self.digest}" if self.digest else "")


def locate(name: ImageRef, reach: Reach) -> Place:
    """The place `name` means; a short name is in the configured registry.

    Raises:
        UsageError: there is none.
    """
    if name.host:
        return Place(name.host, name.name, name.tag, name.digest)
    host, namespace = base(reach, name.name)
    return Place(host, f"{namespace}{name.name}", name.tag, name.digest)


def base(reach: Reach, wanted: str) -> tuple[str, str]:
    """(host, "namespace/" or "") of the configured registry; `wanted` is what it is needed for.

    Raises:
        UsageError: there is none, or it is no registry.
    """
    if not reach.registry:
        raise UsageError(
            f"{wanted}: there is no registry to look in",
            hint="set one (`capstan config set registry HOST[:PORT][/NAMESPACE]`) or name it "
            f"(HOST/{wanted}); `capstan build -t {wanted} PATH` makes the image instead",
        )
    given = reach.registry.rstrip("/")
    host, _, namespace = given.partition("/")
    parsed = ref.try_parse(f"{given}/x")
    if parsed is None or (not parsed.host and not ref.try_parse(f"{host}:1/x")):
        raise UsageError(
            f"the setting registry is {reach.registry!r}, not HOST[:PORT][/NAMESPACE]",
            hint="for example registry.example.com/team or localhost:5000",
        )
    return host, f"{namespace}/" if namespace else ""


def connect(host: str, reach: Reach) -> Http:
    """A connection to the registry `host` with the user's credentials."""
    is_insecure = not reach.verify or host in reach.insecure
    real = HUB_HOST if host == HUB else host
    access = Access(
        real,
        verify=not is_insecure,
        plain=is_insecure or is_local(host),
        home=reach.home,
        patience=reach.patience,
    )
    http = Http(access)
    http.auth = TokenAuth(http, lambda: reach.keyring.find(host))
    return http


def open_repository(place: Place, reach: Reach, scope: str = "pull") -> Repository:
    """The repository `place` is in; `scope` is what will be done there."""
    return Repository(connect(place.host, reach), place.repository, scope)
