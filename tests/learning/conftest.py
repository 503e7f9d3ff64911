"""A real learner of a tiny model, for the tests that look inside its steps."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from rft.learning.spec import LearnerSpec, Lora
from rft.types import GradedGroup, Policy, StopReason

TEMPERATURE = 0.7
PROMPT = (10, 11, 12)
COMPLETIONS = ((20, 21, 22, 2), (30, 31, 32, 2), (40, 41, 2), (50, 51, 52, 53))
END = 2
"""The tiny model's end-of-sequence token."""
BASE = Policy(version=0, fingerprint="base")


@pytest.fixture
def build(tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Any]]:
    """`build(steps=4, ...)`: a learner that steps on one group of 4 completions; closed at the end."""
    from rft.learning.grpo import GrpoLearner

    monkeypatch.setenv("TENSORBOARD_LOGGING_DIR", "set by the learner, and restored after the test")
    with ExitStack() as stack:

        def make(folder: str = "run", **changes: Any) -> Any:
            values: dict[str, Any] = {
                "kind": "grpo",
                "model": tiny_model,
                "model_name": "some/model",
                "base": BASE,
                "chat_template": None,
                "run_folder": tmp_path / folder,
                "steps": 4,
                "prompts_per_step": 1,
                "completions_per_prompt": 4,
                "completions_per_micro_batch": 4,
                "max_completion_tokens": 8,
                "temperature": TEMPERATURE,
                "learning_rate": 1e-2,
                "lora": Lora(rank=4, alpha=8, dropout=0.0),
                "seed": 0,
                "dtype": "float32",
                "on_gpu": False,
                "num_threads": 1,
                "keep_checkpoints": 2,
                "timeout_s": 60,
                "report_to": (),
            }
            learner = GrpoLearner(LearnerSpec(**(values | changes)))
            stack.callback(learner.close)
            return learner

        yield make


def _logprobs(learner: Any, completion: Sequence[int], prompt: Sequence[int] = PROMPT) -> tuple[float, ...]:
    """Log-probabilities of a completion's tokens under the learner's own model, at the sampling temperature."""
    import torch

    model = learner._stepped.trainer.model
    with torch.no_grad():
        logits = model(torch.tensor([[*prompt, *completion]])).logits[0, len(prompt) - 1 : -1]
    scores = torch.log_softmax(logits.float() / TEMPERATURE, dim=-1)
    return tuple(scores[position, token].item() for position, token in enumerate(completion))


@pytest.fixture
def group_for(make_group: Callable[..., GradedGroup], make_rollout: Callable[..., Any]) -> Callable[..., GradedGroup]:
    """`group_for(learner, [1.0, None, 0.0, 0.0])`: completions with the learner's own log-probabilities, plus `off`."""

    def make(
        learner: Any,
        rewards: Sequence[float | None],
        completions: Sequence[tuple[int, ...]] = COMPLETIONS,
        off: float = 0.0,
    ) -> GradedGroup:
        group = make_group(rewards)
        rollouts = tuple(
            make_rollout(
                index=index,
                policy=learner.publish().policy,
                prompt_ids=PROMPT,
                completion_ids=completion,
                logprobs=tuple(value + off for value in _logprobs(learner, completion)),
                stop=StopReason.STOP if completion[-1] == END else StopReason.LENGTH,
            )
            for index, completion in enumerate(completions)
        )
        return GradedGroup(task=group.task, rollouts=rollouts, grades=group.grades)

    return make


@pytest.fixture(scope="session")
def logprobs() -> Callable[..., tuple[float, ...]]:
    """`logprobs(learner, completion)`: under the learner's own model, at the sampling temperature."""
    return _logprobs
