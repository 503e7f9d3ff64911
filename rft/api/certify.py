"""`rft.certify`: signs what a run made."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rft.config import RunConfig
from rft.config.adapter_settings import settings_of_run
from rft.config.compose import check
from rft.errors import UsageError
from rft.evidence.certificate.envelope import BUNDLE, CERTIFICATE, HOW_TO_MAKE_KEYS, key_id, private_key, signed
from rft.evidence.certificate.materials import materials_of, sha256_of
from rft.evidence.certificate.sigstore_identity import identity_problems, signed_by_identity
from rft.evidence.certificate.statement import (
    Statement,
    facts_of,
    read_config,
    result_of,
    run_of,
    subject_of,
)
from rft.models.adapter_folder import TENSORS
from rft.models.base_model import locate
from rft.redaction import restored
from rft.reliability.durable import replace_file
from rft.run.inputs.fitting import Reuse, collect
from rft.run.inputs.task_sets import load_tasks
from rft.run_folder.lineage import step_of_weights
from rft.run_folder.provenance import sha256_of_tasks
from rft.run_folder.recorder import SUMMARY, read_manifest
from rft.types import Split


@dataclass(frozen=True, slots=True, kw_only=True)
class Certified:
    """A signed certificate.

    Example:
        Certified(file=Path("runs/x/adapter/certificate.json"), signer="the key 77aa01d3...", statement=Statement(...))
    """

    file: Path
    """The certificate."""
    signer: str
    """Who signed: a key by the beginning of its public part's SHA-256, or an identity with its provider."""
    statement: Statement
    """What it says."""


def certify(
    run: str | os.PathLike[str], key: str | os.PathLike[str] | None = None, *, sigstore: bool = False
) -> Certified:
    """Sign what a run made: write `certificate.json` or `certificate.sigstore.json` beside its adapter or model.

    Before it signs, rft computes again what the run recorded: hashes of base model and code, tasks, weights, and the
    comparison before and after. It signs nothing that differs.

    Args:
        run: A finished run.
        key: A private ed25519 key in PEM, without a password.
        sigstore: Whether to sign with your identity instead, over the network; your name becomes public for ever.

    Raises:
        UsageError: There is neither key nor identity, cryptography is not installed, or something differs from the
            run's records; contains all problems.
        InstallError: sigstore is not installed.
        SignError: Sigstore refused.
        WaitTimeout: Sigstore, or the person in the browser, did not answer.
        WriteError: The certificate cannot be written.

    Example:
        rft.certify("runs/quickstart/2026-11-28_10-15-00", "key.pem").file
    """
    problems: list[str] = []
    if key is None and not sigstore:
        how = f"make one: {HOW_TO_MAKE_KEYS}; or give sigstore=true"
        problems.append(f"key is missing: nothing is written unsigned; {how}")
    if key is not None and sigstore:
        problems.append("key and sigstore=true: give one, and sign twice for two certificates")
    own = collect(problems, lambda: private_key(Path(key).expanduser())) if key is not None else None
    if sigstore and key is None:
        problems += identity_problems()
    result = collect(problems, lambda: result_of(Path(run).expanduser()))
    folder = None if result is None else run_of(result)
    if result is not None and folder is None:
        problems.append(f"{result} is not part of a run, so nothing is known about it; name a run folder")
    if problems or result is None or folder is None:
        raise UsageError("certificate", problems)
    statement = _statement(folder, result)
    payload = statement.to_payload()
    if own is not None:
        file, content, signer = CERTIFICATE, signed(payload, own), f"the key {key_id(own.public_key())[:16]}"
    else:
        content, identity = signed_by_identity(payload)
        file, signer = BUNDLE, identity.name
    replace_file(result / file, [content])
    return Certified(file=result / file, signer=signer, statement=statement)


def _statement(run: Path, result: Path) -> Statement:
    """Return what a run may state."""
    facts, config, manifest = facts_of(run), read_config(run), read_manifest(run)
    summary = json.loads((run / SUMMARY).read_text(encoding="ascii"))
    forgetting = ["forgetting"] if facts["forgetting"]["limits"] else []
    problems, checked = [], ["comparison", *forgetting, "weights", "base model", "graders"]
    if (status := facts["run"]["status"]) != "finished":
        problems.append(f"{run}: the run is {status}; finish it with rft train resume={run}")
    retention = summary.get("retention") or {}
    recorded = {
        "comparison": summary["eval"],
        "forgetting": facts["forgetting"] | {"families": retention.get("guard", {})},
    }
    problems += [
        f"{run / SUMMARY}: its {name} is not that of the recorded rollouts; resume the run"
        for name, own in recorded.items()
        if facts[name] != own
    ]
    weights = result / (TENSORS if result.name == "adapter" else "model.safetensors")
    if not weights.is_file() or sha256_of(weights)[:16] not in step_of_weights(run):
        problems.append(f"{weights}: no step of the run made these weights; restore them")
    try:
        base = locate(settings_of_run(run).get("model.path") or config["model"]["path"])
    except UsageError as error:
        raise UsageError("certificate", [*problems, *error.problems]) from error
    materials = materials_of(run, config, manifest, base=base, problems=problems)
    if (changed := _changed_tasks(config, manifest)) is not None:
        problems += changed
        checked.append("tasks")
    if problems:
        raise UsageError("certificate", list(dict.fromkeys(problems)))  # a missing file is noticed twice
    return Statement(subject=subject_of(result), materials=tuple(materials), facts=facts, checked=tuple(checked))


def _changed_tasks(config: Mapping[str, Any], manifest: Mapping[str, Any]) -> list[str] | None:
    """Read the tasks again, and return how they differ from those of the run.

    Returns:
        One sentence for each split that differs; None if this configuration does not lead to the same tasks by itself:
        passages come from a store, dropped prompts depend on the tokenizer, and secrets may be gone.
    """
    values, missing = restored(config)
    if missing or config["retrieval"]["kind"] != "none" or config["data"]["long_prompts"] == "drop":
        return None
    problems: list[str] = []
    tasks, _, _ = load_tasks(check(RunConfig, values, lambda _: []), True, Reuse(), problems)
    if tasks is None:
        return problems
    for split in Split:
        then = manifest["tasks"].get(split.value, {}).get("sha256")
        own = getattr(tasks, split.value)
        now = sha256_of_tasks(own) if own else None
        if then != now:
            hashes = f"{then} then, {now} now"
            problems.append(f"data.{split}: the tasks have changed since the run ({hashes}); restore them")
    return problems
