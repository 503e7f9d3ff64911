"""The sizes of a model that its memory depends on, from `config.json` and the headers of its weight files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rft.models.base_model import read_config
from rft.models.weight_files import linear_modules, read_weights

_NAMES = {
    "num_layers": ("num_hidden_layers", "n_layer"),
    "hidden": ("hidden_size", "n_embd"),
    "intermediate": ("intermediate_size", "n_inner", "ffn_dim"),
    "heads": ("num_attention_heads", "n_head"),
    "vocabulary": ("vocab_size",),
}
"""Keys of `config.json` for each size, in the order in which they are tried."""
_WITHOUT_GATE = ("gpt2", "opt", "gpt_neox", "phi", "starcoder2", "falcon", "bloom")
"""Architectures whose feed-forward layers have two matrices instead of three."""
_WITH_QKV_BIAS = ("qwen2",)


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelShape:
    """The sizes of a decoder.

    Example:
        ModelShape(num_layers=24, hidden=896, intermediate=4864, attention=896, kv=128, vocabulary=151_936, ...)
    """

    num_layers: int
    """Decoder layers."""
    hidden: int
    """Width of the hidden states."""
    intermediate: int
    """Width of the feed-forward layers."""
    attention: int
    """Width of the queries: heads times head dimension."""
    kv: int
    """Width of the keys, and of the values: key-value heads times head dimension."""
    vocabulary: int
    """Rows of the output matrix."""
    is_gated: bool
    """Whether the feed-forward layers have a gate, as in Llama and Qwen."""
    num_weights: int
    """Weights of the model; tied matrices count once."""
    num_matrices: int
    """Linear layers that an adapter trains."""
    adapter_width: int
    """Inputs plus outputs of all these layers: an adapter of rank r has r times as many weights."""

    @property
    def num_linear_weights(self) -> int:
        """Weights of the linear layers of all decoder layers, without biases."""
        feed_forward = (3 if self.is_gated else 2) * self.intermediate
        return self.num_layers * self.hidden * (2 * self.attention + 2 * self.kv + feed_forward)


def read_shape(folder: Path) -> ModelShape:
    """Read the shape of a model in a folder; weights and linear layers are counted from its files.

    Args:
        folder: From `rft.models.base_model.locate`.

    Raises:
        ModelError: `config.json` cannot be read.
    """
    tensors = read_weights(folder).tensors
    matrices = [tensor for of_name in linear_modules(tensors).values() for tensor in of_name]
    return replace(
        shape_of(read_config(folder)),
        num_weights=sum(tensor.num_values for tensor in tensors.values()),
        num_matrices=len(matrices),
        adapter_width=sum(sum(tensor.shape) for tensor in matrices),
    )


def shape_of(config: Mapping[str, Any]) -> ModelShape:
    """Return the shape of a model by its `config.json` alone; weights are counted as in Llama and Qwen2.

    Args:
        config: The content of `config.json`; a size that it lacks counts as 0.
    """
    text = config.get("text_config") or config
    sizes = {name: _size(text, *keys) for name, keys in _NAMES.items()}
    hidden, heads, num_layers = sizes["hidden"], sizes["heads"] or 1, sizes["num_layers"]
    intermediate = sizes["intermediate"] or 4 * hidden
    head_dim = _size(text, "head_dim") or hidden // heads
    attention, kv = heads * head_dim, (_size(text, "num_key_value_heads") or heads) * head_dim
    kind = str(text.get("model_type", ""))
    is_gated = kind not in _WITHOUT_GATE
    in_and_out = [(hidden, attention), (hidden, kv), (hidden, kv), (attention, hidden)]
    in_and_out += [(hidden, intermediate)] * (2 if is_gated else 1) + [(intermediate, hidden)]
    biases = attention + 2 * kv if kind in _WITH_QKV_BIAS else 0
    of_layer = sum(inputs * outputs for inputs, outputs in in_and_out) + biases + 2 * hidden
    embeddings = sizes["vocabulary"] * hidden * (1 if text.get("tie_word_embeddings") else 2)
    return ModelShape(
        num_layers=num_layers,
        hidden=hidden,
        intermediate=intermediate,
        attention=attention,
        kv=kv,
        vocabulary=sizes["vocabulary"],
        is_gated=is_gated,
        num_weights=num_layers * of_layer + embeddings + hidden,
        num_matrices=num_layers * len(in_and_out),
        adapter_width=num_layers * sum(inputs + outputs for inputs, outputs in in_and_out),
    )


def _size(config: Mapping[str, Any], *keys: str) -> int:
    """Return the first of these sizes that is a number; 0 if none is. Some models have one size per layer."""
    return next((int(config[key]) for key in keys if isinstance(config.get(key), int)), 0)
