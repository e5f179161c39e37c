# SPDX-License-Identifier: BSD-2-Clause
"""Requests to one registry and to where it redirects us.

    Http.fetch   a small document, read whole within a limit
    Http.stream  a body to read piece by piece, with a least speed

Rules: every answer comes before a deadline. 429, 5xx and broken connections are tried again, with
growing, random pauses. Credentials go to the registry's own origin only; a redirect never leads
from TLS to plain text or to another kind of URL.
"""

from __future__ import annotations

import contextlib
import os
import random
import socket
import ssl
import threading
import time
import urllib.parse
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

import httpcore

from capstan import __version__
from capstan.errors import RepoError
from capstan.repo import answers, net, tls
from capstan.repo.answers import Answer, Transient
from capstan.repo.limits import ERROR_MAX, READ, REDIRECTS, Patience

_MOVED = frozenset({301, 302, 303, 307, 308})
_LOCAL = ("localhost", "127.", "[::1]")
CONNECTIONS = 8


class Auth(Protocol):
    """What knows the registry's tokens."""

    def header(self, scope: str) -> str | None:
        """The Authorization header for `scope`."""

    def answer(self, challenge: str, scope: str) -> bool:
        """Whether another try may help after the registry sent the WWW-Authenticate `challenge`."""


@dataclass(frozen=True, slots=True)
class Access:
    """How a registry is reached."""

    host: str
    verify: bool = True
    plain: bool = False  # http when there is no TLS
    home: Path = field(default_factory=Path.home)
    patience: Patience = field(default_factory=Patience)


@dataclass(frozen=True, slots=True)
class Request:
    """One request; `what` names its object in errors."""

    method: str
    target: str  # path, or a whole URL
    what: str
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | None = None
    scope: str = ""
    ok: tuple[int, ...] = (200,)


def is_local(host: str) -> bool:
    """Whether `host` is this machine by its name."""
    return host.startswith(_LOCAL)


