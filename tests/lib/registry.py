# SPDX-License-Identifier: BSD-2-Clause
"""A registry in memory, which can lie: for tests of the client and for ci/gates/04-1-registry.

    with Registry() as registry:
        registry.fault = FAULTS["truncated"]

`registry.log` has every request; `registry.sent` the bytes of blob bodies that went out.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import itertools
import json
import re
import ssl
import threading
import time
import urllib.parse
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Fault = Callable[["Handler"], bool]
"""Answers a request in its own way (True), or leaves it to the registry (False)."""

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"


def digest_of(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


class Registry:
    """The server; use it as a context manager."""

    def __init__(self, auth: str = "", tls: ssl.SSLContext | None = None) -> None:
        self.auth = auth  # "", "basic" or "bearer"
        self.user, self.password = "anna", "secret"
        self.token_life = 300
        self.tokens: dict[str, tuple[str, float]] = {}
        self.blobs: dict[tuple[str, str], bytes] = {}
        self.manifests: dict[tuple[str, str], tuple[str, bytes]] = {}
        self.uploads: dict[str, bytes] = {}
        self.numbers = itertools.count()
        self.fault: Fault | None = None
        self.log: list[tuple[str, str, dict[str, str]]] = []
        self.sent: dict[str, int] = {}
        self.lock = threading.Lock()
        self.stopping = threading.Event()
        registry = self

        class Bound(Handler):
            server_registry = registry

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Bound)
        self.server.daemon_threads = True
        self.scheme = "http"
        if tls is not None:
            self.scheme = "https"
            self.server.socket = tls.wrap_socket(
                self.server.socket, server_side=True, do_handshake_on_connect=False
            )
        self.port = self.server.server_address[1]
        self.host = f"localhost:{self.port}"

    def __enter__(self) -> Registry:
        self._thread = threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stopping.set()
        self.server.shutdown()
        self.server.server_close()

    @property
    def url(self) -> str:
        return f"{self.scheme}://{self.host}"

    def put_blob(self, repo: str, data: bytes) -> str:
        self.blobs[repo, digest_of(data)] = data
        return digest_of(data)

    def put_manifest(self, repo: str, tag: str, data: bytes, kind: str = MANIFEST) -> str:
        self.manifests[repo, tag] = (kind, data)
        self.manifests[repo, digest_of(data)] = (kind, data)
        return digest_of(data)

    def document(self, repo: str, tag: str) -> dict[str, Any]:
        value: dict[str, Any] = json.loads(self.manifests[repo, tag][1])
        return value

    def requests(self, method: str, part: str) -> int:
        return sum(m == method and part in path for m, path, _ in self.log)


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    server_registry: Registry
    protocol_version = "HTTP/1.1"
    timeout = 30

    def log_message(self, format: str, *args: object) -> None:
        pass

    @property
    def registry(self) -> Registry:
        return self.server_registry

    def handle(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            super().handle()

    def do_any(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        self.body = self.rfile.read(length) if length else b""
        headers = {name.lower(): value for name, value in self.headers.items()}
        with self.registry.lock:
            self.registry.log.append((self.command, self.path, headers))
        parts = urllib.parse.urlsplit(self.path)
        self.query = urllib.parse.parse_qs(parts.query)
        if self.registry.fault is not None and self.registry.fault(self):
            return
        if parts.path == "/token":
            return self.give_token()
        if self.registry.auth and not self.is_allowed():
            return self.challenge()
        if parts.path == "/v2/":
            return self.answer(200, b"{}")
        for pattern, method in ROUTES:
            found = re.fullmatch(pattern, parts.path)
            if found:
                return method(self, *found.groups())
        self.error(404, "no such path")

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = do_any

    # --- answers -------------------------------------------------------------------------------

    def answer(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        sent.setdefault("Content-Length", str(len(body)))
        for name, value in sent.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def error(self, status: int, text: str, **headers: str) -> None:
        body = json.dumps({"errors": [{"code": "X", "message": text}]}).encode()
        self.answer(status, body, **headers)

    # --- auth ----------------------------------------------------------------------------------

    def is_allowed(self) -> bool:
        given = self.headers.get("Authorization", "")
        registry = self.registry
        if registry.auth == "basic":
            return given == self.basic()
        scopes, until = registry.tokens.get(given.removeprefix("Bearer "), ("", 0.0))
        return time.monotonic() < until and self.wanted_scope() in ("", *scopes.split())

    def basic(self) -> str:
        both = f"{self.registry.user}:{self.registry.password}".encode()
        return "Basic " + base64.b64encode(both).decode()

    def wanted_scope(self) -> str:
        found = re.match(r"/v2/(.+)/(?:blobs|manifests)/", self.path)
        if not found:
            return ""
        push = self.command in ("POST", "PUT", "PATCH", "DELETE")
        return f"repository:{found[1]}:{'pull,push' if push else 'pull'}"

    def challenge(self) -> None:
        if self.registry.auth == "basic":
            return self.error(401, "who are you", WWW_Authenticate='Basic realm="test"')
        scope = self.wanted_scope()
        text = f'Bearer realm="{self.registry.url}/token",service="test"'
        if scope:
            text += f',scope="{scope}"'
        return self.error(401, "token please", WWW_Authenticate=text)

    def give_token(self) -> None:
        form = urllib.parse.parse_qs(self.body.decode()) if self.command == "POST" else self.query
        is_known = self.headers.get("Authorization") == self.basic()
        is_known = is_known or form.get("refresh_token") == ["identity"]
        if not is_known:
            return self.error(401, "wrong password")
        scopes = " ".join(form.get("scope", []))
        expanded = [scopes]
        for scope in scopes.split():
            name, _, actions = scope.rpartition(":")
            if "pull" in actions.split(","):
                expanded.append(f"{name}:pull")
        token = f"t{len(self.registry.tokens)}"
        until = time.monotonic() + self.registry.token_life
        self.registry.tokens[token] = (" ".join(expanded), until)
        body = json.dumps({"token": token, "expires_in": max(self.registry.token_life, 60)})
        self.answer(200, body.encode())

    # --- the protocol --------------------------------------------------------------------------

    def blob(self, repo: str, digest: str) -> None:
        data = self.registry.blobs.get((repo, digest))
        if data is None:
            return self.error(404, "blob unknown")
        start = 0
        found = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        if found and self.command == "GET":
            start = int(found[1])
            if start >= len(data):
                return self.error(416, "range")
        headers = {"Docker_Content_Digest": digest}
        if start:
            headers["Content_Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
        if self.command == "GET":
            with self.registry.lock:
                sent = self.registry.sent
                sent[digest] = sent.get(digest, 0) + len(data) - start
        if self.command == "HEAD":
            headers["Content_Length"] = str(len(data))
        return self.answer(206 if start else 200, data[start:], **headers)

    def manifest(self, repo: str, reference: str) -> None:
        if self.command == "PUT":
            kind = self.headers.get("Content-Type", "")
            digest = self.registry.put_manifest(repo, reference, self.body, kind)
            return self.answer(201, Docker_Content_Digest=digest)
        found = self.registry.manifests.get((repo, reference))
        if found is None:
            return self.error(404, "manifest unknown")
        kind, data = found
        headers = {"Content_Type": kind, "Docker_Content_Digest": digest_of(data)}
        if self.command == "HEAD":
            headers["Content_Length"] = str(len(data))
        return self.answer(200, data, **headers)

    def begin(self, repo: str) -> None:
        digest, source = (self.query.get(key, [""])[0] for key in ("mount", "from"))
        if digest and (source, digest) in self.registry.blobs:
            self.registry.blobs[repo, digest] = self.registry.blobs[source, digest]
            return self.answer(201, Location=f"/v2/{repo}/blobs/{digest}")
        with self.registry.lock:
            number = f"u{next(self.registry.numbers)}"
            self.registry.uploads[number] = b""
        return self.answer(202, Location=f"/v2/{repo}/blobs/uploads/{number}?state=x")

    def upload(self, repo: str, number: str) -> None:
        uploads = self.registry.uploads
        if number not in uploads:
            return self.error(404, "upload unknown")
        place = f"/v2/{repo}/blobs/uploads/{number}?state=y"
        have = uploads[number]
        if self.command == "GET":
            return self.answer(204, Location=place, Range=f"0-{max(len(have) - 1, 0)}")
        if self.command == "DELETE":
            del uploads[number]
            return self.answer(204)
        start = self.headers.get("Content-Range", f"{len(have)}-").partition("-")[0]
        if int(start) != len(have):
            return self.error(416, "not where it goes on")
        uploads[number] = have + self.body
        if self.command == "PATCH":
            last = len(uploads[number]) - 1
            self.answer(202, Location=place, Range=f"0-{last}")
        else:
            self.complete(repo, number)

    def complete(self, repo: str, number: str) -> None:
        uploads = self.registry.uploads
        digest = self.query.get("digest", [""])[0]
        if digest_of(uploads[number]) != digest:
            return self.error(400, "digest invalid")
        self.registry.blobs[repo, digest] = uploads.pop(number)
        return self.answer(201, Location=f"/v2/{repo}/blobs/{digest}")


ROUTES: tuple[tuple[str, Callable[..., None]], ...] = (
    (r"/v2/(.+)/blobs/uploads/", Handler.begin),
    (r"/v2/(.+)/blobs/uploads/(u\d+)", Handler.upload),
    (r"/v2/(.+)/blobs/(sha256:[0-9a-f]{64})", Handler.blob),
    (r"/v2/(.+)/manifests/([^/]+)", Handler.manifest),
)
