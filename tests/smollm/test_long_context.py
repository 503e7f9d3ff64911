"""8,192 tokens of context for prompt and completion."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from rft.config.commands import load_evaluation
from rft.errors import DataError
from rft.run.inputs import prepare

from .conftest import NAME


def test_a_prompt_leaves_room_for_its_completion(tmp_path: Path) -> None:
    def check(num_tokens: int) -> Any:
        (tmp_path / "long.jsonl").write_text(json.dumps({"prompt": " a" * num_tokens, "answer": "a"}))
        words = [f"model.path={NAME}", f"data.test={tmp_path}/long.jsonl", "data.format=raw", "sampler=fake"]
        config = load_evaluation([*words, "sampler.max_completion_tokens=16", "graders.same.use=exact"])
        return prepare(config, needs_training_tasks=False)

    assert check(8176).longest_prompt_tokens == 8176
    with pytest.raises(DataError, match="1 of 1 prompts are longer than 8176 "):
        check(8177)
