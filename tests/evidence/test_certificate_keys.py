"""Keys of certificates: which are refused, and how the missing ones are told."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from rft.errors import UsageError
from rft.evidence.certificate.envelope import private_key, public_key

Rft = Callable[..., tuple[int, str, str]]


def test_keys_that_are_refused(tmp_path: Path, rft: Rft) -> None:
    def refused(read: Callable[[Path], object], content: bytes) -> str:
        (tmp_path / "k.pem").write_bytes(content)
        with pytest.raises(UsageError) as refusal:
            read(tmp_path / "k.pem")
        return str(refusal.value)

    key, curve = Ed25519PrivateKey.generate(), generate_private_key(SECP256R1())
    plain = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    locked = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret"))
    assert "has a password" in refused(private_key, locked)
    other = curve.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    assert "is no ed25519 key" in refused(private_key, other)
    public = curve.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    assert "is no ed25519 key" in refused(public_key, public)
    assert "holds no private key in PEM; make one: openssl genpkey" in refused(private_key, b"hello")
    assert "holds no public key in PEM" in refused(public_key, b"hello")
    assert "is a private key; give the public one" in refused(public_key, plain)
    code, _, error = rft("certify", str(tmp_path))
    assert code == 2 and "key is missing: nothing is written unsigned; make one: openssl genpkey" in error
    assert "key is missing: give either the public key of the signer" in rft("verify", str(tmp_path))[2]
    assert "name one, and write the rest as key=value" in rft("verify", "key=a.pem")[2]
