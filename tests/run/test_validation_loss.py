"""The loss on the answers of validation tasks."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from rft.config import RunConfig
from rft.data.demonstration_records import Demonstration, TokenRow
from rft.errors import DataError
from rft.run.inputs.prepare import Prepared, prepare
from rft.run.validation_loss import ValidationLoss

SHORT = {"prompt": "aa", "completion": "b", "answer": "b"}
CHAT = {"messages": [{"role": "user", "content": "c"}, {"role": "assistant", "content": "dd"}]}
NO_ANSWER = {"prompt": "e", "answer": "f"}
LONG = {"prompt": "g", "completion": "h" * 120, "answer": "h"}


@pytest.fixture
def prepared(tiny_model: Path, tmp_path: Path) -> Any:
    """`prepared(rows, best_metric="loss")`: inputs of a run on demonstrations with these validation rows."""

    def make(rows: Sequence[dict[str, Any]], long_prompts: str = "error", **evaluation: Any) -> Prepared:
        files = {"train": [{"prompt": "x", "completion": "y"}], "validation": rows}
        for split, of_split in files.items():
            (tmp_path / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in of_split))
        run = {
            "output_dir": "out",
            "model": {"path": str(tiny_model), "max_context_tokens": 100},
            "data": {split: str(tmp_path / f"{split}.jsonl") for split in files} | {"long_prompts": long_prompts},
            "loop": {"prompts_per_step": 1},
            "sampler": {"kind": "transformers", "max_completion_tokens": 50},
            "learner": {"kind": "sft"},
            "graders": {"correct": {"use": "exact"}},
            "evaluation": evaluation,
        }
        return prepare(RunConfig.model_validate(run), needs_training_tasks=True)

    return make


class Learner:
    """The loss of a row is the sum of its trained tokens' positions."""

    async def losses(self, rows: Sequence[TokenRow]) -> list[float]:
        return [float(sum(place for place, on in enumerate(row.trained) if on)) for row in rows]


def test_rows_with_an_answer_are_demonstrations(prepared: Any) -> None:
    short, chat, without = prepared([SHORT, CHAT, NO_ANSWER]).tasks.validation
    assert [isinstance(task, Demonstration) for task in (short, chat, without)] == [True, True, False]
    assert short.item == {"completion": "b", "answer": "b"}, "as a task without a known answer"
    assert short.messages == ({"role": "user", "content": "aa"},)
    assert (short.answer, chat.answer) == ("b", "dd")


def test_the_loss_is_the_mean_over_tokens(prepared: Any) -> None:
    inputs = prepared([SHORT, CHAT, NO_ANSWER])
    loss = ValidationLoss(inputs.rows, inputs.tasks.validation)
    measured = asyncio.run(loss.measure(Learner(), step=4))
    short, chat, _ = inputs.tasks.validation
    (short_row,), (chat_row,) = inputs.rows.rows(short), inputs.rows.rows(chat)
    sums = {  # the answers, of 2 and 3 tokens with their end, are the last ones
        short.id: 2 * len(short_row.ids) - 1 - 2,
        chat.id: 3 * len(chat_row.ids) - 1 - 2 - 3,
    }
    assert measured.step == 4
    assert measured.by_task == {short.id: sums[short.id] / 2, chat.id: sums[chat.id] / 3}
    assert measured.loss == (sums[short.id] + sums[chat.id]) / 5


def test_without_answers_there_is_no_loss(prepared: Any) -> None:
    inputs = prepared([NO_ANSWER])
    assert not ValidationLoss(inputs.rows, inputs.tasks.validation)


def test_the_loss_can_select_the_best_step_only_if_all_validation_tasks_have_an_answer(prepared: Any) -> None:
    assert prepared([SHORT, CHAT], best_metric="loss", patience=2)
    with pytest.raises(Exception, match=r"best_metric=loss: 1 of 2 validation tasks contain no answer, the first is"):
        prepared([SHORT, NO_ANSWER], best_metric="loss", patience=2)


def test_answers_that_are_too_long_are_refused_or_dropped(prepared: Any) -> None:
    with pytest.raises(DataError, match="1 of 2 demonstrations are longer than the 100 tokens of context"):
        prepared([SHORT, LONG])
    inputs = prepared([SHORT, LONG], long_prompts="drop")
    assert (len(inputs.tasks.validation), inputs.num_long_prompts) == (1, 1)
