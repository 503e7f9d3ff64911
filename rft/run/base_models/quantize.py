"""Writes a quantized base model as a plain model folder, and proves that the learner computes with the same weights."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import torch
from transformers import GenerationConfig, PreTrainedTokenizerBase
from transformers.utils import logging as transformers_logging

from rft.errors import ModelError
from rft.learning.canaries import score_canaries
from rft.learning.quantized_base import load_quantized, rounded_weights
from rft.models.base_model import context_tokens
from rft.models.quantized_folder import LABELS, Method
from rft.run.base_models.merge import TOKENS_PER_SEQUENCE, load_plain, refuse_full_disk, sampled_sequences
from rft.run_folder.result_folders import WEIGHTS
from rft.sampling.proof import TOLERANCES, Gap, gap

_WRITTEN = ("config.json", "README.md")
"""Files of the original folder that are not copied: Transformers writes the configuration, and the card is another."""


@torch.no_grad()
def write_quantized(source: Path, folder: Path, *, method: Method, tokenizer: PreTrainedTokenizerBase) -> Gap:
    """Write what a quantized model computes with, as a plain model in float32.

    Args:
        source: Folder of the original model.
        folder: Target folder; exists and is empty.
        method: The quantization.
        tokenizer: Tokenizer of the model, for the start of sampled text.

    Returns:
        The difference between the log-probabilities of the original and the quantized model, on text that the original
        samples.

    Raises:
        ModelError: The model cannot be loaded, has no linear layer to quantize, or does not match its folder.
        OutputError: The disk has no room for the model.
    """
    transformers_logging.disable_progress_bar()
    model = load_plain(source)
    refuse_full_disk(folder, num_bytes=sum(weight.nbytes for weight in model.parameters()))
    sequences = sampled_sequences(model, tokenizer, min(TOKENS_PER_SEQUENCE, context_tokens(source) - 1))
    original = score_canaries(model, sequences)
    if not _round_weights(model, _load_quantized(source, method)):
        raise ModelError("base model", [f"learner.base={method}: {source} has no linear layer to quantize"])
    rounded = score_canaries(model, sequences)
    model.generation_config = GenerationConfig()  # the original's own file is copied instead
    model.save_pretrained(folder)
    (folder / "generation_config.json").unlink(missing_ok=True)
    for file in source.iterdir():
        if file.is_file() and file.name not in _WRITTEN and not file.name.endswith(WEIGHTS):
            shutil.copy(file, folder)
    del model
    difference = gap(rounded, score_canaries(_load_quantized(folder, method), sequences))
    if not difference.within(TOLERANCES["float32"]):
        raise ModelError(
            "base model",
            [
                f"learner.base={method}: the log-probabilities of {source} in {LABELS[method]} differ by {difference} "
                "from those of the plain model with the same weights, so samplers could not serve it; train without "
                "learner.base, and report this model"
            ],
        )
    return gap(original, rounded)


def _load_quantized(folder: Path, method: Method) -> Any:
    return load_quantized(folder, method, dtype=torch.float32, device="cpu").eval()


def _round_weights(model: Any, quantized: Any) -> bool:
    """Give a plain model the weights of a quantized one; return whether that has any."""
    names = []
    for name, weight in rounded_weights(quantized):
        model.get_submodule(name).weight.copy_(weight)
        names.append(name)
    return bool(names)
