"""Shapes of models, against the parameter counts on their model cards."""

from pathlib import Path

import pytest

from rft.memory import ModelShape, read_shape
from rft.memory.model_shape import shape_of
from rft.models.base_model import EMBEDDED_MODELS, read_config


@pytest.mark.parametrize(
    ("hidden", "intermediate", "layers", "heads", "kv_heads", "vocabulary", "tied", "expected"),
    [
        (896, 4864, 24, 14, 2, 151_936, True, 494_032_768),
        (1536, 8960, 28, 12, 2, 151_936, True, 1_543_714_304),
        (2048, 11_008, 36, 16, 2, 151_936, True, 3_085_938_688),
        (3584, 18_944, 28, 28, 4, 152_064, False, 7_615_616_512),
        (5120, 13_824, 48, 40, 8, 152_064, False, 14_770_033_664),
        (5120, 27_648, 64, 40, 8, 152_064, False, 32_763_876_352),
    ],
)
def test_qwen2_5_has_the_published_number_of_weights(
    hidden: int,
    intermediate: int,
    layers: int,
    heads: int,
    kv_heads: int,
    vocabulary: int,
    tied: bool,
    expected: int,
) -> None:
    shape = shape_of(
        {
            "model_type": "qwen2",
            "hidden_size": hidden,
            "intermediate_size": intermediate,
            "num_hidden_layers": layers,
            "num_attention_heads": heads,
            "num_key_value_heads": kv_heads,
            "vocab_size": vocabulary,
            "tie_word_embeddings": tied,
        }
    )
    assert shape.num_weights == expected


def test_files_and_config_of_the_embedded_model_agree() -> None:
    folder: Path = EMBEDDED_MODELS["embedded:tiny"]
    assert read_shape(folder) == shape_of(read_config(folder))


def test_gpt2_has_other_names_and_no_gate() -> None:
    shape = shape_of({"model_type": "gpt2", "n_layer": 2, "n_embd": 64, "n_head": 4, "vocab_size": 100})
    assert (shape.num_layers, shape.hidden, shape.intermediate, shape.kv, shape.is_gated) == (2, 64, 256, 64, False)


def test_the_language_model_of_a_larger_configuration() -> None:
    text = {"num_hidden_layers": 1, "hidden_size": 8, "num_attention_heads": 2, "head_dim": 16, "vocab_size": 10}
    shape = shape_of({"model_type": "other", "text_config": text})
    assert (shape.attention, shape.kv, shape.vocabulary) == (32, 32, 10)


def test_the_adapter_of_qwen2_5_0_5b(small: ModelShape) -> None:
    # Inputs plus outputs of a layer: 2 x 896, 2 x (896 + 128), 896 + 896, 3 x (896 + 4864) = 22,912.
    assert small.adapter_width == 24 * (2 * (896 + 896) + 2 * (896 + 128) + 3 * (896 + 4864))
    assert small.num_matrices == 24 * 7
