"""Merges an adapter into its base model, as a plain model folder, and proves that the two match."""

from __future__ import annotations

import shutil
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel, get_peft_model_state_dict
from peft.tuners.tuners_utils import BaseTunerLayer
from safetensors import safe_open
from transformers import AutoModelForCausalLM, GenerationConfig, PreTrainedTokenizerBase
from transformers.utils import logging as transformers_logging

from rft.errors import ModelError, OutputError
from rft.learning.canaries import score_canaries
from rft.models.adapter_folder import TENSORS
from rft.models.base_model import context_tokens
from rft.run_folder.result_folders import save_tokenizer
from rft.sampling.lora_modules import unmatched_problem
from rft.sampling.proof import MAX_OVER_MEAN, TOLERANCES, Gap, gap
from rft.types import Logprobs

NUM_SEQUENCES, TOKENS_PER_SEQUENCE = 4, 48
"""Number and length of the sequences, sampled from the adapter's policy, that prove the merged model."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Merged:
    """The result of a merge, as differences of log-probabilities.

    Example:
        Merged(dtype="bfloat16", gap=Gap(mean=2e-3, largest=0.02), learned=Gap(mean=0.3, largest=4.1))
    """

    dtype: str
    """Dtype of the merged weights."""
    gap: Gap
    """Gap between base model with adapter, in float32, and the written folder."""
    learned: Gap
    """Gap between the adapter's policy and the base model: the effect of the adapter."""

    @property
    def is_blurred(self) -> bool:
        """Whether the rounding error exceeds half of the adapter's effect."""
        return self.dtype != "float32" and self.gap.mean > self.learned.mean / 2

    def lines(self) -> list[str]:
        """Describe the proof."""
        tolerance = TOLERANCES[self.dtype]
        sequences = f"{NUM_SEQUENCES} sequences sampled from the adapter's policy"
        return [
            f"Log-probabilities of {sequences}, base model with adapter against this folder read back: they differ by "
            f"{self.gap} (allowed: {tolerance:.2g} and {MAX_OVER_MEAN * tolerance:.2g})"
            + ("." if self.dtype == "float32" else f"; rounding the weights to {self.dtype} costs that."),
            f"The adapter itself changes those of the base model by {self.learned}.",
        ]


@torch.no_grad()
def write_merged(base: Path, adapter: Path, folder: Path, *, dtype: str, tokenizer: PreTrainedTokenizerBase) -> Merged:
    """Write base model and adapter as one model, and prove that the folder matches them.

    Args:
        base: Folder of the base model.
        adapter: Folder of the adapter, in PEFT format.
        folder: Target folder; exists and is empty.
        dtype: Dtype of the merged weights; `auto` is that of the base model.
        tokenizer: Tokenizer to write with the weights.

    Raises:
        ModelError: The two cannot be merged, or the result does not match.
    """
    transformers_logging.disable_progress_bar()
    warnings.filterwarnings("ignore", module="peft")  # of what can go wrong in a merge; here that is measured
    model = load_plain(base)
    dtype = _dtype_of(base) if dtype == "auto" else dtype
    with_adapter = _with_adapter(model, adapter)
    sequences = sampled_sequences(with_adapter, tokenizer, min(TOKENS_PER_SEQUENCE, context_tokens(base) - 1))
    expected = score_canaries(with_adapter, sequences)
    with with_adapter.disable_adapter():
        learned = gap(expected, score_canaries(with_adapter, sequences))
    plain = _merged(with_adapter)
    _prove(expected, score_canaries(plain, sequences), "float32", "the merged model differs")
    plain.to(getattr(torch, dtype))
    refuse_full_disk(folder, num_bytes=sum(tensor.nbytes for tensor in plain.parameters()))
    plain.generation_config = GenerationConfig()  # the base model's own file is copied instead
    plain.save_pretrained(folder)
    del model, with_adapter, plain
    if (generation_config := base / "generation_config.json").is_file():
        shutil.copy(generation_config, folder)
    save_tokenizer(folder, tokenizer)
    written = score_canaries(load_plain(folder), sequences)
    why = "the folder read back is not the merged model"
    if dtype != "float32":
        why = f"rounding the weights to {dtype} costs too much; model.dtype=float32 keeps them"
    return Merged(dtype=dtype, gap=_prove(expected, written, dtype, why), learned=learned)


def refuse_full_disk(folder: Path, num_bytes: int) -> None:
    """Refuse to write a model to a disk without room for it.

    Raises:
        OutputError: The disk has less free space.
    """
    free = shutil.disk_usage(folder).free
    if free < num_bytes:
        raise OutputError(
            "output folder",
            [f"{folder.parent}: the model has {num_bytes / 1e6:.0f} MB, and only {free / 1e6:.0f} MB are free"],
        )


