"""Worked examples before prompts: which training tasks they are, and which tokens a model receives."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from rft.data.demonstration_rows import RowRenderer
from rft.data.demonstrations import to_demonstration
from rft.data.messages import BadRow
from rft.data.rendering import Renderer, fit_context, fit_rows
from rft.data.shots import FILE, Shot, Shots, draw_shots, read_shots, to_worked_task
from rft.data.tasks import to_task
from rft.errors import DataError, UsageError
from rft.models.base_model import load_tokenizer
from rft.types import Split, Task


def task(prompt: str, answer: object = None, *, system: str | None = None, **item: object) -> Task:
    content = {"prompt": prompt, "answer": answer, **item}
    return to_task(content, split=Split.TRAIN, system=system, where=f"train.jsonl:{prompt}")


def sums(count: int) -> list[Task]:
    return [task(f"{number}+1", str(number + 1)) for number in range(count)]


def draw(train: list[Task], num: int = 2, **options: Any) -> Shots:
    defaults: dict[str, Any] = {"seed": 0, "source": "train.jsonl", "column": None, "held_out": []}
    return draw_shots(train, num=num, **defaults | {"needs_spare": True, "is_raw": False} | options)


def pairs(shots: Shots) -> list[tuple[str, str]]:
    """Prompt and answer of each example."""
    return [(shot.chat[0]["content"], shot.chat[-1]["content"]) for shot in shots.examples]


SHOTS = Shots(
    num=2,
    seed=0,
    source="train.jsonl",
    examples=tuple(
        Shot(
            task_id=prompt,
            where=f"train.jsonl:{prompt}",
            chat=({"role": "user", "content": prompt}, {"role": "assistant", "content": answer}),
        )
        for prompt, answer in (("0+1", "1"), ("1+1", "2"), ("2+1", "3"))
    ),
)


@pytest.fixture
def tokenizer(tiny_model: Path) -> Any:
    return load_tokenizer(tiny_model, None)


def test_the_examples_come_after_the_system_message(tokenizer: Any) -> None:
    renderer = Renderer(tokenizer, shots=SHOTS)
    turns = "<|user|>0+1<|end|><|assistant|>1<|end|><|user|>1+1<|end|><|assistant|>2<|end|><|user|>7+1<|end|>"
    assert tokenizer.decode(list(renderer.render(task("7+1")))) == f"{turns}<|assistant|>"
    with_system = tokenizer.decode(list(renderer.render(task("7+1", system="Add."))))
    assert with_system == f"<|system|>Add.<|end|>{turns}<|assistant|>"


@pytest.mark.parametrize(
    ("prompt", "shown"), [("0+1", ["1+1", "2+1"]), ("1+1", ["0+1", "2+1"]), ("2+1", ["0+1", "1+1"])]
)
def test_no_prompt_shows_its_own_answer(prompt: str, shown: list[str]) -> None:
    for own in (task(prompt), task(prompt, system="Add."), task(f" {prompt}\n")):
        assert [shot.task_id for shot in SHOTS.of(own)] == shown


def test_without_a_chat_template_the_examples_are_text(tokenizer: Any) -> None:
    raw = Renderer(tokenizer, format="raw", shots=draw(sums(3), is_raw=True))
    (first, one), (second, two), _ = pairs(draw(sums(3)))
    assert tokenizer.decode(list(raw.render(task("7+1=")))) == f"{first} {one}\n\n{second} {two}\n\n7+1="
    completions = [task(f"{number}+1=", completion=str(number + 1)) for number in range(2)]
    (example, _) = pairs(draw(completions, 1, is_raw=True))
    assert example in (("0+1=", "1"), ("1+1=", "2")), "a completion follows its prompt as it is"


def test_an_example_needs_an_answer() -> None:
    train = [
        task("a"),
        task("b", "  "),
        task("c", ["d"]),
        task("e", True),
        task("1+1", 2),
        task("2+1", "3"),
        task("3+1", "wrong", completion="4"),
    ]
    assert sorted(pairs(draw(train))) == [("1+1", "2"), ("2+1", "3"), ("3+1", "4")]
    in_column = draw(train, 3, column="answer", needs_spare=False)
    assert sorted(pairs(in_column)) == [("1+1", "2"), ("2+1", "3"), ("3+1", "wrong")]
    with pytest.raises(DataError) as caught:
        draw(train, 3)
    assert caught.value.problems == (
        "data.shots=3: 3 of the 7 training tasks can be shown as worked examples (different prompts, not held out, "
        "with an answer in a column completion or answer), and 4 are needed, because no prompt shows its own answer; "
        "name the column of the answers in data.shot_answer, give more training tasks, or lower data.shots",
    )
    with pytest.raises(DataError, match=r"0 of the 7 .* in the column solution\), and 1 are needed; name the column"):
        draw(train, 1, column="solution", needs_spare=False)


def test_held_out_prompts_and_second_rows_of_a_prompt_are_no_examples() -> None:
    train = [*sums(4), task("3+1", "another")]
    held_out = [task("0+1", system="Be brief.")]
    assert sorted(pairs(draw(train, held_out=held_out))) == [("1+1", "2"), ("2+1", "3"), ("3+1", "4")]


def test_the_draw_depends_on_the_seed_and_moves_no_example_for_a_new_row() -> None:
    drawn = draw(sums(30), 4)
    assert draw(sums(30), 4) == drawn
    assert len({tuple(pairs(draw(sums(30), 4, seed=seed))) for seed in range(5)}) == 5
    more = [shot for shot in draw(sums(40), 4).examples if shot in drawn.examples]
    assert more == [shot for shot in drawn.examples if shot in more] != []
    without_spare = draw(sums(4), 4, needs_spare=False)
    assert (len(without_spare.examples), len(draw(sums(4), 3).examples)) == (4, 4)


def test_demonstrations_are_examples_and_have_examples(tokenizer: Any) -> None:
    chat = [
        {"role": "system", "content": "Add."},
        {"role": "user", "content": "7+1"},
        {"role": "assistant", "content": "8"},
        {"role": "user", "content": "+1"},
        {"role": "assistant", "content": "9"},
    ]
    demonstration = to_demonstration({"messages": chat, "answer": "x"}, split=Split.TRAIN, system=None)
    drawn = draw([demonstration, *sums(2)])
    assert tuple(chat[1:]) in [shot.chat for shot in drawn.examples]
    end = tokenizer.convert_tokens_to_ids("<|end|>")
    own = Shot(task_id="own", where="", chat=tuple(chat[1:]))
    own_first = replace(SHOTS, num=1, examples=(own, SHOTS.examples[0]))
    for shots, examples in ((SHOTS, ["0+1", "1", "1+1", "2"]), (own_first, ["0+1", "1"])):
        rows = RowRenderer(renderer=Renderer(tokenizer, shots=shots), end_ids=frozenset({end}), eos_id=end)
        (row,) = rows.rows(demonstration)
        texts = [*examples, "7+1", "8", "+1", "9"]
        turns = "".join(f"<|{('user', 'assistant')[place % 2]}|>{text}<|end|>" for place, text in enumerate(texts))
        assert tokenizer.decode(list(row.ids)) == f"<|system|>Add.<|end|>{turns}"
        trained = [id for id, on in zip(row.ids, row.trained, strict=True) if on]
        assert tokenizer.decode(trained) == "8<|end|>9<|end|>"


def test_rows_with_and_without_an_answer_of_the_assistant() -> None:
    options: dict[str, Any] = {"split": Split.TRAIN, "system": None}
    answered = [{"role": "user", "content": "1+1"}, {"role": "assistant", "content": "2"}]
    rows = [{"messages": answered}, {"messages": answered[:1], "answer": "2"}, {"prompt": "1+1", "completion": "2"}]
    for row in rows:
        assert pairs(draw([to_worked_task(row, **options)], 1, needs_spare=False)) == [("1+1", "2")]
    with pytest.raises(BadRow, match="neither"):
        to_worked_task({"question": "1+1"}, **options)


def test_prompts_that_are_too_long_with_their_examples(tokenizer: Any) -> None:
    renderer = Renderer(tokenizer, shots=SHOTS)
    limits: dict[str, Any] = {"context_tokens": 20, "on_long": "error"}
    with pytest.raises(DataError, match=r"; lower data.shots, or lower sampler.max_completion_tokens, or use a model"):
        fit_context([task("7+1")], renderer, max_completion_tokens=4, **limits)
    with pytest.raises(DataError, match=r"; lower data.shots, or shorten them, or use a model"):
        fit_rows([task("7+1")], lambda _: 21, shots=SHOTS, **limits)


def test_the_record_of_a_run(tmp_path: Path) -> None:
    assert read_shots(tmp_path) is None
    (tmp_path / FILE).write_text(SHOTS.to_text())
    assert read_shots(tmp_path) == SHOTS
    assert SHOTS.to_manifest() == {
        "num": 2,
        "source": "train.jsonl",
        "sha256": SHOTS.sha256,
        "task_ids": ["0+1", "1+1", "2+1"],
    }
    assert replace(SHOTS, num=1).sha256 != SHOTS.sha256 == replace(SHOTS, source="copy.jsonl").sha256
    (tmp_path / FILE).write_text(SHOTS.to_text().replace('"num": 2', '"num": "two"'))
    with pytest.raises(UsageError, match=r"shots.json is damaged: num: .*; copy it again"):
        read_shots(tmp_path)
