# SPDX-License-Identifier: BSD-2-Clause
"""Names and passwords for registries, where Docker and podman keep them.

Read, first found: $REGISTRY_AUTH_FILE, Docker's config.json ($DOCKER_CONFIG), podman's auth.json.
Written: Docker's config.json only, or the credential helper it names. The helpers' protocol is
docker-credential-NAME get|store|erase with JSON on stdin and stdout.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from capstan import fs, proc
from capstan.errors import CapstanError, RepoError, UsageError

_HELPER = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_HELPER_TIMEOUT = 30.0
HUB = "docker.io"
_HUB_KEYS = ("https://index.docker.io/v1/", "index.docker.io", "docker.io", "registry-1.docker.io")


@dataclass(frozen=True, slots=True)
class Credentials:
    """A name and password, or a token that buys tokens."""

    user: str
    password: str
    identity_token: str = ""


class Keyring:
    """The user's credential files."""

    def __init__(self, environ: Mapping[str, str], home: Path) -> None:
        self._environ = environ
        docker = environ.get("DOCKER_CONFIG")
        self.config = (Path(docker) if docker else home / ".docker") / "config.json"
        self._home = home

    def find(self, host: str, repository: str = "") -> Credentials | None:
        """What is kept for `host`; podman's files may have more exact keys.

        Raises:
            RepoError: a file or helper is broken.
        """
        for path in self._files():
            config = _read(path)
            helper = _helper(config, host, path)
            if helper is not None:
                found = _ask(helper, host)
                if found is not None:
                    return found
            entries = config.get("auths")
            if isinstance(entries, dict):
                found = _entry(entries, host, repository, path)
                if found is not None:
                    return found
        return None

    def store(self, host: str, credentials: Credentials) -> str:
        """Keep `credentials` for `host`; gives the name of the place.

        Raises:
            RepoError: it cannot be written.
        """
        with self._changing():
            config = _read(self.config)
            helper = _helper(config, host, self.config)
            if helper is not None:
                secret = {
                    "ServerURL": _server(host),
                    "Username": credentials.user,
                    "Secret": credentials.password,
                }
                _call(helper, "store", json.dumps(secret).encode())
                return f"docker-credential-{helper}"
            entries = config.setdefault("auths", {})
            if not isinstance(entries, dict):
                raise _damaged(self.config, "auths is no object")
            both = f"{credentials.user}:{credentials.password}".encode()
            entries[_server(host)] = {"auth": base64.b64encode(both).decode()}
            self._write(config)
            return str(self.config)

    def erase(self, host: str) -> Sequence[str]:
        """Forget what is kept for `host`; the places that had something.

        Raises:
            RepoError: it cannot be written.
        """
        gone = []
        with self._changing():
            config = _read(self.config)
            helper = _helper(config, host, self.config)
            if helper is not None and _ask(helper, host) is not None:
                _call(helper, "erase", _server(host).encode())
                gone.append(f"docker-credential-{helper}")
            entries = config.get("auths")
            if isinstance(entries, dict):
                keys = [key for key in entries if _host_of(key) in _same(host)]
                for key in keys:
                    del entries[key]
                if keys:
                    self._write(config)
                    gone.append(str(self.config))
        return gone

    def others(self, host: str) -> Path | None:
        """A file of podman's that still has something for `host`."""
        for path in self._files():
            entries = _read(path).get("auths")
            if (
                path != self.config
                and isinstance(entries, dict)
                and _entry(entries, host, "", path)
            ):
                return path
        return None

    def _files(self) -> Sequence[Path]:
        named = self._environ.get("REGISTRY_AUTH_FILE")
        runtime = self._environ.get("XDG_RUNTIME_DIR")
        paths = [Path(named)] if named else []
        paths.append(self.config)
        if runtime:
            paths.append(Path(runtime) / "containers" / "auth.json")
        paths.append(Path(f"/run/containers/{os.getuid()}/auth.json"))
        paths.append(self._home / ".config" / "containers" / "auth.json")
        return paths

    def _changing(self) -> contextlib.AbstractContextManager[None]:
        return fs.locked(self.config.parent / ".capstan-lock")

    def _write(self, config: Mapping[str, object]) -> None:
        data = json.dumps(config, indent="\t").encode() + b"\n"
        place = self.config.resolve() if self.config.is_symlink() else self.config
        try:
            fs.atomic_write(place, data, mode=0o600)
        except OSError as err:
            raise RepoError(
                f"cannot write {place}: {os.strerror(err.errno or 0)}",
                hint="set DOCKER_CONFIG to a directory you may write to",
            ) from err