def load_plain(folder: Path) -> Any:
    """Load a model in float32 for scoring.

    Raises:
        ModelError: Transformers cannot load it.
    """
    try:
        model = AutoModelForCausalLM.from_pretrained(
            folder, dtype=torch.float32, local_files_only=True, trust_remote_code=False
        )
    except (ValueError, KeyError, OSError, RuntimeError) as error:
        raise ModelError("base model", [f"{folder} cannot be loaded: {str(error).splitlines()[0]}"]) from error
    return model.eval()


def _with_adapter(model: Any, adapter: Path) -> Any:
    """Load the adapter onto the model, and check that every tensor fits."""
    try:
        loaded = PeftModel.from_pretrained(model, adapter, is_trainable=False).eval()
    except (ValueError, KeyError, RuntimeError, TypeError) as error:
        raise ModelError("adapter", [f"{adapter} does not fit the base model: {str(error).splitlines()[0]}"]) from error
    loaded_tensors = get_peft_model_state_dict(loaded)
    with safe_open(str(adapter / TENSORS), framework="np") as opened:
        shipped = set(opened.keys())
    problems = unmatched_problem(sorted(shipped - loaded_tensors.keys()), len(shipped & loaded_tensors.keys()))
    if extra := sorted(loaded_tensors.keys() - shipped):
        problems += unmatched_problem(extra, len(shipped))
    if problems:
        raise ModelError("adapter", [f"{adapter}: {problem}" for problem in problems])
    return loaded


def _merged(with_adapter: Any) -> Any:
    """Merge the adapter into the base model's weights."""
    before = with_adapter.get_base_model()
    ends = before.get_input_embeddings(), before.get_output_embeddings()
    into, out = (_plain(layer) for layer in ends)
    if out.weight is into.weight and any(isinstance(layer, BaseTunerLayer) for layer in ends):
        # A merge into one of them must not change the other; PEFT then marks them as separate in the config.
        out.weight = torch.nn.Parameter(out.weight.clone())
    try:
        return with_adapter.merge_and_unload(safe_merge=True)
    except (ValueError, NotImplementedError) as error:
        raise ModelError("adapter", [f"PEFT cannot merge it: {str(error).splitlines()[0]}"]) from error


def _plain(layer: Any) -> Any:
    """Return the layer inside PEFT's wrapper."""
    return layer.get_base_layer() if isinstance(layer, BaseTunerLayer) else getattr(layer, "original_module", layer)


def sampled_sequences(model: Any, tokenizer: PreTrainedTokenizerBase, length: int) -> list[list[int]]:
    """Sample `[NUM_SEQUENCES][length]` token ids from the model with a fixed seed.

    A policy's own samples distinguish it best from its base model.
    """
    start = next((token for token in (tokenizer.bos_token_id, tokenizer.eos_token_id) if token is not None), 0)
    ids = torch.full((NUM_SEQUENCES, 1), start)
    # Without end tokens, so that all sequences have the full length.
    how = GenerationConfig(do_sample=True, temperature=1.0, top_k=0, top_p=1.0, max_new_tokens=length - 1)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        sampled = model.generate(input_ids=ids, attention_mask=torch.ones_like(ids), generation_config=how)
    rows: list[list[int]] = sampled.tolist()
    return rows


def _prove(expected: Logprobs, actual: Logprobs, dtype: str, why: str) -> Gap:
    """Return the gap if the dtype allows it.

    Raises:
        ModelError: The gap is larger than allowed.
    """
    between, tolerance = gap(expected, actual), TOLERANCES[dtype]
    if not between.within(tolerance):
        raise ModelError(
            "merge",
            [
                f"{why}: its log-probabilities differ from those of base model and adapter by {between} (allowed: "
                f"{tolerance:.2g} and {MAX_OVER_MEAN * tolerance:.2g}). Nothing was written"
            ],
        )
    return between


def _dtype_of(base: Path) -> str:
    """Return the dtype of the base model's weights; the most frequent supported one of several."""
    names = {"F32": "float32", "BF16": "bfloat16", "F16": "float16"}
    counts = dict.fromkeys(names.values(), 0)
    for file in base.glob("*.safetensors"):
        with safe_open(str(file), framework="np") as opened:
            for name in opened.keys():  # noqa: SIM118
                if (dtype := names.get(opened.get_slice(name).get_dtype())) is not None:
                    counts[dtype] += 1
    return max(counts, key=lambda dtype: counts[dtype])
