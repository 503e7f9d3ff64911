"""Signatures by an identity: against a stub in place of sigstore, and, if it is installed, with the real verifier."""

from __future__ import annotations

import base64
import io
import json
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Event
from types import SimpleNamespace
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, SECP256R1, generate_private_key
from cryptography.hazmat.primitives.hashes import SHA256

import rft.imports
from rft.api.certify import certify
from rft.api.verify import verify
from rft.errors import InstallError, SignError, UsageError, WaitTimeout
from rft.evidence.certificate import sigstore_identity
from rft.evidence.certificate.envelope import BUNDLE, envelope_of
from rft.evidence.certificate.sigstore_identity import TrustedIdentity, identity_problems, signed_by_identity
from rft.evidence.certificate.statement import Statement, subject_of
from rft.evidence.certificate.verification import Verification, verify_result
from tests.evidence.sigstore_stub import Stub

FILES = Path(__file__).parent / "files"
ADA = TrustedIdentity("ada@example.org", "https://accounts.example.org")
TOKEN = f"{ADA.identity} {ADA.issuer}"


@pytest.fixture
def stub(monkeypatch: pytest.MonkeyPatch) -> Stub:
    monkeypatch.delenv("SIGSTORE_ID_TOKEN", raising=False)
    monkeypatch.setattr(sys, "stdin", io.StringIO())  # no terminal
    return Stub(monkeypatch)


@pytest.fixture
def adapter(tmp_path: Path) -> Path:
    (tmp_path / "adapter_model.safetensors").write_bytes(b"weights")
    return tmp_path


def signed(adapter: Path) -> tuple[bytes, TrustedIdentity]:
    """Sign the folder by the identity of the stub, and write the bundle."""
    statement = Statement(subject=subject_of(adapter), materials=(), facts={}, checked=())
    content, signer = signed_by_identity(statement.to_payload())
    (adapter / BUNDLE).write_bytes(content)
    return content, signer


def checked(adapter: Path, signer: TrustedIdentity = ADA) -> Verification:
    return verify_result(adapter, signer)


def test_what_an_identity_signed_holds_with_the_stub(stub: Stub, adapter: Path, monkeypatch: Any) -> None:
    monkeypatch.setenv("SIGSTORE_ID_TOKEN", TOKEN)
    _, signer = signed(adapter)
    assert signer == ADA and stub.asked == ["root"]
    verified = checked(adapter)
    assert verified.is_valid and verified.signer == "ada@example.org (https://accounts.example.org)"
    assert stub.asked == ["root"], "a check asks for nothing"
    assert checked(adapter, TrustedIdentity(ADA.identity, ADA.issuer, is_online=True)).is_valid
    assert stub.asked == ["root", "root"]
    (adapter / "adapter_model.safetensors").write_bytes(b"others")
    [mismatch] = checked(adapter).mismatches
    assert (mismatch.name, mismatch.kind) == ("adapter_model.safetensors", "changed")


@pytest.mark.parametrize("other", [("eve@example.org", ADA.issuer), (ADA.identity, "https://other.example.org")])
def test_a_valid_signature_of_another_identity_fails_with_the_stub(
    stub: Stub, adapter: Path, monkeypatch: Any, other: tuple[str, str]
) -> None:
    monkeypatch.setenv("SIGSTORE_ID_TOKEN", " ".join(other))
    signed(adapter)
    assert checked(adapter, TrustedIdentity(*other)).is_valid
    verified = checked(adapter)
    assert not verified.is_signed and not verified.is_valid
    [mismatch] = verified.mismatches
    assert mismatch.kind == "signature" and f"no signature of {ADA.name}: ValueError: actual SANs" in mismatch.found


def test_a_changed_payload_or_bundle_fails_with_the_stub(stub: Stub, adapter: Path) -> None:
    stub.ambient = TOKEN
    content, _ = signed(adapter)
    assert stub.asked == ["root", "ambient"]
    values = json.loads(content)
    other = Statement(subject={"adapter_model.safetensors": "0" * 64}, materials=(), facts={}, checked=())
    values["dsseEnvelope"]["payload"] = base64.b64encode(other.to_payload()).decode()
    (adapter / BUNDLE).write_text(json.dumps(values))
    assert {each.kind for each in checked(adapter).mismatches} == {"signature", "changed"}
    del values["signer"]
    (adapter / BUNDLE).write_text(json.dumps(values | {"x": "\x1b[2J"}))
    assert "KeyError: 'signer'" in checked(adapter).mismatches[0].found
    for broken in ({}, {"dsseEnvelope": 3}, {"dsseEnvelope": {"payloadType": "text/plain"}}):
        (adapter / BUNDLE).write_text(json.dumps(broken))
        with pytest.raises(UsageError, match="payloadType"):
            checked(adapter)