class Http:
    """Connections to one registry; used by several threads."""

    def __init__(self, access: Access) -> None:
        self.access = access
        self.auth: Auth | None = None
        self._origin: str | None = None
        self._lock = threading.Lock()
        self._pools: dict[str, httpcore.ConnectionPool] = {}
        self._was_reached = False
        self._backend = net.Backend()
        self._stop = threading.Event()

    def beside(self, host: str, *, plain: bool) -> Http:
        """A client for `host` with the same settings and no credentials; `abort` ends it, too."""
        other = Http(replace(self.access, host=host, plain=plain))
        other._backend, other._stop = self._backend, self._stop
        return other

    def abort(self) -> None:
        """End all requests, also those other threads wait for; they raise `Stopped`."""
        self._stop.set()
        self._backend.abort()

    def close(self) -> None:
        """Close all connections."""
        for pool in self._pools.values():
            pool.close()

    @property
    def origin(self) -> str:
        """`https://HOST`, or `http://HOST` where that is allowed and there is no TLS."""
        with self._lock:
            if self._origin is None:
                scheme = "https"
                host = self.access.host
                if self.access.plain and not _proxy("https", host) and not self._speaks_tls():
                    scheme = "http"
                self._origin = f"{scheme}://{host}"
            return self._origin

    def backoff(self) -> answers.Backoff:
        """The pauses between the tries of one request."""
        return answers.Backoff(self.access.patience, self._stop.wait, random.random)

    def fetch(self, request: Request, limit: int) -> Answer:
        """The whole answer, tried again when that may help.

        Raises:
            RepoError: refused, not found, or no answer in time.
        """
        backoff = self.backoff()
        while True:
            try:
                with self.stream(request) as live:
                    return Answer(live.status, live.headers, live.read(limit), live.url)
            except Transient as err:
                backoff.wait(err)

    @contextlib.contextmanager
    def stream(self, request: Request) -> Iterator[Live]:
        """The answer with its body still to come; one try.

        Raises:
            Transient: another try may help.
            RepoError: another try does not help.
        """
        live = self._follow(request)
        try:
            self._was_reached = True
            if live.status not in request.ok:
                raise answers.failure(self.access.host, request.what, live)
            yield live
        finally:
            live.close()

    # --- inside --------------------------------------------------------------------------------

    def _follow(self, request: Request) -> Live:
        url = urllib.parse.urljoin(self.origin, request.target)
        hops, asked = 0, 0
        while True:
            is_own = _origin_of(url) == self.origin
            headers = dict(request.headers)
            token = self.auth.header(request.scope) if self.auth and is_own else None
            if token is not None:
                headers["Authorization"] = token
            live = self._send(request, url, headers)
            if live.status == 401 and is_own and self.auth and asked < 2:
                live.close()
                asked += 1
                if self.auth.answer(live.headers.get("www-authenticate", ""), request.scope):
                    continue
            elif live.status in _MOVED and "location" in live.headers:
                live.close()
                hops += 1
                url = self._next(request, url, live, hops)
                continue
            return live

    def _next(self, request: Request, url: str, live: Live, hops: int) -> str:
        target = urllib.parse.urljoin(url, live.headers["location"])
        parts = urllib.parse.urlsplit(target)
        reason = None
        if hops > REDIRECTS:
            reason = f"more than {REDIRECTS} redirects"
        elif parts.scheme not in ("http", "https") or not parts.hostname or "@" in parts.netloc:
            reason = f"a redirect to {answers.clean(target)}"
        elif parts.scheme == "http" and not url.startswith("http:"):
            reason = f"a redirect from TLS to plain text ({answers.clean(target)})"
        elif request.method not in ("GET", "HEAD") and live.status not in (307, 308):
            reason = f"a redirect of {request.method}"
        if reason is not None:
            raise RepoError(
                f"{self.access.host}: {request.what}: the registry answered with {reason}",
                hint="not followed: check the registry's address and its proxy",
            )
        return target

    def _send(self, request: Request, url: str, headers: Mapping[str, str]) -> Live:
        if self._stop.is_set():
            raise answers.Stopped(f"{self.access.host}: interrupted")
        patience = self.access.patience
        now = time.monotonic()
        net.set_deadline(now + 2 * patience.silence + len(request.body or b"") / patience.speed_min)
        every = {
            "Host": urllib.parse.urlsplit(url).netloc,
            "User-Agent": f"capstan/{__version__}",
            "Accept-Encoding": "identity",
            **headers,
        }
        if request.body is not None or request.method in ("POST", "PUT", "PATCH"):
            every["Content-Length"] = str(len(request.body or b""))
        timeouts = {
            "connect": patience.connect,
            "read": patience.silence,
            "write": patience.silence,
            "pool": 600.0,
        }
        with self._explained(request.what):
            response = self._pool(url).handle_request(
                httpcore.Request(
                    request.method,
                    url,
                    headers=list(every.items()),
                    content=request.body,
                    extensions={"timeout": timeouts},
                )
            )
        return Live(self, request.what, response, url)

    @contextlib.contextmanager
    def _explained(self, what: str) -> Iterator[None]:
        host = self.access.host
        try:
            yield
        except httpcore.ConnectError as err:
            raise self._unreachable(err) from err
        except httpcore.TimeoutException as err:
            raise Transient(
                f"{host}: {what}: no answer in time",
                hint="try again later, or check the network and the proxy settings",
            ) from err
        except (httpcore.NetworkError, httpcore.ProtocolError, httpcore.ProxyError) as err:
            raise Transient(
                f"{host}: {what}: the connection broke ({answers.clean(str(err)) or 'closed'})",
                hint="try again: what has arrived is kept",
            ) from err
        except (httpcore.UnsupportedProtocol, ValueError, UnicodeError) as err:
            raise RepoError(
                f"{host}: {what}: {answers.clean(str(err))}", hint="check the registry's address"
            ) from err

    def _unreachable(self, err: Exception) -> RepoError:
        host, cause = self.access.host, err.__cause__
        if isinstance(cause, ssl.SSLCertVerificationError):
            return _untrusted(host, cause)
        if isinstance(cause, ssl.SSLError):
            return RepoError(
                f"{host}: no TLS there ({answers.clean(cause.reason or str(cause))})",
                hint=f"if it speaks plain HTTP, set insecure_registries to {host}",
            )
        hint = "check the name of the registry, and the network"
        text = f"{host}: cannot connect ({answers.clean(str(err))})"
        is_hopeless = isinstance(cause, socket.gaierror) and cause.errno != socket.EAI_AGAIN
        if is_hopeless and not self._was_reached:
            return RepoError(text, hint=hint)
        return Transient(text, hint=hint, is_first=not self._was_reached)

    def _pool(self, url: str) -> httpcore.ConnectionPool:
        parts = urllib.parse.urlsplit(url)
        key = f"{parts.scheme}://{parts.netloc}"
        with self._lock:
            if key not in self._pools:
                host = parts.netloc.rpartition("@")[2]
                self._pools[key] = self._new_pool(parts.scheme, host)
            return self._pools[key]

    def _new_pool(self, scheme: str, host: str) -> httpcore.ConnectionPool:
        trust = tls.context(host, verify=self.access.verify, home=self.access.home)
        proxy = _proxy(scheme, host)
        if proxy is None:
            return httpcore.ConnectionPool(
                ssl_context=trust, max_connections=CONNECTIONS, network_backend=self._backend
            )
        return httpcore.HTTPProxy(
            proxy[0],
            proxy_auth=proxy[1],
            ssl_context=trust,
            max_connections=CONNECTIONS,
            network_backend=self._backend,
        )

    def _speaks_tls(self) -> bool:
        """Whether TLS is spoken at the registry's port."""
        access = self.access
        parts = urllib.parse.urlsplit(f"https://{access.host}")
        trust = tls.context(access.host, verify=access.verify, home=access.home)
        name = parts.hostname or ""
        timeout = min(access.patience.connect, access.patience.silence)
        try:
            with socket.create_connection((name, parts.port or 443), timeout) as raw:
                trust.wrap_socket(raw, server_hostname=name).close()
        except ssl.SSLCertVerificationError as err:
            raise _untrusted(access.host, err) from err
        except (OSError, ValueError):
            return False
        return True


