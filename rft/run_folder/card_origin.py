"""The part of the model card about the models that a run began with: its base model, its start, its teacher."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rft.models.origin import Origin
from rft.models.quantized_folder import LABELS, comparison_in_words

_STARTS = {
    "continue": "The training continued the adapter {parent}. Results before the run, and a KL divergence, refer to "
    "that adapter.",
    "merge": "This base model is {base} with the policy {parent} merged into it. Results before the run, and a KL "
    "divergence, refer to the merged model.",
    "stack": "The training kept the adapter {parent}, of rank {rank}, frozen below a new one. The published adapter is "
    "the sum of both. Results before the run, and a KL divergence, refer to the frozen adapter.",
}
"""The origin of a training, by `start_mode`."""
_QUANTIZED = (
    "This base model is `{source}` (fingerprint `{source_fingerprint}`) with its linear layers rounded to {label} by "
    "{library}, which changes its log-probabilities by {mean_gap:.2g} on average. The adapter belongs to the rounded "
    "model: keep that, and load the adapter on it, or merge the two with `rft merge`."
)


def origin(manifest: Mapping[str, Any], compared: Mapping[str, Any] | None = None) -> str:
    """Return the texts about a base model from a package, or a quantized one, the start and the teacher.

    They are empty for a plain base model.

    Args:
        manifest: Result of `provenance.manifest`.
        compared: Result of `rft.run.base_models.original_base.compare_on_original`, if the base model is quantized.
    """
    of_package = manifest["base_model"].get("origin")
    base = package_origin(Origin(**of_package) if of_package else None) + _quantized(manifest, compared)
    return base + _start(manifest) + _teacher(manifest)


def package_origin(of_package: Origin | None) -> str:
    """Return a sentence about a base model from a Python package, with its licence; empty for other models."""
    return f" It is {of_package}, so scores of the published model do not apply to it." if of_package else ""


def original_path(manifest: Mapping[str, Any]) -> str:
    """Return the path of the base model before the run merged or quantized it."""
    base = manifest["base_model"]
    quantized = base.get("quantized") or {}
    return str(_merged(manifest).get("path") or quantized.get("source") or base["path"])


def _quantized(manifest: Mapping[str, Any], compared: Mapping[str, Any] | None) -> str:
    """Return the origin of a quantized base model, and how the adapter does on the original."""
    quantized = manifest["base_model"].get("quantized")
    if not quantized:
        return ""
    text = _QUANTIZED.format(label=LABELS[quantized["method"]], **quantized)
    compared = compared or {"source": quantized["source"], "not_measured": "the run did not finish"}
    return f"\n\n{text} {comparison_in_words(compared)}"


def _start(manifest: Mapping[str, Any]) -> str:
    """Return the origin of the training, unless it began from a plain base model."""
    start = manifest.get("start")
    if not start:
        return ""
    origin = f", step {start['step']} of a {start['method'].upper()} run" if start.get("method") else ""
    parent = f"`{start['path']}` (fingerprint `{start['fingerprint']}`{origin})"
    merged = _merged(manifest)
    base = f"`{merged['path']}` (fingerprint `{merged['fingerprint']}`)" if merged else ""
    return "\n\n" + _STARTS[start["mode"]].format(parent=parent, base=base, rank=start.get("rank"))


def _merged(manifest: Mapping[str, Any]) -> Mapping[str, str]:
    """Return path and fingerprint of the base model before a merge with the parent; empty without a merge."""
    start = manifest.get("start") or {}
    return dict(start.get("merged", {}).get("base_model", {}))


def _teacher(manifest: Mapping[str, Any]) -> str:
    """Return the teachers of a run that distilled, or an empty text."""
    teachers = {"Teacher": manifest["teacher"]} if manifest.get("teacher") else {}
    teachers |= {f"Teacher of {family}": teacher for family, teacher in manifest.get("teachers", {}).items()}
    return "".join(f"\n\n{role}: {_model_and_adapter(teacher)}." for role, teacher in teachers.items())


def _model_and_adapter(teacher: Mapping[str, Any]) -> str:
    """Return path and fingerprint of a teacher."""
    adapter = teacher.get("adapter")
    of_adapter = f" with the adapter `{adapter['path']}` (fingerprint `{adapter['fingerprint']}`)" if adapter else ""
    return f"`{teacher['path']}`, fingerprint `{teacher['fingerprint']}`{of_adapter}"
