# SPDX-License-Identifier: BSD-2-Clause
"""Answers to a registry's WWW-Authenticate: Basic, or a Bearer token from where it says."""

from __future__ import annotations

import base64
import re
import threading
import time
import urllib.parse
from collections.abc import Callable

from capstan.errors import RepoError
from capstan.repo import answers, doc
from capstan.repo.credentials import Credentials
from capstan.repo.http import Http, Request, is_local
from capstan.repo.limits import TOKEN_MAX

_SCHEME = re.compile(r"\s*([A-Za-z][A-Za-z0-9-]*)\s*")
_PARAM = re.compile(r'\s*([A-Za-z0-9_-]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s,"]+))\s*,?')
_EARLY = 10.0  # seconds a token is renewed before its end
_LIFE = 60.0  # of a token that says nothing


def parse_challenge(text: str) -> dict[str, dict[str, str]]:
    """scheme (lower case) -> parameters, of a WWW-Authenticate header."""
    found: dict[str, dict[str, str]] = {}
    at = 0
    while match := _SCHEME.match(text, at):
        at = match.end()
        params: dict[str, str] = {}
        while pair := _PARAM.match(text, at):
            quoted = pair[2]
            value = re.sub(r"\\(.)", r"\1", quoted) if quoted is not None else pair[3]
            params[pair[1].lower()] = value
            at = pair.end()
        found.setdefault(match[1].lower(), params)
        if at < len(text) and text[at] == ",":
            at += 1
    return found


class TokenAuth:
    """The credentials for one registry, and the tokens bought with them."""

    def __init__(self, http: Http, credentials: Callable[[], Credentials | None]) -> None:
        self._http = http
        self._find = credentials
        self._lock = threading.Lock()
        self._known: Credentials | None = None
        self._is_known = False
        self._basic: str | None = None
        self._tokens: dict[str, tuple[str, float]] = {}
        self._realm: tuple[str, str] | None = None

    def header(self, scope: str) -> str | None:
        """The Authorization header for `scope`; a token is renewed before it ends."""
        with self._lock:
            if self._basic is not None:
                return self._basic
            token, until = self._tokens.get(scope, ("", 0.0))
            if token and time.monotonic() < until:
                return f"Bearer {token}"
            if self._realm is None or not scope:
                return f"Bearer {token}" if token and time.monotonic() < until else None
            return f"Bearer {self._buy(scope)}"

    def answer(self, challenge: str, scope: str) -> bool:
        """Whether another try may help; buys a token when the registry wants one.

        Raises:
            RepoError: the token server refuses, or is not to be trusted.
        """
        wanted = parse_challenge(challenge)
        with self._lock:
            if "bearer" in wanted:
                params = wanted["bearer"]
                realm = (params.get("realm", ""), params.get("service", ""))
                self._realm = realm
                self._buy(scope, params.get("scope", ""))
                return True
            known = self._credentials()
            if "basic" not in wanted or known is None or known.identity_token:
                return False
            self._basic = _basic(known)
            return True

    def _credentials(self) -> Credentials | None:
        if not self._is_known:
            self._known = self._find()
            self._is_known = True
        return self._known

    def _buy(self, scope: str, asked: str = "") -> str:
        """A new token, kept under `scope`. The lock is held."""
        assert self._realm is not None
        realm, service = self._realm
        scopes = _merge(scope, asked)
        host = self._http.access.host
        parts = urllib.parse.urlsplit(realm)
        is_plain = parts.scheme == "http" and (
            self._http.origin.startswith("http:") or is_local(parts.netloc)
        )
        if not parts.hostname or (parts.scheme != "https" and not is_plain):
            raise RepoError(
                f"{host}: it wants a token from {answers.clean(realm) or 'nowhere'}",
                hint="that is no https address: the registry is set up wrongly",
            )
        server = self._http.beside(parts.netloc, plain=is_plain)
        try:
            answer = server.fetch(self._request(realm, service, scopes), TOKEN_MAX)
        finally:
            server.close()
        reply = doc.parse(answer.body, f"{parts.netloc}: token")
        token = reply.text("token", "") or reply.text("access_token", "")
        if not token or not token.isascii() or not token.isprintable():
            raise reply.error("no token")
        life = reply.number("expires_in", 1 << 31) if "expires_in" in reply.data else _LIFE
        self._tokens[scope] = (token, time.monotonic() + max(life - _EARLY, 1.0))
        return token

    def _request(self, realm: str, service: str, scopes: list[str]) -> Request:
        known = self._credentials()
        what = "a token"
        if known is not None and known.identity_token:
            form = {
                "grant_type": "refresh_token",
                "service": service,
                "client_id": "capstan",
                "scope": " ".join(scopes),
                "refresh_token": known.identity_token,
            }
            kind = {"Content-Type": "application/x-www-form-urlencoded"}
            body = urllib.parse.urlencode(form).encode()
            return Request("POST", realm, what, kind, body)
        query = [("service", service)] if service else []
        query += [("scope", one) for one in scopes]
        if known is not None:
            query.append(("account", known.user))
        headers = {"Authorization": _basic(known)} if known is not None else {}
        glue = "&" if "?" in realm else "?"
        url = f"{realm}{glue}{urllib.parse.urlencode(query)}"
        return Request("GET", url, what, headers)


def _merge(scope: str, asked: str) -> list[str]:
    """Our scopes, and those the registry asks for that ours do not cover."""
    ours = scope.split()
    covered = {one.rpartition(":")[0]: set(one.rpartition(":")[2].split(",")) for one in ours}
    for one in asked.split():
        name, _, actions = one.rpartition(":")
        if not set(actions.split(",")) <= covered.get(name, set()):
            ours.append(one)
    return list(dict.fromkeys(ours))


def _basic(known: Credentials) -> str:
    return "Basic " + base64.b64encode(f"{known.user}:{known.password}".encode()).decode()
