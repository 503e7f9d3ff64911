"""Base models of strangers: their configuration, their index, and the headers of their weight files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("hypothesis")
import safetensors.numpy
from hypothesis import example, given
from hypothesis import strategies as st

from rft.memory.model_shape import read_shape
from rft.models.base_model import context_tokens, locate

from .harness import DEEP, as_json, cases, damaged, harmless, mutated

CONFIG = {
    "model_type": "llama",
    "architectures": ["LlamaForCausalLM"],
    "max_position_embeddings": 64,
    "hidden_size": 4,
    "head_dim": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "num_hidden_layers": 1,
    "vocab_size": 8,
    "rope_parameters": {"rope_type": "default"},
    "text_config": None,
}
WHOLE = as_json(CONFIG)
INDEX = {"weight_map": {"a.q_proj.weight": "model.safetensors"}}
WEIGHTS = safetensors.numpy.save({"a.q_proj.weight": np.ones((2, 3), dtype=np.float32)})
TENSOR = {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}


def with_header(header: bytes) -> bytes:
    """A weight file with this header, and bytes for six float32 values."""
    return len(header).to_bytes(8, "little") + header + bytes(24)


@cases(15, in_fuzz=900)
@example(config=DEEP[1], index=None, weights=WEIGHTS)
@example(config=WHOLE, index=DEEP[1], weights=WEIGHTS)
@example(config=WHOLE, index=None, weights=with_header(DEEP[1]))
@example(config=WHOLE, index=None, weights=with_header(as_json({"a": TENSOR | {"shape": [float("inf")]}})))
@example(config=as_json(CONFIG | {"architectures": 1}), index=None, weights=WEIGHTS)
@example(config=as_json(CONFIG | {"text_config": [1]}), index=None, weights=WEIGHTS)
@example(config=as_json(CONFIG | {"head_dim": ["2"]}), index=None, weights=WEIGHTS)
@given(
    config=mutated([CONFIG, {"text_config": CONFIG}], list(CONFIG)).map(as_json) | damaged([WHOLE]),
    index=st.none() | mutated([INDEX]).map(as_json) | damaged([as_json(INDEX)]),
    weights=mutated([{"a": TENSOR}], list(TENSOR)).map(as_json).map(with_header) | damaged([WEIGHTS]),
)
def test_base_models(config: bytes, index: bytes | None, weights: bytes) -> None:
    folder = Path("model")
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_bytes(config)
    (folder / "model.safetensors").write_bytes(weights)
    (folder / "model.safetensors.index.json").unlink(missing_ok=True)
    if index is not None:
        (folder / "model.safetensors.index.json").write_bytes(index)
    with harmless():
        assert locate("model") == folder
        shape = read_shape(folder)
        assert shape.num_weights <= 2 * len(weights)
        assert context_tokens(folder)
