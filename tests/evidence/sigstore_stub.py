"""A stub of the package sigstore, at its boundary: no network, no cryptography, and no proof that sigstore works.

A token is `<identity> <issuer>`. A bundle is JSON with the envelope, its signer, and the hash of the signed payload.
"""

from __future__ import annotations

import base64
import hashlib
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.machinery import ModuleSpec
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

PAYLOAD_TYPE = "application/vnd.in-toto+json"


class Token:
    def __init__(self, raw: str) -> None:
        self.identity, self.federated_issuer = raw.split()


class Statement:
    def __init__(self, contents: bytes) -> None:
        self.contents = contents


class Bundle:
    def __init__(self, values: dict[str, Any]) -> None:
        self.values = values

    @classmethod
    def from_json(cls, content: bytes) -> Bundle:
        return cls(json.loads(content))

    def to_json(self) -> str:
        return json.dumps(self.values)


class Context:
    @classmethod
    def from_trust_config(cls, config: object) -> Context:
        return cls()

    @contextmanager
    def signer(self, token: Token) -> Iterator[SimpleNamespace]:
        def sign(statement: Statement) -> Bundle:
            envelope = {"payloadType": PAYLOAD_TYPE, "payload": base64.b64encode(statement.contents).decode()}
            signed = hashlib.sha256(statement.contents).hexdigest()
            signatures = [{"sig": ""}]
            signer = [token.identity, token.federated_issuer]
            return Bundle({"dsseEnvelope": envelope | {"signatures": signatures}, "signer": signer, "signed": signed})

        yield SimpleNamespace(sign_dsse=sign)


class Verifier:
    def __init__(self, *, trusted_root: object) -> None:
        assert trusted_root == "root"

    def verify_dsse(self, bundle: Bundle, policy: SimpleNamespace) -> tuple[str, bytes]:
        payload = base64.b64decode(bundle.values["dsseEnvelope"]["payload"])
        if bundle.values["signer"] != [policy.identity, policy.issuer]:
            raise ValueError(f"actual SANs: {bundle.values['signer'][0]}")
        if bundle.values["signed"] != hashlib.sha256(payload).hexdigest():
            raise ValueError("DSSE: invalid signature")
        return bundle.values["dsseEnvelope"]["payloadType"], payload


class Stub:
    """What the stub was asked for, and what it is to do."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.ambient: str | None = None
        """The token of the CI system."""
        self.asked: list[str] = []
        """Requests that would have used the network."""

        def config(*, offline: bool = False) -> SimpleNamespace:
            self.asked += [] if offline else ["root"]
            provider = SimpleNamespace(get_oidc_url=lambda: "https://login.example.org")
            return SimpleNamespace(trusted_root="root", signing_config=provider)

        def detect() -> str | None:
            self.asked.append("ambient")
            return self.ambient

        def login(url: str) -> SimpleNamespace:
            self.asked.append(f"browser {url}")
            return SimpleNamespace(identity_token=lambda: Token("person@example.org https://login.example.org"))

        modules: dict[str, dict[str, Any]] = {
            "sigstore": {},
            "sigstore.dsse": {"Statement": Statement},
            "sigstore.models": {"Bundle": Bundle, "ClientTrustConfig": SimpleNamespace(production=config)},
            "sigstore.oidc": {"IdentityToken": Token, "detect_credential": detect, "Issuer": login},
            "sigstore.sign": {"SigningContext": Context},
            "sigstore.verify": {"Verifier": Verifier},
            "sigstore.verify.policy": {"Identity": SimpleNamespace},
        }
        for name, values in modules.items():
            module = ModuleType(name)
            module.__spec__ = ModuleSpec(name, None)
            vars(module).update(values)
            monkeypatch.setitem(sys.modules, name, module)
