"""The log-probabilities of an episode, with a real engine and model."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from rft.api.play import play
from rft.config.commands import load_evaluation
from rft.models.base_model import locate
from rft.turns import Author

pytestmark = pytest.mark.e2e

ENVIRONMENT = """
async def add(task, policy):
    first = await policy("1 + 1")
    await policy([{"role": "user", "content": f"<|end|> {first.stop}"}])
    return 0.5
"""
WORDS = (
    "environment.use=my_env.py:add",
    "data.test=games.jsonl",
    "model.path=embedded:tiny",
    "model.dtype=float32",
    "sampler=transformers",
    "sampler.max_completion_tokens=48",
    "evaluation.temperature=1",
)


def test_every_turn_has_the_logprobs_of_its_own_tokens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The sampler's, against a forward pass over the whole episode: a wrong token would show from its turn on."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my_env.py").write_text(ENVIRONMENT)
    (tmp_path / "games.jsonl").write_text('{"secret": 3}\n')
    model = AutoModelForCausalLM.from_pretrained(locate("embedded:tiny"), dtype=torch.float32)
    for seed in range(3):
        episode = play(load_evaluation([*WORDS, f"seed={seed}"]), lambda author, text: None).episode
        ids = torch.tensor([[*episode.prompt_ids, *episode.completion_ids]])
        with torch.no_grad():
            every = torch.log_softmax(model(ids).logits[0, len(episode.prompt_ids) - 1 : -1], -1)
        gaps = (
            every[range(len(episode.completion_ids)), list(episode.completion_ids)] - torch.tensor(episode.logprobs)
        ).abs()
        turns = [turn for turn in episode.turns if turn.author is Author.POLICY]
        assert len(turns) == 2
        for turn in turns:
            assert gaps[turn.start : turn.end].mean() < 1e-5
