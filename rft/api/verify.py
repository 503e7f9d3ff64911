"""`rft.verify`: checks what somebody signed, and measures it again."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from rft.api.calls import make_console, pass_on_interrupt
from rft.api.evaluate import measure
from rft.config import EvaluateConfig
from rft.config.compose import check
from rft.config.problems import evaluate_problems
from rft.data.sources import local_file
from rft.errors import InstallError, UsageError
from rft.evidence.certificate.envelope import Signer, TrustedKey, public_key, refusal
from rft.evidence.certificate.materials import code_file, sha256_of, sources_of
from rft.evidence.certificate.sigstore_identity import TrustedIdentity
from rft.evidence.certificate.statement import Statement, read_config, result_of, run_of
from rft.evidence.certificate.verification import Verification, verify_result
from rft.metrics.intervals import Estimate
from rft.redaction import restored


@dataclass(frozen=True, slots=True, kw_only=True)
class Rerun:
    """A second measurement of a certified result.

    Example:
        Rerun(certified=Estimate(...), measured=Estimate(...))
    """

    certified: Estimate
    """The measurement after training that the certificate states."""
    measured: Estimate
    """The measurement now, with the same tasks, graders and seeds."""

    @property
    def is_within(self) -> bool:
        """Whether the mean now lies within the certified interval; without an interval, whether it is the same."""
        low, high = self.certified.ci95 or (self.certified.mean, self.certified.mean)
        return low <= self.measured.mean <= high


def verify(
    result: str | os.PathLike[str],
    key: str | os.PathLike[str] | None = None,
    *,
    identity: str | None = None,
    issuer: str | None = None,
    online: bool = False,
    base_model: str | None = None,
) -> Verification:
    """Check the certificate of an adapter or a model: the signature, and every listed file and value.

    Args:
        result: A run folder, or the folder of an adapter or a model with its certificate.
        key: The signer's public ed25519 key in PEM, for `certificate.json`.
        identity: The signer's identity instead, for `certificate.sigstore.json`.
        issuer: The provider of the identity.
        online: Whether to refresh sigstore's trusted root over the network before.
        base_model: Folder of the base model, if it lies elsewhere than the certificate says.

    Returns:
        What agrees, what does not, and what is not on this machine. `is_valid` is the verdict.

    Raises:
        UsageError: There is neither key nor identity, or no certificate, or it cannot be read; contains all problems.
        InstallError: cryptography or sigstore is not installed.
        SignError: Sigstore's trusted root cannot be read.
        WaitTimeout: Sigstore did not answer.

    Example:
        rft.verify("runs/quickstart/2026-11-28_10-15-00/adapter", "key.pub.pem").is_valid
    """
    signer = _signer(key, identity, issuer, Path(result).expanduser(), is_online=online)
    base = None if base_model is None else Path(base_model).expanduser()
    return verify_result(Path(result).expanduser(), signer, base=base)


def _signer(
    key: str | os.PathLike[str] | None, identity: str | None, issuer: str | None, result: Path, *, is_online: bool
) -> Signer:
    """Return whose signature counts.

    Raises:
        UsageError: It is unclear, or the key cannot be read; also says whether there is a result.
    """
    problems: list[str] = []
    try:
        if key is not None and identity is None and issuer is None:
            return TrustedKey(public_key(Path(key).expanduser()))
        if key is None and identity and issuer:
            return TrustedIdentity(identity, issuer, is_online)
    except InstallError:
        raise
    except UsageError as error:
        problems += error.problems
    else:
        what = "key is missing" if key is None else "key and identity are too much"
        problems.append(
            f"{what}: give either the public key of the signer, whom you trust, such as key=key.pub.pem, or "
            "identity=you@example.org with issuer=https://..."
        )
    try:
        result_of(result)
    except UsageError as error:
        problems += error.problems
    raise UsageError("certificate", problems)


def measure_again(verified: Verification, console: Console | None = None) -> Rerun:
    """Measure a certified result again, with the same held-out tasks, graders and seeds.

    Args:
        verified: A valid verification: graders are code, and run only with the hash that a trusted key has signed.
        console: Shows the progress.

    Raises:
        UsageError: The verification is not valid, or the result cannot be measured again.
        RftError: The measurement failed.
        KeyboardInterrupt: Ctrl-C ended the measurement.
    """
    run = run_of(verified.result)
    if not verified.is_valid:
        raise refusal("nothing is measured again, because the certificate does not hold: it would run changed graders")
    after = verified.statement.facts["comparison"]["after"]
    if run is None or after is None:
        why = "the run measured no held-out tasks" if run else "the configuration of its run is not here"
        raise refusal(f"{verified.result} cannot be measured again: {why}")
    unsigned = [name for name in verified.absent if name.startswith(("graders/", "environment"))]
    if unsigned:
        raise refusal(f"{verified.result} cannot be measured again: {', '.join(unsigned)} are not on this machine")
    _refuse_other_files(read_config(run), verified.statement)
    with tempfile.TemporaryDirectory(prefix="rft-verify-") as folder:
        measured = measure(_evaluation(run, verified.result, Path(folder) / "run"), console or make_console(quiet=True))
    if isinstance(measured, int):
        pass_on_interrupt(measured)
        raise KeyboardInterrupt
    return Rerun(certified=Estimate.from_json(after), measured=measured.estimate)


def _refuse_other_files(config: Mapping[str, Any], statement: Statement) -> None:
    """Refuse a measurement whose relative paths lead to other files than the certified ones.

    Raises:
        UsageError: They do.
    """
    certified = {material.name: material.sha256 for material in statement.materials}
    graders = (config.get("graders") or {}).items()
    here = {f"graders/{name}": code_file(entry["use"]) for name, entry in graders if isinstance(entry.get("use"), str)}
    for name, source in sources_of(config).items():
        if (file := local_file(source, key=f"data.{name}")) is not None:
            here[f"data/{name}/{file.name}"] = file
    others = [
        f"{file} is not the certified {name}; measure again where the run was started"
        for name, file in here.items()
        if file is not None and name in certified and not (file.is_file() and sha256_of(file) == certified[name])
    ]
    if others:
        raise UsageError("certificate", others)


def _evaluation(run: Path, result: Path, output: Path) -> EvaluateConfig:
    """Return the measurement after training of a run, as one of `rft evaluate`."""
    config, missing = restored(read_config(run))
    if missing:
        raise UsageError("certificate", missing)
    values = {name: config[name] for name in EvaluateConfig.model_fields if name in config}
    values |= {"output_dir": str(output), "name": "verify", "dry_run": False}
    if result.name == "adapter":
        values["adapter"] = str(result)
    else:
        values["model"] = values["model"] | {"path": str(result)}
    families = [values["data"], *(values["data"].get("mixture") or {}).values()]
    for own in families if not any(own.get("test") for own in families) else []:
        own["test"] = own.get("validation")
    if not any(own.get("test") for own in families):
        raise refusal(f"{run} cannot be measured again: its held-out tasks were split off its training tasks")
    return check(EvaluateConfig, values, evaluate_problems)
