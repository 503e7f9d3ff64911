"""The policy that a run starts from, and the run that trained it. The run folder keeps a copy of it in `start/`.

    start/adapter_config.json, start/adapter_model.safetensors    the adapter
    start/parent.json                                             its origin, as in manifest.json

A resumed run reads the copy, so it needs the folder of the parent no more. A parent that trained all weights has no
adapter; its copy is the base model of the run (`rft.run.base_models.merged_start`).
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
from rft.config.samplers.base import SamplerConfig
from rft.errors import ModelError
from rft.models.adapter_folder import CONFIG, TENSORS, load_adapter, max_rank, whole_model
from rft.models.adapter_tensors import base_problem, continuation_problems, stack_problems, without_metadata
from rft.models.weight_files import mapped, read_weights
from rft.reliability.durable import writing
from rft.run_folder.lineage import manifest_with_base, step_of_weights
from rft.run_folder.retention_file import stages_of
from rft.storage import Place
from rft.types import Adapter, Policy

FOLDER = "start"
"""Folder of a run with the adapter that the run started from."""
WHOLE_WEIGHTS = "model.safetensors"
"""Weights of a run that trained all weights, in its folder `model`."""
_PARENT = "parent.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Parent:
    """The policy that a run starts from.

    Example:
        Parent(adapter=Adapter(...), origin={"path": "runs/sft/first", "fingerprint": "9b2e...", "step": 60, ...})
    """

    adapter: Adapter | None
    """The adapter; None if the parent trained all weights."""
    origin: Mapping[str, Any]
    """Its origin, for the manifest: `path`, `mode`, `fingerprint`, and for a run of rft `step`, `method`,
    `base_fingerprint`, `base_quantized`, `prompts` and the run's own `start`; with `stack` also `rank`, with `merge`
    also `merged`."""

    @property
    def mode(self) -> str:
        """`continue`, `merge` or `stack`."""
        return str(self.origin["mode"])

    @property
    def version_0(self) -> Adapter | None:
        """The adapter that is policy version 0 of the run; None if the base model of the run contains it."""
        return None if merges_start(self) else self.adapter

    @property
    def rank_below(self) -> int:
        """The rank that the parent adds to each published adapter."""
        return max_rank(self.adapter) if self.mode == "stack" and self.adapter is not None else 0


def merges_start(parent: Parent | None) -> bool:
    """Whether the base model of a run contains its parent."""
    return parent is not None and parent.mode == "merge"


def read_parent(run: RunConfig) -> Parent | None:
    """Return the policy that a run starts from; None if it starts from the base model.

    Raises:
        ModelError: The adapter cannot be read, or no step of its run led to these weights.
    """
    if run.start is None:
        return None
    if run.resume is not None and (kept := _kept(Place(run.resume))) is not None:
        return kept
    path = Path(run.start)
    origin: dict[str, Any] = {"path": run.start, "mode": run.start_mode}
    if run.start_mode == "merge" and (model := whole_model(path)) is not None:
        adapter = None
        if not (model / WHOLE_WEIGHTS).is_file():
            raise _refusal(f"start={path}: {model} has no {WHOLE_WEIGHTS}; use the folder that a run of rft wrote")
        origin["fingerprint"] = _fingerprint(mapped(model / WHOLE_WEIGHTS))
    else:
        read = _adapter_of(path)
        adapter = _version_0(read.config, without_metadata(read.tensors))
        origin["fingerprint"] = adapter.policy.fingerprint
        origin |= {"rank": max_rank(adapter)} if run.start_mode == "stack" else {}
    folder = run_folder_of(path)
    if folder is not None:
        origin |= _origin(folder, origin["fingerprint"], path)
    return Parent(adapter=adapter, origin=origin)


def _adapter_of(path: Path) -> Adapter:
    """Return the adapter at `start`; errors name the key."""
    try:
        return load_adapter(path)
    except ModelError as error:
        raise ModelError("start", [f"start={path}: {problem}" for problem in error.problems]) from error


def _origin(folder: Path, fingerprint: str, path: Path) -> dict[str, Any]:
    """Return the entries of a run's folder about weights of that run.

    Raises:
        ModelError: No step of the run led to these weights, or a file of the run is damaged.
    """
    stages_of(folder)  # read at the end of the run, too late for a refusal
    steps = step_of_weights(folder)
    if fingerprint not in steps:
        raise _refusal(
            f"start={path}: its weights have the fingerprint {fingerprint}, to which no step of the run in "
            f"{folder} led: the file was changed or copied from elsewhere; use the weights that the run wrote"
        )
    origin: dict[str, Any] = {"step": steps[fingerprint]}
    if (manifest := manifest_with_base(folder)) is not None:
        origin |= {
            "method": manifest.get("method"),
            "base_fingerprint": manifest["base_model"]["fingerprint"],
            "prompts": manifest.get("prompts"),
            "start": manifest.get("start"),
        }
        if (quantized := manifest["base_model"].get("quantized")) is not None:
            origin["base_quantized"] = quantized
    return origin


def parent_problems(
    parent: Parent, model: Path, fingerprint: str, sampler: SamplerConfig, *, quantizes: str | None = None
) -> list[str]:
    """Return the reasons why a run cannot start from its parent, one sentence each.

    Args:
        parent: The parent.
        model: Folder of the base model.
        fingerprint: Fingerprint of the base model.
        sampler: The settings of the samplers.
        quantizes: `learner.base` of a run that has not quantized the base model yet.
    """
    origin = parent.origin
    trained_on = origin.get("base_fingerprint", fingerprint)
    if trained_on != fingerprint and not _will_be_base_of(parent, fingerprint, quantizes):
        return [
            f"start={origin['path']}: the adapter was trained on a base model with the fingerprint {trained_on}, and "
            f"model.path={model} has {fingerprint}; give the same base model, or model.path=null, which takes it from "
            "the start"
        ]
    if parent.adapter is None:
        return []
    problem = base_problem(parent.adapter.tensors, read_weights(model).tensors)
    problems = [f"{problem}; give the adapter's base model in model.path"] if problem else []
    if parent.mode == "stack":
        problems += stack_problems(parent.adapter)
    elif parent.mode == "continue":
        problems += continuation_problems(parent.adapter) + sampler.adapter_problems(parent.adapter.config)
    return [f"start={origin['path']}: {problem}" for problem in problems]


def _will_be_base_of(parent: Parent, fingerprint: str, quantizes: str | None) -> bool:
    """Whether the adapter was trained on the quantized form of a base model. Arguments like `parent_problems`."""
    quantized = parent.origin.get("base_quantized") or {}
    is_same = quantized.get("method") == quantizes and quantized.get("source_fingerprint") == fingerprint
    return is_same and parent.version_0 is not None


def parent_warnings(parent: Parent, template_sha256: str | None) -> list[str]:
    """Return warnings about another chat template, and about a merge that rounds the adapter away."""
    path, warnings = parent.origin["path"], []
    prompts = parent.origin.get("prompts") or {}
    if prompts.get("chat_template_sha256", template_sha256) != template_sha256:
        warnings.append(
            f"start={path}: the adapter was trained with another chat template (model.chat_template) than this run "
            "uses, so it sees prompts that it does not know"
        )
    merged = parent.origin.get("merged") or {}
    if merged.get("is_blurred"):
        warnings.append(
            f"start={path}: the merged model has {merged['dtype']} weights, whose rounding takes away more than half "
            "of what the adapter changed; model.dtype=float32 keeps it, and so does start_mode=stack"
        )
    return warnings


def save_parent(run_folder: Path, parent: Parent) -> None:
    """Copy the adapter and its origin into the run folder.

    Raises:
        WriteError: The disk is full or cannot be written.
    """
    folder = run_folder / FOLDER
    with writing(folder):
        folder.mkdir(exist_ok=True)
        if parent.adapter is not None:
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
    if not place.holds(f"{FOLDER}/{CONFIG}"):
        return Parent(adapter=None, origin=origin)
    config = json.loads(place.read(f"{FOLDER}/{CONFIG}"))
    adapter = _version_0(config, place.read(f"{FOLDER}/{TENSORS}"))
    if adapter.policy.fingerprint != origin["fingerprint"]:
        raise _refusal(
            f"{place}/{FOLDER}/{TENSORS} has the fingerprint {adapter.policy.fingerprint}, and the run began with "
            f"{origin['fingerprint']}: the file was changed; copy it again from {origin['path']}"
        )
    return Parent(adapter=adapter, origin=origin)


def _version_0(config: Mapping[str, Any], tensors: bytes) -> Adapter:
    return Adapter(policy=Policy(version=0, fingerprint=_fingerprint(tensors)), config=config, tensors=tensors)


def _fingerprint(tensors: bytes | memoryview) -> str:
    return hashlib.sha256(tensors).hexdigest()[:16]


def _refusal(problem: str) -> ModelError:
    return ModelError("start", [problem])