def test_who_signs_with_the_stub(stub: Stub, adapter: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    [problem] = identity_problems()
    assert problem.startswith("sigstore=true: there is no identity here; set SIGSTORE_ID_TOKEN, run in a CI system")
    stub.ambient = TOKEN
    assert identity_problems() == []
    stub.ambient = None
    _, signer = signed(adapter)
    assert signer.identity == "person@example.org"
    assert stub.asked[-1] == "browser https://login.example.org"


def test_services_that_fail_or_hang_with_the_stub(stub: Stub, adapter: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SIGSTORE_ID_TOKEN", "no-token")
    with pytest.raises(SignError, match="an identity token of this machine: ValueError: not enough values"):
        signed(adapter)
    monkeypatch.setenv("SIGSTORE_ID_TOKEN", TOKEN)
    monkeypatch.setattr(sys.modules["sigstore.verify"], "Verifier", None)
    with pytest.raises(SignError, match=r"sigstore's bundle does not verify for ada@example\.org"):
        signed(adapter)
    assert not (adapter / BUNDLE).exists()
    monkeypatch.setattr(sigstore_identity, "ROOT_DEADLINE_S", 0.01)
    never = Event()
    monkeypatch.setattr(sys.modules["sigstore.models"].ClientTrustConfig, "production", never.wait)
    with pytest.raises(WaitTimeout, match=r"timed out after 0\.01 s waiting for sigstore's trusted root"):
        signed(adapter)
    never.set()


def test_without_the_package(monkeypatch: pytest.MonkeyPatch, adapter: Path) -> None:
    monkeypatch.setattr(rft.imports, "is_installed", lambda package: package != "sigstore")
    how = r"a signature by sigstore needs sigstore; run: pip install 'rft\[sigstore\]'"
    with pytest.raises(InstallError, match=how):
        certify(adapter, sigstore=True)
    (adapter / BUNDLE).write_text(
        json.dumps({"dsseEnvelope": {"payloadType": "application/vnd.in-toto+json", "payload": "", "signatures": []}})
    )
    with pytest.raises(InstallError, match=how):
        verify(adapter, identity=ADA.identity, issuer=ADA.issuer)
    with pytest.raises(UsageError, match="give either the public key"):
        verify(adapter, identity=ADA.identity)


def test_all_problems_are_told_together(tmp_path: Path) -> None:
    def told(refused: Callable[[], object]) -> str:
        with pytest.raises(UsageError) as error:
            refused()
        return "\n".join(error.value.problems)

    nowhere = tmp_path / "nowhere"
    text = told(lambda: certify(nowhere))
    assert "key is missing: nothing is written unsigned" in text and "nowhere holds neither an adapter" in text
    text = told(lambda: certify(nowhere, tmp_path / "none.pem", sigstore=True))
    assert "none.pem: no such file" in text and "nowhere holds neither" in text and "sigstore=true: give one" in text
    text = told(lambda: verify(nowhere))
    assert "key is missing: give either the public key" in text and "nowhere holds neither" in text
    assert "key and identity are too much" in told(lambda: verify(nowhere, "a.pem", identity="a@b.org"))


REAL = TrustedIdentity(
    "https://github.com/sigstore-conformance/extremely-dangerous-public-oidc-beacon/.github/workflows/"
    "extremely-dangerous-oidc-beacon.yml@refs/heads/main",
    "https://token.actions.githubusercontent.com",
)
"""Who signed `files/staging.sigstore.json`, on sigstore's staging instance.

The bundle is `a.dsse.staging-rekor-v2.txt.sigstore.json` of https://github.com/sigstore/sigstore-python (Apache-2.0).
"""


def test_a_real_bundle_with_the_real_verifier(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    models = pytest.importorskip("sigstore.models", reason="needs the extra sigstore")
    monkeypatch.setenv("HOME", str(tmp_path))  # its cache
    monkeypatch.setattr(
        sigstore_identity,
        "_trusted_root",
        lambda is_online: models.ClientTrustConfig.staging(offline=True).trusted_root,
    )
    file = tmp_path / BUNDLE
    content = (FILES / "staging.sigstore.json").read_text()
    file.write_text(content)
    envelope, problem = REAL.open(file)
    assert problem == "" and json.loads(envelope.payload)["subject"][0]["name"] == "a.txt"
    for other in (TrustedIdentity(REAL.identity + "x", REAL.issuer), TrustedIdentity(REAL.identity, ADA.issuer)):
        assert other.open(file)[1].startswith(f"no signature of {other.name}: VerificationError: ")
    values = json.loads(content)
    payload = values["dsseEnvelope"]["payload"]
    values["dsseEnvelope"]["payload"] = payload[:-8] + ("A" if payload[-8] != "A" else "B") + payload[-7:]
    file.write_text(json.dumps(values))
    assert "invalid signature" in REAL.open(file)[1]
    file.write_text(json.dumps(values | {"verificationMaterial": {}}))
    assert REAL.open(file)[1].startswith("no signature of ")


def test_the_real_signer_with_stubs_of_authority_and_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sign = pytest.importorskip("sigstore.sign", reason="needs the extra sigstore")
    models, jwt = sys.modules["sigstore.models"], pytest.importorskip("jwt")
    monkeypatch.setenv("HOME", str(tmp_path))
    config = models.ClientTrustConfig.staging(offline=True)
    other = models.Bundle.from_json((FILES / "staging.sigstore.json").read_text())
    [stamp] = other.verification_material.timestamp_verification_data.rfc3161_timestamps
    key, day = generate_private_key(SECP256R1()), timedelta(days=1)

    def certify_key(request: x509.CertificateSigningRequest, token: object) -> SimpleNamespace:
        builder = x509.CertificateBuilder(x509.Name([]), x509.Name([]), request.public_key(), 1)
        now = datetime.now(UTC)
        signed = builder.not_valid_before(now - day).not_valid_after(now + day).sign(key, SHA256())
        return SimpleNamespace(cert=signed, chain=[])

    context = sign.SigningContext(
        fulcio=SimpleNamespace(signing_cert=SimpleNamespace(post=certify_key)),
        rekor=SimpleNamespace(_build_dsse_request=lambda **parts: None, create_entry=lambda proposed: other.log_entry),
        trusted_root=config.trusted_root,
        tsa_clients=[SimpleNamespace(request_timestamp=lambda signature: stamp)],
    )
    monkeypatch.setattr(models.ClientTrustConfig, "production", lambda: config)
    monkeypatch.setattr(sign.SigningContext, "from_trust_config", lambda config: context)
    monkeypatch.setattr(sign, "verify_sct", lambda *certificates: None)
    now = int(datetime.now(UTC).timestamp())
    claims = {"aud": "sigstore", "sub": "1", "iat": now, "exp": now + 9999, "iss": "https://accounts.google.com"}
    monkeypatch.setenv("SIGSTORE_ID_TOKEN", jwt.encode(claims | {"email": ADA.identity}, "k" * 32, algorithm="HS256"))
    payload = Statement(subject={"a": "0" * 64}, materials=(), facts={"mean": 0.5}, checked=()).to_payload()
    with pytest.raises(
        SignError, match=r"bundle does not verify for ada@example\.org \(https://accounts\.google\.com\)"
    ):
        signed_by_identity(payload)  # time stamp and log entry are those of another bundle
    monkeypatch.setattr(sigstore_identity, "_payload", lambda *bundle: payload)
    content, signer = signed_by_identity(payload)
    assert signer == TrustedIdentity(ADA.identity, "https://accounts.google.com")
    values = json.loads(content)
    envelope = envelope_of(values["dsseEnvelope"], tmp_path)
    assert envelope.payload == payload
    issued = x509.load_der_x509_certificate(base64.b64decode(values["verificationMaterial"]["certificate"]["rawBytes"]))
    by_hand = b"DSSEv1 28 application/vnd.in-toto+json " + str(len(payload)).encode() + b" " + payload
    issued.public_key().verify(envelope.signatures[0], by_hand, ECDSA(SHA256()))
