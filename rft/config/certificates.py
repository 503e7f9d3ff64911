"""The settings of `rft certify` and `rft verify`."""

from __future__ import annotations

from rft.config.fields import Section


class CertifyConfig(Section):
    """A certificate to sign: `rft certify`."""

    run: str
    """A finished run."""
    key: str | None = None
    """A private ed25519 key in PEM, without a password."""


class VerifyConfig(Section):
    """A certificate to check: `rft verify`."""

    result: str
    """A run folder, or the folder of an adapter or a model with its certificate.json."""
    key: str | None = None
    """The signer's public ed25519 key in PEM."""
    base_model: str | None = None
    """Folder of the base model, if it lies elsewhere than the certificate says."""
    complete: bool = False
    """Whether listed files that are not on this machine make the check fail."""
    rerun: bool = False
    """Whether to measure the result again, with the same held-out tasks, graders and seeds. This runs the graders."""
