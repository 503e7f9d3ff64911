"""Compares an adapter on the original base model with the same adapter on the quantized one that it was trained on.

Users may load an adapter on the original model. It is another policy there, because the training adapts to the
rounding of the quantized model.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from peft import PeftModel

from rft.cluster import device_here
from rft.errors import ModelError
from rft.learning.canaries import score_canaries
from rft.memory.device import in_gb
from rft.models.adapter_folder import CONFIG, TENSORS
from rft.models.base_model import fingerprint, locate
from rft.models.quantized_folder import Quantization
from rft.models.weight_files import read_weights
from rft.reliability.temporary import temporary_folder
from rft.run.base_models.merge import load_plain
from rft.sampling.proof import gap
from rft.types import Adapter, GradedGroup, Logprobs

NUM_TEXTS, MAX_TOKENS = 16, 1024
"""Number of scored completions, and tokens of each with its prompt, at most."""
ROOM = 1.3
"""Memory for loading a model and scoring with it, relative to its weights in float32."""

Text = tuple[tuple[int, ...], int]
"""Token ids, and the number of those at the end that are scored."""


def completions_of(groups: Iterable[GradedGroup]) -> list[Text]:
    """Return the first completion of each group with its prompt, without long ones."""
    first = (group.rollouts[0] for group in groups if group.rollouts)
    texts = [((*rollout.prompt_ids, *rollout.completion_ids), len(rollout.completion_ids)) for rollout in first]
    return [text for text in texts if text[1] and len(text[0]) <= MAX_TOKENS][:NUM_TEXTS]


def compare_on_original(
    quantization: Quantization, model: Path, adapter: Adapter, texts: Sequence[Text]
) -> dict[str, Any]:
    """Score text with the adapter on both base models, in float32 on the CPU.

    Args:
        quantization: Origin of the quantized base model.
        model: Folder of the quantized base model, on which the adapter was trained.
        adapter: The trained adapter.
        texts: From `completions_of`, or canaries.

    Returns:
        `source`: the original model; `mean_gap` and `largest_gap`: the difference of log-probabilities between the two;
        `mean_effect`: the effect of the adapter on its own base model; `num_texts`. Or `source` and `not_measured`: the
        reason.
    """
    if (reason := _why_not(quantization)) is not None:
        return {"source": quantization.source, "not_measured": reason}
    base, trained = _scores(model, adapter, texts)
    _, moved = _scores(locate(quantization.source), adapter, texts)
    between = gap(trained, moved)
    return {
        "source": quantization.source,
        "mean_gap": between.mean,
        "largest_gap": between.largest,
        "mean_effect": gap(base, trained).mean,
        "num_texts": len(texts),
    }


def _why_not(quantization: Quantization) -> str | None:
    """Return why the original model cannot be used, or None."""
    try:
        original = locate(quantization.source)
    except ModelError as error:
        return str(error)
    if fingerprint(original) != quantization.source_fingerprint:
        return f"{original} was changed since it was quantized"
    needed = ROOM * 4 * sum(tensor.num_values for tensor in read_weights(original).tensors.values())
    free = device_here(0).ram_bytes
    if free is not None and free < needed:
        return f"this needs {in_gb(needed)} of memory, and {in_gb(free)} are free"
    return None


def _scores(base: Path, adapter: Adapter, texts: Sequence[Text]) -> tuple[Logprobs, Logprobs]:
    """Return the log-probabilities of texts under a base model alone, and with an adapter."""
    with temporary_folder("adapter") as folder:
        (folder / CONFIG).write_text(json.dumps(dict(adapter.config)))
        (folder / TENSORS).write_bytes(adapter.tensors)
        model = PeftModel.from_pretrained(load_plain(base), folder).eval()
    with model.disable_adapter():
        alone = tuple(_score(model, texts))
    return alone, tuple(_score(model, texts))


def _score(model: Any, texts: Sequence[Text]) -> Iterator[tuple[float, ...]]:
    for ids, num_scored in texts:  # one at a time, because the logits of all would be large
        (scores,) = score_canaries(model, [ids])
        yield scores[-num_scored:]
