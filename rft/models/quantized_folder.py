"""The folder of a quantized base model, which `learner.base` writes: a plain model, and its origin.

    config.json, tokenizer files    those of the original model
    model.safetensors               the weights that the quantized model computes with, in float32
    quantization.json               method and origin

Quantizing this model again changes nothing. The learner therefore loads it quantized, and samplers load it as it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from rft.errors import ModelError
from rft.wording import plural

QUANTIZED_BASE = "quantized_base"
"""Folder of a run with `learner.base` that holds its base model."""
QUANTIZATION = "quantization.json"

Method = Literal["nf4", "int8"]
"""`nf4`: 4 bits for each weight of a linear layer, and a scale for 64 of them; `int8`: 8 bits, and a scale for each
output."""
LABELS = {"nf4": "NF4", "int8": "8-bit integers"}
"""Names of the methods in texts."""


class Quantization(BaseModel):
    """Method and origin of a quantized base model.

    Example:
        Quantization(method="nf4", source="Qwen/Qwen2.5-0.5B", source_fingerprint="9b2e...", mean_gap=0.12, ...)
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    method: Method
    """The method."""
    source: str
    """Path or hub name of the original model."""
    source_fingerprint: str
    """Fingerprint of the original model."""
    library: str
    """Name and version of the library that quantized it."""
    mean_gap: float
    """Mean |difference| of log-probabilities between the original and the quantized model, on text of the original."""


def read_quantization(folder: Path) -> Quantization | None:
    """Return method and origin of a model in a folder; None for a model that rft did not quantize.

    Raises:
        ModelError: The file of the origin is damaged.
    """
    file = folder / QUANTIZATION
    try:
        return Quantization.model_validate_json(file.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValidationError) as error:
        problem = f"{file} cannot be read: {str(error).splitlines()[0]}; delete {folder}, which rft writes again"
        raise ModelError("base model", [problem]) from error


def quantized_by(method: Method | None, folder: Path) -> Quantization | None:
    """Return method and origin of a model that a method has quantized already; None for other models, or no method."""
    made = None if method is None else read_quantization(folder)
    return made if made is not None and made.method == method else None


def comparison_in_words(compared: Mapping[str, Any]) -> str:
    """Return how an adapter differs on the original model.

    Args:
        compared: Result of `rft.run.base_models.original_base.compare_on_original`.
    """
    source = compared["source"]
    if reason := compared.get("not_measured"):
        return f"The adapter was not compared on the original base model {source}: {reason}."
    return (
        f"On the original base model {source}, the adapter's log-probabilities of "
        f"{plural(compared['num_texts'], 'text')} differ from those of the trained policy by "
        f"{compared['mean_gap']:.2g} on average and {compared['largest_gap']:.2g} at most. On its own base model, the "
        f"adapter changes them by {compared['mean_effect']:.2g} on average."
    )
