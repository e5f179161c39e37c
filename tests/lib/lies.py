# SPDX-License-Identifier: BSD-2-Clause
"""The ways in which the registry of `registry.py` breaks or lies.

Each fault is a function of the request; `NETWORK` says what the client's message has to contain.
`TAMPER` changes an image that was pushed, so that every digest is right and the content is not.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from tests.lib.registry import INDEX, Handler, Registry


def on_blob(work: Callable[[Handler, bytes], None]) -> Callable[[Handler], bool]:
    """A fault of GETs of frames."""

    def fault(request: Handler) -> bool:
        if request.command != "GET" or "/blobs/sha256:" not in request.path:
            return False
        repo, _, digest = request.path.removeprefix("/v2/").partition("/blobs/")
        data = request.registry.blobs.get((repo, digest))
        if data is None or data.startswith(b"{"):
            return False
        work(request, data)
        return True

    return fault


def on_manifest(work: Callable[[Handler], None]) -> Callable[[Handler], bool]:
    """A fault of GETs of manifests."""

    def fault(request: Handler) -> bool:
        if request.command != "GET" or "/manifests/" not in request.path:
            return False
        work(request)
        return True

    return fault


def _flip(request: Handler, data: bytes) -> None:
    request.answer(200, bytes([data[0] ^ 1]) + data[1:])


def _truncate(request: Handler, data: bytes) -> None:
    request.answer(200, data[: len(data) // 2], Content_Length=str(len(data)))
    request.close_connection = True


def _announce_more(request: Handler, data: bytes) -> None:
    request.answer(200, data + b"x" * 100)


def _announce_less(request: Handler, data: bytes) -> None:
    request.answer(200, data[:-10])


def _endless(request: Handler, _data: bytes = b"") -> None:
    request.send_response(200)
    request.send_header("Content-Type", "application/vnd.oci.image.manifest.v1+json")
    request.send_header("Transfer-Encoding", "chunked")
    request.end_headers()
    chunk = b" " * 65536
    while not request.registry.stopping.is_set():
        request.wfile.write(b"%x\r\n%s\r\n" % (len(chunk), chunk))


def _slow_body(request: Handler, data: bytes) -> None:
    request.send_response(200)
    request.send_header("Content-Length", str(len(data)))
    request.end_headers()
    for byte in data:
        if request.registry.stopping.wait(0.02):
            return
        request.wfile.write(bytes([byte]))


def _slow_head(request: Handler) -> bool:
    request.wfile.write(b"HTTP/1.1 200 OK\r\nX: ")
    while not request.registry.stopping.wait(0.02):
        request.wfile.write(b"x")
    return True


def _silent(request: Handler) -> bool:
    request.registry.stopping.wait(60)
    return True


def _huge_head(request: Handler) -> bool:
    request.wfile.write(b"HTTP/1.1 200 OK\r\n")
    while not request.registry.stopping.is_set():
        request.wfile.write(b"X-Long: " + b"y" * 4096 + b"\r\n")
    return True


def _garbage(request: Handler) -> bool:
    request.wfile.write(b"SSH-2.0-OpenSSH\r\n\x00\x01\x02\r\n\r\n")
    request.close_connection = True
    return True


def _closes(request: Handler) -> bool:
    request.close_connection = True
    return True


def _loop_any(request: Handler) -> bool:
    if "/blobs/sha256:" not in request.path:
        return False
    request.answer(307, Location=request.path.partition("?")[0])
    return True


def _to(location: str) -> Callable[[Handler, bytes], None]:
    return lambda request, _data: request.answer(302, Location=location)


def _status(status: int, **headers: str) -> Callable[[Handler], bool]:
    def fault(request: Handler) -> bool:
        request.error(status, "not \x1b[31mnow", **headers)
        return True

    return fault


def _page(kind: str, body: bytes) -> Callable[[Handler], None]:
    return lambda request: request.answer(200, body, Content_Type=kind)


def _other_digest(request: Handler) -> None:
    repo, _, tag = request.path.removeprefix("/v2/").partition("/manifests/")
    kind, data = request.registry.manifests[repo, tag]
    request.answer(200, data, Content_Type=kind, Docker_Content_Digest="sha256:" + "0" * 64)


def _wrong_range(request: Handler, data: bytes) -> None:
    request.answer(206, data, Content_Range=f"bytes 5-{len(data) + 4}/{len(data) + 5}")


def _gzip(request: Handler, data: bytes) -> None:
    request.answer(200, data, Content_Encoding="gzip")


DEEP = b'{"schemaVersion":2,"x":' + b"[" * 100_000 + b"]" * 100_000 + b"}"
DEEPER = b'{"schemaVersion":2,"x":' + b"[" * 200 + b"]" * 200 + b"}"
OCI = "application/vnd.oci.image.manifest.v1+json"

NETWORK: dict[str, tuple[Callable[[Handler], bool], str]] = {
    "wrong digest": (on_blob(_flip), "its content is not that of its digest"),
    "truncated": (on_blob(_truncate), "connection broke"),
    "announces more": (on_blob(_announce_more), "announced with"),
    "announces less": (on_blob(_announce_less), "announced with"),
    "endless blob": (on_blob(_endless), "more than the"),
    "endless manifest": (on_manifest(_endless), "more than"),
    "slow blob": (on_blob(_slow_body), "no answer in time"),
    "slow head": (_slow_head, "no answer in time"),
    "silent": (_silent, "no answer in time"),
    "huge head": (_huge_head, "connection broke"),
    "garbage": (_garbage, "connection broke"),
    "closes": (_closes, "connection broke"),
    "redirect loop": (_loop_any, "more than 5 redirects"),
    "redirect to a file": (on_blob(_to("file:///etc/passwd")), "a redirect to file:"),
    "redirect with a name": (on_blob(_to("http://a:b@localhost:1/x")), "a redirect to http://a"),
    "redirect to gopher": (on_blob(_to("gopher://localhost/")), "a redirect to gopher:"),
    "always 429": (_status(429, Retry_After="0"), "too many requests"),
    "429 for a year": (_status(429, Retry_After="31536000"), "try again in"),
    "always 503": (_status(503), "not available (503)"),
    "always 500": (_status(500), "the registry failed (500)"),
    "always 401": (_status(401, WWW_Authenticate="Basic realm=x"), "capstan login"),
    "403": (_status(403), "not allowed"),
    "418": (_status(418), "status 418"),
    "a web page": (on_manifest(_page("text/html", b"<html>login</html>")), "not a JSON document"),
    "deep JSON": (on_manifest(_page(OCI, DEEP)), "JSON"),
    "deeper JSON": (on_manifest(_page(OCI, DEEPER)), "levels deep"),
    "a list": (on_manifest(_page(OCI, b"[]")), "not a JSON object"),
    "schema 1": (on_manifest(_page(OCI, b'{"schemaVersion":1}')), "schemaVersion is not 2"),
    "wrong type": (on_manifest(_page("text/plain", b'{"schemaVersion":2}')), "it is a text/plain"),
    "no layers": (on_manifest(_page(OCI, b'{"schemaVersion":2}')), "container image"),
    "stated digest": (on_manifest(_other_digest), "stated digest"),
    "wrong range": (on_blob(_wrong_range), "Content-Range"),
    "gzip unasked": (on_blob(_gzip), "Content-Encoding"),
}
"""name -> (fault, what the message contains)"""


# --- images that are not what they say -----------------------------------------------------------


def change(
    registry: Registry, repo: str, edit: Callable[[dict[str, Any], dict[str, Any]], None]
) -> None:
    """Let `edit` change manifest and configuration of REPO:latest, digests following."""
    manifest = registry.document(repo, "latest")
    config = json.loads(registry.blobs[repo, manifest["config"]["digest"]])
    edit(manifest, config)
    data = json.dumps(config).encode()
    manifest["config"] |= {"digest": registry.put_blob(repo, data), "size": len(data)}
    registry.put_manifest(repo, "latest", json.dumps(manifest).encode())


def _frames(config: dict[str, Any]) -> list[dict[str, Any]]:
    frames: list[dict[str, Any]] = config["capstan"]["frames"]
    return frames


def _overlap(_m: dict[str, Any], c: dict[str, Any]) -> None:
    first, second = _frames(c)[0], _frames(c)[1]
    second["runs"][0][0] = first["runs"][0][0]


def _outside(_m: dict[str, Any], c: dict[str, Any]) -> None:
    _frames(c)[0]["runs"][0][0] = c["capstan"]["size"]


def _negative(_m: dict[str, Any], c: dict[str, Any]) -> None:
    _frames(c)[0]["runs"][0][0] = -4096


def _fewer(_m: dict[str, Any], c: dict[str, Any]) -> None:
    _frames(c).pop()


def _swap(m: dict[str, Any], c: dict[str, Any]) -> None:
    ids = c["rootfs"]["diff_ids"]
    ids[0], ids[1] = ids[1], ids[0]


def _image(_m: dict[str, Any], c: dict[str, Any]) -> None:
    c["capstan"]["image"] = "sha256:" + "1" * 64


def _no_digest(_m: dict[str, Any], c: dict[str, Any]) -> None:
    c["capstan"]["image"] = "../../../etc"


def _newer(_m: dict[str, Any], c: dict[str, Any]) -> None:
    c["capstan"]["version"] = 99


def _huge_disk(_m: dict[str, Any], c: dict[str, Any]) -> None:
    c["capstan"]["size"] = 1 << 60


def _other_manifest(_m: dict[str, Any], c: dict[str, Any]) -> None:
    c["capstan"]["manifest"]["config"]["argv"] = ["/bin/evil"]


def _bad_manifest(_m: dict[str, Any], c: dict[str, Any]) -> None:
    c["capstan"]["manifest"]["pool"] = 7


def _sha512(m: dict[str, Any], _c: dict[str, Any]) -> None:
    m["layers"][0]["digest"] = "sha512:" + "0" * 128


def _huge_layer(m: dict[str, Any], _c: dict[str, Any]) -> None:
    m["layers"][0]["size"] = 1 << 50


def _unknown_frame(m: dict[str, Any], _c: dict[str, Any]) -> None:
    m["layers"][0]["mediaType"] = "application/x-tar"


def _foreign(m: dict[str, Any], _c: dict[str, Any]) -> None:
    m["artifactType"] = "application/vnd.example.thing"


TAMPER: dict[str, tuple[Callable[[dict[str, Any], dict[str, Any]], None], str]] = {
    "frames overlap": (_overlap, "two frames for byte"),
    "a run outside": (_outside, "in a disk of"),
    "a negative run": (_negative, "no pair of numbers"),
    "a frame less": (_fewer, "frames,"),
    "frames swapped": (_swap, "unpacks to"),
    "another image": (_image, "another image than stated"),
    "a path for a digest": (_no_digest, "no SHA-256 digest"),
    "a newer format": (_newer, "format 99"),
    "a huge disk": (_huge_disk, "'size'"),
    "another manifest": (_other_manifest, "its manifest is not the one"),
    "a broken manifest": (_bad_manifest, "damaged manifest"),
    "sha512": (_sha512, "no SHA-256 digest"),
    "a huge layer": (_huge_layer, "'size'"),
    "an unknown frame": (_unknown_frame, "unknown type"),
    "another artifact": (_foreign, "not an image of capstan's"),
}


def bomb(registry: Registry, repo: str) -> None:
    """Make the first frame a small blob that unpacks to 1 GiB; its header does not say so."""
    import zstandard

    packer = zstandard.ZstdCompressor(level=1).compressobj()
    blob = b"".join([packer.compress(bytes(1 << 20)) for _ in range(1024)] + [packer.flush()])

    def edit(manifest: dict[str, Any], _config: dict[str, Any]) -> None:
        manifest["layers"][0] |= {"digest": registry.put_blob(repo, blob), "size": len(blob)}

    change(registry, repo, edit)


def container(registry: Registry, repo: str) -> None:
    """Make REPO:latest an index of container images."""
    entry = {"mediaType": OCI, "digest": "sha256:" + "2" * 64, "size": 5}
    index = {"schemaVersion": 2, "mediaType": INDEX, "manifests": [entry]}
    registry.put_manifest(repo, "latest", json.dumps(index).encode(), INDEX)


def cut_after(count: int) -> Callable[[Handler], bool]:
    """Break the connection once, after `count` bytes of frames went out in all."""
    left = [count]

    def work(request: Handler, data: bytes) -> None:
        found = request.headers.get("Range", "")
        start = int(found[6:-1]) if found.startswith("bytes=") else 0
        rest = data[start:]
        headers = {"Content_Length": str(len(rest))}
        if start:
            headers["Content_Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
        with request.registry.lock:
            now = rest if left[0] < 0 else rest[: left[0]]
            if left[0] >= 0:
                left[0] -= len(now)
                if len(now) < len(rest):
                    left[0] = -1
            digest = request.path.rpartition("/")[2]
            request.registry.sent[digest] = request.registry.sent.get(digest, 0) + len(now)
        request.answer(206 if start else 200, now, **headers)
        if len(now) < len(rest):
            request.close_connection = True

    return on_blob(work)
