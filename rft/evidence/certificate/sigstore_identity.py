"""Signatures without a key, by sigstore (https://docs.sigstore.dev).

An identity provider says who signs, sigstore's authority confirms it with a certificate for ten minutes, and a public
log keeps the signature with the signer's name for ever. Signing therefore needs the network. A check needs none: it
takes the trusted root that comes with the package `sigstore`, or that of the last refresh.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from rft.errors import SignError, WaitTimeout
from rft.evidence.certificate.envelope import (
    BUNDLE,
    MAX_BYTES,
    PAYLOAD_TYPE,
    Envelope,
    envelope_of,
    json_object,
    read_small,
)
from rft.imports import require_packages
from rft.waiting import within

if TYPE_CHECKING:
    from sigstore.models import Bundle, TrustedRoot
    from sigstore.oidc import IdentityToken

T = TypeVar("T")

TOKEN = "SIGSTORE_ID_TOKEN"
"""Variable with an identity token, such as a CI system sets."""
TOKEN_DEADLINE_S = 60.0
BROWSER_DEADLINE_S = 300.0
ROOT_DEADLINE_S = 120.0
SIGN_DEADLINE_S = 120.0
MAX_REASON = 300
"""Characters of a failed check that are shown."""


@dataclass(frozen=True, slots=True)
class TrustedIdentity:
    """Somebody whom the receiver of a certificate trusts.

    Example:
        TrustedIdentity("ada@example.org", "https://accounts.google.com")
    """

    identity: str
    """Mail address, or the address of a workflow, as it stands in sigstore's certificate."""
    issuer: str
    """The identity provider."""
    is_online: bool = False
    """Whether a check refreshes sigstore's trusted root over the network before."""

    @property
    def file(self) -> str:
        """Name of the certificate with such a signature."""
        return BUNDLE

    @property
    def name(self) -> str:
        """The signer for messages."""
        return f"{self.identity} ({self.issuer})"

    def open(self, file: Path) -> tuple[Envelope, str]:
        """Read a bundle, perhaps a stranger's; return its envelope, and why this identity has not signed it, or "".

        Raises:
            UsageError: The file cannot be read, or contains no statement.
            SignError: Sigstore's trusted root cannot be read.
            InstallError: sigstore is not installed.
        """
        content = read_small(file, MAX_BYTES)
        envelope = envelope_of(json_object(content, file).get("dsseEnvelope"), file)
        require_sigstore()
        from sigstore.models import Bundle

        root = _trusted_root(is_online=self.is_online)
        try:
            return Envelope(_payload(Bundle.from_json(content), self, root), ()), ""
        except Exception as error:  # whatever a stranger's bundle does to the verifier, it proves nothing
            reason = f"no signature of {self.name}: {_reason(error)}"
            return envelope, "".join(one if one.isprintable() else "?" for one in reason)[:MAX_REASON]


def require_sigstore() -> None:
    """Require the package.

    Raises:
        InstallError: It is not installed.
    """
    require_packages("a signature by sigstore", "sigstore")


def identity_problems() -> list[str]:
    """Return why nobody could sign here; asks the identity provider of a CI system.

    Raises:
        SignError: The identity provider refuses, or gives something else.
        InstallError: sigstore is not installed.
        WaitTimeout: The identity provider does not answer.
    """
    require_sigstore()
    if sys.stdin.isatty() or _ambient_token() is not None:
        return []
    return [
        f"sigstore=true: there is no identity here; set {TOKEN}, run in a CI system that has one (GitHub Actions: "
        "permissions: id-token: write), or sign in a terminal, which opens a browser"
    ]


def signed_by_identity(payload: bytes) -> tuple[bytes, TrustedIdentity]:
    """Sign a statement over the network; return the bundle as JSON, and who has signed it.

    The identity is that of `SIGSTORE_ID_TOKEN`, of the CI system, or of a person in the browser. The bundle is checked
    before it is returned.

    Args:
        payload: The in-toto statement, whose bytes are signed as they are.

    Raises:
        SignError: A service of sigstore refused; nothing was signed, or at least nothing is returned.
        WaitTimeout: A service, or the person, did not answer.
    """
    from sigstore.dsse import Statement
    from sigstore.models import ClientTrustConfig
    from sigstore.sign import SigningContext

    config = _asked(ClientTrustConfig.production, what="sigstore's trusted root", deadline_s=ROOT_DEADLINE_S)
    token = _ambient_token() or _token_of_person(config.signing_config.get_oidc_url())
    signer = TrustedIdentity(token.identity, token.federated_issuer)

    def sign() -> Bundle:
        with SigningContext.from_trust_config(config).signer(token) as own:
            return own.sign_dsse(Statement(payload))

    bundle = _asked(sign, what="sigstore's certificate and log entry", deadline_s=SIGN_DEADLINE_S)
    try:
        _payload(bundle, signer, config.trusted_root)
    except Exception as error:  # as above; nothing that no receiver could check is handed out
        raise SignError(f"sigstore's bundle does not verify for {signer.name}: {_reason(error)}") from error
    return bundle.to_json().encode() + b"\n", signer


def _payload(bundle: Bundle, signer: TrustedIdentity, root: TrustedRoot) -> bytes:
    """Return the payload of a bundle that this identity has signed; raise any exception if it has not."""
    from sigstore.verify import Verifier
    from sigstore.verify.policy import Identity

    policy = Identity(identity=signer.identity, issuer=signer.issuer)
    kind, payload = Verifier(trusted_root=root).verify_dsse(bundle, policy)
    if kind != PAYLOAD_TYPE:
        raise ValueError(f"its payloadType is {kind!r:.80}, and must be {PAYLOAD_TYPE!r}")
    return bytes(payload)


def _ambient_token() -> IdentityToken | None:
    """Return the identity of the variable or of the CI system; None if there is none."""
    from sigstore.oidc import IdentityToken, detect_credential

    def ask() -> IdentityToken | None:
        raw = os.environ.get(TOKEN) or detect_credential()
        return IdentityToken(raw) if raw else None

    return _asked(ask, what="an identity token of this machine", deadline_s=TOKEN_DEADLINE_S)


def _token_of_person(provider: str) -> IdentityToken:
    from sigstore.oidc import Issuer

    return _asked(
        lambda: Issuer(provider).identity_token(), what="a login in the browser", deadline_s=BROWSER_DEADLINE_S
    )


def _trusted_root(*, is_online: bool) -> TrustedRoot:
    from sigstore.models import ClientTrustConfig

    def read() -> Any:
        return ClientTrustConfig.production(offline=not is_online).trusted_root

    return _asked(read, what="sigstore's trusted root", deadline_s=ROOT_DEADLINE_S)


def _asked(call: Callable[[], T], *, what: str, deadline_s: float) -> T:
    """Return what a call of sigstore returns.

    Raises:
        SignError: It failed.
        WaitTimeout: It did not return before the deadline.
    """
    try:
        return within(call, what=what, deadline_s=deadline_s)
    except WaitTimeout:
        raise
    except Exception as error:  # sigstore's services have many exceptions, half of them private
        raise SignError(f"{what}: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    texts = [" ".join(str(one).split()) for one in (error, error.__cause__) if one is not None]
    return f"{type(error).__name__}: {': '.join(text for text in texts if text)}"
