"""The adapter that a run starts from, and the run that trained it. The run folder keeps a copy in `start/`.

    start/adapter_config.json, start/adapter_model.safetensors    the adapter
    start/parent.json                                             its origin, as in manifest.json

A resumed run reads the copy, so it needs the folder of the parent no more.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rft.config import RunConfig
from rft.config.adapter_settings import run_folder_of
from rft.errors import ModelError
from rft.models.adapter_folder import CONFIG, TENSORS, load_adapter
from rft.models.adapter_tensors import base_problem, without_metadata
from rft.models.weight_files import read_weights
from rft.reliability.durable import writing
from rft.run_folder.recorder import MANIFEST, read_manifest, read_metrics
from rft.storage import Place
from rft.types import Adapter, Policy

FOLDER = "start"
"""Folder of a run with the adapter that the run started from."""
_PARENT = "parent.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Parent:
    """The adapter that a run starts from.

    Example:
        Parent(adapter=Adapter(...), origin={"path": "runs/sft/first", "fingerprint": "9b2e...", "step": 60, ...})
    """

    adapter: Adapter
    """The adapter, as policy version 0 of the run."""
    origin: Mapping[str, Any]
    """Its origin, for the manifest: `path`, `fingerprint`, and for a run of rft `step`, `method`, `base_fingerprint`,
    `prompts` and the run's own `start`."""


def read_parent(run: RunConfig) -> Parent | None:
    """Return the adapter that a run starts from; None if it starts from the base model.

    Raises:
        ModelError: The adapter cannot be read, or no step of its run led to these weights.
    """
    if run.start is None:
        return None
    if run.resume is not None and (kept := _kept(Place(run.resume))) is not None:
        return kept
    path = Path(run.start)
    read = load_adapter(path)
    tensors = without_metadata(read.tensors)
    adapter = _version_0(read.config, tensors)
    origin = {"path": run.start, "mode": "continue", "fingerprint": adapter.policy.fingerprint}
    folder = run_folder_of(path)
    return Parent(adapter=adapter, origin=origin if folder is None else origin | _origin(folder, adapter.policy, path))


def _origin(folder: Path, policy: Policy, path: Path) -> dict[str, Any]:
    """Return what the parent's folder tells about an adapter.

    Raises:
        ModelError: No step of the run led to these weights.
    """
    steps = {line["policy"]["fingerprint"]: line["step"] for line in read_metrics(folder)}
    if policy.fingerprint not in steps:
        raise _refusal(
            f"start={path}: its weights have the fingerprint {policy.fingerprint}, to which no step of the run in "
            f"{folder} led: the file was changed or copied from elsewhere; use the adapter that the run wrote"
        )
    origin: dict[str, Any] = {"step": steps[policy.fingerprint]}
    if (folder / MANIFEST).is_file():
        manifest = read_manifest(folder)
        origin |= {
            "method": manifest.get("method"),
            "base_fingerprint": manifest["base_model"]["fingerprint"],
            "prompts": manifest.get("prompts"),
            "start": manifest.get("start"),
        }
    return origin


def parent_problems(parent: Parent, model: Path, fingerprint: str) -> list[str]:
    """Return the reasons why an adapter cannot be trained on a base model, one sentence each.

    Args:
        parent: The adapter.
        model: Folder of the base model.
        fingerprint: Fingerprint of the base model.
    """
    origin = parent.origin
    trained_on = origin.get("base_fingerprint", fingerprint)
    if trained_on != fingerprint:
        return [
            f"start={origin['path']}: the adapter was trained on a base model with the fingerprint {trained_on}, and "
            f"model.path={model} has {fingerprint}; give the same base model, or leave model.path out"
        ]
    problem = base_problem(parent.adapter.tensors, read_weights(model).tensors)
    return [f"start={origin['path']}: {problem}; give the adapter's base model in model.path"] if problem else []


def parent_warnings(parent: Parent, template_sha256: str | None) -> list[str]:
    """Return a warning if the parent's prompts had another chat template."""
    prompts = parent.origin.get("prompts") or {}
    if prompts.get("chat_template_sha256", template_sha256) == template_sha256:
        return []
    return [
        f"start={parent.origin['path']}: the adapter was trained with another chat template (model.chat_template) than "
        "this run uses, so it sees prompts that it does not know"
    ]


def save_parent(run_folder: Path, parent: Parent) -> None:
    """Copy the adapter into the run folder.

    Raises:
        WriteError: The disk is full or cannot be written.
    """
    folder = run_folder / FOLDER
    with writing(folder):
        folder.mkdir(exist_ok=True)
        (folder / TENSORS).write_bytes(parent.adapter.tensors)
        (folder / CONFIG).write_text(json.dumps(dict(parent.adapter.config), indent=2) + "\n")
        (folder / _PARENT).write_text(json.dumps(dict(parent.origin), indent=2) + "\n")


def _kept(place: Place) -> Parent | None:
    """Return the copy in a run folder, or in its copy in storage; None if there is none.

    Raises:
        ModelError: The copy was changed.
    """
    if not place.holds(f"{FOLDER}/{_PARENT}"):
        return None
    origin = json.loads(place.read(f"{FOLDER}/{_PARENT}"))
    config = json.loads(place.read(f"{FOLDER}/{CONFIG}"))
    adapter = _version_0(config, place.read(f"{FOLDER}/{TENSORS}"))
    if adapter.policy.fingerprint != origin["fingerprint"]:
        raise _refusal(
            f"{place}/{FOLDER}/{TENSORS} has the fingerprint {adapter.policy.fingerprint}, and the run began with "
            f"{origin['fingerprint']}: the file was changed; copy it again from {origin['path']}"
        )
    return Parent(adapter=adapter, origin=origin)


def _version_0(config: Mapping[str, Any], tensors: bytes) -> Adapter:
    policy = Policy(version=0, fingerprint=hashlib.sha256(tensors).hexdigest()[:16])
    return Adapter(policy=policy, config=config, tensors=tensors)


def _refusal(problem: str) -> ModelError:
    return ModelError("start", [problem])