def _read(path: Path) -> dict[str, object]:
    try:
        data = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except OSError as err:
        raise RepoError(
            f"cannot read {path}: {os.strerror(err.errno or 0)}", hint="check its permissions"
        ) from err
    if not data.strip():
        return {}
    try:
        config = json.loads(data)
    except (ValueError, RecursionError) as err:
        raise _damaged(path, str(err)) from err
    if not isinstance(config, dict):
        raise _damaged(path, "not a JSON object")
    return config


def _damaged(path: Path, what: str) -> RepoError:
    return RepoError(f"{path}: {what}", hint="repair it, or remove it and log in again")


def _helper(config: Mapping[str, object], host: str, path: Path) -> str | None:
    """The credential helper for `host`."""
    special = config.get("credHelpers")
    name = special.get(host) if isinstance(special, dict) else None
    if name is None:
        name = config.get("credsStore") or None
    if name is None:
        return None
    if not isinstance(name, str) or not _HELPER.fullmatch(name):
        raise _damaged(path, f"{name!r} is no name of a credential helper")
    return name


def _ask(helper: str, host: str) -> Credentials | None:
    reply = _call(helper, "get", _server(host).encode(), missing_is_ok=True)
    if reply is None:
        return None
    try:
        said = json.loads(reply)
        user, secret = str(said["Username"]), str(said["Secret"])
    except (ValueError, KeyError, TypeError, RecursionError) as err:
        raise RepoError(
            f"docker-credential-{helper} gave no credentials for {host}",
            hint=f"run it by hand: echo {host} | docker-credential-{helper} get",
        ) from err
    return Credentials("", "", secret) if user == "<token>" else Credentials(user, secret)


def _call(helper: str, verb: str, text: bytes, *, missing_is_ok: bool = False) -> bytes | None:
    program = f"docker-credential-{helper}"
    try:
        done = proc.run([program, verb], stdin=text, timeout=_HELPER_TIMEOUT)
    except CapstanError as err:
        raise RepoError(
            f"the credential helper {program} does not run: {err.message}",
            hint="install it, or remove credsStore/credHelpers from Docker's config.json",
        ) from err
    if done.status == 0:
        return done.stdout
    said = (done.stdout + done.stderr).decode(errors="replace").strip()
    if missing_is_ok and "not found" in said:
        return None
    raise RepoError(
        f"{program} {verb}: {said[:200] or f'status {done.status}'}",
        hint="see its documentation, or remove it from Docker's config.json",
    )


def _entry(
    entries: Mapping[str, object], host: str, repository: str, path: Path
) -> Credentials | None:
    """The entry for `host`, or a longer key that is a prefix of the repository (podman's)."""
    parts = f"{host}/{repository}".rstrip("/").split("/")
    for end in range(len(parts), 0, -1):
        wanted = _same("/".join(parts[:end])) if end == 1 else ("/".join(parts[:end]),)
        for key, value in entries.items():
            name = _host_of(key) if end == 1 else key
            if name in wanted and isinstance(value, dict):
                found = _decode(value, path)
                if found is not None:
                    return found
    return None


def _decode(value: Mapping[str, object], path: Path) -> Credentials | None:
    token = value.get("identitytoken")
    if isinstance(token, str) and token:
        return Credentials("", "", token)
    auth = value.get("auth")
    if not isinstance(auth, str) or not auth:
        user, password = value.get("username"), value.get("password")
        if isinstance(user, str) and isinstance(password, str):
            return Credentials(user, password)
        return None
    try:
        user, colon, password = base64.b64decode(auth, validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError) as err:
        raise _damaged(path, "an auth entry is not base64") from err
    if not colon:
        raise _damaged(path, "an auth entry has no password")
    return Credentials(user, password.rstrip("\0"))


def _server(host: str) -> str:
    return _HUB_KEYS[0] if host in _same(HUB) else host


def _same(host: str) -> tuple[str, ...]:
    hub = tuple(_host_of(key) for key in _HUB_KEYS)
    return hub if host in hub else (host,)


def _host_of(key: str) -> str:
    """The host in a key of "auths", which may be a URL."""
    return key.partition("://")[2].partition("/")[0] if "://" in key else key.rstrip("/")


def check_user(user: str) -> str:
    """`user`, when it can be one's name.

    Raises:
        UsageError: it cannot.
    """
    if not user or ":" in user or not user.isprintable():
        raise UsageError(f"{user!r} cannot be a user's name", hint="a name without `:`")
    return user