@dataclass(slots=True)
class Live:
    """An answer whose body is still to be read."""

    http: Http
    what: str
    response: httpcore.Response
    url: str
    status: int = field(init=False)
    headers: dict[str, str] = field(init=False)

    def __post_init__(self) -> None:
        self.status = self.response.status
        self.headers = {
            name.decode("latin-1").lower(): value.decode("latin-1")
            for name, value in self.response.headers
        }

    def pieces(self) -> Iterator[bytes]:
        """The body as it comes.

        Raises:
            Transient: it stops, or is slower than allowed.
        """
        patience = self.http.access.patience
        start, got = time.monotonic(), 0
        net.set_deadline(start + patience.silence)
        if self.headers.get("content-encoding", "identity") != "identity":
            raise RepoError(
                f"{self.http.access.host}: {self.what}: sent with a Content-Encoding not asked for",
                hint="a proxy in between may do that: go around it",
            )
        with self.http._explained(self.what):
            for piece in self.response.iter_stream():
                got += len(piece)
                net.set_deadline(start + patience.silence + got / patience.speed_min)
                for at in range(0, len(piece), READ):
                    yield piece[at : at + READ]

    def read(self, limit: int) -> bytes:
        """The whole body.

        Raises:
            RepoError: it is longer than `limit`.
        """
        parts, size = [], 0
        for piece in self.pieces():
            size += len(piece)
            if size > limit:
                raise RepoError(
                    f"{self.http.access.host}: {self.what}: more than {limit} bytes",
                    hint="no registry sends so much there: check its address",
                )
            parts.append(piece)
        return b"".join(parts)

    def peek(self) -> bytes:
        """The beginning of the body, for a message; nothing when it does not come."""
        data = b""
        with contextlib.suppress(RepoError):
            for piece in self.pieces():
                data += piece
                if len(data) > ERROR_MAX:
                    break
        return data[:ERROR_MAX]

    def close(self) -> None:
        """Give the connection back, or close it when the body was not read to its end."""
        with contextlib.suppress(Exception):
            self.response.close()


def _origin_of(url: str) -> str:
    parts = urllib.parse.urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"


def _proxy(scheme: str, host: str) -> tuple[str, tuple[str, str] | None] | None:
    """The proxy the environment names for `host`, and the name and password for it."""
    if not any(name.lower().endswith("_proxy") for name in os.environ):
        return None
    import urllib.request

    found = urllib.request.getproxies().get(scheme)
    if not found or is_local(host) or urllib.request.proxy_bypass(host):
        return None
    parts = urllib.parse.urlsplit(found if "://" in found else f"http://{found}")
    auth = None
    if parts.username is not None:
        auth = (urllib.parse.unquote(parts.username), urllib.parse.unquote(parts.password or ""))
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}", auth


def _untrusted(host: str, err: ssl.SSLCertVerificationError) -> RepoError:
    return RepoError(
        f"{host}: its certificate is not trusted ({answers.clean(err.verify_message)})",
        hint=f"put the authority's certificate into /etc/docker/certs.d/{host}/ca.crt, "
        "or give --tls-verify=false",
    )
