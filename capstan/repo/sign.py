# SPDX-License-Identifier: BSD-2-Clause
"""Signatures beside an image, as cosign makes them, and who must have signed what.

The signature of the manifest sha256:HEX is an image with the tag sha256-HEX.sig, each of whose
layers is a statement ("simple signing") with its signature in an annotation. Several people can
sign: each adds a layer. A signature says which manifest; it does not say which tag, and it does
not expire.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from capstan.errors import RepoError, UsageError
from capstan.oci import OCI_MANIFEST, Descriptor, dump
from capstan.repo import blobs, doc, keys
from capstan.repo.answers import NotFound
from capstan.repo.registry import RawManifest, Repository, sha256, short

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import (
        EllipticCurvePrivateKey,
        EllipticCurvePublicKey,
    )

STATEMENT = "application/vnd.dev.cosign.simplesigning.v1+json"
ANNOTATION = "dev.cosignproject.cosign/signature"
_KIND = "cosign container image signature"
_CONFIG = "application/vnd.oci.image.config.v1+json"
_STATEMENT_MAX = 64 << 10
_LAYERS_MAX = 64


def tag_of(digest: str) -> str:
    """The tag of the signatures of a manifest."""
    return digest.replace(":", "-") + ".sig"


def sign(target: Repository, digest: str, key: EllipticCurvePrivateKey) -> None:
    """Add a signature of the manifest `digest` beside it.

    Raises:
        RepoError: the registry refuses.
    """
    statement = dump(
        {
            "critical": {
                "identity": {"docker-reference": target.full_name},
                "image": {"docker-manifest-digest": digest},
                "type": _KIND,
            },
            "optional": None,
        }
    )
    if not target.has_blob(sha256(statement), len(statement)):
        blobs.upload(target, statement)
    notes = {ANNOTATION: keys.sign(key, statement)}
    mine = Descriptor(STATEMENT, sha256(statement), len(statement), notes)
    layers = [*_present(target, digest, key.public_key()), mine]
    config = dump(
        {
            "architecture": "",
            "os": "",
            "config": {},
            "history": [],
            "rootfs": {"type": "layers", "diff_ids": [layer.digest for layer in layers]},
        }
    )
    if not target.has_blob(sha256(config), len(config)):
        blobs.upload(target, config)
    manifest = dump(
        {
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "config": Descriptor(_CONFIG, sha256(config), len(config)).to_json(),
            "layers": [layer.to_json() for layer in layers],
        }
    )
    target.put_manifest(tag_of(digest), manifest, OCI_MANIFEST)


def verify(
    source: Repository, digest: str, trusted: Sequence[EllipticCurvePublicKey], rule: str
) -> None:
    """Make sure that one of the `trusted` keys signed the manifest `digest`.

    `rule` says, for the error, why that is necessary.

    Raises:
        RepoError: none did.
    """
    signatures = _signatures(source, digest)
    if not signatures:
        raise _refused(source, digest, "it is not signed", rule)
    for layer in signatures:
        text = layer.annotations.get(ANNOTATION, "")
        statement = source.small_blob(layer, _STATEMENT_MAX)
        if any(keys.is_signed(key, statement, text) for key in trusted):
            _check(statement, digest, source, rule)
            return
    raise _refused(source, digest, "it is signed, but not by a trusted key", rule)


def _check(statement: bytes, digest: str, source: Repository, rule: str) -> None:
    """Refuse a statement that is about something else."""
    page = doc.parse(statement, f"{source.full_name}: signature of {short(digest)}")
    critical = page.child("critical")
    signed = critical.child("image").text("docker-manifest-digest")
    if critical.text("type") != _KIND or signed != digest:
        raise _refused(source, digest, "the signature is one of another image", rule)


def _refused(source: Repository, digest: str, what: str, rule: str) -> RepoError:
    return RepoError(
        f"{source.full_name}: image {short(digest)} is refused: {what}",
        hint=f"{rule}; ask who pushed it to sign it (`capstan push --sign KEY`)",
    )


def _signatures(source: Repository, digest: str) -> Sequence[Descriptor]:
    try:
        manifest: RawManifest = source.manifest(tag_of(digest))
    except NotFound:
        return []
    layers = [doc.descriptor(layer) for layer in manifest.doc.children("layers", _LAYERS_MAX)]
    return [layer for layer in layers if layer.media_type == STATEMENT]


def _present(target: Repository, digest: str, mine: EllipticCurvePublicKey) -> Sequence[Descriptor]:
    """The signatures that are there, without those of our own key."""
    found = []
    for layer in _signatures(target, digest):
        statement = target.small_blob(layer, _STATEMENT_MAX)
        if not keys.is_signed(mine, statement, layer.annotations.get(ANNOTATION, "")):
            found.append(layer)
    return found


@dataclass(frozen=True, slots=True)
class Policy:
    """What must be signed: the longest rule that covers a repository counts."""

    rules: Mapping[str, tuple[Path, ...]]

    def keys_for(self, repository: str) -> tuple[str, tuple[Path, ...]]:
        """(rule, key files) for "host/namespace/name"; ("", ()) when nothing is demanded."""
        parts = repository.split("/")
        for end in range(len(parts), 0, -1):
            prefix = "/".join(parts[:end])
            if prefix in self.rules:
                return prefix, self.rules[prefix]
        return ("*", self.rules["*"]) if "*" in self.rules else ("", ())


def check(source: Repository, digest: str, policy: Policy, extra: Sequence[Path] | None) -> None:
    """Refuse the manifest `digest` unless it is signed as the policy, or `extra`, demands.

    `extra` are keys the user named; an empty list: those of the policy, which must have some.

    Raises:
        RepoError: it is not.
    """
    rule, files = policy.keys_for(source.full_name)
    if extra is None and not rule:
        return
    if extra is not None and not extra and not files:
        raise RepoError(
            f"{source.full_name}: no key to verify with",
            hint=f"`--verify KEYFILE`, or the setting trust: {source.full_name}=KEYFILE",
        )
    if files:
        why = f"the setting trust demands it for {rule}"
        verify(source, digest, [keys.load_public(path) for path in files], why)
    if extra:
        verify(source, digest, [keys.load_public(path) for path in extra], "--verify demands it")


def parse_policy(text: str) -> Policy:
    """The policy in the setting `trust`: PREFIX=KEYFILE[:KEYFILE...],...

    Raises:
        UsageError: it is none.
    """
    rules: dict[str, tuple[Path, ...]] = {}
    for part in filter(None, (one.strip() for one in text.split(","))):
        prefix, equals, file = part.partition("=")
        prefix = prefix.strip().rstrip("/")
        if not equals or not prefix or not file.strip():
            raise UsageError(
                f"the setting trust has {part!r}", hint="expected HOST[/NAMESPACE]=KEYFILE,..."
            )
        files = [Path(one.strip()).expanduser() for one in file.split(":") if one.strip()]
        rules[prefix] = (*rules.get(prefix, ()), *files)
    return Policy(rules)
