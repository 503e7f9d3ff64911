"""A real learner of a tiny model, for the tests that look inside its steps."""

from __future__ import annotations

import copy
import functools
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from rft.types import GradedGroup, StopReason

TEMPERATURE = 0.7
PROMPT = (10, 11, 12)
COMPLETIONS = ((20, 21, 22, 2), (30, 31, 32, 2), (40, 41, 2), (50, 51, 52, 53))
END = 2
"""The tiny model's end-of-sequence token."""


_MODELS: list[Any] = []
"""The tiny model as it is read from disk, once it has been."""


@pytest.fixture
def read_once(tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Learners copy the tiny model and remember which packages there are; some hundred learners would read both."""
    import accelerate.utils.imports

    from rft.learning import trl_learner

    read = trl_learner._load_model

    def copied(spec: Any) -> Any:
        learner = spec.run.learner
        if spec.model != tiny_model or spec.dtype != "float32" or learner.base or learner.adapter.trains_base:
            return read(spec)
        if not _MODELS:
            _MODELS.append(read(spec))
        return copy.deepcopy(_MODELS[0])

    is_available = functools.cache(accelerate.utils.imports._is_package_available)
    monkeypatch.setattr(trl_learner, "_load_model", copied)
    monkeypatch.setattr(accelerate.utils.imports, "_is_package_available", is_available)


@pytest.fixture
def build(
    read_once: None, tiny_model: Path, tmp_path: Path, make_learner_spec: Callable[..., Any]
) -> Iterator[Callable[..., Any]]:
    """`build(steps=4, ...)`: a learner that steps on one group of 4 completions; closed at the end."""
    from rft.learning.trl_learner import TrlLearner

    with ExitStack() as stack:

        def make(folder: str = "run", kind: str = "grpo", **changes: Any) -> Any:
            values: dict[str, Any] = {
                "model": tiny_model,
                "steps": 4,
                "completions_per_prompt": 4,
                "completions_per_micro_batch": 4,
                "temperature": TEMPERATURE,
                "learning_rate": 1e-2,
                "adapter": {"rank": 4, "alpha": 8},
            }
            learner = TrlLearner(make_learner_spec(tmp_path / folder, kind, **(values | changes)))
            stack.callback(learner.close)
            return learner

        yield make


def _logprobs(
    learner: Any, completions: Sequence[Sequence[int]], prompt: Sequence[int] = PROMPT
) -> list[tuple[float, ...]]:
    """Log-probabilities of each completion's tokens under the learner's own model, at the sampling temperature."""
    import torch

    # One forward pass; what is behind a completion changes nothing before it.
    longest = max(map(len, completions))
    ids = torch.tensor([[*prompt, *each, *[END] * (longest - len(each))] for each in completions])
    model = learner._stepped.trainer.model
    with torch.no_grad():
        logits = model(ids).logits[:, len(prompt) - 1 : -1]
    scores = torch.log_softmax(logits.float() / TEMPERATURE, dim=-1).gather(2, ids[:, len(prompt) :, None])[..., 0]
    return [tuple(row[: len(each)]) for row, each in zip(scores.tolist(), completions, strict=True)]


@pytest.fixture
def group_for(make_group: Callable[..., GradedGroup], make_rollout: Callable[..., Any]) -> Callable[..., GradedGroup]:
    """`group_for(learner, [1.0, None, 0.0, 0.0])`: completions with the learner's own log-probabilities, plus `off`."""

    def make(
        learner: Any,
        rewards: Sequence[float | None],
        completions: Sequence[tuple[int, ...]] = COMPLETIONS,
        off: float = 0.0,
    ) -> GradedGroup:
        group, policy = make_group(rewards), learner.publish().policy
        rollouts = tuple(
            make_rollout(
                index=index,
                policy=policy,
                prompt_ids=PROMPT,
                completion_ids=completion,
                logprobs=tuple(value + off for value in sampled),
                stop=StopReason.STOP if completion[-1] == END else StopReason.LENGTH,
            )
            for index, (completion, sampled) in enumerate(
                zip(completions, _logprobs(learner, completions), strict=True)
            )
        )
        return GradedGroup(task=group.task, rollouts=rollouts, grades=group.grades)

    return make


@pytest.fixture(scope="session")
def same_up_to_rounding(tiny_model: Path) -> Callable[[Mapping[str, Any], Mapping[str, Any]], None]:
    """`same_up_to_rounding(found, expected)`: two float32 computations of the same gradients, in any order of addition.

    With u the unit roundoff, n rounded operations in a row are off by about u sqrt(n) relative to the largest value
    (Higham and Mary, A New Approach to Probabilistic Rounding Error Analysis, 2019), with a factor of 4 for safety.
    """
    import torch

    config = json.loads((tiny_model / "config.json").read_text())
    hidden, heads_and_tokens, tokens = config["hidden_size"], 64, 256
    layer = 3 * hidden + heads_and_tokens + config["intermediate_size"]
    num_operations = 2 * (config["num_hidden_layers"] * layer + hidden) + tokens  # forward and back, then over tokens
    relative = 4 * torch.finfo(torch.float32).eps * math.sqrt(num_operations)

    def check(found: Mapping[str, Any], expected: Mapping[str, Any]) -> None:
        assert found.keys() == expected.keys() != set()
        scale = max(tensor.abs().max().item() for tensor in expected.values())
        assert scale > 1e-3, "there must be something to compare"
        for name, tensor in expected.items():
            torch.testing.assert_close(found[name], tensor, rtol=0, atol=relative * scale)

    return check


@pytest.fixture(scope="session")
def keep_gradients() -> Callable[[Any], dict[str, Any]]:
    """`keep_gradients(learner)`: a dict with the gradient of the learner's last optimizer step, as it is clipped."""
    from transformers import TrainerCallback

    class Keep(TrainerCallback):
        def __init__(self) -> None:
            self.last: dict[str, Any] = {}

        def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, model: Any, **_: Any) -> None:
            named = model.named_parameters()
            self.last.update({name: each.grad.clone() for name, each in named if each.requires_grad})

    def keep(learner: Any) -> dict[str, Any]:
        callback = Keep()
        learner._stepped.trainer.add_callback(callback)
        return callback.last

    return keep


@pytest.fixture(scope="session")
def logprobs() -> Callable[..., list[tuple[float, ...]]]:
    """`logprobs(learner, completions)`: of each, under the learner's own model, at the sampling temperature."""
    return _logprobs
