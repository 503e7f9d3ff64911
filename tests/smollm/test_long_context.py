"""8,192 tokens of context: the model still copies at their end, and rft allows no more."""

from __future__ import annotations

import json
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest
import torch
from transformers import AutoTokenizer, DynamicCache

from rft.config.commands import load_evaluation
from rft.errors import DataError
from rft.run.inputs.prepare import prepare

from .conftest import NAME

DOCS = Path(__file__).parents[2] / "docs"
CONTEXT_TOKENS = 8192
NUM_AT_ONCE = 1024
"""Tokens of a forward pass, which bounds its memory."""
NUM_PASSAGE, NUM_SCORED, NUM_BETWEEN = 200, 120, 800
"""Tokens of a passage, of its end that is scored, and between its two copies."""


def mean_logprob(model: Any, ids: list[int]) -> float:
    """The mean log-probability of the last `NUM_SCORED` tokens."""
    cache, logprobs = DynamicCache(), list[float]()
    with torch.no_grad():
        for start in range(0, len(ids) - 1, NUM_AT_ONCE):
            part = ids[start : min(start + NUM_AT_ONCE, len(ids) - 1)]
            logits = model(torch.tensor([part]), past_key_values=cache).logits[0].log_softmax(-1)
            logprobs += logits[range(len(part)), ids[start + 1 : start + 1 + len(part)]].tolist()
    return fmean(logprobs[-NUM_SCORED:])


def test_the_end_of_the_context_is_used(model: Any, smollm: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(smollm)
    text = "".join((DOCS / name).read_text(encoding="utf-8") for name in ("reliability.md", "cluster.md", "graders.md"))
    ids: list[int] = tokenizer(text).input_ids
    passage, rest = ids[:NUM_PASSAGE], ids[NUM_PASSAGE:]
    between = rest[:NUM_BETWEEN]
    before = rest[NUM_BETWEEN : NUM_BETWEEN + CONTEXT_TOKENS - 2 * NUM_PASSAGE - NUM_BETWEEN]
    copied = [*before, *passage, *between, *passage]
    assert len(copied) == CONTEXT_TOKENS
    of_copy, of_passage = mean_logprob(model, copied), mean_logprob(model, [*between, *passage])
    print(f"{of_copy:.2f} a token for the copy at the end of the context, {of_passage:.2f} without the first copy")
    assert of_copy > of_passage + 1.0


def test_a_prompt_leaves_room_for_its_completion(tmp_path: Path) -> None:
    def check(num_tokens: int) -> Any:
        (tmp_path / "long.jsonl").write_text(json.dumps({"prompt": " a" * num_tokens, "answer": "a"}))
        words = [f"model.path={NAME}", f"data.test={tmp_path}/long.jsonl", "data.format=raw", "sampler=fake"]
        config = load_evaluation([*words, "sampler.max_completion_tokens=16", "graders.same.use=exact"])
        return prepare(config, needs_training_tasks=False)

    assert check(8176).longest_prompt_tokens == 8176
    with pytest.raises(DataError, match="1 of 1 prompts are longer than 8176 "):
        check(8177)
