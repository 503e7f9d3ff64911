"""The settings of `rft certify` and `rft verify`."""

from __future__ import annotations

from rft.config.fields import Section


class CertifyConfig(Section):
    """A certificate to sign: `rft certify`."""

    run: str
    """A finished run."""
    key: str | None = None
    """A private ed25519 key in PEM, without a password."""
    sigstore: bool = False
    """Whether to sign with your identity instead, over the network. Your name becomes public for ever."""


class VerifyConfig(Section):
    """A certificate to check: `rft verify`."""

    result: str
    """A run folder, or the folder of an adapter or a model with its certificate."""
    key: str | None = None
    """The signer's public ed25519 key in PEM."""
    identity: str | None = None
    """The signer's identity, if sigstore signed: a mail address, or the address of a workflow."""
    issuer: str | None = None
    """The provider of the identity, such as https://accounts.google.com."""
    online: bool = False
    """Whether to refresh sigstore's trusted root over the network before."""
    base_model: str | None = None
    """Folder of the base model, if it lies elsewhere than the certificate says."""
    complete: bool = False
    """Whether listed files that are not on this machine make the check fail."""
    rerun: bool = False
    """Whether to measure the result again, with the same held-out tasks, graders and seeds. This runs the graders."""
