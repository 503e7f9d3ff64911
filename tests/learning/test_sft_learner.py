"""Supervised fine-tuning: the loss is that of the marked tokens, and the steps are those of TRL's own trainer."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from rft.data.demonstration_records import TokenRow
from rft.errors import LearnError
from tests.learning.trl_options import LORA, OPTIONS

pytestmark = pytest.mark.e2e  # real libraries: too slow for a unit test


def row(prompt: Sequence[int], answer: Sequence[int]) -> TokenRow:
    return TokenRow(ids=(*prompt, *answer), trained=(*[False] * len(prompt), *[True] * len(answer)))


ROWS = [row((10, 11, 12), (20, 21, 2)), row((10, 13), (30, 2)), row((10, 14, 15, 16), (40, 41, 42, 43, 2))]


@pytest.fixture
def build_sft(tiny_model: Path, tmp_path: Path, make_learner_spec: Callable[..., Any]) -> Iterator[Callable[..., Any]]:
    """`build_sft(steps=4, ...)`: a learner of demonstrations; closed at the end."""
    from rft.learning.sft_learner import SftLearner

    with ExitStack() as stack:

        def make(folder: str = "run", **changes: Any) -> Any:
            values: dict[str, Any] = {
                "model": tiny_model,
                "steps": 4,
                "completions_per_micro_batch": 4,
                "learning_rate": 1e-2,
                "adapter": {"rank": 4, "alpha": 8},
            }
            learner = SftLearner(make_learner_spec(tmp_path / folder, "sft", **(values | changes)))
            stack.callback(learner.close)
            return learner

        yield make


def mean_nll(model: Any, rows: Sequence[TokenRow]) -> float:
    """Mean negative log-likelihood of the marked tokens, row by row and without padding."""
    import torch

    values = []
    for each in rows:
        ids = torch.tensor([each.ids])
        with torch.no_grad():
            scores = torch.log_softmax(model(ids).logits[0, :-1].float(), dim=-1)
        chosen = scores.gather(1, ids[0, 1:, None])[:, 0]
        values += chosen[torch.tensor(each.trained[1:])].tolist()
    return -sum(values) / len(values)


@pytest.mark.parametrize("size", [pytest.param(1, marks=pytest.mark.full), 2, pytest.param(4, marks=pytest.mark.full)])
def test_the_loss_is_the_mean_over_the_marked_tokens(build_sft: Callable[..., Any], size: int) -> None:
    learner = build_sft(completions_per_micro_batch=size, canaries=((5, 6, 7),))
    expected = mean_nll(learner._stepped.trainer.model, ROWS)
    assert learner.learn(ROWS)["loss"] == pytest.approx(expected, rel=1e-5)
    assert learner.learn(ROWS)["loss"] < expected
    assert learner.steps_done == 2
    policy = learner.policy()
    assert (policy.version, learner.publish().policy) == (2, policy)


@pytest.mark.parametrize("size", [pytest.param(2, marks=pytest.mark.full), 3])
def test_packed_rows_have_the_loss_and_the_steps_of_separate_ones(build_sft: Callable[..., Any], size: int) -> None:
    apart = build_sft("apart", completions_per_micro_batch=1)
    together = build_sft("together", completions_per_micro_batch=size, packing=True, canaries=((5, 6, 7), (8, 9)))
    expected = mean_nll(together._stepped.trainer.model, ROWS)
    losses = [(together.learn(ROWS), apart.learn(ROWS)) for _ in range(3)]
    assert losses[0][0]["loss"] == pytest.approx(expected, rel=1e-5)
    for name in ("loss", "grad_norm"):
        assert [ours[name] for ours, _ in losses] == pytest.approx([theirs[name] for _, theirs in losses], rel=1e-4)


def test_a_packed_row_trains_no_token_from_another_row() -> None:
    from rft.learning.packing import packed

    batch = packed([TokenRow(ids=(5, 6), trained=(True, True)), TokenRow(ids=(7, 8, 9), trained=(True, False, True))])
    assert {name: tensor.tolist() for name, tensor in batch.items()} == {
        "input_ids": [[5, 6, 7, 8, 9]],
        "position_ids": [[0, 1, 0, 1, 2]],
        "labels": [[-100, 6, -100, -100, 9]],
    }


@pytest.mark.parametrize(
    ("kind", "is_apart"),
    [("llama", True), ("gpt2", True), ("opt", False), ("bloom", False), ("mamba", False)],
)
def test_packing_is_refused_for_models_that_mix_packed_rows(kind: str, is_apart: bool) -> None:
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    from rft.learning.packing import check_packing

    torch.manual_seed(0)
    sizes = {"vocab_size": 32, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "pad_token_id": 0}
    more = {"opt": {"ffn_dim": 32, "word_embed_proj_dim": 16}, "llama": {"intermediate_size": 32}}
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **sizes, **more.get(kind, {})))
    for weight in model.parameters():
        torch.nn.init.normal_(weight, std=0.3)
    if is_apart:
        check_packing(model, [(5, 6, 7, 8), (9, 10, 11)], dtype="float32")
        return
    with pytest.raises(
        LearnError, match=rf"packing=true: packed rows change .* on average .*\({kind}\).*packing=false"
    ):
        check_packing(model, [(5, 6, 7, 8), (9, 10, 11)], dtype="float32")


def test_packing_is_refused_for_models_without_positions() -> None:
    from rft.learning.packing import check_packing

    class NoPositions:
        training = False
        device = "cpu"
        config = type("Config", (), {"model_type": "own"})

        def train(self, mode: bool) -> None: ...

        def eval(self) -> None: ...

        def __call__(self, input_ids: Any, use_cache: bool) -> Any: ...

    with pytest.raises(LearnError, match=r"takes no positions .*\(own\).*use learner.packing=false"):
        check_packing(NoPositions(), [(5, 6)], dtype="float32")


def test_the_losses_of_rows_are_sums_without_dropout(build_sft: Callable[..., Any]) -> None:
    learner = build_sft(completions_per_micro_batch=2, adapter={"rank": 4, "alpha": 8, "dropout": 0.5})
    learner.learn(ROWS)
    model = learner._stepped.trainer.model
    found = learner.losses(ROWS)
    assert model.training
    model.eval()
    assert found == pytest.approx([mean_nll(model, [each]) * sum(each.trained) for each in ROWS], rel=1e-5)
    model.train()


def test_a_measurement_of_the_loss_changes_no_step(build_sft: Callable[..., Any]) -> None:
    def result(*, measures: bool) -> Any:
        learner = build_sft(str(measures), adapter={"rank": 4, "alpha": 8, "dropout": 0.1})
        for _ in range(2):
            learner.learn(ROWS)
            if measures:
                learner.losses(ROWS)
        return learner.publish()

    assert result(measures=True) == result(measures=False)


def test_the_steps_are_those_of_trls_own_trainer(build_sft: Callable[..., Any], tmp_path: Path) -> None:
    import torch
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import AutoModelForCausalLM
    from trl import SFTConfig, SFTTrainer

    learner = build_sft(steps=3, completions_per_micro_batch=2)
    ours = [learner.learn(ROWS) for _ in range(3)]

    columns = {
        "input_ids": [list(each.ids) for each in ROWS],
        "labels": [[id if on else -100 for id, on in zip(each.ids, each.trained, strict=True)] for each in ROWS],
    }
    trainer = SFTTrainer(
        model=AutoModelForCausalLM.from_pretrained(learner._spec.model, dtype=torch.float32),
        args=SFTConfig(
            output_dir=str(tmp_path / "trl"),
            max_steps=3,
            per_device_train_batch_size=3,
            lr_scheduler_type="linear",
            **OPTIONS,
        ),
        train_dataset=Dataset.from_dict(columns),
        peft_config=LoraConfig(**LORA),
    )
    trainer.train()
    theirs = [line for line in trainer.state.log_history if "loss" in line]
    for name in ("loss", "grad_norm", "learning_rate"):
        assert [line[name] for line in ours] == pytest.approx([line[name] for line in theirs], rel=1e-3), name


def test_a_resumed_learner_takes_the_same_steps(build_sft: Callable[..., Any], tmp_path: Path) -> None:
    options = {"adapter": {"rank": 4, "alpha": 8, "dropout": 0.1}}
    whole = build_sft(**options)
    whole.learn(ROWS)
    whole.save()
    expected = [(whole.learn(ROWS)["loss"], whole.publish()) for _ in range(3)]
    resumed = build_sft(folder="again", resume_from=tmp_path / "run" / "checkpoints" / "checkpoint-1", **options)
    assert [(resumed.learn(ROWS)["loss"], resumed.publish()) for _ in range(3)] == expected
    with pytest.raises(LearnError, match="TRL has taken all 4 steps"):
        resumed.learn(ROWS)


def test_a_row_marks_each_of_its_tokens() -> None:
    with pytest.raises(ValueError, match="a row has 2 tokens but 1 marks"):
        TokenRow(ids=(1, 2), trained=(True,))
