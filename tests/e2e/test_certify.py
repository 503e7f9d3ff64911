"""A certificate of a real run, measured again with real engines."""

from __future__ import annotations

from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

pytestmark = pytest.mark.e2e


@pytest.mark.full  # tests/evidence/test_certificate.py checks everything except the second measurement
def test_a_certified_run_measured_again(trained: Any, rft: Any) -> None:
    place = trained.folder.parent
    key = Ed25519PrivateKey.generate()
    (place / "key.pem").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    (place / "key.pub.pem").write_bytes(public)
    signed = rft("certify", "run", "key=key.pem", cwd=place)
    assert signed.code == 0 and "comparison, weights, base model, graders, tasks" in signed.output
    checked = rft("verify", "run/adapter", "key=key.pub.pem", "--rerun", "--complete", cwd=place)
    assert (checked.code, checked.orphans) == (0, [])
    assert "the certificate holds" in checked.output and ", within the certified " in checked.output
