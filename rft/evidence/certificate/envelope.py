"""A signed envelope (DSSE, https://github.com/secure-systems-lab/dsse, version 1.0.2) around a payload, with ed25519.

The signature covers the payload's bytes as they stand in the envelope, so no reader depends on a form of JSON. An
envelope of a stranger is data: only its size and its form decide whether it is read.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from rft.errors import UsageError
from rft.imports import require_packages

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

CERTIFICATE = "certificate.json"
"""The certificate beside a result, signed with a key."""
BUNDLE = "certificate.sigstore.json"
"""The certificate beside a result, signed by an identity."""
PAYLOAD_TYPE = "application/vnd.in-toto+json"
MAX_BYTES = 16 * 2**20
"""Largest envelope that is read; one of a run with 1,000 files has 0.3 MiB."""
MAX_KEY_BYTES = 64 * 2**10
"""Largest key file that is read."""
HOW_TO_MAKE_KEYS = "openssl genpkey -algorithm ed25519 -out key.pem; openssl pkey -in key.pem -pubout -out key.pub.pem"


@dataclass(frozen=True, slots=True)
class Envelope:
    """A payload with signatures, none of them checked.

    Example:
        Envelope(payload=b'{"_type":...}', signatures=(b"...",))
    """

    payload: bytes
    """The signed bytes."""
    signatures: tuple[bytes, ...]
    """Signatures over `pae`, of unknown keys."""

    def is_signed_by(self, key: Ed25519PublicKey) -> bool:
        """Whether one of the signatures is the key's."""
        from cryptography.exceptions import InvalidSignature

        signed = pae(PAYLOAD_TYPE, self.payload)
        for signature in self.signatures:
            try:
                key.verify(signature, signed)
            except InvalidSignature:
                continue
            return True
        return False


class Signer(Protocol):
    """Somebody whom the receiver of a certificate trusts."""

    @property
    def file(self) -> str:
        """Name of the certificate with such a signature."""
        ...

    @property
    def name(self) -> str:
        """The signer for messages."""
        ...

    def open(self, file: Path) -> tuple[Envelope, str]:
        """Read a certificate, perhaps a stranger's; return its envelope, and why the signer has not signed it, or "".

        Raises:
            UsageError: The file cannot be read.
        """
        ...


@dataclass(frozen=True, slots=True)
class TrustedKey:
    """The owner of a key, as a `Signer`."""

    key: Ed25519PublicKey
    """The public key."""
    file: str = CERTIFICATE
    """Name of the certificate with such a signature."""
    name: str = "the given key"
    """The signer for messages."""

    def open(self, file: Path) -> tuple[Envelope, str]:
        """See `Signer.open`."""
        envelope = read_envelope(file)
        return envelope, "" if envelope.is_signed_by(self.key) else f"no signature of {self.name}"


def pae(payload_type: str, payload: bytes) -> bytes:
    """Return the bytes to sign, the "pre-authentication encoding" of the specification: type and payload together."""
    kind = payload_type.encode()
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)


def canonical(value: Mapping[str, Any]) -> bytes:
    """Return JSON in one form: sorted keys, no spaces, ASCII, no NaN."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False).encode("ascii")


def signed(payload: bytes, key: Ed25519PrivateKey) -> bytes:
    """Return the envelope of a payload as JSON."""
    signature = {"keyid": key_id(key.public_key()), "sig": _base64(key.sign(pae(PAYLOAD_TYPE, payload)))}
    envelope = {"payloadType": PAYLOAD_TYPE, "payload": _base64(payload), "signatures": [signature]}
    return json.dumps(envelope, indent=1).encode("ascii") + b"\n"


def read_envelope(file: Path) -> Envelope:
    """Read an envelope. It may come from a stranger.

    Raises:
        UsageError: The file is missing, too large, or no envelope with an in-toto statement.
    """
    return envelope_of(json_object(read_small(file, MAX_BYTES), file), file)


def envelope_of(values: Any, file: Path) -> Envelope:
    """Return the envelope in the plain values of a file.

    Raises:
        UsageError: They are no envelope with an in-toto statement.
    """
    kind = values.get("payloadType") if isinstance(values, Mapping) else None
    if kind != PAYLOAD_TYPE:
        raise refusal(f"{file}: its payloadType is {kind!r:.80}, and must be {PAYLOAD_TYPE!r}")
    try:
        payload = base64.b64decode(values["payload"], validate=True)
        signatures = tuple(base64.b64decode(each["sig"], validate=True) for each in values["signatures"])
    except (KeyError, TypeError, ValueError, binascii.Error) as error:
        raise refusal(f"{file} is no DSSE envelope: {type(error).__name__}: {error}; ask its sender again") from error
    return Envelope(payload, signatures)


def json_object(content: bytes, file: Path) -> dict[str, Any]:
    """Return the JSON object in a file's content.

    Raises:
        UsageError: It is something else.
    """
    try:
        values = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise refusal(f"{file} is not JSON: {error}; ask its sender again") from error
    if not isinstance(values, dict):
        raise refusal(f"{file} contains no JSON object; ask its sender again")
    return values


def read_small(file: Path, max_bytes: int) -> bytes:
    """Return the content of a regular file.

    Raises:
        UsageError: The file is missing, no regular file, too large, or cannot be read.
    """
    if not file.is_file():
        raise refusal(f"{file}: no such file")
    try:
        with file.open("rb") as opened:
            content = opened.read(max_bytes + 1)
    except OSError as error:
        raise refusal(f"{file} cannot be read: {error.strerror or error}") from error
    if len(content) > max_bytes:
        raise refusal(f"{file} has more than {max_bytes:,} bytes, the limit; it was not read")
    return content


def private_key(file: Path) -> Ed25519PrivateKey:
    """Read a private ed25519 key from a PEM file without a password.

    Raises:
        UsageError: The file holds another key, or none.
        InstallError: cryptography is not installed.
    """
    require_packages("a certificate", "cryptography")
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    content = read_small(file, MAX_KEY_BYTES)
    if b"ENCRYPTED" in content:
        raise refusal(f"key={file} has a password; give a key without one: openssl pkey -in {file} -out plain.pem")
    try:
        key = load_pem_private_key(content, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise refusal(f"key={file} holds no private key in PEM; make one: {HOW_TO_MAKE_KEYS}") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise refusal(f"key={file} is no ed25519 key; make one: {HOW_TO_MAKE_KEYS}")
    return key


def public_key(file: Path) -> Ed25519PublicKey:
    """Read a public ed25519 key from a PEM file.

    Raises:
        UsageError: The file holds another key, or none.
        InstallError: cryptography is not installed.
    """
    require_packages("a certificate", "cryptography")
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    content = read_small(file, MAX_KEY_BYTES)
    if b"PRIVATE KEY" in content:
        raise refusal(f"key={file} is a private key; give the public one: openssl pkey -in {file} -pubout")
    try:
        key = load_pem_public_key(content)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise refusal(f"key={file} holds no public key in PEM; ask the signer for theirs") from error
    if not isinstance(key, Ed25519PublicKey):
        raise refusal(f"key={file} is no ed25519 key; ask the signer for theirs")
    return key


def key_id(key: Ed25519PublicKey) -> str:
    """Return the SHA-256 of a public key in DER (SubjectPublicKeyInfo), a hint for people; no check relies on it."""
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    return hashlib.sha256(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).hexdigest()


def refusal(problem: str) -> UsageError:
    """Return the error for one problem."""
    return UsageError("certificate", [problem])


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode("ascii")
