"""The base model's own dropout, which samplers do not have."""

from typing import Any

import pytest
from transformers import Gemma3Config, GPT2Config, GPTNeoXConfig, LlamaConfig, OPTConfig, Phi3Config

from rft.learning.trl_learner import without_dropout


@pytest.mark.parametrize(
    ("config", "rates"),
    [
        (GPT2Config(), ["attn_pdrop", "embd_pdrop", "resid_pdrop"]),
        (OPTConfig(attention_dropout=0.1, layerdrop=0.2), ["attention_dropout", "dropout", "layerdrop"]),
        (GPTNeoXConfig(hidden_dropout=0.1), ["hidden_dropout"]),
        (Phi3Config(resid_pdrop=0.1), ["resid_pdrop"]),
        (LlamaConfig(attention_dropout=0.1), ["attention_dropout"]),
    ],
)
def test_it_is_off(config: Any, rates: list[str]) -> None:
    assert all(getattr(config, name) > 0 for name in rates)
    others = {name: value for name, value in config.to_dict().items() if "drop" not in name}
    found = without_dropout(config)
    assert [getattr(found, name) for name in rates] == [0.0] * len(rates)
    assert {name: value for name, value in found.to_dict().items() if "drop" not in name} == others


def test_it_is_off_in_the_text_part_of_a_model_of_several() -> None:
    config = Gemma3Config(text_config={"attention_dropout": 0.3})
    assert without_dropout(config).text_config.attention_dropout == 0.0
