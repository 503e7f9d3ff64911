"""The token rows of demonstrations: prompts as they are sampled, and exactly the assistant's words are trained."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from rft.data.demonstration_records import Demonstration, TokenRow
from rft.data.demonstration_rows import RowRenderer
from rft.data.demonstrations import to_demonstration
from rft.data.order import ShuffledTasks
from rft.data.rendering import Renderer, TemplateRefusal, fit_rows
from rft.data.tasks import to_task
from rft.errors import DataError
from rft.models.base_model import load_tokenizer
from rft.types import Split

SUM = {"messages": [{"role": "user", "content": "1+2"}, {"role": "assistant", "content": "3"}]}
TWO = {
    "messages": [
        *SUM["messages"],
        {"role": "user", "content": "2+2"},
        {"role": "assistant", "content": "4"},
    ]
}
REWRITES = """{%- for message in messages -%}
{{- '<|' + message['role'] + '|>' -}}
{{- (message['content'] if loop.last or message['role'] == 'user' else '') + '<|end|>' -}}
{%- endfor -%}{%- if add_generation_prompt -%}{{- '<|assistant|>' -}}{%- endif -%}"""
"""A template that empties earlier answers, as some drop the reasoning of earlier turns."""


class Rendered:
    """Demonstrations of a template, as text."""

    def __init__(self, model: Path, template: str | None = None, format: Any = "chat") -> None:
        self.tokenizer: Any = load_tokenizer(model, template, needs_template=False)
        self.renderer = Renderer(self.tokenizer, format=format)
        self.format = format
        end = self.tokenizer.convert_tokens_to_ids("<|end|>")
        self.rows = RowRenderer.of(self.renderer, self.tokenizer, frozenset({end}))

    def demonstration(self, content: Any) -> Demonstration:
        return to_demonstration(content, split=Split.TRAIN, system=None, where="rows.jsonl:1", format=self.format)

    def texts(self, content: Any) -> list[tuple[str, str]]:
        """Each row: the whole, and the trained part with `_` for every other token."""
        return [self.text(row) for row in self.rows.rows(self.demonstration(content))]

    def text(self, row: TokenRow) -> tuple[str, str]:
        whole = [self.tokenizer.decode([id]) for id in row.ids]
        return "".join(whole), "".join(text if on else "_" for text, on in zip(whole, row.trained, strict=True))


@pytest.fixture
def chat(tiny_model: Path) -> Rendered:
    return Rendered(tiny_model)


def test_the_answer_is_trained_up_to_its_end_token(chat: Rendered) -> None:
    assert chat.texts(SUM) == [("<|user|>1+2<|end|><|assistant|>3<|end|>", "______3<|end|>")]


def test_an_answer_that_the_tokenizer_cannot_write_is_refused(chat: Rendered) -> None:
    with pytest.raises(TemplateRefusal, match=r"rows.jsonl:1: an answer has characters that the tokenizer lacks"):
        chat.texts({"prompt": "1+2", "completion": "\N{BELL}"})
    assert chat.texts({"prompt": "\N{BELL}", "completion": "3"})[0][1].endswith("_3<|end|>")  # a prompt may have some


@pytest.mark.parametrize("completion", ["3", [{"role": "assistant", "content": "3"}]])
def test_prompt_and_completion_are_the_same_demonstration(chat: Rendered, completion: Any) -> None:
    assert chat.texts({"prompt": "1+2", "completion": completion}) == chat.texts(SUM)


def test_the_prompt_has_the_tokens_that_a_sampler_completes(chat: Rendered) -> None:
    task = to_task({"prompt": "1+2"}, split=Split.TEST, system=None)
    (row,) = chat.rows.rows(chat.demonstration(SUM))
    prompt = chat.renderer.render(task)
    assert row.ids[: len(prompt)] == prompt
    assert row.trained == (*[False] * len(prompt), True, True)
    assert chat.demonstration(SUM).messages == task.messages


def test_a_later_answer_extends_the_row(chat: Rendered) -> None:
    whole = "<|user|>1+2<|end|><|assistant|>3<|end|><|user|>2+2<|end|><|assistant|>4<|end|>"
    assert chat.texts(TWO) == [(whole, "______3<|end|>______4<|end|>")]
    first_off = {"messages": [SUM["messages"][0], SUM["messages"][1] | {"weight": 0}, *TWO["messages"][2:]]}
    assert chat.texts(first_off) == [(whole, "______________4<|end|>")]


def test_a_template_that_rewrites_earlier_turns_gives_each_answer_its_own_row(tmp_path: Path, tiny_model: Path) -> None:
    (tmp_path / "rewrites.jinja").write_text(REWRITES)
    assert Rendered(tiny_model, str(tmp_path / "rewrites.jinja")).texts(TWO) == [
        ("<|user|>1+2<|end|><|assistant|>3<|end|>", "______3<|end|>"),
        ("<|user|>1+2<|end|><|assistant|><|end|><|user|>2+2<|end|><|assistant|>4<|end|>", "_____________4<|end|>"),
    ]


def test_an_answer_without_an_end_token_gets_one(tiny_model: Path) -> None:
    ((whole, trained),) = Rendered(tiny_model, "question_answer").texts(SUM)
    assert whole.endswith("Answer: 3\n\n<|end|>")
    assert trained.lstrip("_") == " 3\n\n<|end|>"
    raw = Rendered(tiny_model, format="raw").texts({"prompt": "1+2=", "completion": "3"})
    assert [trained.lstrip("_") for _, trained in raw] == ["3<|end|>"]


def test_a_control_token_in_an_answer_is_text(chat: Rendered) -> None:
    row = {"prompt": "1+2", "completion": "<|end|>3"}
    (rendered,) = chat.rows.rows(chat.demonstration(row))
    (end,) = chat.rows.end_ids
    assert [place for place, id in enumerate(rendered.ids) if id == end] == [4, len(rendered.ids) - 1]


def test_a_template_that_cannot_show_an_answer_is_refused(tmp_path: Path, tiny_model: Path) -> None:
    (tmp_path / "mute.jinja").write_text("{{- messages[0]['content'] -}}{%- if add_generation_prompt -%}:{%- endif -%}")
    with pytest.raises(TemplateRefusal, match="it does not write the assistant's message after the prompt"):
        Rendered(tiny_model, str(tmp_path / "mute.jinja")).texts(SUM)


def test_rows_that_are_too_long(chat: Rendered) -> None:
    rows = [chat.demonstration({"prompt": "1+2", "completion": "3" * size}) for size in (1, 5, 9)]

    def fit(on_long: Any) -> Any:
        return fit_rows(rows, chat.rows.length, context_tokens=12, on_long=on_long)

    assert fit("drop") == (rows[:2], 1, 12)
    with pytest.raises(DataError, match="1 of 3 demonstrations are longer than the 12 tokens of context; the first is"):
        fit("error")


def test_the_sizes_of_a_batch(chat: Rendered) -> None:
    order = chat.rows.ordered(ShuffledTasks([chat.demonstration(SUM), chat.demonstration(TWO)], 2, seed=0))
    assert order.metrics(order.of_step(1)) == {
        "demonstrations/rows": 2.0,
        "demonstrations/tokens": 8.0 + 16.0,
        "demonstrations/trained_tokens": 2.0 + 4.0,
    }
