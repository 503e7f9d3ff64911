"""The experiments of the two demonstrations, for a step each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from rft.run_folder.recorder import read_rollouts

pytestmark = pytest.mark.e2e

WORDS = (
    "sampler=transformers",
    "data.test=null",
    "data.validation=null",
    "loop.steps=1",
    "loop.prompts_per_step=4",
    "learner.completions_per_micro_batch=8",
    "logging=none",
)


def rollouts_of(rft: Callable[..., Any], experiment: str, folder: Any) -> list[dict[str, Any]]:
    done = rft("train", f"experiment={experiment}", *WORDS, "output_dir=run", cwd=folder)
    assert (done.code, done.orphans) == (0, [])
    return list(read_rollouts(done.folder, "train"))


def test_the_calculator_is_called_and_its_result_is_copied(tmp_path: Any, rft_in_process: Callable[..., Any]) -> None:
    episodes = rollouts_of(rft_in_process, "calculator", tmp_path)
    called = [each for each in episodes if len(each["turns"]) > 1]
    guessed = [each for each in episodes if len(each["turns"]) == 1]
    assert called and guessed
    for episode in called:
        call, result, *_ = episode["turns"]
        [function] = [each["function"] for each in call["messages"][0]["tool_calls"]]
        assert function["name"] == "calc"
        assert (result["author"], result["messages"][0]["role"]) == ("environment", "tool")
    assert sum(each["reward"] for each in called) > 0.8 * len(called)
    assert sum(each["reward"] for each in guessed) == 0


@pytest.mark.full  # tests/episodes/test_games.py shows the hints, test_episodes.py a run over an environment
def test_hints_are_true(tmp_path: Any, rft_in_process: Callable[..., Any]) -> None:
    for episode in rollouts_of(rft_in_process, "guess_number", tmp_path):
        secret, texts = episode["item"]["secret"], [turn["messages"][0]["content"] for turn in episode["turns"]]
        assert texts[0] == "I think of a number from 1 to 31."
        guesses, hints = [*map(int, texts[1::2])], texts[2::2]
        assert hints == ["higher" if guess < secret else "lower" for guess in guesses[: len(hints)]]
        assert episode["reward"] == float(guesses[-1] == secret)
        assert len(guesses) <= 5
