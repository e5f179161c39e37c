# SPDX-License-Identifier: BSD-2-Clause
"""Key pairs in cosign's format: ECDSA P-256, the private key encrypted with a password.

The file is PEM around JSON: the key in PKCS #8, in a NaCl secret box, whose key is the password's
scrypt.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING

from capstan.errors import CapstanError, RepoError, UsageError
from capstan.oci import dump
from capstan.repo import doc

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import (
        EllipticCurvePrivateKey,
        EllipticCurvePublicKey,
    )

_LABELS = ("ENCRYPTED SIGSTORE PRIVATE KEY", "ENCRYPTED COSIGN PRIVATE KEY")
_FILE_MAX = 64 << 10
_COST = 1 << 16
_COST_MAX = 1 << 20
_MEMORY_MAX = 1 << 30


def generate(password: bytes) -> tuple[bytes, bytes]:
    """A new key pair: the encrypted private key and the public key, both PEM."""
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.serialization import (
        Encoding,
        NoEncryption,
        PrivateFormat,
        PublicFormat,
    )

    key = ec.generate_private_key(ec.SECP256R1())
    plain = key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return _encrypt(plain, password), public


def load_private(path: Path, password: bytes) -> EllipticCurvePrivateKey:
    """The private key in a file.

    Raises:
        RepoError: not a key of cosign's format, or another password.
    """
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
    from cryptography.hazmat.primitives.serialization import load_der_private_key

    try:
        key = load_der_private_key(_decrypt(_read(path), password, str(path)), None)
    except (ValueError, TypeError) as err:
        raise _no_key(path, "no key inside") from err
    if not isinstance(key, EllipticCurvePrivateKey) or key.curve.name != "secp256r1":
        raise _no_key(path, "not an ECDSA P-256 key")
    return key


def load_public(path: Path) -> EllipticCurvePublicKey:
    """The public key in a file.

    Raises:
        RepoError: there is none.
    """
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    try:
        key = load_pem_public_key(_read(path))
    except (ValueError, UnsupportedAlgorithm) as err:
        raise _no_key(path, "not a public key (PEM)") from err
    if not isinstance(key, EllipticCurvePublicKey) or key.curve.name != "secp256r1":
        raise _no_key(path, "not an ECDSA P-256 key")
    return key


def sign(key: EllipticCurvePrivateKey, data: bytes) -> str:
    """The signature of `data`, base64."""
    from cryptography.hazmat.primitives.asymmetric.ec import ECDSA
    from cryptography.hazmat.primitives.hashes import SHA256

    return base64.b64encode(key.sign(data, ECDSA(SHA256()))).decode()


def is_signed(key: EllipticCurvePublicKey, data: bytes, signature: str) -> bool:
    """Whether `signature` is one of `data` by `key`."""
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ec import ECDSA
    from cryptography.hazmat.primitives.hashes import SHA256

    try:
        key.verify(base64.b64decode(signature, validate=True), data, ECDSA(SHA256()))
    except (InvalidSignature, binascii.Error, ValueError):
        return False
    return True


# --- the file ----------------------------------------------------------------------------------


def _encrypt(plain: bytes, password: bytes) -> bytes:
    import nacl.secret

    salt = os.urandom(32)
    box = nacl.secret.SecretBox(_derive(password, salt, _COST, 8, 1))
    nonce = os.urandom(nacl.secret.SecretBox.NONCE_SIZE)
    content = dump(
        {
            "kdf": {
                "name": "scrypt",
                "params": {"N": _COST, "r": 8, "p": 1},
                "salt": base64.b64encode(salt).decode(),
            },
            "cipher": {"name": "nacl/secretbox", "nonce": base64.b64encode(nonce).decode()},
            "ciphertext": base64.b64encode(box.encrypt(plain, nonce).ciphertext).decode(),
        }
    )
    lines = "\n".join(textwrap.wrap(base64.b64encode(content).decode(), 64))
    return f"-----BEGIN {_LABELS[0]}-----\n{lines}\n-----END {_LABELS[0]}-----\n".encode()


def _decrypt(pem: bytes, password: bytes, where: str) -> bytes:
    import nacl.exceptions
    import nacl.secret

    try:
        page = doc.parse(_body(pem), where)
        kdf, cipher = page.child("kdf"), page.child("cipher")
        names = (kdf.text("name"), cipher.text("name"))
        if names != ("scrypt", "nacl/secretbox"):
            raise page.error(f"encrypted with {names[0]} and {names[1]}")
        cost = kdf.child("params")
        key = _derive(
            password,
            base64.b64decode(kdf.text("salt")),
            cost.number("N", _COST_MAX),
            cost.number("r", 64),
            cost.number("p", 16),
        )
        box = nacl.secret.SecretBox(key)
        nonce = base64.b64decode(cipher.text("nonce"))
        return box.decrypt(base64.b64decode(page.text("ciphertext")), nonce)
    except nacl.exceptions.CryptoError as err:
        raise RepoError(
            f"{where}: the password is wrong", hint="set COSIGN_PASSWORD to the right one"
        ) from err
    except (ValueError, TypeError, RepoError) as err:
        raise _no_key(Path(where), "not a private key of cosign's format") from err


def _derive(password: bytes, salt: bytes, cost: int, block: int, parallel: int) -> bytes:
    return hashlib.scrypt(
        password, salt=salt, n=cost, r=block, p=parallel, maxmem=_MEMORY_MAX, dklen=32
    )


def _body(pem: bytes) -> bytes:
    """What is between the lines of a private key's PEM."""
    text = pem.decode("ascii").strip()
    for label in _LABELS:
        head, tail = f"-----BEGIN {label}-----", f"-----END {label}-----"
        if text.startswith(head) and text.endswith(tail):
            return base64.b64decode(text[len(head) : -len(tail)])
    raise ValueError


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(_FILE_MAX)
    except OSError as err:
        raise UsageError(
            f"cannot read the key {path}: {os.strerror(err.errno or 0)}",
            hint="`capstan key generate` makes a pair",
        ) from err


def _no_key(path: Path, what: str) -> CapstanError:
    return RepoError(f"{path}: {what}", hint="`capstan key generate` makes a pair")
